"""What the facade answers to callers who mean well, on real speech and the real models."""

from __future__ import annotations

import asyncio
import os
import threading
import tomllib
from pathlib import Path

import pytest

from device.access.challenge import code_sentence
from device.api.checks import SECOND_WITHIN_S, SecondPhrases
from device.api.errors import problem_of
from device.clock import system_clock
from device.evidence.vocabulary import Language
from device.evidence.wordlists import challenge_words
from device.secure_store.errors import RecordDamagedError, StoreError, StoreUnavailableError, TpmBusyError
from device.state_folder import StateFolder
from sync.outbox import OutboxFullError
from tests.big_rules import big_rules
from tests.conftest import SyntheticVoice
from tests.device.api.conftest import Facade, OpenFacade, encoded, enrolment, slug
from tests.speech import Reading
from tests.waiting import wait_until

UID = "4711"


def registered(facade: Facade, reader: list[Reading], tid: str = "r-1") -> dict[str, object]:
    response = facade.post("/register", {"tid": tid, "uid": UID, "audio": enrolment(reader)})
    assert response.status_code == 200, response.text
    body: dict[str, object] = response.json()
    return body


def test_a_person_registers_and_is_then_told_from_another(
    facade: Facade, reader: list[Reading], other_reader: list[Reading]
) -> None:
    assert registered(facade, reader)["outcome"] == "registered"
    same = {"tid": "1", "uid": UID, "code": "1D3A", "audio": encoded(reader[1].path)}
    other = {"tid": "2", "uid": UID, "code": "1D3A", "audio": encoded(other_reader[0].path)}
    first, second = facade.post("/verify", same).json(), facade.post("/verify", other).json()
    assert first["outcome"] == second["outcome"] == "judged"
    assert first["evidence"]["speaker_llr"] > 3.0 > second["evidence"]["speaker_llr"]
    assert first["evidence"]["phrase_llr"] < 0.0
    assert first["decision"] is None
    assert len(first["evidence"]["model_versions"]) == 3
    assert first["evidence"]["timings"]["total_ms"] > 0.0


def test_the_code_of_a_transaction_is_heard_when_it_is_spoken(
    facade: Facade, synthetic_voice: SyntheticVoice
) -> None:
    asked = {"tid": "1234", "uid": UID, "text": "10 mg morphine", "style": "code"}
    code = facade.post("/otp", asked).json()
    assert code["phrase"] == f"I approve the transaction 1234 with the code {code['code']}"
    spoken = encoded(synthetic_voice(code_sentence("1234", code["code"])[0]))
    result = facade.post("/verify", {"tid": "1234", "uid": UID, "audio": spoken}).json()
    assert result["phrase_from"] == "otp"
    assert result["evidence"]["phrase_llr"] > 0.0
    assert result["enrolled"] is False
    assert result["evidence"]["speaker_llr"] is None


def test_words_are_asked_for_unless_the_caller_names_another_style(facade: Facade) -> None:
    asked = facade.post("/otp", {"tid": "1", "uid": UID}).json()
    assert (asked["style"], asked["code"]) == ("words", None)
    assert set(asked["phrase"].split()) <= set(challenge_words())
    assert facade.post("/otp", {"tid": "2", "uid": UID, "style": "sentence"}).json()["style"] == "sentence"


@pytest.mark.usefixtures("german_models")
def test_a_phrase_is_asked_for_in_the_language_that_the_caller_names(facade: Facade) -> None:
    asked = facade.post("/otp", {"tid": "1", "uid": UID, "language": "de"}).json()
    assert asked["language"] == "de"
    assert set(asked["phrase"].split()) <= set(challenge_words(Language.GERMAN))
    assert facade.post("/otp", {"tid": "2", "uid": UID}).json()["language"] == "en"
    again = facade.post("/otp", {"tid": "1", "uid": UID, "language": "en"})
    assert again.status_code == 409, "another language is another request"
    own = facade.post("/otp", {"tid": "3", "uid": UID, "language": "de", "phrase": "fünf süße Möbel"})
    assert own.json()["phrase"] == "fünf süße Möbel"


@pytest.mark.parametrize(
    "body",
    [
        {"language": "fr"},
        {"language": 5},
        {"language": "de", "style": "code"},
        {"phrase": "fünf süße Straßen"},
    ],
)
def test_a_language_that_is_unknown_or_lacks_the_style_is_refused(
    facade: Facade, body: dict[str, str]
) -> None:
    refused = facade.post("/otp", {"tid": "1", "uid": UID, **body})
    assert refused.status_code == 422


