from __future__ import annotations

import pytest

from device.audio.utterance import Samples
from device.conversation.opening import ConversationModels
from device.conversation.streams.claimed import ClaimedSpeaker
from device.conversation.streams.stream import Stream
from device.conversation.streams.trust import Change, Trust, TrustSettings
from device.conversation.turns import Turn
from device.errors import DeviceError
from tests.device.conversation.conftest import read
from tests.device.conversation.test_band import by_telephone
from tests.speech import Reading


def told(trust: Trust, llrs: list[float]) -> list[Change]:
    return [change for llr in llrs if (change := trust.heard(llr, 0.5)) is not None]


def test_trust_is_won_lost_and_won_again() -> None:
    trust = Trust()
    assert told(trust, [6.0] * 10) == [Change.TRUSTED]
    assert told(trust, [-6.0] * 10) == [Change.DOUBTED]
    assert told(trust, [6.0] * 10) == [Change.TRUSTED]


def test_one_window_that_strays_changes_nothing() -> None:
    trust = Trust()
    told(trust, [6.0] * 10)
    assert told(trust, [-6.0, 6.0, 6.0]) == []


def test_what_was_heard_long_ago_does_not_count_for_ever() -> None:
    short, long = Trust(), Trust()
    told(short, [6.0] * 10)
    told(long, [6.0] * 1_000)
    needed = [0, 0]
    for at, trust in enumerate((short, long)):
        while trust.state is not Change.DOUBTED:
            trust.heard(-4.0, 0.5)
            needed[at] += 1
    assert needed[0] == needed[1] < 8


def test_silence_uses_trust_up() -> None:
    trust = Trust()
    told(trust, [6.0] * 10)
    changes = [trust.silent(1.0) for _ in range(120)]
    assert [change for change in changes if change] == [Change.DOUBTED]
    assert 0.5 < trust.probability < 0.65


def test_an_llr_that_is_no_number_is_refused_and_settings_are_checked() -> None:
    with pytest.raises(DeviceError, match="finite"):
        Trust().heard(float("nan"), 0.5)
    with pytest.raises(ValueError, match="doubted_below"):
        TrustSettings(doubted_below=0.9, trusted_above=0.5)


def template_of(conversation_models: ConversationModels, reader: list[Reading]) -> object:
    waves = [read(reading).astype("float32") / 32768 for reading in reader[2:5]]
    return conversation_models.speaker.template([conversation_models.speaker.embed(wave) for wave in waves])


def test_a_stream_doubts_when_somebody_else_goes_on_and_forgets_everything(
    conversation_models: ConversationModels, reader: list[Reading], other_reader: list[Reading]
) -> None:
    import numpy as np

    template = template_of(conversation_models, reader)
    stream = Stream(conversation_models, claimed=template)  # type: ignore[arg-type]
    mine = np.concatenate([read(reading) for reading in reader[:3]])
    theirs = np.concatenate([read(reading) for reading in other_reader])
    events = stream.push(mine)
    assert [event.facts["state"] for event in events if event.kind == "changed"] == ["TRUSTED"]
    events = stream.push(theirs) + stream.finish()
    assert [event.facts["state"] for event in events if event.kind == "changed"][:1] == ["DOUBTED"]
    assert not np.any(template)  # type: ignore[arg-type]


def test_a_telephone_is_told_and_nothing_is_scored_on_it(
    conversation_models: ConversationModels, reader: list[Reading], talk: tuple[Samples, list[Turn]]
) -> None:
    stream = Stream(conversation_models, claimed=template_of(conversation_models, reader))  # type: ignore[arg-type]
    events = stream.push(by_telephone(talk[0])) + stream.finish()
    assert {event.kind for event in events} == {"telephone"}
    assert len(events) == 1


def test_a_speaker_model_whose_windows_nobody_measured_scores_no_claim(
    conversation_models: ConversationModels,
) -> None:
    with pytest.raises(DeviceError, match="another-model"):
        ClaimedSpeaker(conversation_models.speaker, "another-model", None)  # type: ignore[arg-type]
