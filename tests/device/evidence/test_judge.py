"""The judge: three checks side by side, all or nothing. Real models on real speech."""

from __future__ import annotations

import ctypes
import threading
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from bench.door.allocated import allocated_bytes
from device.access.policy import Thresholds
from device.audio import Quality, Utterance, load_utterance
from device.evidence import conditioned
from device.evidence.judge import Judge, JudgeError
from device.evidence.phrase import PhraseScore
from device.liveness import ContextEvidence, LivenessError
from device.liveness.context import ContextChecks
from device.models.spoof.detector import SpoofEvidence
from sync.vocabulary import SCORES
from tests.conftest import SyntheticVoice
from tests.device.audio.sounds import coughing
from tests.speech import Reading
from tests.waiting import wait_until

Vector = npt.NDArray[np.float32]


def template_of(judge: Judge, readings: list[Reading]) -> Vector:
    return judge.speaker.template([judge.speaker.embed(load_utterance(r.path).wave()) for r in readings])


@pytest.fixture(scope="module")
def template(judge: Judge, reader: list[Reading]) -> Vector:
    return template_of(judge, [reader[0], reader[2], reader[3]])


def test_the_right_person_with_the_right_words_has_evidence_for_all_three(
    judge: Judge, template: Vector, reader: list[Reading]
) -> None:
    for reading in (reader[1], reader[4]):
        evidence = judge(load_utterance(reading.path), reading.text, template)
        assert evidence.phrase_llr > 2.0
        assert evidence.speaker_llr is not None
        assert evidence.speaker_llr > 3.0
        assert evidence.spoof_llr > 0.0


def test_wrong_words_speak_against_the_phrase_and_not_against_the_voice(
    judge: Judge, template: Vector, reader: list[Reading]
) -> None:
    evidence = judge(load_utterance(reader[1].path), reader[4].text, template)
    assert evidence.phrase_llr < 0.0
    assert evidence.speaker_llr is not None
    assert evidence.speaker_llr > 3.0


def test_another_person_speaks_against_the_voice(
    judge: Judge, template: Vector, other_reader: list[Reading]
) -> None:
    evidence = judge(load_utterance(other_reader[4].path), other_reader[4].text, template)
    assert evidence.speaker_llr is not None
    assert evidence.speaker_llr < 0.0


def test_synthetic_voices_have_a_lower_live_score_than_the_reader(
    judge: Judge, reader: list[Reading], synthetic_voice: SyntheticVoice
) -> None:
    human = judge(load_utterance(reader[1].path), reader[1].text, None).spoof_llr
    for system in ("espeak-ng", "flite"):
        made = load_utterance(synthetic_voice(reader[1].text, system))
        assert judge(made, reader[1].text, None).spoof_llr < min(0.0, human)


def test_without_a_template_there_is_no_voice_evidence(judge: Judge, reader: list[Reading]) -> None:
    assert judge(load_utterance(reader[1].path), reader[1].text, None).speaker_llr is None


def test_every_model_is_named_in_the_evidence(judge: Judge, reader: list[Reading]) -> None:
    evidence = judge(load_utterance(reader[1].path), reader[1].text, None)
    assert len(evidence.model_versions) == 3
    assert all(any(c.isdigit() for c in version) for version in evidence.model_versions)


class Steady:
    """A check that answers; `failing` makes it raise, `nan` an embedding of nothing."""

    version = "steady-1"
    operating_points: dict[str, float] = {}  # noqa: RUF012 - a stand-in

    def __init__(self, failing: Exception | None = None) -> None:
        self._failing = failing
        self.meeting: threading.Barrier | None = None

    def take_time(self) -> None:
        if self.meeting is not None:
            self.meeting.wait(timeout=180)
        if self._failing is not None:
            raise self._failing

    def score(self, wave: Vector, phrase: str) -> PhraseScore:
        self.take_time()
        return PhraseScore(1.0, phrase)

    def embed(self, wave: Vector) -> Vector:
        self.take_time()
        return np.ones(192, np.float32)

    def template(self, embeddings: object) -> Vector:
        return np.ones(192, np.float32)

    def llr(self, wave: Vector, template: Vector | None = None) -> float:
        if template is None:
            self.take_time()
        return 1.0

    def evidence(self, wave: Vector) -> SpoofEvidence:
        return SpoofEvidence(2.0, 2.0, -1.5, 2.0, self.llr(wave), 93.75)


def utterance() -> Utterance:
    return Utterance(np.ones(16_000, np.int16), 0.1, 0.9, Quality(0.8, 30.0, 0.0, -20.0, 7000.0))


