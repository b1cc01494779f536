"""Findings about one recording, as numbers: the same for the same file, models and voiceprint."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from device.audio.listen import VoiceActivity
from device.audio.quality import measure
from device.audio.spectrum import rfft
from device.audio.utterance import FRAME_SAMPLES, SAMPLE_RATE_HZ, Samples, to_wave
from device.evidence.judge import SpeakerCheck, SpoofCheck
from device.inspection.places import MARK_LLR, Edits
from device.inspection.scale import in_words, support
from device.liveness.joins import FRAME_S

Wave = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float32]

WINDOW_S, HOP_S = 4.0, 2.0
"""Long enough for the live check; an inserted sentence still fills one."""
QUIET_DB = -30.0
"""A window so far below the loudest one is not judged."""
RESAMPLES = 400
FEW_WINDOWS = 3
"""Fewer say nothing about how far the voice's LLR varies."""
BESIDE_S = 0.6
VOICE_S = 1.5
SHORT_S = 2.0
DECIMALS = 3
AT_ONCE = 1024
"""Frames whose spectra are in memory together."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A place where the recording looks edited, and the changes there."""

    at_s: float
    llr: float
    """Natural log: an edit here against none."""
    in_words: str
    background_db: float
    """Level of the quietest tenth after it over that before it, within BESIDE_S."""
    bandwidth_hz: float
    """Up to where sound reaches after it less before it: a change of codec or microphone."""
    voice: float | None
    """Cosine of the voices within VOICE_S on both sides; None where there is too little."""


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch that was judged on its own."""

    start_s: float
    end_s: float
    live: Mapping[str, float]
    """LLR by kind of attack, and `llr` against any of them."""
    voice_llr: float | None


@dataclass(frozen=True, slots=True)
class Voice:
    """Whether the person named speaks."""

    person: str
    llr: float
    low: float | None
    high: float | None
    """95 % interval over redrawn windows; None below FEW_WINDOWS of them."""
    in_words: str


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything that is reported."""

    name: str
    sha256: str
    seconds: float
    level_dbfs: float
    voice: Voice | None
    live: Mapping[str, float]
    """LLR by kind in the least live window, and `llr` against any, as the door has them."""
    live_llr: float
    """A person against any of them, also such as the detector was never taught."""
    live_in_words: str
    joins_llr: float
    joins_in_words: str
    marks: tuple[Mark, ...]
    windows: tuple[Window, ...]
    level_db: tuple[float, ...]
    """Every 0.1 s, for the picture."""
    edit_llrs: tuple[float, ...]
    """Of an edit: the strongest in every 0.1 s."""
    unsaid: tuple[str, ...]
    models: tuple[str, ...]
    calibrations: Mapping[str, str] = field(default_factory=dict)
    """By kind of evidence: the data on which its map to an LLR was fitted."""

    def to_dict(self) -> dict[str, Any]:
        """JSON types, rounded, in a fixed order."""
        rounded = _rounded(asdict(self))
        assert isinstance(rounded, dict)  # noqa: S101
        return rounded


@dataclass(frozen=True, slots=True)
class Checks:
    """The checks that look at a recording."""

    speaker: SpeakerCheck
    spoof: SpoofCheck
    edits: Edits


