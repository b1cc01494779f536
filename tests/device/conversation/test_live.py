from __future__ import annotations

import numpy as np
import pytest

from device.audio.utterance import Samples
from device.conversation.opening import ConversationModels
from device.conversation.streams.live import BEHIND_FRAMES, QUIET_S, SPAN_S, LiveDiarizer, Update
from device.conversation.turns import Turn
from device.models.segmentation import FIELD_SAMPLES, FRAME_S, FRAME_SAMPLES, SETS
from device.models.speaker import Embedding
from quantize.evaluate.conversation.der import errors
from tests.device.conversation.test_grouping import people
from tests.kept import arrays_kept_by

VOICES = people(1, 1)[0]


class ToneSegmenter:
    """Says that the first voice speaks wherever there is sound."""

    def sets(self, wave: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        frames = 1 + (len(wave) - FIELD_SAMPLES) // FRAME_SAMPLES
        found = np.zeros((frames, len(SETS)), np.float32)
        for at in range(frames):
            middle = at * FRAME_SAMPLES + FIELD_SAMPLES // 2
            found[at, 1 if abs(wave[middle]) > 0.01 else 0] = 1.0
        return found


class LevelEmbedder:
    """Knows two people by how loud they are."""

    def embed(self, wave: np.ndarray) -> Embedding:  # type: ignore[type-arg]
        return VOICES[0 if np.median(np.abs(wave)) < 0.2 else 1]


def sound(*stretches: tuple[float, float]) -> Samples:
    """Levels for so many seconds each, of every frequency."""
    level = np.concatenate([np.full(int(16_000 * s), level * 32_000, np.int16) for level, s in stretches])
    return np.asarray(level * np.random.default_rng(1).choice([-1, 1], len(level)), np.int16)


def live() -> LiveDiarizer:
    return LiveDiarizer(ToneSegmenter(), LevelEmbedder())


def all_updates(diarizer: LiveDiarizer, samples: Samples, portion: int) -> list[Update]:
    found = []
    for begin in range(0, len(samples), portion):
        found += diarizer.push(samples[begin : begin + portion])
    return found + diarizer.finish()


TALK = sound((0.1, 8), (0, 1), (0.5, 8), (0, 1), (0.1, 8))


def test_nobody_is_named_before_enough_was_heard_and_then_all_of_it_is() -> None:
    updates = all_updates(live(), TALK, 5_000)
    first_s = next(update.to_s for update in updates if update.to_s > 0.0)
    assert first_s > QUIET_S - BEHIND_FRAMES * FRAME_S - 0.1
    assert all(not update.turns for update in updates if update.to_s == 0.0)
    short = all_updates(live(), sound((0.1, 6)), 5_000)
    assert short[-1].turns[0].start_s < 0.5, "a stream that ends early is told at its end"
    early = live().push(TALK[: round(17.4 * 16_000)])
    assert early[-1].to_s == 0.0
    assert live().push(TALK[: round(17.6 * 16_000)])[-1].to_s > 0.0, "what docs/api.md says"


def test_a_telephone_at_the_start_is_not_told_later_as_if_it_had_been_none() -> None:
    telephone = np.full(16_000 * 8, 3_200, np.int16)
    updates = all_updates(live(), np.concatenate([telephone, sound((0.5, 24))]), 5_000)
    narrow = [update for update in updates if update.narrow]
    wide_s = [turn.start_s for update in updates if not update.narrow for turn in update.turns]
    assert narrow[-1].to_s > 0.0
    assert min(wide_s) >= narrow[-1].to_s
    assert max(wide_s) > 20.0


@pytest.mark.parametrize("portion", [320, 5_000, 100_000])
def test_names_stay_and_every_second_is_told_once_whatever_the_portions(portion: int) -> None:
    updates = all_updates(live(), TALK, portion)
    assert [update.from_s for update in updates[1:]] == [update.to_s for update in updates[:-1]]
    turns = [turn for update in updates for turn in update.turns]
    at = {s: {t.speaker for t in turns if t.start_s <= s < t.end_s} for s in (4.0, 8.5, 13.0, 22.0)}
    assert at == {4.0: {"speaker-1"}, 8.5: set(), 13.0: {"speaker-2"}, 22.0: {"speaker-1"}}


def test_the_last_five_seconds_are_told_only_when_more_was_heard_or_the_stream_ends() -> None:
    diarizer = live()
    updates = diarizer.push(TALK)
    told_s, heard_s = updates[-1].to_s, len(TALK) / 16_000
    assert 4.9 < heard_s - told_s < 7.6
    assert all(turn.end_s <= update.to_s + 1e-6 for update in updates for turn in update.turns)
    assert diarizer.finish()[-1].to_s == pytest.approx(heard_s, abs=0.1)


def test_somebody_silent_for_longer_than_the_span_comes_back_as_somebody_else() -> None:
    diarizer = live()
    updates = all_updates(diarizer, sound((0.1, 5), (0, SPAN_S + 15), (0.1, 5)), 32_000)
    assert {turn.speaker for update in updates for turn in update.turns} == {"speaker-1", "speaker-2"}


def test_nothing_of_a_finished_stream_is_kept() -> None:
    diarizer = live()
    all_updates(diarizer, TALK, 32_000)
    kept = [value for value in vars(diarizer).values() if isinstance(value, list)]
    assert all(value == [] for value in kept)
    assert not any(array.any() for array in arrays_kept_by(diarizer) if array.dtype == np.int16)


def test_real_people_are_told_apart_while_they_speak(
    conversation_models: ConversationModels, talk: tuple[Samples, list[Turn]]
) -> None:
    samples, reference = talk
    updates = all_updates(
        LiveDiarizer(conversation_models.segmentation, conversation_models.speaker), samples, 3_200
    )
    turns = [turn for update in updates for turn in update.turns]
    assert errors(reference, turns, len(samples) / 16_000, 0.25).der < 0.25
