"""The two passes on windows made by hand: what each window hears is known, and so is who it is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from device.conversation.diarization import MOST_SURE, SURE_PIECE_S, diarize
from device.conversation.hearing import STEP_FRAMES, Piece, Window, starts, stretches
from device.conversation.naming import Known
from device.models.segmentation import FRAME_S, SETS, VOICES, WINDOW_FRAMES, Sets, decided
from tests.device.conversation.test_grouping import people

Plan = Sequence[tuple[int, int, int]]
"""(person, first frame, last frame)."""


def sets_of(active: npt.NDArray[np.bool_]) -> Sets:
    """What a segmentation without doubts says of (frames, VOICES)."""
    found = np.zeros((len(active), len(SETS)), np.float32)
    for number, voices in enumerate(SETS):
        members = np.isin(np.arange(VOICES), voices)
        found[(active == members).all(axis=1), number] = 1.0
    return found


def windows(plan: Plan, frames: int, voices: npt.NDArray[np.float32], seed: int = 3) -> list[Window]:
    """What a segmentation without errors hears; its numbers for people differ from window to window."""
    dice = np.random.default_rng(seed)
    truth = np.zeros((frames, len(voices)), bool)
    for person, begin, end in plan:
        truth[begin:end, person] = True
    found = []
    for start in starts(frames):
        span = truth[start : start + WINDOW_FRAMES]
        there = [person for person in range(len(voices)) if span[:, person].any()]
        order = dice.permutation(VOICES)[: len(there)]
        active = np.zeros((len(span), VOICES), bool)
        pieces = []
        for person, voice in zip(there, order, strict=True):
            active[:, voice] = span[:, person]
            alone = span[:, person] & (span.sum(axis=1) == 1)
            for begin, end in stretches(span[:, person]):
                noisy = voices[person] + 0.02 * dice.normal(size=192)
                embedding = (noisy / np.linalg.norm(noisy)).astype(np.float32)
                alone_s = float(alone[begin:end].sum() * FRAME_S)
                pieces.append(Piece(int(voice), begin, end, alone_s, embedding))
        found.append(Window(start, sets_of(active), tuple(pieces)))
    return found


VOICE = people(1, 1, 1)[0]
FRAMES = WINDOW_FRAMES + 8 * STEP_FRAMES
PLAN: Plan = [(0, 0, 400), (1, 450, 900), (0, 850, 1200), (2, 1250, 1500), (1, 1500, FRAMES)]


def test_people_are_told_apart_counted_and_their_overlap_is_marked() -> None:
    found = diarize(windows(PLAN, FRAMES, VOICE), FRAMES * FRAME_S)
    assert [one.name for one in found.speakers] == ["speaker-1", "speaker-2", "speaker-3"]
    assert (found.fewest, found.most) == (3, 3)
    assert [(turn.speaker[-1], round(turn.start_s / FRAME_S)) for turn in found.turns] == [
        ("1", 0), ("2", 450), ("1", 850), ("3", 1250), ("2", 1500),
    ]  # fmt: skip
    assert [(round(a / FRAME_S), round(b / FRAME_S)) for a, b in found.overlaps] == [(850, 900)]


def test_a_known_person_is_named_first_and_the_rest_are_strangers() -> None:
    known = Known({"4711": VOICE[1], "4712": people(1, seed=9)[0][0]}, lambda cosine: 30.0 * cosine - 14.0)
    found = diarize(windows(PLAN, FRAMES, VOICE), FRAMES * FRAME_S, known=known)
    assert [one.name for one in found.speakers] == ["4711", "speaker-1", "speaker-2"]
    assert found.speakers[0].llr == pytest.approx(16.0, abs=2.0)
    assert found.speakers[1].llr is None
    assert {t.speaker for t in found.turns if 450 <= round(t.start_s / FRAME_S) < 850} == {"4711"}


def test_a_gallery_of_many_people_raises_the_bar() -> None:
    one, many = Known({"a": VOICE[0]}, float), Known({str(n): VOICE[0] for n in range(100)}, float)
    assert many.bar_llr == pytest.approx(one.bar_llr + np.log(100))


def test_the_number_of_people_can_be_given() -> None:
    for count in (1, 2, 3):
        found = diarize(windows(PLAN, FRAMES, VOICE), FRAMES * FRAME_S, speakers=count)
        assert len(found.speakers) == count
        assert (found.fewest, found.most, found.told) == (count, count, count)


def test_a_group_of_next_to_no_speech_between_two_others_joins_one_of_them() -> None:
    frames = WINDOW_FRAMES + 16 * STEP_FRAMES
    plan: Plan = [(0, 0, 400), (1, 450, 526), (2, 560, frames)]
    found = diarize(windows(plan, frames, VOICE), frames * FRAME_S)
    assert [one.name for one in found.speakers] == ["speaker-1", "speaker-2"]
    assert {turn.speaker for turn in found.turns if turn.start_s >= 560 * FRAME_S} == {"speaker-2"}


def test_a_known_person_who_says_next_to_nothing_is_somebody_all_the_same() -> None:
    frames = WINDOW_FRAMES + 16 * STEP_FRAMES
    plan: Plan = [(0, 0, 900), (1, 1400, 1500), (2, 1600, frames)]
    heard = windows(plan, frames, VOICE)
    assert len(diarize(heard, frames * FRAME_S).speakers) == 2
    known = Known({"4711": VOICE[1]}, lambda cosine: 30.0 * cosine - 14.0)
    found = diarize(heard, frames * FRAME_S, known=known)
    assert {one.name for one in found.speakers} == {"4711", "speaker-1", "speaker-2"}


def test_two_known_people_are_never_one_however_alike_they_sound() -> None:
    alike = VOICE.copy()
    alike[1] = 0.5 * VOICE[0] + 0.866 * VOICE[1]
    heard = windows([(0, 0, 500), (1, 550, 1000), (0, 1050, FRAMES)], FRAMES, alike)
    assert len(diarize(heard, FRAMES * FRAME_S).speakers) == 1
    known = Known({"a": alike[0], "b": alike[1]}, lambda cosine: 30.0 * cosine - 14.0)
    found = diarize(heard, FRAMES * FRAME_S, known=known)
    assert {one.name for one in found.speakers} == {"a", "b"}
    assert {t.speaker for t in found.turns if 600 * FRAME_S < t.start_s < 950 * FRAME_S} <= {"b"}


def test_a_long_recording_is_grouped_by_a_share_of_its_windows() -> None:
    frames = WINDOW_FRAMES + 1_400 * STEP_FRAMES
    plan: Plan = [(at // 125 % 3, at, at + 100) for at in range(0, frames, 125)]
    heard = windows(plan, frames, VOICE)
    assert sum(piece.alone_s >= SURE_PIECE_S for window in heard for piece in window.pieces) > MOST_SURE
    found = diarize(heard, frames * FRAME_S)
    assert [one.name for one in found.speakers] == ["speaker-1", "speaker-2", "speaker-3"]
    assert sum(turn.seconds for turn in found.turns) == pytest.approx(0.8 * frames * FRAME_S, rel=0.02)


def test_where_nobody_speaks_nobody_is_found() -> None:
    silence = [Window(0, sets_of(np.zeros((50, VOICES), bool)), ())]
    found = diarize(silence, 50 * FRAME_S)
    assert found.turns == ()
    assert found.speakers == ()


def test_a_voice_too_short_for_an_embedding_goes_to_the_person_who_speaks_there() -> None:
    heard = windows([(0, 0, 300), (1, 330, WINDOW_FRAMES)], WINDOW_FRAMES, VOICE)
    window = heard[0]
    spare = next(voice for voice in range(VOICES) if voice not in {piece.voice for piece in window.pieces})
    active = decided(window.sets)
    active[305:320, spare] = True
    piece = Piece(spare, 305, 320, 15 * FRAME_S, None)
    heard = [Window(0, sets_of(active), (*window.pieces, piece))]
    found = diarize(heard, WINDOW_FRAMES * FRAME_S)
    assert len(found.speakers) == 2
    assert any(turn.start_s <= 310 * FRAME_S < turn.end_s for turn in found.turns)


def test_every_frame_of_a_recording_is_in_a_window() -> None:
    for frames in (1, WINDOW_FRAMES, WINDOW_FRAMES + 1, 5_000):
        covered = np.zeros(frames, bool)
        for start in starts(frames):
            covered[start : start + WINDOW_FRAMES] = True
        assert covered.all()
        assert starts(frames)[-1] == max(0, frames - WINDOW_FRAMES)


def test_two_people_whom_the_segmentation_takes_for_one_voice_are_told_apart() -> None:
    active = np.zeros((WINDOW_FRAMES, VOICES), bool)
    active[:250, 0] = active[300:, 0] = True
    pieces = tuple(
        Piece(0, begin, end, (end - begin) * FRAME_S, VOICE[0 if begin < 250 else 1])
        for begin, end in stretches(active[:, 0])
    )
    found = diarize([Window(0, sets_of(active), pieces)], WINDOW_FRAMES * FRAME_S)
    assert [turn.speaker for turn in found.turns] == ["speaker-1", "speaker-2"]


def test_a_long_stretch_is_cut_and_a_short_pause_is_not_an_end() -> None:
    active = np.zeros(600, bool)
    active[10:100] = active[110:200] = active[300:600] = True
    assert stretches(active) == [(10, 105), (105, 200), (300, 400), (400, 500), (500, 600)]
