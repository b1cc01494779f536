from __future__ import annotations

import mmap
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from device.liveness import Fingerprinter
from device.liveness.fingerprint import BITS, SECRET_BYTES
from device.liveness.search import COARSE_BITS, NO_MATCH, Index, Match
from device.liveness.weights import shipped
from device.model_store.sessions import give_memory_back
from quantize.playback import TEN, Playback
from tests.device.liveness.sounds import Wave, noise, prompt, speech
from tests.kept import arrays_kept_by
from tests.speech import Reading

MARK = Fingerprinter(b"s" * SECRET_BYTES)
OTHERS = 60


@pytest.fixture(scope="module")
def crowd() -> list[np.ndarray]:
    """Marks of many other utterances: noise of other seeds, shaped like nothing here."""
    return [MARK(noise(3.0, seed)).stored for seed in range(OTHERS)]


def memory_of(waves: list[Wave], crowd: list[np.ndarray]) -> Index:
    index = Index(8_192)
    for number, stored in enumerate(crowd):
        index.add(number, stored)
    for number, wave in enumerate(waves):
        index.add(1_000 + number, MARK(wave).stored)
    return index


def llr(match: Match) -> float:
    return shipped().reuse.llr(-match.score)


@pytest.mark.parametrize("playback", TEN, ids=range(len(TEN)))
def test_a_playback_is_recognised_through_loudspeaker_and_room(
    playback: Playback, reader: list[Reading], crowd: list[np.ndarray]
) -> None:
    index = memory_of([speech(one.path) for one in reader], crowd)
    for number, one in enumerate(reader):
        wave = speech(one.path)
        match = index.search(MARK(playback(wave, np.random.default_rng(number))))
        assert llr(match) < 0.0, (playback, one.text, match)


def test_the_recording_itself_is_recognised_and_fits_from_end_to_end(
    reader: list[Reading], crowd: list[np.ndarray]
) -> None:
    wave = speech(reader[4].path)
    match = memory_of([wave], crowd).search(MARK(wave))
    assert llr(match) < -5.0
    assert match.reused_share > 0.8
    assert match.sources == 1


def test_half_a_recording_is_recognised(reader: list[Reading], crowd: list[np.ndarray]) -> None:
    wave = speech(reader[0].path)
    index = memory_of([wave], crowd)
    for part in (wave[: len(wave) // 2], wave[len(wave) // 2 :]):
        assert llr(index.search(MARK(part))) < 0.0


def test_a_recording_in_the_middle_of_something_else_is_recognised(
    reader: list[Reading], crowd: list[np.ndarray]
) -> None:
    index = memory_of([speech(reader[4].path)], crowd)
    around = speech(reader[0].path)
    mixed = np.concatenate([around[:24_000], speech(reader[4].path), around[-16_000:]])
    assert llr(index.search(MARK(mixed))) < 0.0


def test_a_splice_of_two_recordings_is_reported_as_one(
    reader: list[Reading], crowd: list[np.ndarray]
) -> None:
    first, second = speech(reader[0].path), speech(reader[2].path)
    index = memory_of([first, second], crowd)
    match = index.search(MARK(np.concatenate([first[:32_000], second[-32_000:]])))
    assert match.sources >= 2
    assert match.reused_share > 0.5
    assert llr(match) < 0.0


def test_other_sentences_of_the_same_reader_are_new(reader: list[Reading], crowd: list[np.ndarray]) -> None:
    waves = [speech(one.path) for one in reader]
    for number, wave in enumerate(waves):
        others = memory_of([w for n, w in enumerate(waves) if n != number], crowd)
        assert llr(others.search(MARK(wave))) > 1.0


def test_a_professional_who_says_the_same_words_again_is_not_refused(crowd: list[np.ndarray]) -> None:
    """The hardest repetition there is: one voice actor, one session, the same half sentence every time."""
    prompts = ["agent-incorrect", "agent-alreadyon", "auth-incorrect", "conf-getchannel", "vm-newpassword"]
    waves = {name: prompt(name) for name in prompts}
    for name in prompts:
        index = memory_of([w for other, w in waves.items() if other != name], crowd)
        assert llr(index.search(MARK(waves[name]))) > 0.0, name


def test_an_empty_memory_knows_nothing(reader: list[Reading]) -> None:
    assert Index(64).search(MARK(speech(reader[4].path))) == NO_MATCH


def test_what_is_dropped_is_not_found_and_leaves_nothing_behind(reader: list[Reading]) -> None:
    index = Index(256)
    waves = [speech(one.path) for one in reader[:3]]
    for number, wave in enumerate(waves):
        index.add(number, MARK(wave).stored)
    index.drop({1})
    assert llr(index.search(MARK(waves[1]))) > 0.0
    assert llr(index.search(MARK(waves[0]))) < 0.0
    assert llr(index.search(MARK(waves[2]))) < 0.0
    kept = b"".join(array.tobytes() for array in arrays_kept_by(index))
    assert MARK(waves[0]).stored.tobytes()[:64] in kept
    assert MARK(waves[1]).stored.tobytes()[:64] not in kept


def test_a_full_index_says_so() -> None:
    index = Index(64)
    marks = MARK(noise(10.0)).stored
    index.add(1, marks)
    with pytest.raises(ValueError, match="full"):
        index.add(2, np.concatenate([marks, marks])[:64])


def test_an_utterance_can_be_left_out_of_its_own_search(reader: list[Reading]) -> None:
    marks = MARK(speech(reader[4].path))
    index = Index(256)
    index.add(7, marks.stored)
    assert index.search(marks).score > 3.0
    assert index.search(marks, without=7) == NO_MATCH


def test_marks_lie_in_memory_once_and_become_numbers_for_one_block_at_a_time() -> None:
    rng, marks = np.random.default_rng(7), 32_768
    heard = MARK(noise(3.0, 1))
    tracemalloc.start()
    try:
        index = Index(marks)
        for owner in range(2_048):
            index.add(owner, rng.integers(0, 256, (marks // 2_048, BITS // 8), dtype=np.uint8))
        tracemalloc.reset_peak()
        index.search(heard)
        held, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert index.nbytes == marks * (BITS // 8 + 8)
    assert held < 1.5 * index.nbytes
    assert most - held < marks * COARSE_BITS  # a quarter of the first look's numbers, were all kept at once


def test_an_empty_memory_takes_the_memory_of_a_full_one_from_the_beginning() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE

    give_memory_back()
    before = resident()
    index = Index(262_144)
    assert resident() - before > 0.9 * index.nbytes