def examine(
    wave: Wave,
    checks: Checks,
    *,
    name: str,
    sha256: str,
    person: str = "",
    template: npt.NDArray[np.float32] | None = None,
    calibrations: Mapping[str, str] | None = None,
) -> Findings:
    """Everything about samples (n,) at 16 kHz, n > 0. `template` is the voiceprint of `person`.

    Raises what the checks raise for sound that holds no speech at all.
    """
    spans = stretches(wave)
    embeddings = [checks.speaker.embed(wave[a:b]) for a, b in spans] if template is not None else []
    windows = []
    for number, (a, b) in enumerate(spans):
        llr = checks.speaker.llr(embeddings[number], template) if template is not None else None
        live = _live(wave[a:b], checks.spoof)
        windows.append(Window(a / SAMPLE_RATE_HZ, b / SAMPLE_RATE_HZ, live, llr))
    heard = checks.edits(wave)
    worst = min(windows, key=lambda one: one.live["llr"]).live
    live_llr = checks.edits.weights.live.llr(worst["llr"])
    marks = tuple(_mark(wave, at, llr, checks.speaker) for at, llr in heard.places if llr >= MARK_LLR)
    return Findings(
        name=name,
        sha256=sha256,
        seconds=len(wave) / SAMPLE_RATE_HZ,
        level_dbfs=_decibels(_power(wave)),
        voice=None if template is None else _voice(person, embeddings, template, checks.speaker),
        live=worst,
        live_llr=live_llr,
        live_in_words=in_words(live_llr, "a live person", "a machine or a loudspeaker"),
        joins_llr=heard.one_go_llr,
        joins_in_words=in_words(heard.one_go_llr, "speech in one go", "pieces put together"),
        marks=marks,
        windows=tuple(windows),
        level_db=_levels(wave),
        edit_llrs=_strongest(heard.llrs),
        unsaid=(*_unsaid(wave, person, template is not None, len(windows)), *_unfitted(checks)),
        models=(checks.speaker.version, checks.spoof.version, checks.edits.weights.version),
        calibrations=dict(calibrations or {}),
    )


def somebody_speaks(samples: Samples) -> bool:
    """Whether any stretch of int16 samples (n,) at 16 kHz holds a voice, be it a whisper."""
    frames = samples[: len(samples) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)
    active = VoiceActivity()
    speech = np.array([active(frame) for frame in frames], bool)
    for start, stop in stretches(to_wave(samples)):
        first, last = start // FRAME_SAMPLES, stop // FRAME_SAMPLES
        if not speech[first:last].any():
            continue
        quality = measure(frames[first:last].reshape(-1), speech[first:last])
        if max(quality.speech_s, quality.whispered_s) > 0.0:
            return True
    return False


def least_live(wave: Wave, spoof: SpoofCheck) -> float:
    """The live check's LLR of the least live stretch."""
    return min(_live(wave[a:b], spoof)["llr"] for a, b in stretches(wave))


def _live(wave: Wave, spoof: SpoofCheck) -> dict[str, float]:
    found = spoof.evidence(wave)
    live = {**found.kinds(), "llr": found.llr}
    live.pop("frame_rate_hz", None)
    return live


