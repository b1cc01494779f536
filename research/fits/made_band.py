"""Fits the weights that tell a made upper band (`device/audio/spoiled/made_band.toml`), and judges them.

    python -m research.fits.made_band measure --data SPEECH --keep FOLDER [--part N/OF]
    python -m research.fits.made_band judge --keep FOLDER [--write]
    python -m research.fits.made_band passing --data SPEECH [--most N]

People are split by the SHA-256 of their names: even ones fit, odd ones judge. Ways to make a band are left
out by family: each is judged by weights that saw none of its family, on attacks that nothing was fitted on.
"""

from __future__ import annotations

import argparse
import hashlib
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from device.audio import load_utterance
from device.audio.spoiled import made_band
from device.audio.spoiled.made_band import NAMES, Weights, measured
from device.errors import DeviceError
from device.evidence import conditioned
from device.liveness.condition import Conditions, blindness
from device.settings import models_dir
from quantize.evaluate.checks.opened import open_spoof
from quantize.evaluate.checks.phrase import rate
from quantize.evaluate.door.heard import Condition, heard
from quantize.evaluate.door.measure import wav
from quantize.evaluate.figures.calibrate import fits
from quantize.evaluate.recordings.manifest import Recording, noises, read_manifest
from research.fits.upper_bands import Book, Floats, Maker, makers
from research.trials.disturbances import stage_of

RATE_HZ, LONGEST_S, SHORTEST_S = 16_000, 6, 1.2
WAS_CODED = ("conversation", "digits8k", "takin_demo", "edge_neural", "kokoro_demo", "orpheus_demo")
"""Several people in a file, 8 kHz, or MP3 at their source."""
CONDITIONS = (
    Condition("room", room="near"),
    Condition("mask", mask=True),
    Condition("noise 20 dB", "noise", 20.0),
    Condition("room, babble 10 dB", "babble", 10.0, "near"),
    Condition("room, ward sounds 10 dB", "ward", 10.0, "near"),
    Condition("2 m, lively room", room="far"),
    Condition("MP3 64 kbit/s", codec="mp3"),
)
EACH_CONDITIONS, EACH_MAKERS, MOST_PEOPLE, MOST_ATTACKS = 3, 4, 240, 40
REFUSED = 0.005
"""Of people that fit, in all conditions."""
PENALTY = 0.01
SHIPPED = Path(made_band.__file__).with_suffix(".toml")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    steps = parser.add_subparsers(dest="step", required=True)
    one = steps.add_parser("measure")
    one.add_argument("--data", type=Path, required=True)
    one.add_argument("--part", default="0/1")
    two = steps.add_parser("judge")
    two.add_argument("--write", action="store_true")
    for step in (one, two):
        step.add_argument("--keep", type=Path, required=True)
    three = steps.add_parser("passing")
    three.add_argument("--data", type=Path, required=True)
    three.add_argument("--most", type=int, default=MOST_ATTACKS)
    given = parser.parse_args()
    if given.step == "measure":
        part, of = map(int, given.part.split("/"))
        measure(given.data, given.keep, part, of)
    elif given.step == "judge":
        judge(given.keep, write=given.write)
    else:
        passing(given.data, given.most)


def drawn(items: list[Recording], most: int) -> list[Recording]:
    return sorted(items, key=lambda one: hashlib.sha256(one.path.encode()).digest())[:most]


def cast(data: Path) -> tuple[list[Recording], list[Recording], list[tuple[str, str, Maker]]]:
    """(people, one recording each; attacks, one of each system; ways to make a band with family and name)."""
    recordings = read_manifest(data / "manifest.tsv", data)
    long = [
        one
        for one in recordings
        if one.folder not in WAS_CODED and soundfile.info(data / one.path).duration >= SHORTEST_S
    ]
    by: dict[tuple[str, str], list[Recording]] = defaultdict(list)
    for one in long:
        by[one.label, one.unit if one.label == "bonafide" else f"{one.folder} {one.system}"].append(one)
    first = {name: drawn(files, 1)[0] for name, files in by.items()}
    people = drawn([one for (label, _), one in first.items() if label == "bonafide"], MOST_PEOPLE)
    attacks = drawn([one for (label, _), one in first.items() if label == "spoof"], MOST_ATTACKS)
    even = [one for one in people if fits(one.unit)]
    families = makers(
        Book.of([read(data, one) for one in even[::4]]), [read(data, one) for one in even[1::12]]
    )
    every = [(family, name, make) for family, of_it in families.items() for name, make in of_it.items()]
    return people, attacks, every


