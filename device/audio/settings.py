"""What can be set about sound. `device/settings.py` holds every value to its limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from device.audio.utterance import FRAME_MS


def _limited(default: float | None, low: float, high: float) -> Any:
    """A number that must lie in [low, high]."""
    return field(default=default, metadata={"low": low, "high": high})


@dataclass(frozen=True, slots=True)
class EndpointerSettings:
    """When speech starts and when it is over."""

    aggressiveness: int = _limited(2, 0, 3)
    """WebRTC VAD mode: 3 calls the least speech."""
    onset_ms: int = _limited(80, 20, 500)
    """Voiced time that starts speech ..."""
    onset_window_ms: int = _limited(160, 20, 1_000)
    """... within this long: a click is no speech."""
    pre_roll_ms: int = _limited(240, 0, 1_000)
    """Kept from before the first voiced frame: VADs miss soft onsets."""
    pause_ms: int = _limited(200, 40, 1_000)
    """Silence after which checks may start speculatively; also the pad kept after the last voiced frame."""
    end_ms: int = _limited(700, 100, 5_000)
    """Silence that ends an utterance. The person feels it, but a shorter one cuts the hesitant off."""
    hesitation_ms: int = _limited(1_400, 100, 10_000)
    """Silence that ends an answer in which words of the phrase are still missing."""
    window_s: float = _limited(15.0, 2.0, 30.0)
    """At most this much is kept: of longer speech, the latest part."""
    max_speech_s: float = _limited(30.0, 2.0, 600.0)
    """Speech longer than this is refused. Set it to `window_s` to refuse whatever does not fit the window."""

    def __post_init__(self) -> None:
        if self.onset_ms > self.onset_window_ms:
            raise ValueError("onset_ms must not exceed onset_window_ms")
        if self.pause_ms > self.end_ms:
            raise ValueError("pause_ms must not exceed end_ms")
        if self.end_ms > self.hesitation_ms:
            object.__setattr__(self, "hesitation_ms", self.end_ms)
        if self.window_s > self.max_speech_s:
            raise ValueError("window_s must not exceed max_speech_s")

    def frames(self, milliseconds: float) -> int:
        """Whole frames that cover `milliseconds`."""
        return -int(-milliseconds // FRAME_MS)


@dataclass(frozen=True, slots=True)
class QualityLimits:
    """What may be judged. The defaults pass clean recordings and refuse noise (see `quality.py`)."""

    min_speech_s: float = _limited(0.4, 0.1, 10.0)
    """One short word. A door that asks for phrases may ask for more."""
    min_level_dbfs: float = _limited(-55.0, -90.0, -10.0)
    min_snr_db: float = _limited(7.0, 0.0, 40.0)
    min_lull_db: float = _limited(11.5, 0.0, 40.0)
    """Over the quietest moments between words: several people talk as loud as the speaker below this."""
    max_clipped_fraction: float = _limited(0.01, 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class FileLimits:
    """What is read from a file before we stop believing it is one spoken phrase."""

    max_bytes: int = _limited(32 << 20, 1_024, 1 << 30)
    max_s: float = _limited(60.0, 1.0, 14_400.0)


@dataclass(frozen=True, slots=True)
class MicrophoneSettings:
    """How the sound card is opened."""

    device: str | None = None
    """Part of the device's name; None is the system's default."""
    rate_hz: int | None = _limited(None, 8_000, 192_000)
    """None opens the device at its own rate; we resample better than its driver does."""
    buffer_s: float = _limited(2.0, 0.2, 10.0)
    """What may wait for us. More is dropped, counted, and makes the utterance refused."""
    raise_db: float = _limited(12.0, 0.0, 18.0)
    """A microphone that is set too low is raised by so much at most (`card/level.py`); 0 never."""
    latency_s: float = _limited(0.06, 0.01, 1.0)
    start_s: float = _limited(5.0, 0.5, 60.0)
    """A device may take this long to give its first sample ..."""
    stall_s: float = _limited(2.0, 0.2, 30.0)
    """... and after that, no sample for this long means it is gone. A sound server that gets no processor
    time for a second is not; a device that is unplugged is told of at once."""


@dataclass(frozen=True, slots=True)
class AudioSettings:
    """Everything about sound."""

    endpointer: EndpointerSettings = field(default_factory=EndpointerSettings)
    quality: QualityLimits = field(default_factory=QualityLimits)
    file: FileLimits = field(default_factory=FileLimits)
    microphone: MicrophoneSettings = field(default_factory=MicrophoneSettings)