def stretches(wave: Wave) -> list[tuple[int, int]]:
    """(first, last) sample of every window that is not quiet; all of a recording shorter than one."""
    window, hop = round(WINDOW_S * SAMPLE_RATE_HZ), round(HOP_S * SAMPLE_RATE_HZ)
    starts = range(0, max(1, len(wave) - window + hop), hop)
    every = [(start, min(len(wave), start + window)) for start in starts]
    spans = [(a, b) for a, b in every if b - a >= window // 2] or [(0, len(wave))]
    levels = [_decibels(_power(wave[a:b])) for a, b in spans]
    return [span for span, level in zip(spans, levels, strict=True) if level > max(levels) + QUIET_DB]


def _mark(wave: Wave, at_s: float, llr: float, speaker: SpeakerCheck) -> Mark:
    at, beside, voice = (round(s * SAMPLE_RATE_HZ) for s in (at_s, BESIDE_S, VOICE_S))
    before, after = wave[max(0, at - beside) : at], wave[at : at + beside]
    cosine = None
    if min(at, len(wave) - at) >= voice:
        first, second = speaker.embed(wave[at - voice : at]), speaker.embed(wave[at : at + voice])
        cosine = float(np.dot(first, second))
    floors, tops = (_floor_db(before), _floor_db(after)), (_top_hz(before), _top_hz(after))
    return Mark(at_s, llr, support(llr), floors[1] - floors[0], tops[1] - tops[0], cosine)


def _voice(
    person: str, embeddings: Sequence[Floats], template: npt.NDArray[np.float32], speaker: SpeakerCheck
) -> Voice:
    every = np.stack(embeddings)

    def llr(chosen: npt.NDArray[np.float32]) -> float:
        mean = chosen.mean(axis=0)
        return speaker.llr((mean / max(float(np.linalg.norm(mean)), 1e-9)).astype(np.float32), template)

    low = high = None
    if len(every) >= FEW_WINDOWS:
        dice = np.random.default_rng(1)
        drawn = [llr(every[dice.integers(len(every), size=len(every))]) for _ in range(RESAMPLES)]
        low, high = (float(bound) for bound in np.percentile(drawn, [2.5, 97.5]))
    whole = llr(every)
    return Voice(person, whole, low, high, in_words(whole, f"{person} speaking", "somebody else speaking"))


def _unfitted(checks: Checks) -> tuple[str, ...]:
    """Where the live check is not the one that its ratio was fitted on."""
    if checks.spoof.version == checks.edits.weights.detector:
        return ()
    return ("How far the ratio of a live person holds: it was fitted for another version of the live check.",)


def _unsaid(wave: Wave, person: str, known: bool, windows: int) -> tuple[str, ...]:
    seconds = len(wave) / SAMPLE_RATE_HZ
    said = []
    if not person:
        said.append("Who speaks: no person was named.")
    elif not known:
        said.append(f"Whether {person} speaks: this unit has no voiceprint of that name that may be used.")
    elif windows < FEW_WINDOWS:
        said.append("How far the voice's ratio would vary: too little was heard for an interval.")
    if seconds < SHORT_S:
        said.append(f"Much at all: {seconds:.1f} s are less than the {SHORT_S:.0f} s that the checks want.")
    if _top_hz(wave) < 4_400.0:
        said.append("Whether it is live: the upper half of a voice is missing, as over a telephone.")
    said += [
        "Who made an edit, when, with what, or whether it changes the meaning.",
        "That it is genuine: single words that were put in or taken out are seldom marked.",
        "Who else it might be: the ratio weighs this person against strangers, not against relatives.",
    ]
    return tuple(said)


def _levels(wave: Wave) -> tuple[float, ...]:
    step = SAMPLE_RATE_HZ // 10
    every = (wave[at : at + step] for at in range(0, len(wave), step))
    return tuple(_decibels(_power(frame) * len(frame) / step) for frame in every)


def _strongest(frames: Floats) -> tuple[float, ...]:
    step = round(0.1 / FRAME_S)
    padded = np.pad(frames, (0, -len(frames) % step), mode="edge")
    return tuple(float(one) for one in padded.reshape(-1, step).max(axis=1))


def _floor_db(wave: Wave) -> float:
    """Level of the quietest tenth of the 20 ms frames."""
    frames = wave[: len(wave) // 320 * 320].reshape(-1, 320).astype(np.float64)
    if not len(frames):
        return -100.0
    return _decibels(float(np.percentile((frames**2).mean(axis=1), 10)))


def _top_hz(wave: Wave) -> float:
    """Up to where the average spectrum stays within 55 dB of its strongest part."""
    frames = wave[: len(wave) // 512 * 512].reshape(-1, 512)
    if not len(frames):
        return 0.0
    power = np.zeros(257)
    for at in range(0, len(frames), AT_ONCE):
        spectra = rfft(frames[at : at + AT_ONCE].astype(np.float64) * np.hanning(512), axis=1)
        power += (np.abs(spectra) ** 2).sum(axis=0)
    loud = np.flatnonzero(power > power.max() * 10**-5.5)
    return float(loud[-1] * SAMPLE_RATE_HZ / 512) if len(loud) else 0.0


def _power(wave: Wave) -> float:
    """The mean square, of a minute at a time: ten minutes in float64 would be another 77 MB."""
    total, step = 0.0, 60 * SAMPLE_RATE_HZ
    for at in range(0, len(wave), step):
        total += float((wave[at : at + step].astype(np.float64) ** 2).sum())
    return total / max(1, len(wave))


def _decibels(power: float) -> float:
    return 10.0 * math.log10(power + 1e-10)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, DECIMALS) + 0.0 if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(inner) for inner in value]
    return value
