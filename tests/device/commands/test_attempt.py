"""`enroll`, `decide`, `score` and `forget`, as other programs call them: JSON, exit codes, one line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from device.evidence.voice.copies import MADE
from device.secure_store import open_store
from device.settings import Settings
from quantize.playback import Room, reverberate
from tests.conftest import SyntheticVoice
from tests.device.commands.conftest import Ostiary
from tests.speech import Reading

DOOR = ("--door", "door-1")


@pytest.fixture
def enrolled(ostiary: Ostiary, reader: list[Reading]) -> Ostiary:
    """A unit that knows the reader as 4711."""
    assert ostiary("enroll", "4711", *(reader[n].path for n in (0, 2, 3))).code == 0
    return ostiary


def test_the_right_person_is_granted_and_all_evidence_is_reported(
    enrolled: Ostiary, reader: list[Reading]
) -> None:
    ran = enrolled("decide", *DOOR, "--claim", "4711", "--phrase", reader[4].text, "--json", reader[4].path)
    report = json.loads(ran.out)
    assert (ran.code, report["decision"], report["opens"]) == (0, "GRANTED", True)
    evidence = report["evidence"]
    assert min(evidence["phrase_llr"], evidence["speaker_llr"], evidence["spoof_llr"]) > 0
    assert evidence["timings"]["total_ms"] > 0
    assert len(evidence["model_versions"]) == 3


def test_each_wrong_attempt_is_denied_for_its_own_reason(
    enrolled: Ostiary, reader: list[Reading], other_reader: list[Reading], synthetic_voice: SyntheticVoice
) -> None:
    right, cards = reader[4], other_reader[1]
    cases = {
        "DENIED_PHRASE": ("4711", reader[1].text, right.path),
        "DENIED_VOICE": ("4711", cards.text, cards.path),
        "DENIED_SPOOF": ("4711", right.text, synthetic_voice(right.text, "flite")),
        "DENIED_UNKNOWN": ("0815", right.text, right.path),
    }
    for expected, (uid, phrase, probe) in cases.items():
        ran = enrolled("decide", *DOOR, "--claim", uid, "--phrase", phrase, "--json", probe)
        assert (ran.code, json.loads(ran.out)["decision"]) == (1, expected)


def test_no_claim_is_no_way_in(enrolled: Ostiary, reader: list[Reading]) -> None:
    ran = enrolled("decide", *DOOR, "--phrase", reader[4].text, "--json", reader[4].path)
    assert (ran.code, json.loads(ran.out)["decision"]) == (1, "DENIED_UNKNOWN")


def test_a_person_reads_a_sentence_instead_of_json(enrolled: Ostiary, reader: list[Reading]) -> None:
    ran = enrolled("decide", *DOOR, "--claim", "4711", "--phrase", reader[1].text, reader[4].path)
    assert ran.code == 1
    assert "DENIED_PHRASE" in ran.out
    assert "phrase" in ran.out


@pytest.mark.parametrize("content", [b"", b"RIFF", b"no recording", b"RIFF\xff\xff\xff\xffWAVEfmt "])
def test_a_broken_recording_is_refused_in_one_line(ostiary: Ostiary, tmp_path: Path, content: bytes) -> None:
    probe = tmp_path / "broken.wav"
    probe.write_bytes(content)
    ran = ostiary("decide", *DOOR, "--claim", "4711", "--phrase", "one two three", "--json", probe)
    report = json.loads(ran.out)
    assert ran.code in (1, 3)
    assert not report["opens"]
    assert report["evidence"] is None
    assert "\n" not in report["reason"]


def test_a_missing_recording_and_an_unknown_door_are_usage_errors(
    ostiary: Ostiary, tmp_path: Path, reader: list[Reading]
) -> None:
    absent = ostiary("decide", *DOOR, "--phrase", "one two", tmp_path / "absent.wav")
    assert absent.code == 2
    elsewhere = ostiary("decide", "--door", "moon", "--phrase", "one two three", reader[4].path)
    assert elsewhere.code in (0, 1, 2, 3)
    assert "GRANTED" not in elsewhere.out


def test_without_models_the_door_says_what_to_run(
    ostiary: Ostiary, tmp_path: Path, reader: list[Reading], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OSTIARY_MODELS_DIR", str(tmp_path / "empty"))
    ran = ostiary("decide", *DOOR, "--claim", "4711", "--phrase", "one two three", reader[4].path)
    assert ran.code == 3
    assert "ostiary models build" in ran.err
    assert ran.err.count("\n") <= 2


def test_two_recordings_are_too_few_to_enrol(ostiary: Ostiary, reader: list[Reading]) -> None:
    ran = ostiary("enroll", "4711", reader[0].path, reader[2].path)
    assert ran.code == 2
    assert "three" in ran.err or "3" in ran.err


def test_an_enrolment_keeps_who_took_the_consent(
    ostiary: Ostiary, reader: list[Reading], tmp_path: Path
) -> None:
    ran = ostiary("enroll", "4711", "--consent-to", "admin-7", *(reader[n].path for n in (0, 2, 3)))
    assert ran.code == 0
    settings = Settings()
    with open_store(tmp_path / "state", settings.store, warn=lambda _: None) as store:
        consent = store.vault.consent("4711")
    assert consent.taken_by == "admin-7"
    assert (consent.retain_until - consent.given_at).days == settings.store.retention_days


def test_two_people_cannot_be_enrolled_as_one(
    ostiary: Ostiary, reader: list[Reading], other_reader: list[Reading]
) -> None:
    ran = ostiary("enroll", "4711", reader[0].path, reader[2].path, other_reader[1].path)
    assert ran.code == 1, "an answer and no fault"
    assert "does not sound like the others" in ran.err


def test_a_person_who_is_forgotten_does_not_get_in_any_more(enrolled: Ostiary, reader: list[Reading]) -> None:
    receipt = json.loads(enrolled("forget", "4711", "--json").out)
    assert receipt["receipt"]
    ran = enrolled("decide", *DOOR, "--claim", "4711", "--phrase", reader[4].text, "--json", reader[4].path)
    assert json.loads(ran.out)["decision"] == "DENIED_UNKNOWN"
    again = enrolled("forget", "4711")
    assert (again.code, again.err.count("nobody is enrolled")) == (1, 1)


def test_score_compares_without_touching_a_store(
    ostiary: Ostiary, reader: list[Reading], other_reader: list[Reading], tmp_path: Path
) -> None:
    enrolment = ("--enroll", *(reader[n].path for n in (0, 2, 3)))
    same = ostiary("score", *enrolment, "--probe", reader[4].path, "--phrase", reader[4].text, "--json")
    other = ostiary(
        "score", *enrolment, "--probe", other_reader[1].path, "--phrase", other_reader[1].text, "--json"
    )
    assert json.loads(same.out)["speaker_llr"] > 3.0 > json.loads(other.out)["speaker_llr"]
    assert not (tmp_path / "state").exists()


def test_in_a_lively_room_a_person_is_held_against_what_their_enrolment_made_for_rooms(
    ostiary: Ostiary, other_reader: list[Reading], tmp_path: Path
) -> None:
    """`decide` and `score` alike."""
    cards, probe = [reading.path for reading in other_reader[:3]], other_reader[3]
    lively = lively_room(probe.path, tmp_path / "lively.wav")
    assert ostiary("enroll", "4711", *cards).code == 0

    def decided_llr() -> float:
        wanted = ("--claim", "4711", "--phrase", probe.text, "--json", lively)
        return float(json.loads(ostiary("decide", *DOOR, *wanted).out)["evidence"]["speaker_llr"])

    by_door_vector = decided_llr()
    scored = ostiary("score", "--enroll", *cards, "--probe", lively, "--phrase", probe.text, "--json")
    assert json.loads(scored.out)["speaker_llr"] == pytest.approx(by_door_vector, abs=1e-3)
    with open_store(tmp_path / "state", Settings().store, warn=lambda _: None) as store:
        template, consent = store.vault.template("4711"), store.vault.consent("4711")
        assert template.door is not None
        assert template.door.made == MADE
        store.vault.enrol("4711", replace(template, door=None), consent)
    assert by_door_vector > decided_llr() + 0.5


def lively_room(path: Path, into: Path) -> Path:
    """The recording as heard two metres away in a lively room."""
    wave, rate_hz = soundfile.read(path, dtype="float32")
    heard = reverberate(wave, Room(0.6, -2.0), np.random.default_rng(4))
    soundfile.write(into, 0.5 * heard / np.abs(heard).max(), rate_hz, subtype="PCM_16")
    return into


def test_every_decision_is_in_the_audit_log(enrolled: Ostiary, reader: list[Reading]) -> None:
    def events() -> int:
        found = json.loads(enrolled("doctor", "--json").out)
        detail = str(next(finding for finding in found if finding["what"] == "audit log")["detail"])
        return int(detail.partition(" ")[0])

    before = events()
    assert before == 2, "the enrolment, begun and done"
    enrolled("decide", *DOOR, "--claim", "4711", "--phrase", reader[4].text, reader[4].path)
    assert events() == before + 1


def test_the_same_file_twice_gets_the_same_answer(enrolled: Ostiary, reader: list[Reading]) -> None:
    """Files are no attempts at a door: nothing is remembered of them, and nothing compared."""
    wanted = (*DOOR, "--claim", "4711", "--phrase", reader[4].text, "--json", reader[4].path)
    first, second = (json.loads(enrolled("decide", *wanted).out) for _ in range(2))
    assert first["decision"] == second["decision"] == "GRANTED"
    assert first["evidence"]["context"]["reuse_llr"] is None
    assert set(first["evidence"]["context"]) == {
        "reuse_llr",
        "consistency_llr",
        "joins_llr",
    }


def test_one_recording_in_three_files_is_no_enrolment(
    ostiary: Ostiary, reader: list[Reading], tmp_path: Path
) -> None:
    copy = tmp_path / "copy.wav"
    copy.write_bytes(Path(reader[0].path).read_bytes())
    for files in ((reader[0].path,) * 3, (reader[0].path, copy, reader[2].path)):
        ran = ostiary("enroll", "4711", *files)
        assert ran.code == 1
        assert "record the person again" in ran.err
    assert ostiary("forget", "4711").code == 1


def test_an_empty_name_of_who_took_the_consent_is_a_usage_error(
    ostiary: Ostiary, reader: list[Reading]
) -> None:
    for empty in ("", "  "):
        ran = ostiary("enroll", "4711", "--consent-to", empty, *(reader[n].path for n in (0, 2, 3)))
        assert ran.code == 2
        assert "--consent-to" in ran.err


def test_a_phrase_that_nobody_can_say_and_an_empty_id_are_usage_errors(
    ostiary: Ostiary, reader: list[Reading]
) -> None:
    files = [reader[n].path for n in (0, 2, 3)]
    for phrase in ("", "?!", "\u65e5\u672c", "word " * 500):
        for command in (("decide", *DOOR, "--claim", "4711"), ("score", "--enroll", *files, "--probe")):
            ran = ostiary(*command, reader[4].path, "--phrase", phrase)
            assert (ran.code, "--phrase" in ran.err) == (2, True)
    assert ostiary("enroll", "", *files).code == 2
    assert ostiary("forget", "").code == 2


def test_json_is_printed_on_refusals_and_faults_too(
    ostiary: Ostiary, reader: list[Reading], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe, files = reader[4], (reader[0].path,) * 3
    commands = [
        ("enroll", "4711", *files),
        ("forget", "4711"),
        ("score", "--enroll", *files, "--probe", probe.path, "--phrase", probe.text),
    ]
    for command in commands:
        ran = ostiary(*command, "--json")
        assert ran.code in (1, 3)
        assert json.loads(ran.out)["error"] in ran.err
    monkeypatch.setenv("OSTIARY_MODELS_DIR", str(tmp_path / "empty"))
    ran = ostiary("decide", *DOOR, "--phrase", probe.text, "--json", probe.path)
    assert (ran.code, "models build" in json.loads(ran.out)["error"]) == (3, True)


def test_who_is_enrolled_is_listed_and_replaced_only_when_that_is_meant(
    ostiary: Ostiary, reader: list[Reading]
) -> None:
    recordings = [reader[n].path for n in (0, 2, 3)]
    assert ostiary("people").out == "Nobody is enrolled.\n"
    assert ostiary("enroll", "alice", *recordings).code == 0
    (listed,) = json.loads(ostiary("people", "--json").out)
    assert (listed["uid"], listed["ended"]) == ("ALICE", False)
    again = ostiary("enroll", "Alice", *recordings)
    assert again.code == 1
    assert "--replace" in again.err
    assert ostiary("enroll", "ALICE", "--replace", *recordings).code == 0
    assert listed["record"] in ostiary("people").out