def test_a_long_transaction_id_is_spoken_by_its_end_and_bound_whole(facade: Facade) -> None:
    one = facade.post("/otp", {"tid": "2026-11-22.order-88-1234", "uid": UID, "style": "code"}).json()
    assert "transaction 1234 with" in one["phrase"]


def test_the_same_request_gets_the_same_result_and_is_judged_once(
    facade: Facade, reader: list[Reading]
) -> None:
    body = {"tid": "1", "uid": UID, "code": "1D3A", "audio": encoded(reader[1].path)}
    first = facade.post("/verify", body)
    facade.clock.pass_s(60)
    assert facade.post("/verify", dict(reversed(body.items()))).content == first.content
    assert facade.get("/results/1").content == first.content
    assert 'ostiary_api_jobs_total{kind="verify",outcome="judged"} 1' in facade.client.get("/metrics").text


def test_a_door_rule_decides_when_it_is_asked_for_and_the_log_has_it(
    facade: Facade, reader: list[Reading]
) -> None:
    registered(facade, reader)
    assert facade.post("/otp", {"tid": "1234", "uid": UID, "door": "door-1"}).status_code == 200
    body = {"tid": "1234", "uid": UID, "door": "door-1", "audio": encoded(reader[1].path)}
    result = facade.post("/verify", body).json()
    assert result["decision"]["decision"] == "DENIED_PHRASE"
    assert result["decision"]["opens"] is False
    assert {"phrase", "voice", "live"} <= set(result["decision"]["thresholds"])
    log = facade.state / "audit" / "outbox.db"
    assert any(b"DENIED_PHRASE" in part.read_bytes() for part in log.parent.glob("outbox.db*"))


def test_results_of_one_caller_are_absent_for_another(facade: Facade, reader: list[Reading]) -> None:
    body = {"tid": "1", "uid": UID, "code": "1D3A", "audio": encoded(reader[1].path)}
    facade.post("/verify", body)
    assert slug(facade.get("/results/1", client="laundry")) == "no-result"
    assert facade.post("/verify", body | {"code": "FFFF"}, client="laundry").status_code == 200


def test_results_outlive_a_restart_and_open_codes_do_not(
    open_facade: OpenFacade, reader: list[Reading]
) -> None:
    audio = encoded(reader[1].path)
    with open_facade() as before:
        done = before.post("/verify", {"tid": "1", "uid": UID, "code": "1D3A", "audio": audio})
        before.post("/otp", {"tid": "2", "uid": UID})
    with open_facade() as after:
        assert after.get("/results/1").content == done.content
        assert slug(after.get("/results/2")) == "no-result"
        assert slug(after.post("/verify", {"tid": "2", "uid": UID, "audio": audio})) == "no-code"


def test_a_caller_who_will_not_wait_is_sent_to_the_result(
    open_facade: OpenFacade, reader: list[Reading]
) -> None:
    with open_facade(answer_within_s=0.0) as facade:
        body = {"tid": "1", "uid": UID, "code": "1D3A", "audio": encoded(reader[1].path)}
        response = facade.post("/verify", body)
        assert (response.status_code, response.headers["location"]) == (202, "/results/1")
        wait_until(lambda: facade.get("/results/1").status_code == 200)
        assert facade.get("/results/1").json()["outcome"] == "judged"