def measure(data: Path, keep: Path, part: int, of: int) -> None:
    """Keep what is measured of people as they are and in conditions, and of bands made."""
    people, attacks, every = cast(data)
    manifest = data / "manifest.tsv"
    recordings = read_manifest(manifest, data)
    around = stage_of(recordings, noises(manifest, data), data, fitted=True).around
    rows: list[tuple[str, str, str, str]] = []
    values: list[Floats] = []

    def add(kind: str, how: str, recording: Recording, wave: npt.NDArray[np.floating]) -> None:
        found = measured((np.round(np.clip(wave, -1, 0.9999) * 32768) / 32768).astype(np.float32))
        if found is not None:
            rows.append((kind, how, recording.unit, recording.folder))
            values.append(found)

    for one in people[part::of]:
        wave, dice = read(data, one), dice_of(one)
        add("person", "as recorded", one, wave)
        for at in dice.permutation(len(CONDITIONS))[:EACH_CONDITIONS]:
            condition = CONDITIONS[int(at)]
            sound = heard(wave.astype(np.float32), one.path, one.speaker, condition, around)
            add("person", condition.name, one, sound)
        for at in dice.permutation(len(every))[:EACH_MAKERS]:
            _, name, make = every[int(at)]
            add("made of a person", name, one, make(wave, dice))
    for one in attacks[part::of]:
        wave = read(data, one)
        add("attack", "as it is", one, wave)
        for _, name, make in every:
            add("made of an attack", name, one, make(wave, dice_of(one, name)))
    keep.mkdir(parents=True, exist_ok=True)
    np.savez(keep / f"part-{part}-{of}.npz", values=np.array(values), rows=np.array(rows))


def read(data: Path, one: Recording) -> Floats:
    return np.asarray(soundfile.read(data / one.path, frames=LONGEST_S * RATE_HZ)[0], np.float64)


def dice_of(one: Recording, name: str = "") -> np.random.Generator:
    seed = hashlib.sha256(f"{one.path}\0{name}\0made band".encode()).digest()[:8]
    return np.random.default_rng(int.from_bytes(seed, "little"))


def passing(data: Path, most: int) -> None:
    """How many attacks pass the live check as they are and with bands made, before and behind the guard."""
    _, attacks, every = cast(data)
    detector = open_spoof(models_dir())
    for name, make in [("as it is", lambda wave, dice: wave), *((name, make) for _, name, make in every)]:
        before, behind = 0, 0
        for one in attacks[:most]:
            try:
                utterance = load_utterance(wav(make(read(data, one), dice_of(one, name))))
                passed = (
                    conditioned.shipped().llr(
                        detector.version, detector.evidence(utterance.wave()).llr, utterance.quality
                    )
                    >= 0.0
                )
            except DeviceError:
                continue
            before += passed
            behind += passed and blindness(utterance.quality, Conditions()) is None
        print(
            f"{name}: of {len(attacks[:most])} pass {before} before the guard, {behind} behind it", flush=True
        )


class Kept:
    """What was measured, and of whom."""

    def __init__(self, keep: Path) -> None:
        parts = [np.load(file) for file in sorted(keep.glob("part-*.npz"))]
        self.values: Floats = np.concatenate([part["values"] for part in parts])
        rows = np.concatenate([part["rows"] for part in parts])
        self.kind, self.how, self.unit, self.folder = rows.T
        self.even = np.array([fits(unit) for unit in self.unit])
        nobody = [np.zeros(RATE_HZ)]
        families = makers(Book(*np.zeros((3, 1, 1))), nobody)
        of = {name: family for family, inside in families.items() for name in inside}
        self.family = np.array([of.get(how, "") for how in self.how])


