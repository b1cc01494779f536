"""The larger words model: opened late, checked again, asked what it knows, and given back.

The usual model stands in for the larger one, under its roles: what is tried here is the same for both.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from device.audio.utterance import Wave
from device.errors import DeviceError
from device.evidence import second_hearing
from device.evidence.phrase import PhraseScore
from device.model_store.answers import WordsAnswer
from device.model_store.bundle import MANIFEST_NAME, Bundle
from device.model_store.manifest import BundleError, Manifest
from device.models.second_words import SecondWords, heard_twice, second_words
from device.models.second_words_answers import ANSWERS_ROLE, SecondAnswers
from device.models.self_test import RECORDINGS, SelfTestError, recordings_of
from device.models.words.transcriber import BASE_ENCODER_ROLE, BASE_ROLE, ENCODER_ROLE, ROLE, Transcriber
from device.settings import JudgeSettings, Settings
from quantize.upstream.fetch import sha256_of
from tests.device.model_store.bundles import entry
from tests.waiting import PATIENCE_S, wait_until

HEARD, SAID = "goforward.raw", ("go forward ten meters", "go forward two meters")
STANDS_IN = {ROLE: ROLE, BASE_ROLE: ROLE, BASE_ENCODER_ROLE: ENCODER_ROLE}


@pytest.fixture(scope="module")
def answers(models: Path) -> SecondAnswers:
    usual = Bundle.open(models)
    words = Transcriber.open(usual, threads=1)
    hashes = {HEARD: sha256_of(RECORDINGS / HEARD)}
    scores = words.scores(recordings_of(hashes)[HEARD], SAID)
    words.close()
    files = {role: usual.manifest.entry(STANDS_IN[role]).sha256 for role in (BASE_ROLE, BASE_ENCODER_ROLE)}
    found = tuple(WordsAnswer(HEARD, said, one.llr) for said, one in zip(SAID, scores, strict=True))
    return SecondAnswers(files, hashes, found, 0.5)


def bundle_of(models: Path, folder: Path, answers: SecondAnswers) -> Bundle:
    usual = Bundle.open(models)
    folder.mkdir()
    entries = []
    for role, usual_role in STANDS_IN.items():
        one = usual.manifest.entry(usual_role)
        name = f"{role}.onnx"
        (folder / name).write_bytes(usual.path(usual_role).read_bytes())
        version = dict(zip((ROLE, BASE_ROLE), second_hearing.FITTED_ON, strict=True)).get(role, one.version)
        entries.append(replace(one, role=role, name=name, version=version))
    data = answers.to_bytes()
    kept = replace(entry(ANSWERS_ROLE, data), calibration=None)
    (folder / kept.name).write_bytes(data)
    (folder / MANIFEST_NAME).write_bytes(Manifest(1, "0.1.0", (*entries, kept)).to_bytes())
    return Bundle.open(folder)


@pytest.fixture(scope="module")
def bundle(models: Path, tmp_path_factory: pytest.TempPathFactory, answers: SecondAnswers) -> Bundle:
    return bundle_of(models, tmp_path_factory.mktemp("second") / "bundle", answers)


def heard(words: SecondWords, phrase: str = SAID[0]) -> float:
    wave = recordings_of({HEARD: sha256_of(RECORDINGS / HEARD)})[HEARD]
    return words.score(wave, phrase).llr


def test_a_bundle_without_the_larger_model_has_no_second_hearing(models: Path, tmp_path: Path) -> None:
    usual = Bundle.open(models)
    entries = tuple(one for one in usual.manifest.files if not one.role.startswith("words-base"))
    assert not heard_twice(replace(usual, manifest=replace(usual.manifest, files=entries)))


def test_other_models_than_the_weights_were_fitted_on_have_none_either(bundle: Bundle) -> None:
    entries = tuple(replace(one, version="whisper-base-int8-0") for one in bundle.manifest.files)
    assert not heard_twice(replace(bundle, manifest=replace(bundle.manifest, files=entries)))


def test_it_opens_when_it_is_asked_and_gives_its_memory_back_when_nobody_asks(bundle: Bundle) -> None:
    others = set(threading.enumerate())
    words = SecondWords(bundle, 1, kept_s=0.2, patience_s=PATIENCE_S)
    assert not words.opened
    assert heard(words) > 2.0 > heard(words, SAID[1])
    wait_until(lambda: not words.opened)
    assert heard(words) > 2.0, "and opened again"
    words.close()
    assert not words.opened
    # A timer that was called off still has to end, which takes it a moment; others are not ours.
    wait_until(
        lambda: not any(isinstance(one, threading.Timer) for one in set(threading.enumerate()) - others)
    )


def test_nobody_waits_for_it_longer_than_its_patience_and_its_copy_of_the_sound_is_overwritten(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = SecondWords(bundle, 1, patience_s=0.05)
    going_on, kept = threading.Event(), []

    def slow(transcriber: Transcriber, wave: Wave, phrase: str) -> PhraseScore:
        kept.append(wave)
        going_on.wait(PATIENCE_S)
        return PhraseScore(9.0, phrase)

    monkeypatch.setattr(Transcriber, "score", slow)
    mine = np.ones(16_000, np.float32)
    try:
        with pytest.raises(DeviceError, match="longer than"):
            words.score(mine, "one")
        assert mine.all(), "the caller's own sound is the caller's"
        wait_until(lambda: kept)
    finally:
        going_on.set()
        words.close()
    assert not any(wave.any() for wave in kept)


def test_what_waits_when_it_is_closed_ends_and_its_copy_of_the_sound_is_overwritten(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = SecondWords(bundle, 1, patience_s=PATIENCE_S)
    begun, going_on, kept = threading.Event(), threading.Event(), []

    class Sound:
        """Keeps the copy that is made of it."""

        def copy(self) -> Wave:
            kept.append(np.ones(16_000, np.float32))
            return kept[-1]

    def slow(transcriber: Transcriber, wave: Wave, phrase: str) -> PhraseScore:
        begun.set()
        going_on.wait(PATIENCE_S)
        return PhraseScore(9.0, phrase)

    monkeypatch.setattr(Transcriber, "score", slow)
    with ThreadPoolExecutor(3) as pool:
        try:
            first = pool.submit(words.score, Sound(), "one")
            assert begun.wait(PATIENCE_S)
            second = pool.submit(words.score, Sound(), "one")
            wait_until(lambda: len(kept) == 2)
            closing = pool.submit(words.close)
            assert isinstance(second.exception(PATIENCE_S), DeviceError)
        finally:
            going_on.set()
        assert first.result(PATIENCE_S).llr == 9.0
        closing.result(PATIENCE_S)
    with pytest.raises(DeviceError, match="cannot begin"):
        words.score(Sound(), "one")
    assert len(kept) == 3
    assert not any(wave.any() for wave in kept)


def test_it_is_waited_for_at_most_half_as_long_as_a_judgement(bundle: Bundle) -> None:
    for timeout_s, patience_s in ((10.0, 5.0), (60.0, 5.0), (2.0, 1.0)):
        words = second_words(bundle, Settings(judge=JudgeSettings(timeout_s=timeout_s)))
        assert words is not None
        assert words.patience_s == patience_s
        words.close()


def test_a_file_that_was_exchanged_after_the_bundle_was_verified_is_refused(
    models: Path, tmp_path: Path, answers: SecondAnswers
) -> None:
    bundle = bundle_of(models, tmp_path / "bundle", answers)
    words = SecondWords(bundle, 1, patience_s=PATIENCE_S)
    path = bundle.path(BASE_ROLE)
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match="SHA-256 differs"):
        heard(words)
    words.close()


def test_a_model_that_answers_otherwise_than_it_must_is_not_asked_again(
    models: Path, tmp_path: Path, answers: SecondAnswers
) -> None:
    other = replace(answers, words=tuple(replace(one, llr=one.llr - 1.0) for one in answers.words))
    words = SecondWords(bundle_of(models, tmp_path / "bundle", other), 1, patience_s=PATIENCE_S)
    for _ in range(2):
        with pytest.raises(DeviceError, match="nothing is heard a second time"):
            heard(words)
    assert not words.opened
    words.close()


def test_answers_about_other_files_are_refused(models: Path, tmp_path: Path, answers: SecondAnswers) -> None:
    other = replace(answers, files={**answers.files, BASE_ROLE: "0" * 64})
    words = SecondWords(bundle_of(models, tmp_path / "bundle", other), 1, patience_s=PATIENCE_S)
    with pytest.raises(BundleError, match="not about"):
        words.examine()
    words.close()


def test_a_missing_recording_is_said_in_one_line(bundle: Bundle, tmp_path: Path) -> None:
    words = SecondWords(bundle, 1, tmp_path, patience_s=PATIENCE_S)
    with pytest.raises(SelfTestError, match="apt-get install"):
        words.examine()
    words.close()


@pytest.mark.parametrize(
    "damage",
    [b"", b"[]", b'{"format": 1}', b'{"format": 2, "words": []}', b"\xff", b"[" * 100_000],
)
def test_damaged_answers_are_told_from_whole_ones(damage: bytes) -> None:
    with pytest.raises(BundleError, match="damaged"):
        SecondAnswers.from_bytes(damage)


def test_answers_come_back_as_they_were_written(answers: SecondAnswers) -> None:
    assert SecondAnswers.from_bytes(answers.to_bytes()) == answers
    away = replace(answers, recordings={"../x": "0" * 64}, words=(WordsAnswer("../x", "a b c", 1.0),))
    with pytest.raises(BundleError, match="not what belongs there"):
        SecondAnswers.from_bytes(away.to_bytes())
    assert np.isfinite(answers.tolerance)
