"""A chirp through the door's own loudspeaker: does the microphone hear it, how loud, in which band? Pure."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from device.audio.spectrum import rfft
from device.audio.utterance import SAMPLE_RATE_HZ, Samples

SECONDS = 0.7
LOW_HZ, HIGH_HZ = 150.0, 7_200.0
LEVEL = 0.25
RAMP_S = 0.02
BANDS_HZ = (150, 300, 600, 1_200, 2_400, 3_600, 4_800, 6_000, 7_200)
SPREAD = 12.0
"""How far the chirp's echo must stand above everything else in the matched filter, as a ratio."""
BAND_SNR_DB = 6.0
MIN_BAND_HZ = (300.0, 6_000.0)
"""What speech evidence needs: from the first of these to the second."""
WEAK_DBFS = -60.0
"""A chirp that is heard below this says nothing about the band: it drowns in what any room sounds like."""
FULL_SCALE = 32_768.0

_Wave = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ChirpReport:
    """What the microphone made of the chirp. Levels relative to full scale."""

    heard: bool
    level_dbfs: float
    noise_dbfs: float
    low_hz: float
    """Lowest and highest frequency at which the chirp stands out; 0 when none does."""
    high_hz: float

    @property
    def complaint(self) -> str:
        """What is wrong, in one line; empty when nothing is."""
        if not self.heard:
            return "the microphone does not hear the door's loudspeaker; check both plugs and their volume"
        if self.level_dbfs < WEAK_DBFS:
            return (
                f"the loudspeaker's chirp is heard at {self.level_dbfs:.0f} dBFS only; turn up the "
                "loudspeaker or the microphone (`alsamixer`)"
            )
        if not (0 < self.low_hz <= MIN_BAND_HZ[0] and self.high_hz >= MIN_BAND_HZ[1]):
            return (
                f"of the loudspeaker's chirp only {self.low_hz:.0f} to {self.high_hz:.0f} Hz are heard; a "
                "telephone headset or a covered microphone is too narrow for this door"
            )
        return ""

    def __str__(self) -> str:
        if not self.heard:
            return f"chirp not heard; noise {self.noise_dbfs:.0f} dBFS"
        return (
            f"chirp {self.level_dbfs:.0f} dBFS, noise {self.noise_dbfs:.0f} dBFS, "
            f"{self.low_hz:.0f} to {self.high_hz:.0f} Hz"
        )


def chirp() -> Samples:
    """The sound to play: an exponential sweep, int16 mono at 16 kHz."""
    time_s = np.arange(round(SECONDS * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    octaves = np.log(HIGH_HZ / LOW_HZ)
    phase = 2 * np.pi * LOW_HZ * SECONDS / octaves * (np.exp(time_s / SECONDS * octaves) - 1.0)
    ramp = np.minimum(1.0, np.minimum(time_s, SECONDS - time_s) / RAMP_S)
    samples: Samples = np.round(np.sin(phase) * ramp * LEVEL * (FULL_SCALE - 1)).astype(np.int16)
    return samples


def analyse(heard: Samples) -> ChirpReport:
    """`heard`: int16 of shape (n,) at 16 kHz, from well before the chirp to after it."""
    sent = chirp().astype(np.float64) / FULL_SCALE
    wave = heard.astype(np.float64) / FULL_SCALE
    if len(wave) < 2 * len(sent):
        return ChirpReport(False, -100.0, -100.0, 0.0, 0.0)
    wave -= wave.mean()
    size = 1 << int(np.ceil(np.log2(len(wave) + len(sent))))
    echo = np.fft.irfft(rfft(wave, size) * np.conj(rfft(sent, size)), size)
    echo = np.abs(echo[: len(wave) - len(sent) + 1])
    at = int(np.argmax(echo))
    part = wave[at : at + len(sent)]
    rest = np.concatenate((wave[:at], wave[at + len(sent) + SAMPLE_RATE_HZ // 2 :]))
    noise = rest if len(rest) >= SAMPLE_RATE_HZ // 8 else part * 0.0
    stands_out = echo[at] > SPREAD * max(float(np.median(echo)), 1e-9)
    part_power, noise_power = _bands(part), _bands(noise)
    strong = np.flatnonzero(part_power > noise_power * 10.0 ** (BAND_SNR_DB / 10.0) + 1e-12)
    return ChirpReport(
        bool(stands_out and len(strong)),
        _db(part),
        _db(noise),
        float(BANDS_HZ[strong[0]]) if len(strong) else 0.0,
        float(BANDS_HZ[strong[-1] + 1]) if len(strong) else 0.0,
    )


def _bands(wave: _Wave) -> _Wave:
    """Mean power in each band of BANDS_HZ."""
    power = np.square(np.abs(rfft(wave))) / max(1, len(wave)) ** 2
    hertz = np.fft.rfftfreq(len(wave), 1.0 / SAMPLE_RATE_HZ)
    edges = pairwise(BANDS_HZ)
    # Summed, and per second of sound: part and noise differ in length.
    return np.array([power[(hertz >= low) & (hertz < high)].sum() for low, high in edges])


def _db(wave: _Wave) -> float:
    return float(10.0 * np.log10(max(float(np.mean(np.square(wave))) if len(wave) else 0.0, 1e-10)))
