"""What a second phrase is worth to the live check: two recordings of one person or system, at one door.

    python -m research.trials.twice --data SPEECH --keep FILE [--most N]

Attacks are of systems that the detector never heard, as in `python -m research.spoof conditions`; people are
of AN4, speechocean762 and Indian English on whom no zero was fitted, although the networks learned from many
of the first two. Both recordings meet the same room, loudspeaker and sounds. Words and voice pass, so a door
with a level decides by the live check alone; a second phrase is one that the door asks for.
"""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track
from rich.table import Table

from device.access.decision import Outcome
from device.access.policy import counts_on
from device.access.rules.levels import LEVELS
from device.access.rules.model import RiskClass
from device.access.weigh import weigh
from device.audio.utterance import Quality
from device.evidence.judge import Evidence, Timings
from device.model_store import slots
from device.models.spoof.detector import CARD_ROLE
from device.settings import models_dir
from quantize.errors import QuantizeError
from quantize.evaluate.door.heard import Condition, named
from quantize.evaluate.door.whole import surroundings
from quantize.evaluate.figures.calibrate import fits
from quantize.evaluate.recordings.manifest import NOISE, Recording, read_manifest
from quantize.train.speech.scoring import eer
from research.spoof.conditions import ROWS, Door, Row, drawn, llrs, unheard

FAR = named(("2 m, lively room",))["2 m, lively room"]
HEARD = (*ROWS, Row(FAR.name, FAR, FAR))
CORPORA = ("an4", "so762", "indian_english")
BARS_LLR = (0.0, 0.5, 0.8, 1.0, 1.2, 1.5, 2.0, 2.3)
ROUNDS = 500
CERTAIN_LLR = 99.0
QUALITY = Quality(speech_s=3.0, snr_db=30.0, clipped_fraction=0.0, level_dbfs=-20.0, bandwidth_hz=8_000.0)

Pairs = dict[str, list[tuple[float, float]]]
"""LLRs of a first and a second phrase, every order of two recordings, by who or what said them."""
Floats = npt.NDArray[np.float64]


def said_by(recording: Recording) -> str:
    """Whose recordings belong together."""
    return f"{recording.folder}/{recording.speaker or recording.system}"


def pairs(door: Door, recordings: Sequence[Recording], condition: Condition) -> Pairs:
    """Of everybody with two recordings that the live check can judge."""
    groups: dict[str, list[float]] = defaultdict(list)
    for recording in recordings:
        who = said_by(recording)
        groups[who].extend(llrs([door.found(recording, condition, who)]))
    return {who: list(itertools.permutations(said, 2)) for who, said in groups.items() if len(said) > 1}


@dataclass(frozen=True, slots=True)
class Became:
    """Shares of attempts: asked for a second phrase, and open in the end."""

    asked: float
    opened: float


def became(first_llr: float, second_llr: float, risk: RiskClass) -> tuple[bool, bool]:
    """Whether the door asks for a second phrase, and whether it opens in the end."""
    one = weigh(_heard(first_llr), risk, claimed=True)
    if one.outcome is not Outcome.STEP_UP:
        return False, one.opens
    return True, weigh(_heard(second_llr), risk, claimed=True, before_llr=counts_on(one)).opens


def _heard(live_llr: float) -> Evidence:
    """Evidence of the live check alone; everything else that a door asks for passes."""
    return Evidence(CERTAIN_LLR, CERTAIN_LLR, live_llr, "", QUALITY, Timings(0.0, 0.0, 0.0, 0.0))


def shares(found: Pairs, risk: RiskClass) -> dict[str, Became]:
    """By who or what said it: of all its pairs."""
    counted = {}
    for who, said in found.items():
        each = np.array([became(one, other, risk) for one, other in said], np.float64)
        counted[who] = Became(*each.mean(axis=0))
    return counted