def fitted(kept: Kept, left_out: str) -> Weights:
    """Weighed logistic regression: people and every family of made bands count the same."""
    people = (kept.kind == "person") & kept.even
    made = (kept.kind == "made of a person") & kept.even & (kept.family != left_out)
    own = kept.values[people & (kept.how == "as recorded")]
    mean, spread = own.mean(axis=0), own.std(axis=0) + 1e-6
    away = np.clip((kept.values - mean) / spread, -made_band.CLIPPED, made_band.CLIPPED)
    terms = np.column_stack((away, away**2 / 2, np.ones(len(away))))
    weight = np.zeros(len(away))
    weight[people] = 0.5 / people.sum()
    families = sorted(set(kept.family[made]))
    for family in families:
        inside = made & (kept.family == family)
        weight[inside] = 0.5 / len(families) / inside.sum()
    used = weight > 0
    x, y, weight = terms[used], people[used].astype(float), weight[used]
    ridge = PENALTY * np.append(np.ones(2 * len(NAMES)), 1e-6)
    theta = np.zeros(x.shape[1])
    for _ in range(40):
        p = 1 / (1 + np.exp(-np.clip(x @ theta, -30, 30)))
        slope = x.T @ (weight * (p - y)) + ridge * theta
        theta -= np.linalg.solve((x.T * (weight * p * (1 - p))) @ x + np.diag(ridge), slope)
    half = len(NAMES)
    free = Weights(mean, spread, theta[:half], theta[half:-1], float(theta[-1]), 0.0)
    least = float(np.quantile([free.score(one) for one in kept.values[people]], REFUSED))
    return Weights(mean, spread, theta[:half], theta[half:-1], float(theta[-1]), least)


def judge(keep: Path, *, write: bool) -> None:
    """Print who is taken for made, and what is found; `write` ships weights fitted on every family."""
    kept = Kept(keep)
    whole = fitted(kept, "")
    people = (kept.kind == "person") & ~kept.even
    show("people kept apart", kept, whole, people)
    show("attacks as they are", kept, whole, kept.kind == "attack")
    for family in sorted(set(kept.family) - {""}):
        made = (kept.family == family) & (kept.kind == "made of an attack")
        show(f"{family}: fitted on", kept, whole, made)
        show(f"{family}: left out", kept, fitted(kept, family), made)
    if write:
        how = {
            "what": "How made bands are told: python -m research.fits.made_band judge --write",
            "on": f"Fitted on {len(set(kept.unit[(kept.kind == 'person') & kept.even]))} people.",
        }
        SHIPPED.write_text(table(whole, how), "utf-8")


def table(weights: Weights, how: Mapping[str, str]) -> str:
    """As `Weights.from_text` reads it; `how` says how it was made."""
    lines = [f"# {line}" for line in how.values()]
    lines += [f"offset = {weights.offset:.5f}", f"least = {weights.least:.5f}"]
    for part in made_band.PARTS:
        lines += ["", f"[{part}]"]
        lines += [
            f'"{name}" = {value:.5f}' for name, value in zip(NAMES, getattr(weights, part), strict=True)
        ]
    return "\n".join(lines) + "\n"


def show(what: str, kept: Kept, weights: Weights, chosen: npt.NDArray[np.bool_]) -> None:
    low = np.array([weights.score(one) < weights.least for one in kept.values])
    by: dict[str, list[bool]] = defaultdict(list)
    for unit, found in zip(kept.unit[chosen], low[chosen], strict=True):
        by[unit].append(bool(found))
    total = rate(list(by), list(by.values()))
    each = ", ".join(
        f"{how} {low[chosen & (kept.how == how)].sum()}/{(chosen & (kept.how == how)).sum()}"
        for how in sorted(set(kept.how[chosen]))
    )
    print(f"{what}: {total.accepted} of {total.trials} [{total.low:.1%}, {total.high:.1%}]: {each}")


if __name__ == "__main__":
    main()
