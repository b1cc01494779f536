"""What callers must not get away with: each attack is one test."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from starlette.requests import Request

from device.api.app import body_of
from device.api.errors import SLOW_BODY, TOO_LARGE, ProblemError
from device.api.server import service_with
from device.api.tokens import TokenBook
from device.evidence.judge import Judge
from device.secure_store import open_store
from device.settings import Settings
from device.state_folder import StateFolder
from tests.conftest import SyntheticVoice
from tests.device.api.conftest import Facade, MovedClock, OpenFacade, encoded, enrolment, slug
from tests.speech import Reading

UID = "4711"


def verify_body(reader: list[Reading], **changed: Any) -> dict[str, Any]:
    return {"tid": "1", "uid": UID, "code": "1D3A", "audio": encoded(reader[1].path)} | changed


def test_without_a_token_nothing_is_answered(facade: Facade) -> None:
    for method, path in (("POST", "/otp"), ("POST", "/register"), ("POST", "/verify"), ("GET", "/results/1")):
        response = facade.client.request(method, path)
        assert slug(response) == "no-token"
        assert response.headers["www-authenticate"].startswith("Bearer")


def test_an_expired_token_is_refused(facade: Facade) -> None:
    headers = facade.bearer()
    facade.clock.pass_s(900)
    assert slug(facade.client.post("/otp", json={}, headers=headers)) == "expired-token"


def test_a_token_from_the_future_is_refused(facade: Facade) -> None:
    headers = facade.bearer()
    facade.clock.pass_s(-3600)
    assert slug(facade.client.post("/otp", json={}, headers=headers)) == "expired-token"


def test_a_token_for_something_else_is_refused(facade: Facade) -> None:
    response = facade.client.post("/verify", json={}, headers=facade.bearer("otp", "results"))
    assert slug(response) == "wrong-scope"
    assert response.status_code == 403


@pytest.mark.parametrize(
    "change",
    [
        lambda token: token[:-1] + ("A" if token[-1] != "A" else "B"),
        lambda token: token.replace("ost1.", "ost2."),
        lambda token: token.replace(".", "..", 1),
        lambda token: "",
        lambda token: "ost1." + "A" * 5_000 + ".A",
        lambda token: "ost1.ü.ü".encode().decode("latin-1"),
        lambda token: "ost1.e30." + token.rpartition(".")[2],
    ],
)
def test_a_changed_token_is_refused(facade: Facade, change: Any) -> None:
    token = change(facade.token())
    headers = {"Authorization": f"Bearer {token}".encode("latin-1")}
    assert slug(facade.client.post("/otp", json={}, headers=headers)) == "bad-token"


def test_a_token_of_another_unit_is_refused(facade: Facade, tmp_path: Any) -> None:
    from device.api.tokens import Token, issue

    now_s = int(facade.clock.wall.timestamp())
    foreign = issue(
        Token("pharmacy", frozenset({"otp"}), now_s, now_s + 60), lambda purpose, message: bytes(32)
    )
    headers = {"Authorization": f"Bearer {foreign}"}
    assert slug(facade.client.post("/otp", json={}, headers=headers)) == "bad-token"


def test_a_token_tied_to_a_certificate_is_useless_without_it(facade: Facade) -> None:
    headers = {"Authorization": f"Bearer {facade.token(certificate='ab' * 32)}"}
    assert slug(facade.client.post("/otp", json={}, headers=headers)) == "wrong-certificate"


def test_a_recalled_token_is_refused_at_once_and_the_others_still_work(facade: Facade) -> None:
    tokens = [facade.token(client=name) for name in ("pharmacy", "pharmacy", "laundry")]

    def admitted() -> list[int]:
        headers = [{"Authorization": f"Bearer {token}"} for token in tokens]
        return [facade.client.get("/results/x", headers=found).status_code for found in headers]

    assert admitted() == [404, 404, 404]
    with TokenBook(StateFolder(facade.state).api_tokens) as beside:  # as another process does it
        (first, *_) = [item.token_id for item in beside.listed(0.0) if item.client == "pharmacy"]
        assert beside.recall(token_id=first) == 1
        assert sorted(admitted()) == [401, 404, 404]
        assert beside.recall(client="pharmacy") == 1
        assert admitted() == [401, 401, 404]
        assert beside.recall(everything=True) == 1
        assert admitted() == [401, 401, 401]
        assert beside.recall(everything=True) == 0


def test_a_genuine_token_that_is_in_no_book_is_refused(facade: Facade) -> None:
    text = facade.token()
    facade.change(StateFolder(facade.state).api_tokens, "DELETE FROM tokens")
    response = facade.client.get("/results/x", headers={"Authorization": f"Bearer {text}"})
    assert (response.status_code, slug(response)) == (401, "bad-token")


def test_a_book_that_cannot_be_read_admits_nobody(facade: Facade) -> None:
    text = facade.token()
    facade.change(StateFolder(facade.state).api_tokens, "DROP TABLE tokens")
    response = facade.client.get("/results/x", headers={"Authorization": f"Bearer {text}"})
    assert response.status_code == 500


def test_a_token_that_lives_too_long_is_refused(facade: Facade) -> None:
    headers = {"Authorization": f"Bearer {facade.token(life_s=86_400)}"}
    assert slug(facade.client.post("/otp", json={}, headers=headers)) == "bad-token"


def test_the_token_is_looked_at_before_the_body(facade: Facade) -> None:
    response = facade.client.post("/verify", content=b"{" * 100_000)
    assert slug(response) == "no-token"


@pytest.mark.parametrize(
    "audio", ["", "not base64!", "QUJ", "QUJD\nQUJD", "QUJD=QUJ", "🎤🎤", None, 7, ["QUJD"]]
)
def test_what_is_not_base64_is_refused(facade: Facade, reader: list[Reading], audio: Any) -> None:
    assert slug(facade.post("/verify", verify_body(reader, audio=audio))) == "invalid"


def test_a_huge_body_is_refused_before_it_is_read(open_facade: OpenFacade) -> None:
    with open_facade(max_body_bytes=4096) as facade:
        response = facade.client.post("/verify", content=b" " * 5_000, headers=_json(facade))
        assert slug(response) == "too-large"


def test_a_body_that_does_not_come_is_given_up() -> None:
    async def nothing() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError("nobody waits that long")

    scope = {"type": "http", "method": "POST", "headers": [], "path": "/otp", "query_string": b""}
    with pytest.raises(ProblemError) as caught:
        asyncio.run(body_of(Request(scope, nothing), 10, timeout_s=0.05))
    assert caught.value.kind is SLOW_BODY


def test_a_body_longer_than_its_length_is_refused() -> None:
    async def too_much() -> dict[str, Any]:
        return {"type": "http.request", "body": b"12345678901", "more_body": True}

    scope = {"type": "http", "method": "POST", "headers": [], "path": "/otp", "query_string": b""}
    with pytest.raises(ProblemError) as caught:
        asyncio.run(body_of(Request(scope, too_much), 10, timeout_s=180.0))
    assert caught.value.kind is TOO_LARGE


def test_a_body_without_a_length_is_refused(facade: Facade) -> None:
    response = facade.client.post("/verify", content=iter([b"{}"]), headers=_json(facade))
    assert slug(response) == "length-required"


@pytest.mark.parametrize(
    "media", ["text/plain", "application/xml", "multipart/form-data", "", "application/json; charset=utf-16"]
)
def test_another_content_type_is_refused(facade: Facade, media: str) -> None:
    headers = facade.bearer() | {"Content-Type": media}
    assert slug(facade.client.post("/otp", content=b"{}", headers=headers)) == "media-type"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe{}",
        b'{"tid": NaN}',
        b'{"tid": "1", "tid": "2"}',
        b'{"a":' * 1_600,
        b"[" * 8_000,
        b"1" * 8_000,
    ],
)
def test_broken_or_bottomless_json_is_refused(facade: Facade, body: bytes) -> None:
    assert slug(facade.client.post("/otp", content=body, headers=_json(facade))) == "bad-json"


@pytest.mark.parametrize("body", [[], None, 7, "text", True])
def test_json_that_is_no_object_is_refused(facade: Facade, body: Any) -> None:
    response = facade.client.post("/otp", content=json.dumps(body), headers=_json(facade))
    assert slug(response) == "invalid"


def test_every_mistake_in_a_body_is_reported_at_once(facade: Facade) -> None:
    body = {"tid": "../etc", "uid": "\u0430lice", "style": "song", "door": 3, "text": "\ud800", "extra": 1}
    response = facade.client.post("/otp", content=json.dumps(body), headers=_json(facade))
    assert slug(response) == "invalid"
    assert len(response.json()["errors"]) == 6


def test_a_line_feed_after_an_id_is_no_part_of_it(facade: Facade) -> None:
    assert slug(facade.post("/otp", {"tid": "1\n", "uid": UID})) == "invalid"


@pytest.mark.parametrize("filler", [np.nan, np.inf])
def test_a_recording_of_no_numbers_is_refused(facade: Facade, reader: list[Reading], filler: float) -> None:
    held = io.BytesIO()
    soundfile.write(held, np.full(16_000, filler, np.float32), 16_000, format="WAV", subtype="FLOAT")
    audio = base64.b64encode(held.getvalue()).decode()
    assert slug(facade.post("/verify", verify_body(reader, audio=audio))) == "unreadable-recording"


@pytest.mark.parametrize("kept", [3, 40, 44, 2_000])
def test_a_recording_cut_short_is_refused(facade: Facade, reader: list[Reading], kept: int) -> None:
    audio = base64.b64encode(reader[1].path.read_bytes()[:kept]).decode()
    assert slug(facade.post("/verify", verify_body(reader, audio=audio))) == "unreadable-recording"


def test_a_recording_that_cannot_be_read_uses_up_neither_code_nor_transaction_nor_try(
    open_facade: OpenFacade, reader: list[Reading]
) -> None:
    silence = {}
    for name, length_s in (("empty", 0), ("long", 200)):
        held = io.BytesIO()
        soundfile.write(held, np.zeros(8_000 * length_s, np.int16), 8_000, format="WAV", subtype="PCM_U8")
        silence[name] = held.getvalue()
    refused = (
        *(b"\x1aE\xdf\xa3" + bytes(2_000), b"OggS" + bytes(2_000), b"\0\0\0\x20ftypM4A " + bytes(2_000)),
        *(b"ID3\x04" + bytes(2_000), silence["empty"], silence["long"]),
    )
    with open_facade(checks_per_person_per_min=1) as facade:
        facade.post("/otp", {"tid": "1", "uid": UID})
        body = {"tid": "1", "uid": UID}
        for content in refused:
            answer = facade.post("/verify", body | {"audio": base64.b64encode(content).decode()})
            assert slug(answer) == "unreadable-recording"
            assert slug(facade.get("/results/1")) == "no-result"
        good = body | {"audio": encoded(reader[1].path)}
        assert facade.post("/verify", good).json()["phrase_from"] == "otp"
        again = good | {"audio": encoded(reader[2].path)}
        assert slug(facade.post("/verify", again)) == "transaction-taken"  # a judged one is spent
        assert slug(facade.post("/verify", again | {"tid": "2", "code": "1D3A"})) == "too-many-requests"


def test_a_used_transaction_with_another_body_is_refused(facade: Facade, reader: list[Reading]) -> None:
    first = facade.post("/verify", verify_body(reader))
    assert slug(facade.post("/verify", verify_body(reader, code="FFFF"))) == "transaction-taken"
    assert slug(facade.post("/verify", verify_body(reader, uid="4712"))) == "transaction-taken"
    taken = {"tid": "1", "uid": UID, "audio": enrolment(reader)}
    assert slug(facade.post("/register", taken)) == "transaction-taken"
    assert slug(facade.post("/otp", {"tid": "1", "uid": UID})) == "transaction-taken"
    assert facade.get("/results/1").content == first.content


def test_another_code_for_a_transaction_is_refused(facade: Facade) -> None:
    facade.post("/otp", {"tid": "1", "uid": UID, "text": "1 euro"})
    assert slug(facade.post("/otp", {"tid": "1", "uid": UID, "text": "1000 euro"})) == "transaction-taken"


def test_an_unknown_transaction_is_clearly_absent(facade: Facade) -> None:
    assert slug(facade.get("/results/never")) == "no-result"
    assert slug(facade.get("/results/" + "x" * 500)) == "no-result"
    assert slug(facade.get("/results/%00%ff")) == "no-result"


def test_an_expired_result_is_gone_from_the_disk_and_its_id_stays_taken(
    facade: Facade, reader: list[Reading]
) -> None:
    facade.post("/verify", verify_body(reader))
    facade.clock.pass_s(3_601)
    assert slug(facade.get("/results/1")) == "gone"
    assert slug(facade.post("/verify", verify_body(reader))) == "gone"
    facade.clock.pass_s(3_600)
    assert slug(facade.get("/results/1")) == "no-result"


def test_a_code_is_good_for_one_answer_of_one_person_in_time(facade: Facade, reader: list[Reading]) -> None:
    def answer(tid: str, **changed: Any) -> str:
        body = {"tid": tid, "uid": UID, "audio": encoded(reader[1].path)} | changed
        return slug(facade.post("/verify", body))

    for tid in ("late", "person", "door"):
        facade.post("/otp", {"tid": tid, "uid": UID})
    given = facade.post("/otp", {"tid": "code", "uid": UID, "style": "code"}).json()["code"]
    assert answer("person", uid="4712") == "code-refused"
    assert answer("person") == "no-code"  # one wrong answer closes it
    assert answer("door", door="door-1") == "code-refused"
    assert answer("code", code="0000" if given != "0000" else "0001") == "code-refused"
    facade.clock.pass_s(61)
    assert answer("late") == "gone"


def test_a_door_rule_never_takes_a_code_of_the_callers_own(facade: Facade, reader: list[Reading]) -> None:
    assert slug(facade.post("/verify", verify_body(reader, door="door-1"))) == "no-code"


def test_an_unknown_door_is_refused(facade: Facade, reader: list[Reading]) -> None:
    assert slug(facade.post("/otp", {"tid": "1", "uid": UID, "door": "vault"})) == "no-door"


@pytest.mark.parametrize("system", ["espeak-ng", "flite"])
def test_a_synthetic_voice_cannot_register(
    facade: Facade, synthetic_voice: SyntheticVoice, system: str
) -> None:
    said = ("the quick brown fox jumps over the dog", "my voice is my password today", "open the door please")
    audio = [encoded(synthetic_voice(text, system)) for text in said]
    result = facade.post("/register", {"tid": "1", "uid": UID, "audio": audio}).json()
    assert (result["outcome"], result["reason"]["code"]) == ("refused", "NOT_LIVE")
    assert facade.store.vault.uids() == ()


def test_one_synthetic_recording_among_real_ones_spoils_a_registration(
    facade: Facade, reader: list[Reading], synthetic_voice: SyntheticVoice
) -> None:
    audio = [*enrolment(reader), encoded(synthetic_voice("my voice is my password today"))]
    result = facade.post("/register", {"tid": "1", "uid": UID, "audio": audio}).json()
    assert result["reason"]["code"] == "NOT_LIVE"
    assert "4" in result["reason"]["detail"]


def test_two_recordings_do_not_register_anybody(facade: Facade, reader: list[Reading]) -> None:
    body = {"tid": "1", "uid": UID, "audio": enrolment(reader)[:2]}
    assert slug(facade.post("/register", body)) == "invalid"


def test_recordings_of_two_people_do_not_register_anybody(
    facade: Facade, reader: list[Reading], other_reader: list[Reading]
) -> None:
    audio = [*enrolment(reader)[:2], encoded(other_reader[0].path)]
    result = facade.post("/register", {"tid": "1", "uid": UID, "audio": audio}).json()
    assert result["outcome"] == "refused"
    assert facade.store.vault.uids() == ()


def test_nobody_is_registered_over_somebody_else(facade: Facade, reader: list[Reading]) -> None:
    first = {"tid": "1", "uid": UID, "audio": enrolment(reader)}
    assert facade.post("/register", first).json()["outcome"] == "registered"
    result = facade.post("/register", first | {"tid": "2"}).json()
    assert (result["outcome"], result["reason"]["code"]) == ("refused", "ALREADY_ENROLLED")


def test_a_registration_cut_off_before_its_result_can_be_sent_again(
    facade: Facade, reader: list[Reading]
) -> None:
    body = {"tid": "1", "uid": UID, "audio": enrolment(reader)}
    results = StateFolder(facade.state).api_results
    cut = "CREATE TRIGGER cut BEFORE INSERT ON results BEGIN SELECT RAISE(ABORT, 'power cut'); END"
    facade.change(results, cut)
    assert slug(facade.post("/register", body)) == "fault"
    facade.change(results, "DROP TRIGGER cut")
    assert slug(facade.get("/results/1")) == "no-result"
    assert facade.post("/register", body).json()["outcome"] == "registered"


def test_a_caller_who_asks_too_often_is_told_when_to_come_back(open_facade: OpenFacade) -> None:
    with open_facade(burst=3, requests_per_s=0.1) as facade:
        answers = [facade.get("/results/1") for _ in range(4)]
        assert [answer.status_code for answer in answers] == [404, 404, 404, 429]
        assert slug(answers[3]) == "too-many-requests"
        assert int(answers[3].headers["retry-after"]) >= 10
        assert facade.get("/results/1", client="laundry").status_code == 404
        facade.clock.pass_s(10)
        assert facade.get("/results/1").status_code == 404


def test_one_persons_voice_cannot_be_tried_all_day(open_facade: OpenFacade, reader: list[Reading]) -> None:
    with open_facade(checks_per_person_per_min=1.0) as facade:
        assert facade.post("/verify", verify_body(reader)).status_code == 200
        answer = facade.post("/verify", verify_body(reader, tid="2"), client="laundry")
        assert slug(answer) == "too-many-requests"
        assert facade.post("/verify", verify_body(reader, tid="3", uid="4712")).status_code == 200


def test_beyond_the_room_a_caller_is_turned_away_unread(
    open_facade: OpenFacade, reader: list[Reading]
) -> None:
    with open_facade(max_waiting=1) as facade:
        facade.service.room.enter(1)
        answer = facade.post("/verify", verify_body(reader))
        assert slug(answer) == "busy"
        assert int(answer.headers["retry-after"]) >= 1
        facade.service.room.leave(1)
        assert facade.post("/verify", verify_body(reader)).status_code == 200
        assert facade.service.room.requests == facade.service.room.size_bytes == 0


def test_a_refused_request_gives_its_room_back(facade: Facade, reader: list[Reading]) -> None:
    facade.post("/verify", verify_body(reader, audio="!"))
    facade.post("/verify", verify_body(reader, code="x"))
    facade.client.post("/verify", content=b"{", headers=_json(facade))
    facade.post("/verify", {"tid": "9", "uid": UID, "audio": encoded(reader[1].path)})
    assert facade.service.room.requests == facade.service.room.size_bytes == 0


def test_other_paths_and_methods_are_problems_too(facade: Facade) -> None:
    assert slug(facade.client.get("/")) == "not-found"
    answer = facade.client.delete("/otp")
    assert slug(answer) == "method-not-allowed"
    assert answer.headers["allow"] == "POST"


def test_a_changed_results_file_is_a_fault_and_no_answer(facade: Facade, reader: list[Reading]) -> None:
    facade.post("/verify", verify_body(reader))
    facade.change(StateFolder(facade.state).api_results, "UPDATE results SET sealed = zeroblob(64)")
    answer = facade.get("/results/1")
    assert slug(answer) == "fault"
    assert "sealed" not in answer.text


def _json(facade: Facade) -> dict[str, str]:
    return facade.bearer() | {"Content-Type": "application/json"}


def test_only_a_token_tied_to_a_certificate_is_renewed_and_not_for_ever(judge: Judge, tmp_path: Path) -> None:
    certificate = "ab" * 32
    settings = Settings()
    clock = MovedClock()
    with (
        service_with(judge, settings, tmp_path, clock) as service,
        open_store(tmp_path, settings.store) as store,
    ):
        facade = Facade(None, service, clock, tmp_path, store)  # type: ignore[arg-type]

        def renewed(text: str) -> str:
            token = service.admit(f"Bearer {text}", None, certificate)
            return str(service.renew(token)["token"])

        with pytest.raises(ProblemError, match="certificate"):
            renewed(facade.token("otp"))
        text = facade.token("otp", life_s=3600, certificate=certificate)
        for _ in range(3):
            clock.pass_s(3000)
            text = renewed(text)
        assert service.admit(f"Bearer {text}", "otp", certificate).scopes == {"otp"}
        with pytest.raises(ProblemError, match="scope"):
            service.admit(f"Bearer {text}", "verify", certificate)
        with pytest.raises(ProblemError):
            service.admit(f"Bearer {text}", "otp", "cd" * 32)
        with TokenBook(StateFolder(tmp_path).api_tokens) as beside:
            assert beside.recall(client="pharmacy") > 0
        with pytest.raises(ProblemError, match="recalled"):
            renewed(text)
        text = facade.token("otp", life_s=3600, certificate=certificate)

        def for_ever(text: str) -> None:
            for _ in range(1000):
                clock.pass_s(3000)
                text = renewed(text)

        began = clock.wall
        with pytest.raises(ProblemError):
            for_ever(text)
        assert timedelta(days=29) < clock.wall - began < timedelta(days=31)