def spread(values: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """95 % bootstrap interval of the mean, people or systems drawn with replacement."""
    dice = np.random.default_rng(seed)
    drawn_means = [np.mean(dice.choice(values, len(values))) for _ in range(ROUNDS)]
    low, high = np.percentile(drawn_means, [2.5, 97.5])
    return float(low), float(high)


def equal_errors(people: Pairs, attacks: Pairs, of: Callable[[Floats], Floats]) -> float:
    """The EER of what `of` makes of pairs (n, 2)."""
    both = (np.array([two for said in found.values() for two in said]) for found in (people, attacks))
    return float(eer(*(of(two) for two in both)))


def barred_at(live_llr: float) -> RiskClass:
    """The level `standard` with another bar for the live check."""
    risk = LEVELS["standard"]
    return replace(risk, thresholds=replace(risk.thresholds, live_llr=live_llr))


@click.command()
@click.option("--data", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--keep", required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--most", default=3, show_default=True, help="Recordings of each person and system.")
def main(data: Path, keep: Path, most: int) -> None:
    """Print equal error rates of one phrase and of two, and what each bar of the live check makes of both."""
    recordings = read_manifest(data / "manifest.tsv", data)
    card = json.loads(slots.active(models_dir()).path(CARD_ROLE).read_bytes())
    attacks = drawn(unheard(recordings, card["trained_on"])[1], most)
    own = [r for r in recordings if r.label == "bonafide" and r.folder in CORPORA and not fits(r.speaker)]
    people = [one for who in sorted({said_by(r) for r in own}) for one in _of(own, who, most)]
    if not people or not attacks:
        raise QuantizeError(f"{data} has nobody, or no system, with two recordings that may judge")
    door = Door.open(
        surroundings(recordings, read_manifest(data / "manifest.tsv", data, (NOISE,)), data), keep
    )
    made = {
        row.name: (
            pairs(door, people, row.people),
            pairs(door, people if row.replays else attacks, row.attacks),
        )
        for row in track(HEARD, description="conditions")
    }
    console = Console(width=150)
    console.print(_by_phrases(made))
    for what, table in _by_bar(made).items():
        table.title = what
        console.print(table)


def _of(recordings: Sequence[Recording], who: str, most: int) -> list[Recording]:
    return drawn([r for r in recordings if said_by(r) == who], most)


def _by_phrases(made: dict[str, tuple[Pairs, Pairs]]) -> Table:
    table = Table(
        "EER", "people", "systems or people", "one phrase", "mean of two", "the lower", "the higher"
    )
    for name, (people, attacks) in made.items():
        rates = [
            equal_errors(people, attacks, of)
            for of in (
                lambda two: two[:, 0],
                lambda two: two.mean(axis=1),
                lambda two: two.min(axis=1),
                lambda two: two.max(axis=1),
            )
        ]
        table.add_row(name, str(len(people)), str(len(attacks)), *(f"{rate:.1%}" for rate in rates))
    return table


def _by_bar(made: dict[str, tuple[Pairs, Pairs]]) -> dict[str, Table]:
    """Shares of attempts of up to two phrases by bar: fakes accepted, people refused and asked again."""
    columns = [f"{bar_llr:g}" for bar_llr in BARS_LLR]
    tables = {what: Table("", *columns) for what in ("accepted", "refused", "people asked again")}
    for name, (people, attacks) in made.items():
        fakes, live = ([shares(of, barred_at(bar_llr)) for bar_llr in BARS_LLR] for of in (attacks, people))
        accepted = [_share([one.opened for one in found.values()]) for found in fakes]
        refused = [_share([1.0 - one.opened for one in found.values()]) for found in live]
        asked = [_share([one.asked for one in found.values()]) for found in live]
        for table, cells in zip(tables.values(), (accepted, refused, asked), strict=True):
            table.add_row(name, *cells)
    return tables


def _share(values: Sequence[float]) -> str:
    low, high = spread(values)
    return f"{np.mean(values):.1%} [{low:.0%}, {high:.0%}]"


if __name__ == "__main__":
    main()
