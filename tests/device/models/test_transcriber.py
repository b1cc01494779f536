"""The words check on real voices: the right phrase passes, every other sound does not."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from device.errors import DeviceError
from device.evidence.judge import WordsCheck
from device.evidence.phrase import REDACTED
from device.evidence.words_around import words_around
from device.model_store.bundle import Bundle
from device.model_store.calibration import LLR_LIMIT
from device.model_store.manifest import BundleError
from device.models.words.transcriber import (
    BASE_ENCODER_ROLE,
    BASE_ROLE,
    GGML_ROLES,
    Transcriber,
    check_phrase,
)
from device.models.words.whisper_onnx import BATCH, OnnxWhisper
from device.settings import WordsEngine
from tests.device.model_store.bundles import make_bundle
from tests.speech import Reading

Wave = npt.NDArray[np.float32]
RATE_HZ = 16_000


@pytest.fixture(scope="module")
def words(models: Path) -> Iterator[Transcriber]:
    opened = Transcriber.open(Bundle.open(models))
    yield opened
    opened.close()


def wave(reading: Reading) -> Wave:
    samples, rate_hz = soundfile.read(reading.path, dtype="float32")
    assert rate_hz == RATE_HZ
    return np.asarray(samples[: 12 * RATE_HZ], dtype=np.float32)


def short(readings: list[Reading]) -> list[Reading]:
    """What a door would ask for: a few words, not a paragraph."""
    return [one for one in readings if len(wave(one)) < 10 * RATE_HZ]


def test_it_is_the_judges_words_check(words: Transcriber) -> None:
    check: WordsCheck = words
    assert check.version


def test_a_reader_saying_the_phrase_is_believed(words: Transcriber, reader: list[Reading]) -> None:
    for said in short(reader)[:2]:
        assert words.score(wave(said), said.text).llr > 0


@pytest.mark.parametrize("between", ["\u00a0", "\t", "\n"])
def test_a_phrase_is_the_same_with_any_white_space(
    words: Transcriber, reader: list[Reading], between: str
) -> None:
    sound, text = wave(reader[4]), reader[4].text
    assert words.score(sound, text.replace(" ", between)) == words.score(sound, text)


@pytest.mark.parametrize("unseen", ["\0", "\x1b", "\x7f", "\udcff"])
def test_a_sign_that_nobody_sees_in_a_phrase_is_named(unseen: str) -> None:
    with pytest.raises(DeviceError, match="which is no letter or digit; type it anew") as refused:
        check_phrase(f"ten of{unseen} clubs")
    assert ascii(unseen) in str(refused.value)
    assert str(refused.value).isprintable()


def test_another_person_saying_the_phrase_is_believed_too(
    words: Transcriber, other_reader: list[Reading]
) -> None:
    for said in other_reader[:2]:
        assert words.score(wave(said), said.text).llr > 0


@pytest.mark.parametrize("words_before", [True, False])
def test_a_phrase_among_a_few_ordinary_words_is_believed_and_one_with_a_word_changed_is_not(
    words: Transcriber, reader: list[Reading], words_before: bool
) -> None:
    """The sentences of one reader, of which the door asked only a part."""
    among = 0
    for said in short(reader):
        text = said.text.split()
        kept = text[3:] if words_before else text[:-3]
        phrase = " ".join(kept)
        clues, heard = words.clues(wave(said), phrase)
        found = words.score(wave(said), phrase).llr
        assert found >= words.llr(clues)
        if words_around(heard, phrase) is not None:  # of some, the rest holds words of the phrase, or "not"
            among += 1
            assert found > 2.0
        wrong = " ".join((*kept[: len(kept) // 2], "zebra", *kept[len(kept) // 2 + 1 :]))
        assert words.score(wave(said), wrong).llr < 2.0
    assert among >= 2


def test_another_sentence_is_not_the_phrase(
    words: Transcriber, reader: list[Reading], other_reader: list[Reading]
) -> None:
    assert words.score(wave(other_reader[0]), reader[1].text).llr < 0
    assert words.score(wave(short(reader)[0]), other_reader[1].text).llr < 0


def test_one_wrong_word_is_not_the_phrase(words: Transcriber, other_reader: list[Reading]) -> None:
    said = other_reader[0]
    first, *rest = said.text.split()
    assert words.score(wave(said), " ".join(["seven" if first != "seven" else "two", *rest])).llr < 0


@pytest.mark.parametrize("sound", ["silence", "hiss", "hum", "clicks"])
def test_what_is_no_speech_says_no_phrase(words: Transcriber, sound: str) -> None:
    dice = np.random.default_rng(0)
    time_s = np.arange(3 * RATE_HZ) / RATE_HZ
    wave: Wave = {
        "silence": np.zeros(3 * RATE_HZ),
        "hiss": dice.normal(0, 0.05, 3 * RATE_HZ),
        "hum": 0.2 * np.sin(2 * np.pi * 50 * time_s),
        "clicks": (dice.random(3 * RATE_HZ) > 0.9995).astype(float),
    }[sound].astype(np.float32)
    for phrase in ("thank you", "you", "two six eight four"):
        assert words.score(wave, phrase).llr < 0


def test_the_same_sound_scores_the_same_each_time(words: Transcriber, other_reader: list[Reading]) -> None:
    said = other_reader[0]
    first, second = (words.score(wave(said), said.text) for _ in range(2))
    assert first == second


def test_two_callers_at_once_get_what_each_would_alone(
    words: Transcriber, other_reader: list[Reading]
) -> None:
    trials = [(wave(said), other_reader[0].text) for said in other_reader[:3]]
    alone = [words.score(*trial) for trial in trials]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda trial: words.score(*trial), trials))
    assert together == alone


def test_the_transcript_shows_challenge_words_only(words: Transcriber, other_reader: list[Reading]) -> None:
    shown = words.score(wave(other_reader[0]), "lantern velvet").transcript
    assert set(shown.split()) <= {REDACTED, *"0123456789", *"abcdefghijklmnopqrstuvwxyz"}


def test_the_library_prints_nothing(
    words: Transcriber, other_reader: list[Reading], capfd: pytest.CaptureFixture[str]
) -> None:
    words.score(wave(other_reader[0]), "anything")
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


@pytest.mark.parametrize(
    "wave",
    [
        np.zeros(0, dtype=np.float32),
        np.zeros(1600, dtype=np.float32),
        np.zeros(31 * RATE_HZ, dtype=np.float32),
        np.full(RATE_HZ, np.nan, dtype=np.float32),
        np.full(RATE_HZ, np.inf, dtype=np.float32),
        np.zeros((RATE_HZ, 2), dtype=np.float32),
        np.zeros(RATE_HZ, dtype=np.float64),
        np.zeros(RATE_HZ, dtype=np.int16),
    ],
    ids=["empty", "too short", "too long", "NaN", "infinite", "stereo", "double", "integer"],
)
def test_unusable_audio_is_refused_in_one_line(words: Transcriber, wave: Wave) -> None:
    with pytest.raises(DeviceError, match=r"words check needs|not numbers") as refusal:
        words.score(wave, "two six eight")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("phrase", ["", "   ", "two\x00six", "one " * 41, "x" * 401, "?! ... ♪", "um"])
def test_an_unusable_phrase_is_refused(words: Transcriber, phrase: str) -> None:
    with pytest.raises(DeviceError, match="phrase"):
        words.score(np.zeros(RATE_HZ, dtype=np.float32), phrase)


def test_a_missing_model_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="ostiary models build"):
        OnnxWhisper(tmp_path / "none.onnx", tmp_path / "none.onnx")


@pytest.mark.parametrize(("engine", "role"), [(WordsEngine.WHISPER_BASE, "words-base"), *GGML_ROLES.items()])
def test_an_engine_whose_model_was_not_built_says_how_to_build_it(
    tmp_path: Path, engine: WordsEngine, role: str
) -> None:
    bundle = Bundle.open(make_bundle(tmp_path / "bundle"))
    with pytest.raises(BundleError, match=f"models build --only {role}`"):
        Transcriber.open(bundle, engine=engine)


@pytest.mark.slow
def test_the_larger_model_judges_the_same_voices_where_it_was_built(
    models: Path, reader: list[Reading], other_reader: list[Reading]
) -> None:
    built = {entry.role for entry in Bundle.open(models).manifest.files}
    if not {BASE_ROLE, BASE_ENCODER_ROLE} <= built:
        pytest.skip("the larger model is optional; run `ostiary models build --only words-base`")
    larger = Transcriber.open(Bundle.open(models), engine=WordsEngine.WHISPER_BASE)
    assert larger.version.startswith("whisper-base")
    for said in [*short(reader)[:2], *other_reader[:2]]:
        assert larger.score(wave(said), said.text).llr > 0
    assert larger.score(wave(other_reader[0]), reader[1].text).llr < 0
    assert larger.score(np.zeros(2 * RATE_HZ, dtype=np.float32), "two six eight").llr < 0
    larger.close()


@pytest.mark.parametrize("role", ["words", "words-encoder"])
def test_a_truncated_model_is_refused(models: Path, tmp_path: Path, role: str) -> None:
    bundle = Bundle.open(models)
    files = {name: bundle.path(name) for name in ("words-encoder", "words")}
    cut = tmp_path / "cut.onnx"
    with files[role].open("rb") as whole:
        cut.write_bytes(whole.read(5_000_000))
    files[role] = cut
    with pytest.raises(DeviceError, match="ostiary models build"):
        OnnxWhisper(*files.values())


def test_two_files_that_are_no_pair_are_refused(models: Path) -> None:
    bundle = Bundle.open(models)
    with pytest.raises(DeviceError, match="ostiary models build"):
        OnnxWhisper(bundle.path("words"), bundle.path("words-encoder"))


def test_a_closed_transcriber_says_so(models: Path) -> None:
    opened = Transcriber.open(Bundle.open(models))
    opened.close()
    opened.close()
    with pytest.raises(DeviceError):
        opened.score(np.zeros(RATE_HZ, dtype=np.float32), "two six eight")


def test_a_phrase_scores_among_many_as_it_does_alone(words: Transcriber, other_reader: list[Reading]) -> None:
    said = other_reader[0]
    phrases = [one.text for one in other_reader] + [f"{word} of clubs" for word in ("one", "two", "ten")] * 5
    assert len(phrases) > BATCH
    together = words.clues_of_many(wave(said), phrases)
    for at in (0, 1, len(phrases) - 1):
        (alone, transcript) = words.clues(wave(said), phrases[at])
        assert together[at][1] == transcript
        assert words.llr(together[at][0]) == pytest.approx(words.llr(alone), abs=0.05)


def test_what_is_heard_does_not_depend_on_the_phrase_that_was_asked_for(
    words: Transcriber, reader: list[Reading]
) -> None:
    said = short(reader)[0]
    phrases = (said.text, "one", "entirely different words altogether")
    assert len({words.clues(wave(said), phrase)[1] for phrase in phrases}) == 1


def test_a_phrase_that_is_ruled_out_would_not_have_passed(
    words: Transcriber, reader: list[Reading], other_reader: list[Reading]
) -> None:
    phrases = [one.text for one in (*reader, *other_reader) if len(one.text.split()) <= 40]
    said = other_reader[0]
    out = words.ruled_out(wave(said), phrases, 2.0)
    scores = words.scores(wave(said), phrases)
    assert any(out)
    assert not any(hopeless and score.llr >= 2.0 for hopeless, score in zip(out, scores, strict=True))


def test_words_after_the_phrase_are_heard_too(words: Transcriber, other_reader: list[Reading]) -> None:
    said = np.concatenate([wave(other_reader[0]), wave(other_reader[1])])
    heard = words.clues(said, other_reader[0].text)[1]
    assert len(heard.split()) > len(words.clues(wave(other_reader[0]), other_reader[0].text)[1].split())


def test_scores_stay_within_what_the_fit_supports(words: Transcriber, other_reader: list[Reading]) -> None:
    said = other_reader[0]
    for phrase in (said.text, "entirely different words altogether"):
        assert abs(words.score(wave(said), phrase).llr) <= LLR_LIMIT
