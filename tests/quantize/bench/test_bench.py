from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from device.audio import AudioSettings
from device.audio.utterance import Utterance
from device.errors import DeviceError
from device.evidence.judge import Evidence, Judge
from device.evidence.phrase import PhraseScore
from device.model_store import slots
from device.models.spoof.detector import SpoofEvidence
from device.settings import models_dir
from quantize.bench.cli import bench
from quantize.bench.measure import (
    fresh_process,
    idle_share,
    latency,
    model_sizes,
    processor_alone,
    spread,
)
from quantize.bench.speech import Sentence, packaged_sentences
from tests.speech import Reading
from tests.steps import steps

WORDS_S, SPEAKER_S, SPOOF_S = 0.06, 0.02, 0.01
TEMPLATE = np.full(192, 192**-0.5, dtype=np.float32)


class SlowChecks:
    """Three checks that take a known time; `heard` keeps the length of what they were given."""

    version = "slow"

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.heard: list[int] = []

    def _work(self, wave: np.ndarray) -> None:
        assert np.abs(wave).max() > 0, "a judgement must not be given what an earlier one has wiped"
        self.heard.append(len(wave))
        time.sleep(self.seconds)

    def score(self, wave: np.ndarray, phrase: str) -> PhraseScore:
        self._work(wave)
        return PhraseScore(5.0, phrase)

    def embed(self, wave: np.ndarray) -> np.ndarray:
        self._work(wave)
        return TEMPLATE.copy()

    def llr(self, wave: np.ndarray, template: np.ndarray | None = None) -> float:
        return 5.0

    def evidence(self, wave: np.ndarray) -> SpoofEvidence:
        self._work(wave)
        return SpoofEvidence(5.0, 5.0, 5.0, 5.0, 5.0, 50.0)


@pytest.fixture
def sentences(reader: list[Reading]) -> list[Sentence]:
    return packaged_sentences(3.0, AudioSettings(), reader[0].path.parent)


def test_packaged_sentences_are_cut_to_length_with_their_share_of_the_words(
    sentences: list[Sentence], reader: list[Reading]
) -> None:
    whole = {reading.path.name: reading.text for reading in reader}
    assert len(sentences) >= 2
    for sentence in sentences:
        assert sentence.utterance.duration_s == pytest.approx(3.0)
        assert whole[sentence.name].startswith(sentence.phrase)


def test_a_machine_without_the_package_is_told_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="apt-get install pocketsphinx-testdata"):
        packaged_sentences(4.0, AudioSettings(), tmp_path)


def test_stages_overlap_and_the_total_is_what_a_person_waits(sentences: list[Sentence]) -> None:
    words, speaker, spoof = SlowChecks(WORDS_S), SlowChecks(SPEAKER_S), SlowChecks(SPOOF_S)
    judge = Judge(words, speaker, spoof)
    ticks: list[int] = []

    def wiping(utterance: Utterance, phrase: str, template: np.ndarray | None) -> Evidence:
        try:
            return judge(utterance, phrase, template)
        finally:
            utterance.wipe()

    found = latency(wiping, sentences, TEMPLATE, AudioSettings(), 4, lambda: ticks.append(1))
    judge.close()
    assert len(ticks) == found.rounds == 4
    assert len(words.heard) == 4 + len(sentences), "each sentence warms up once, unmeasured"
    assert found.stages["words"].p50 >= 1e3 * WORDS_S
    assert found.stages["speaker"].p50 >= 1e3 * SPEAKER_S
    assert found.stages["judge"].p50 >= found.stages["words"].p50
    assert found.total.p50 >= found.stages["judge"].p50
    assert found.stages["endpointer"].p50 > 0


def test_each_check_alone_is_charged_its_own_work_and_the_three_are_summed(sentences: list[Sentence]) -> None:
    words, speaker, spoof = SlowChecks(0.0), SlowChecks(0.0), SlowChecks(0.0)
    judge = Judge(words, speaker, spoof)
    surroundings: list[int] = []
    found = processor_alone(judge, lambda wave: surroundings.append(len(wave)), sentences, 3)
    judge.close()
    assert list(found) == ["words", "speaker", "spoof", "three checks", "context"]
    assert [len(check.heard) for check in (words, speaker, spoof)] == [3, 3, 3]
    assert len(surroundings) == 3
    assert found["three checks"].worst >= max(found[check].worst for check in ("words", "speaker", "spoof"))


def test_percentiles_are_those_of_the_definition() -> None:
    found = spread([float(value) for value in range(101)])
    assert (found.p50, found.p95, found.worst) == (50.0, 95.0, 100.0)


def test_listening_is_measured_and_a_second_costs_the_same_however_long_it_lasts() -> None:
    shares: list[float] = []
    short, long = (steps(lambda s=s: shares.append(idle_share(s, AudioSettings()))) for s in (2.0, 8.0))
    assert all(share > 0.0 for share in shares)
    assert short < long < 4.2 * short


def test_model_sizes_count_every_file(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.bin").write_bytes(b"abc")
    (tmp_path / "sub" / "b.bin").write_bytes(b"de")
    assert model_sizes(tmp_path) == {"a.bin": 3, "sub/b.bin": 2}


def test_a_fresh_process_without_models_fails_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DeviceError) as caught:
        fresh_process(tmp_path, 4.0)
    assert "\n" not in str(caught.value)
    assert "models build" in str(caught.value)


def test_own_audio_needs_its_phrase() -> None:
    result = CliRunner().invoke(bench, ["--phrase", "open the door"])
    assert result.exit_code == 2
    assert "go together" in result.output


@pytest.mark.slow
def test_the_real_door_is_measured_and_nothing_is_written(
    tmp_path: Path, reader: list[Reading], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (models_dir() / "manifest.json").is_file():
        pytest.skip("no models; run `ostiary models build`")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(bench, ["--rounds", "2", "--json"], catch_exceptions=False)
    assert list(tmp_path.iterdir()) == []
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found["latency"]["seconds"] == pytest.approx(4.0)
    stages = {"endpointer", "words", "speaker", "spoof", "context", "judge", "policy"}
    assert set(found["latency"]["stages"]) == stages
    assert 50 < found["fresh"]["ready_rss_mib"] <= found["fresh"]["peak_rss_mib"] < 400
    assert found["fresh"]["cold_start_s"] > 0
    again = found["heard_again"]
    if "words-base-answers" in {entry.role for entry in slots.active(models_dir()).manifest.files}:
        assert min(again["again_ms"], again["opened_ms"]) > 0, "which is longer, a busy machine decides"
        assert found["fresh"]["peak_rss_mib"] < again["peak_rss_mib"] < 1000
    else:
        assert again is None
