"""Fits what moves the live check's scores by place (device/evidence/conditions.toml), on people alone.

    python -m research.fits.conditions --manifest M.tsv --root DIR --keep FILE [--write]

People on whom calibrations may be fitted say up to three recordings each: as recorded, in rooms, beside other
voices, ward sounds and noise, at two metres in a lively room, and in noise with no room. Two quantile
regressions tell by place where the lowest REFUSED of them lie, which is the LLR's zero there, and the lowest
QUARTER; the LLR is stretched so that people become rare by e for each unit between the two.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import click
import numpy as np
import numpy.typing as npt

from device.access.rules.levels import LEVELS
from device.audio import load_utterance
from device.audio.utterance import Quality, Utterance, Wave
from device.errors import DeviceError
from device.evidence import conditioned
from device.evidence.conditioned import ByPlace, Place
from device.liveness.condition import Conditions, blindness
from device.models.spoof.detector import SpoofDetector
from device.settings import models_dir
from quantize.evaluate.checks.opened import open_spoof, spoof_code
from quantize.evaluate.checks.scoring import Bars
from quantize.evaluate.door.heard import Surroundings
from quantize.evaluate.door.measure import wav
from quantize.evaluate.door.whole import surroundings, ward_sounds
from quantize.evaluate.figures.calibrate import fits
from quantize.evaluate.recordings.manifest import NOISE, Recording, read_manifest
from quantize.evaluate.recordings.trials import speaker_plan
from quantize.playback import Room, pink, reverberate, rms

REFUSED = 0.025
"""Of people, in every place."""
QUARTER = 0.25
"""Of people, the lowest, that tell with REFUSED how much of an LLR the moved score is in a place."""
BARS_LLR = tuple(sorted({risk.thresholds.live_llr for risk in LEVELS.values()}))
"""What the levels ask for."""
PLACES = ("clean", "room", "babble", "ward", "noise", "far", "hiss")
CORPORA = ("an4", "so762", "so762_child", "libri", "indian_english")
NOISES = ("noise", "noise_misc", "noise_esc10")
MOST = 3
LEVEL = 0.06
STEPS = 80
PARTS = ByPlace.__slots__
TABLE = Path(conditioned.__file__).with_name("conditions.toml")

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Heard:
    """One rendering: what the detector says, and the quality that the unit measures."""

    path: str
    place: str
    llr: float
    quality: Quality


@dataclass(frozen=True, slots=True)
class Sounds:
    """What recordings are mixed with; none of it is what whole attempts are judged with."""

    around: Surroundings
    ward: Sequence[str]
    noises: Sequence[str]

    @classmethod
    def of(cls, manifest: Path, root: Path) -> Self:
        """What the manifest lists. Raises QuantizeError where it lists nobody or no noise."""
        recordings, noises = read_manifest(manifest, root), read_manifest(manifest, root, (NOISE,))
        return cls(
            surroundings(recordings, noises, root),
            ward_sounds(noises)[0],
            [noise.path for noise in noises if noise.folder in NOISES],
        )


def rendered(recording: Recording, place: str, sounds: Sounds) -> Wave:
    """The recording as heard in one place; the draws follow from its path."""
    wave = sounds.around.wave(recording.path)
    if place == "clean":
        return wave
    seed = hashlib.sha256(repr((recording.path, place, 0)).encode()).digest()[:8]
    dice = np.random.default_rng(int.from_bytes(seed, "little"))
    if place == "hiss":
        wave = _beside_the_door(wave, dice)
        snr_db = dice.uniform(8, 30)
        if dice.random() < 0.5:
            return _mixed(wave, pink(len(wave), dice), snr_db)
        return _mixed(wave, _any_of(sounds.noises, sounds, len(wave), dice), snr_db)
    wave = _beside_the_door(reverberate(wave, _room(place, dice), dice), dice)
    if place in ("room", "far"):
        return _mixed(wave, pink(len(wave), dice), dice.uniform(20, 40))
    snr_db = dice.uniform(8, 22)
    if place == "babble":
        others = [voice for voice in sounds.around.voices if voice.speaker != recording.speaker]
        chosen = dice.choice(len(others), int(dice.integers(3, 6)), replace=False)
        talk = [_piece(sounds.around.wave(others[int(at)].path), len(wave), dice) for at in chosen]
        mixed = np.sum([one / max(rms(one), 1e-9) for one in talk], axis=0).astype(np.float32)
        return _mixed(wave, reverberate(mixed, Room(0.5, 0.0), dice)[: len(wave)], snr_db)
    if place == "noise" and dice.random() < 0.3:
        return _mixed(wave, pink(len(wave), dice), snr_db)
    paths = sounds.ward if place == "ward" else sounds.noises
    return _mixed(wave, _any_of(paths, sounds, len(wave), dice), snr_db)


def _room(place: str, dice: np.random.Generator) -> Room:
    """A lively one at two metres, or any within a metre or so."""
    if place == "far":
        return Room(dice.uniform(0.5, 0.9), dice.uniform(-9, -3))
    direct_db = (-5, 2) if dice.random() < 0.3 else (0, 10)
    return Room(dice.uniform(0.2, 0.8), dice.uniform(*direct_db))


def _beside_the_door(wave: Wave, dice: np.random.Generator) -> Wave:
    """At a usual level, with something before and after it."""
    return np.pad(wave * np.float32(LEVEL / max(rms(wave), 1e-9)), int(dice.uniform(0.3, 0.9) * 16_000))


def _any_of(paths: Sequence[str], sounds: Sounds, length: int, dice: np.random.Generator) -> Wave:
    return _piece(sounds.around.wave(paths[int(dice.integers(len(paths)))]), length, dice)


def at_the_door(recording: Recording, place: str, sounds: Sounds) -> Utterance | None:
    """The recording in that place as the door's endpointer finds it; None where it would not be judged."""
    try:
        return load_utterance(wav(rendered(recording, place, sounds)))
    except DeviceError:
        return None