@pytest.mark.parametrize("broken", [0, 1, 2])
def test_one_failing_check_means_no_evidence_at_all(broken: int) -> None:
    checks = [Steady(RuntimeError("out of memory") if number == broken else None) for number in range(3)]
    judge = Judge(checks[0], checks[1], checks[2])
    with pytest.raises(JudgeError, match=r"a check failed: a fault of the program \(RuntimeError\)") as told:
        judge(utterance(), "one two", None)
    assert str(told.value.__cause__) == "out of memory"
    judge.close()


def test_what_led_to_the_live_score_is_told_kind_by_kind() -> None:
    judge = Judge(Steady(None), Steady(None), Steady(None))
    found = judge(utterance(), "one two", None)
    judge.close()
    assert found.spoof_llr == 1.0
    assert found.live_kinds["cadence_llr"] == -1.5
    assert set(found.live_kinds) < SCORES


def test_the_live_score_is_moved_by_the_place_for_the_detector_that_the_table_was_fitted_on() -> None:
    table = conditioned.shipped()
    known = Steady(None)
    known.version = table.detector
    known.operating_points = {"bpcer_3": 9.0}
    judge = Judge(Steady(None), Steady(None), known)
    found = judge(utterance(), "one two", None)
    judge.close()
    at_a_desk = Quality(0.8, 30.0, 0.0, -20.0, 7000.0)
    place = conditioned.Place.of(at_a_desk)
    assert found.spoof_llr == pytest.approx((1.0 + table.shift.at(place)) / table.spread.at(place))
    assert found.operating_points == table.operating_points


class Beside:
    """Looks beside the models and remembers being asked."""

    def __init__(self, failing: Exception | None = None) -> None:
        self._failing = failing
        self.asked = 0

    def look(self, wave: Vector) -> ContextEvidence:
        if self._failing is not None:
            raise self._failing
        return ContextEvidence(reuse_llr=3.0)

    def consistency_llr(self, speaker: object, utterance: Utterance, wave: Vector) -> float:
        self.asked += 1
        return 2.0


def test_a_failing_look_beside_means_no_evidence_either() -> None:
    judge = Judge(Steady(), Steady(), Steady(), Beside(LivenessError("no memory")))
    with pytest.raises(JudgeError, match="no memory"):
        judge(utterance(), "one two", None)
    judge.close()


def test_constancy_is_asked_only_of_a_voice_that_is_not_clearly_the_person() -> None:
    beside = Beside()
    judge = Judge(Steady(), Steady(), Steady(), beside)
    assert judge(utterance(), "one two", None).context.consistency_llr is None
    weak = judge(utterance(), "one two", np.ones(192, np.float32))
    assert (weak.context.consistency_llr, weak.context.reuse_llr, beside.asked) == (2.0, 3.0, 1)
    judge.close()


def test_a_door_looks_with_other_eyes_and_the_same_models() -> None:
    judge = Judge(Steady(), Steady(), Steady())
    door = judge.with_context(Beside())
    assert judge(utterance(), "one two", None).context.reuse_llr is None
    assert door(utterance(), "one two", None).context.reuse_llr == 3.0
    judge.close()


def test_the_three_checks_run_at_the_same_time() -> None:
    meeting = threading.Barrier(3)
    checks = [Steady() for _ in range(3)]
    for check in checks:
        check.meeting = meeting  # each waits for the other two: one after the other would never end
    judge = Judge(checks[0], checks[1], checks[2])
    assert judge(utterance(), "one two", None).phrase_llr == 1.0
    judge.close()


def test_where_no_thread_can_begin_there_is_no_evidence_and_the_sound_is_overwritten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Kept(Steady):
        wave: Vector | None = None

        def score(self, wave: Vector, phrase: str) -> PhraseScore:
            Kept.wave = wave
            return super().score(wave, phrase)

    start, meeting = threading.Thread.start, threading.Barrier(2)
    begun: list[str] = []

    def one_only(thread: threading.Thread) -> None:
        if thread.name.startswith("judge"):
            if begun:
                meeting.abort()
                raise RuntimeError("can't start new thread")
            begun.append(thread.name)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", one_only)
    words = Kept()
    words.meeting = meeting  # busy, so that the next check needs a thread of its own
    judge = Judge(words, Steady(), Steady())
    with pytest.raises(JudgeError, match=r"a fault of the program \(RuntimeError\)") as told:
        judge(utterance(), "one two", None)
    assert str(told.value.__cause__) == "can't start new thread"
    judge.close()
    assert Kept.wave is not None
    assert not Kept.wave.any()


