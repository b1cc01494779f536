from __future__ import annotations

import dataclasses

import pytest

from device.audio import AudioSettings, EndpointerSettings, FileLimits, MicrophoneSettings, QualityLimits

ALL = (EndpointerSettings, QualityLimits, FileLimits, MicrophoneSettings)


def test_the_defaults_are_within_their_limits() -> None:
    settings = AudioSettings()
    assert settings.endpointer.end_ms >= settings.endpointer.pause_ms


@pytest.mark.parametrize("kind", ALL)
def test_every_limit_is_enforced_on_both_sides(kind: type) -> None:
    for item in dataclasses.fields(kind):
        if "low" in item.metadata:
            for outside in (
                item.metadata["low"] - 1,
                item.metadata["high"] + 1,
                float("nan"),
                "3",
                None,
                True,
            ):
                with pytest.raises(ValueError, match=item.name):
                    kind(**{item.name: outside})


def test_all_faults_are_reported_at_once() -> None:
    with pytest.raises(ValueError, match=r"aggressiveness .*; end_ms"):
        EndpointerSettings(aggressiveness=9, end_ms=1)


@pytest.mark.parametrize(
    "pair",
    [
        {"onset_ms": 200, "onset_window_ms": 100},
        {"pause_ms": 500, "end_ms": 300},
        {"window_s": 20.0, "max_speech_s": 10.0},
    ],
)
def test_settings_that_contradict_each_other_are_refused(pair: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must not exceed"):
        EndpointerSettings(**pair)


@pytest.mark.parametrize("rate_hz", [4_000, 384_000])
def test_a_microphone_rate_out_of_range_is_refused(rate_hz: int) -> None:
    with pytest.raises(ValueError, match="rate_hz"):
        MicrophoneSettings(rate_hz=rate_hz)