def _piece(wave: Wave, length: int, dice: np.random.Generator) -> Wave:
    start = int(dice.integers(len(wave)))
    return np.take(wave, np.arange(start, start + length), mode="wrap")


def _mixed(wave: Wave, noise: Wave, snr_db: float) -> Wave:
    return wave + noise * np.float32(rms(wave) * 10 ** (-snr_db / 20) / max(rms(noise), 1e-9))


def people(recordings: Sequence[Recording]) -> list[Recording]:
    """Up to MOST recordings of everybody on whom a calibration may be fitted."""
    probes = {probe.path for probe in speaker_plan(recordings).probes}
    by: dict[str, list[Recording]] = defaultdict(list)
    for recording in recordings:
        wanted = recording.label == "bonafide" and recording.folder in CORPORA
        if wanted and recording.speaker and fits(recording.speaker):
            by[recording.speaker].append(recording)
    chosen = []
    for files in by.values():
        of = [one for one in files if one.path in probes] or files
        of = [one for one in of if len(one.text.split()) >= 2 or not one.text] or of
        chosen += [of[round(at)] for at in np.linspace(0, len(of) - 1, min(MOST, len(of)))]
    return chosen


def measured(
    recordings: Sequence[Recording], sounds: Sounds, detector: SpoofDetector, keep: Path
) -> list[Heard]:
    """Every recording in every place that the door would judge; what this detector said stands in `keep`."""
    known: dict[tuple[str, str], dict[str, Any]] = {}
    detector_in_use = f"{detector.version} {spoof_code()}"
    if keep.exists():
        for line in keep.read_text("utf-8").splitlines():
            row = json.loads(line)
            if row.get("detector") != detector_in_use:
                continue
            known[row["path"], row["place"]] = row
    asks = [(recording, place) for recording in recordings for place in PLACES]
    with Bars() as bars, keep.open("a", encoding="utf-8") as out:
        progress = bars.bar("people in places", len(asks))
        for recording, place in asks:
            if (recording.path, place) not in known:
                named = {"detector": detector_in_use, "path": recording.path, "place": place}
                row = {**named, **_one(recording, place, sounds, detector)}
                known[recording.path, place] = row
                out.write(json.dumps(row) + "\n")
            progress()
    rows = [known[recording.path, place] for recording, place in asks]
    return [
        Heard(row["path"], row["place"], row["llr"], Quality(**row["quality"]))
        for row in rows
        if row["llr"] is not None
    ]


def _one(recording: Recording, place: str, sounds: Sounds, detector: SpoofDetector) -> dict[str, Any]:
    utterance = at_the_door(recording, place, sounds)
    if utterance is not None and blindness(utterance.quality, Conditions()) is None:
        with suppress(DeviceError):
            return {"llr": detector.llr(utterance.wave()), "quality": asdict(utterance.quality)}
    return {"llr": None, "quality": None}