def test_clicks_that_keep_time_are_told_apart_from_a_machines_beat(
    judge: Judge, reader: list[Reading]
) -> None:
    """A relay ten times a second, also before and after the words: the live check takes it for a machine.

    In long sentences without a pause some clicks are not found; those are refused as before.
    """
    refused, told = 0, 0
    dice = np.random.default_rng(1)
    for reading in reader[:3]:
        utterance = load_utterance(reading.path)
        spoken = utterance.samples.astype(np.float64)
        room = dice.normal(size=12_800) * 0.03 * spoken.std()
        heard = np.concatenate((room, spoken, room))
        for begin in range(800, len(heard) - 64, 1_600):
            click = dice.normal(size=64) * np.exp(-np.arange(64) / 12.0)
            heard[begin : begin + 64] += spoken.std() / 7.0 * click / np.abs(click).max()
        clicking = replace(utterance, samples=np.round(heard).astype(np.int16))
        evidence = judge(clicking, reading.text, None)
        if evidence.spoof_llr < 0.0:
            refused += 1
            told += evidence.unclicked_llr is not None and evidence.unclicked_llr > 0.0
    assert refused > 0, "the clicks disturb nobody, so this shows nothing"
    assert told > 0


def test_a_synthetic_voice_without_clicks_is_no_more_alive(
    judge: Judge, reader: list[Reading], synthetic_voice: SyntheticVoice
) -> None:
    for system in ("espeak-ng", "flite"):
        found = judge(load_utterance(synthetic_voice(reader[1].text, system)), reader[1].text, None)
        assert found.unclicked_llr is None or found.unclicked_llr < 0.0


def test_a_fit_of_coughing_is_told_apart_from_a_pasted_piece(judge: Judge, reader: list[Reading]) -> None:
    """Between two words, 9 dB louder than they are: the evidence for joins takes it for a piece."""
    checks, refused, told = ContextChecks.open(), 0, 0
    listening = judge.with_context(checks)
    for seed, reading in enumerate(reader[:4]):
        utterance = load_utterance(reading.path)
        said = utterance.samples.astype(np.float64)
        level = np.convolve(said**2, np.full(800, 1 / 800), "same")
        third = len(said) // 3
        at = third + int(level[third : 2 * third].argmin())
        cough = coughing(np.random.default_rng(seed)) * min(30_000.0, 8.0 * np.sqrt(level.max()))
        room = np.random.default_rng(seed).normal(size=len(cough)) * np.sqrt(np.percentile(level, 5))
        heard = np.concatenate([said[:at], cough + room, said[at:]]).clip(-32_768, 32_767)
        found = listening(replace(utterance, samples=heard.astype(np.int16)), reading.text, None).context
        assert found.joins_llr is not None
        if found.joins_llr < Thresholds().joins_llr:
            refused += 1
            told += found.uncoughed_llr is not None and found.uncoughed_llr >= Thresholds().joins_llr
    assert refused > 0, "coughs disturb nobody, so this shows nothing"
    assert told > refused // 2


class Crumbs(Steady):
    """A check that takes memory in pieces of all small sizes, as networks do, and gives it back."""

    SIZES = range(24, 1_033, 16)
    OF_EACH = 7
    """So many of each size does the GNU C library keep for the thread that gave them back."""

    def take_time(self) -> None:
        library = ctypes.CDLL(None)
        library.malloc.argtypes, library.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
        library.free.argtypes = [ctypes.c_void_p]
        taken = [library.malloc(size) for size in self.SIZES for _ in range(self.OF_EACH)]
        super().take_time()
        for piece in taken:
            library.free(piece)


def test_what_the_checks_gave_back_is_kept_for_none_of_their_threads() -> None:
    checks = [Crumbs() for _ in range(3)]
    judge = Judge(checks[0], checks[1], checks[2])
    judge(utterance(), "one two", None)  # whatever is loaded on first use
    meeting = threading.Barrier(3)
    for check in checks:
        check.meeting = meeting  # three threads at once, however quick one is
    fresh = Judge(checks[0], checks[1], checks[2])
    before = allocated_bytes()
    fresh(utterance(), "one two", None)
    of_one_thread = sum(Crumbs.SIZES) * Crumbs.OF_EACH
    # A thread ends a moment after it is joined.
    wait_until(lambda: allocated_bytes() - before < of_one_thread / 2, within_s=60.0)
    judge.close()
    fresh.close()