def test_neither_audio_nor_a_person_is_ever_on_the_disk(
    facade: Facade, reader: list[Reading], monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[bytes] = []
    real = os.pwrite

    def seen(descriptor: int, data: bytes, at: int) -> int:
        assert "memfd:" in str(Path(f"/proc/self/fd/{descriptor}").readlink())
        return real(descriptor, data, at)

    monkeypatch.setattr(os, "pwrite", seen)
    uid = "person-of-the-test"
    body = {"tid": "tid-of-the-test", "uid": uid, "code": "1D3A", "audio": encoded(reader[1].path)}
    assert facade.post("/verify", body).status_code == 200
    sample = reader[1].path.read_bytes()[20_000:20_064]
    for path in facade.state.rglob("*"):
        if path.is_file():
            written.append(path.read_bytes())
    assert StateFolder(facade.state).api_results.exists()
    for part in (sample, uid.encode(), b"PERSONOFTHETEST", b"tid-of-the-test", b"transcript"):
        assert not any(part in content for content in written)


def test_requests_are_served_in_the_order_in_which_they_came(facade: Facade, reader: list[Reading]) -> None:
    """Straight on the service: a test client gives no two requests an order."""
    from device.api.bodies import VerifyRequest
    from device.api.limits import Stay
    from device.api.tokens import Token

    audio = reader[1].path.read_bytes()
    done: list[str] = []

    async def ask(tid: str) -> None:
        token = Token("pharmacy", frozenset({"verify"}), 0, 1)
        request = VerifyRequest(tid, UID, audio, "1D3A")
        await facade.service.verify(token, request, Stay(facade.service.room, 1))
        done.append(tid)

    async def everybody() -> None:
        await asyncio.gather(*(ask(str(n)) for n in range(6)))

    asyncio.run(everybody())
    assert done == [str(n) for n in range(6)]
    assert facade.service.room.requests == 0


def test_health_and_figures_need_no_token(facade: Facade) -> None:
    assert facade.client.get("/healthz").json() == {"status": "ok"}
    text = facade.client.get("/metrics").text
    assert "ostiary_api_waiting 0" in text
    assert text.endswith("\n")


def test_ids_and_texts_of_any_language_are_taken_in_one_form(facade: Facade) -> None:
    body = {"tid": "1", "uid": "M\u00fcller", "text": "10 \u00b5g f\u00fcr M\u00fcller"}
    first = facade.post("/otp", body)
    assert (first.status_code, first.json()["uid"]) == (200, "M\u00dcLLER")
    again = {"tid": "1", "uid": "mu\u0308ller", "text": "10 \u03bcg fu\u0308r M\u00fcller"}
    assert facade.post("/otp", again).json()["phrase"] == first.json()["phrase"]


@pytest.mark.parametrize(
    "changed", [{"uid": "\u0430lice"}, {"text": "mor\u0440hine"}, {"text": "10\u202emg"}]
)
def test_what_only_looks_like_an_id_or_a_text_is_refused(facade: Facade, changed: dict[str, str]) -> None:
    response = facade.post("/otp", {"tid": "1", "uid": "4711"} | changed)
    assert slug(response) == "invalid"
    assert "cannot be taken: it " in response.json()["detail"]


def test_large_rules_are_not_read_on_the_loop_that_serves_everybody(
    facade: Facade, monkeypatch: pytest.MonkeyPatch
) -> None:
    StateFolder(facade.state).rules.write_text(big_rules(3_000, 100))
    threads: list[str] = []
    real = tomllib.loads

    def noted(text: str) -> dict[str, object]:
        threads.append(threading.current_thread().name)
        return real(text)

    monkeypatch.setattr(tomllib, "loads", noted)
    for number in range(3):
        body = {"tid": str(number), "uid": "p1", "door": "d1"}
        assert facade.post("/otp", body).status_code == 200
    assert slug(facade.post("/otp", {"tid": "9", "uid": "p1", "door": "d100"})) == "no-door"
    assert len(threads) == 1
    assert threads[0].startswith("api-reader")


def test_callers_list_who_is_enrolled_and_erase_them(facade: Facade, reader: list[Reading]) -> None:
    registered(facade, reader)
    (listed,) = facade.get("/people").json()["people"]
    assert (listed["uid"], listed["ended"]) == (UID, False)
    assert facade.get(f"/people?after={UID}").json() == {"people": [], "more": False}
    erased = facade.client.delete("/people/47-11", headers=facade.bearer())
    assert (erased.status_code, erased.json()["record"]) == (200, listed["record"])
    assert facade.get("/people").json()["people"] == []
    assert slug(facade.client.delete(f"/people/{UID}", headers=facade.bearer())) == "no-person"
    assert slug(facade.client.delete(f"/people/{UID}", headers=facade.bearer("people"))) == "wrong-scope"
    assert slug(facade.client.get("/people", headers=facade.bearer("forget"))) == "wrong-scope"


def test_a_phrase_of_the_callers_own_is_asked_for_once(facade: Facade, reader: list[Reading]) -> None:
    body = {"tid": "1", "uid": UID, "phrase": reader[1].text[:100].rsplit(" ", 1)[0]}
    answer = facade.post("/otp", body)
    assert (answer.status_code, answer.json()["phrase"]) == (200, body["phrase"])
    again = facade.post("/otp", body | {"tid": "2"})
    assert slug(again) == "code-refused"
    assert "shown lately" in again.json()["detail"]


@pytest.mark.parametrize(
    "changed",
    [
        {"phrase": "two words"},
        {"phrase": "no no no no"},
        {"phrase": "word " * 13},
        {"phrase": "\u0430 look alike w\u043erd"},
        {"phrase": "three good words", "door": "door-1"},
    ],
)
def test_a_phrase_that_cannot_be_judged_is_refused(facade: Facade, changed: dict[str, str]) -> None:
    assert slug(facade.post("/otp", {"tid": "1", "uid": UID} | changed)) == "invalid"


@pytest.mark.parametrize(
    ("error", "status", "kind", "again"),
    [
        (OutboxFullError("the audit log is full"), 507, "log-full", False),
        (RecordDamagedError("record 1 is damaged"), 409, "damaged-record", False),
        (TpmBusyError("the TPM does not answer"), 503, "store-busy", True),
        (StoreUnavailableError("vault.bin cannot be written"), 503, "store-busy", True),
        (StoreError("something else"), 500, "fault", True),
    ],
    ids=lambda given: type(given).__name__ if isinstance(given, Exception) else "",
)
def test_a_check_that_could_not_be_made_says_whether_to_send_it_again(
    error: Exception, status: int, kind: str, again: bool
) -> None:
    told = problem_of(error)
    assert (told.kind.status, told.kind.slug) == (status, kind)
    assert ("Retry-After" in told.headers()) is again
    assert ("send it again" in told.detail) is again


def test_a_log_that_is_full_is_told_to_a_caller_who_asks_for_a_decision(
    facade: Facade, reader: list[Reading], monkeypatch: pytest.MonkeyPatch
) -> None:
    registered(facade, reader)
    assert facade.post("/otp", {"tid": "1234", "uid": UID, "door": "door-1"}).status_code == 200
    disk = os.statvfs(facade.state)
    full = os.statvfs_result((*disk[:3], 0, 0, *disk[5:]))
    monkeypatch.setattr(os, "statvfs", lambda _: full)
    answer = facade.post(
        "/verify", {"tid": "1234", "uid": UID, "door": "door-1", "audio": encoded(reader[1].path)}
    )
    assert slug(answer) == "log-full"
    assert "Retry-After" not in answer.headers


DOUBTING = f"""
version = 1
[risks.trial]
factors = ["claim", "voice", "live"]
thresholds = {{ live_llr = -9.0, step_up_margin_llr = 0.5, joins_llr = -1.0, joins_doubt_llr = 6.0 }}
[zones.ward]
[doors.door-1]
zone = "ward"
risk = "trial"
[[allow]]
roles = ["nurse"]
[people.{UID}]
roles = ["nurse"]
"""
"""A person's own recordings pass, but for a doubt whether they were joined."""


def answered(facade: Facade, number: int, said: Reading, client: str = "pharmacy") -> str:
    asked = {"tid": str(number), "uid": UID, "door": "door-1"}
    assert facade.post("/otp", asked, client).status_code == 200
    body = {"tid": str(number), "uid": UID, "door": "door-1", "audio": encoded(said.path)}
    outcome: str = facade.post("/verify", body, client).json()["decision"]["decision"]
    return outcome


def test_after_a_doubt_the_next_answer_is_the_second_phrase_and_doubted_no_longer(
    facade: Facade, reader: list[Reading]
) -> None:
    registered(facade, reader)
    StateFolder(facade.state).rules.write_text(DOUBTING)
    assert answered(facade, 1, reader[1]) == "STEP_UP"
    assert answered(facade, 2, reader[1], "laundry") == "STEP_UP", "of another caller nobody was asked"
    assert answered(facade, 3, reader[1]) == "GRANTED"
    assert answered(facade, 4, reader[1]) == "STEP_UP", "the second phrase is used up"
    facade.clock.pass_s(SECOND_WITHIN_S + 1.0)
    assert answered(facade, 5, reader[1]) == "STEP_UP", "it came too late"


def test_of_a_forgotten_person_no_second_phrase_is_remembered() -> None:
    asked, now = SecondPhrases(), system_clock()
    asked.note("pharmacy", "door-1", UID, now)
    asked.note("pharmacy", "door-1", "4712", now)
    asked.forget(UID)
    assert asked.take("pharmacy", "door-1", UID, now) is None
    assert asked.take("pharmacy", "door-1", "4712", now) == 0.0
    assert asked.take("pharmacy", "door-1", "4712", now) is None