def design(heard: Sequence[Heard]) -> Array:
    """(n, 3): one, noise and echo of each place, which the shift weighs."""
    places = [Place.of(one.quality) for one in heard]
    return np.array([(1.0, place.noise, place.echo) for place in places])


def low_quantile(x: Array, y: Array, share: float) -> Array:
    """Quantile regression, by majorising the check function (Hunter and Lange 2000)."""
    found = np.linalg.lstsq(x, y, rcond=None)[0]
    found[0] += np.quantile(y - x @ found, share)
    for _ in range(STEPS):
        left = y - x @ found
        weight = 1.0 / (1e-3 + np.abs(left))
        slope = (x * (1.0 - 2.0 * share - left * weight)[:, None]).sum(axis=0)
        curve = (x * weight[:, None]).T @ x + 1e-6 * np.eye(x.shape[1])
        found = found - np.linalg.solve(curve, slope)
    return np.asarray(found, dtype=np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """What the table holds, (always, noise, echo) each, to three digits."""

    shift: Array
    spread: Array

    @classmethod
    def of(cls, heard: Sequence[Heard]) -> Self:
        """Of people alone."""
        x, llrs = design(heard), np.array([one.llr for one in heard])
        lowest, quarter = (low_quantile(x, llrs, share) for share in (REFUSED, QUARTER))
        return cls((-lowest).round(3), ((quarter - lowest) / np.log(QUARTER / REFUSED)).round(3))

    def llrs(self, heard: Sequence[Heard]) -> Array:
        """As the door has them."""
        x, llrs = design(heard), np.array([one.llr for one in heard])
        return np.asarray((llrs + x @ self.shift) / (x @ self.spread))


def refused(heard: Sequence[Heard], llrs: Array, bar_llr: float = 0.0) -> dict[str, str]:
    """Share refused at a threshold by place, of how many."""
    places = np.array([one.place for one in heard])
    return {
        place: f"{np.mean(llrs[places == place] < bar_llr):.1%} of {int((places == place).sum())}"
        for place in PLACES
    }


def half_of(path: str) -> int:
    """The half of people that a recording belongs to, for the check on people left out."""
    return int(hashlib.sha256("/".join(path.split("/")[:2]).encode()).hexdigest(), 16) % 2


def table(fit: Fit, points: Mapping[str, float], detector: str, origin: str) -> str:
    """The text of conditions.toml."""
    lines = [
        "# What moves the live check's LLR by place. Written by `python -m research.fits.conditions`.",
        f'version = "places-{datetime.now(UTC):%Y%m%d}"',
        f'detector = "{detector}"',
        f'origin = "{origin}"',
    ]
    for name, values in (("shift", fit.shift), ("spread", fit.spread)):
        lines += ["", f"[{name}]"]
        lines += [f"{part} = {value:.3f}" for part, value in zip(PARTS, values, strict=True)]
    lines += ["", "[operating_points]", *(f"{name} = {value:.3f}" for name, value in points.items())]
    return "\n".join(lines) + "\n"


@click.command()
@click.option("--manifest", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--root", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--keep", required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--write", is_flag=True, help="Write device/evidence/conditions.toml.")
def main(manifest: Path, root: Path, keep: Path, write: bool) -> None:
    """Fit the shifts, and print who is refused: of everybody, and of the half that each fit left out."""
    detector = open_spoof(models_dir())
    heard = measured(people(read_manifest(manifest, root)), Sounds.of(manifest, root), detector, keep)
    click.echo(f"as the detector has it: {refused(heard, np.array([one.llr for one in heard]))}")
    for half in (0, 1):
        kept = [one for one in heard if half_of(one.path) != half]
        left = [one for one in heard if half_of(one.path) == half]
        click.echo(f"left out: {refused(left, Fit.of(kept).llrs(left))}")
    fit = Fit.of(heard)
    llrs = fit.llrs(heard)
    for bar_llr in (0.0, *BARS_LLR):
        click.echo(f"fitted on all, where {bar_llr:g} is asked for: {refused(heard, llrs, bar_llr)}")
    points = {f"bpcer_{share}": float(np.quantile(llrs, share / 100)) for share in (1, 3, 5)}
    origin = f"quantile regression, {len(heard)} renderings of {len({one.path for one in heard})} recordings"
    text = table(fit, points, detector.version, f"{origin} of people with an even SHA-256")
    click.echo(text)
    if write:
        TABLE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
