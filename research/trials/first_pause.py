"""Does a door that opens at the first pause decide as one that waits for the end?

    python -m research.trials.first_pause --manifest M.tsv --root DIR --out table.json [--most 100]

Each recording with a text is cut where its level is lowest between words, and a pause is put in there, as a
hesitant speaker makes one. At every such pause, and at the end, the door would judge what was said so far
against a phrase: the right one, one with a word replaced, one that is longer, one that is shorter, another
text. Voice and liveness count as passed, so the words alone must tell. Where the answer counts as complete
at a pause inside the recording, the whole recording with that pause is judged too.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from device.access.policy import Thresholds
from device.audio.recording import read_recording
from device.audio.settings import FileLimits
from device.audio.utterance import SAMPLE_RATE_HZ, Wave
from device.errors import DeviceError
from device.evidence.phrase import competitors, normalise, said_in_full
from device.models.words.transcriber import Transcriber
from device.settings import WordsEngine, models_dir
from quantize.evaluate.checks.opened import open_words
from quantize.evaluate.checks.scoring import Bars
from quantize.evaluate.recordings.manifest import read_manifest
from quantize.evaluate.recordings.trials import PhraseTrial, phrase_trials

PAD_S = 0.2
"""Silence that the endpointer keeps after the last voiced frame."""
PAUSE_S = 0.5
HOP = SAMPLE_RATE_HZ // 100
LEAST_PART_S = 0.3
MOST_CUTS = 5
BELOW_DB = 18.0
"""A gap between words lies so far below the recording's level."""
RIGHT, NEAR, LONGER, SHORTER, OTHER = "right", "one word wrong", "longer", "shorter", "another text"


@dataclass(frozen=True, slots=True)
class Case:
    """One phrase at one pause: complete there, and accepted when the end was waited for (None: not asked)."""

    kind: str
    inside: bool
    complete: bool
    accepted: bool | None
    llr: float = 0.0
    text: str = ""
    path: str = ""


@click.command()
@click.option("--manifest", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--root", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--most", default=0, show_default=True, type=click.IntRange(0), help="Recordings; 0 is all.")
def main(manifest: Path, root: Path, out: Path, most: int) -> None:
    """Count the decisions that the first pause would change."""
    trials = phrase_trials(read_manifest(manifest, root), near=4, pairings=3)
    if most:
        trials = trials[:: max(1, len(trials) // most)][:most]
    words = open_words(models_dir(), WordsEngine.ONNX)
    found: list[Case] = []
    with Bars() as bars:
        progress = bars.bar("pauses", len(trials))
        for trial in trials:
            try:
                samples = read_recording(root / trial.recording.path, FileLimits())
                found += cases(words, samples.astype(np.float32) / 32768.0, trial)
            except DeviceError as err:
                click.echo(f"{trial.recording.path}: {err}", err=True)
            progress()
    changed = [asdict(case) for case in found if case.accepted is False]
    kept = {"recordings": len(trials), "rows": rows(found), "changed": changed}
    out.write_text(json.dumps(kept, indent=1) + "\n")
    table = Table("phrase", "pause", "cases", "complete there", "of these refused at the end")
    for row in rows(found):
        table.add_row(*(str(row[name]) for name in ("kind", "pause", "cases", "complete", "changed")))
    Console(width=100).print(table)


def rows(found: Sequence[Case]) -> list[dict[str, int | str]]:
    """Counts by kind of phrase, for pauses inside the recording and at its end."""
    counts = Counter((case.kind, case.inside) for case in found)
    return [
        {
            "kind": kind,
            "pause": "inside" if inside else "at the end",
            "cases": number,
            "complete": sum(c.complete for c in found if (c.kind, c.inside) == (kind, inside)),
            "changed": sum(c.accepted is False for c in found if (c.kind, c.inside) == (kind, inside)),
        }
        for (kind, inside), number in sorted(counts.items())
    ]


def cases(words: Transcriber, wave: Wave, trial: PhraseTrial) -> Iterator[Case]:
    """Every phrase at every pause of one recording."""
    threshold_llr = Thresholds().phrase_llr
    phrases = list(phrases_for(trial))
    quiet = np.zeros(round(PAD_S * SAMPLE_RATE_HZ), np.float32)
    for cut in (*gaps(wave), len(wave)):
        inside = cut < len(wave)
        texts = [text for _, text in phrases]
        scores = words.scores(np.concatenate([wave[:cut], quiet]), texts)
        complete = [
            score.llr >= threshold_llr and said_in_full(score.transcript, text)
            for text, score in zip(texts, scores, strict=True)
        ]
        waited: dict[str, bool] = {}
        early = [text for text, done in zip(texts, complete, strict=True) if done]
        if inside and early:
            pause = np.zeros(round(PAUSE_S * SAMPLE_RATE_HZ), np.float32)
            whole = words.scores(np.concatenate([wave[:cut], pause, wave[cut:], quiet]), early)
            waited = {text: score.llr >= threshold_llr for text, score in zip(early, whole, strict=True)}
        for (kind, text), done, score in zip(phrases, complete, scores, strict=True):
            yield Case(kind, inside, done, waited.get(text), score.llr, text, trial.recording.path)


def phrases_for(trial: PhraseTrial) -> Iterator[tuple[str, str]]:
    """(kind, text) of every phrase that a recording is held against."""
    right = trial.right.split()
    yield RIGHT, trial.right
    yield from ((NEAR, text) for text in trial.near)
    more = [word for text in trial.others for word in text.split()[:1]]
    yield from ((LONGER, f"{trial.right} {word}") for word in more)
    shorter = [" ".join(right[:count]) for count in range(2, len(right))]
    said = normalise(trial.right)
    yield from ((SHORTER, text) for text in shorter if normalise(text) != said)
    yield from ((OTHER, text) for text in (trial.wrong, *trial.others))
    last_changed = competitors(right[-1], 2)[:2] if right else ()
    yield from ((NEAR, " ".join([*right[:-1], word])) for word in last_changed)


def gaps(wave: Wave) -> list[int]:
    """Where to put a pause, in samples: the lowest points between words, MOST_CUTS at most."""
    frames = wave[: len(wave) // HOP * HOP].reshape(-1, HOP)
    level_db = 10.0 * np.log10(np.mean(frames**2, axis=1) + 1e-10)
    smooth = np.convolve(level_db, np.ones(3) / 3.0, "same")
    limit_db = float(np.percentile(level_db, 90)) - BELOW_DB
    least = round(LEAST_PART_S * SAMPLE_RATE_HZ / HOP)
    lows = [
        at
        for at in range(least, len(smooth) - least)
        if smooth[at] < limit_db and smooth[at] == smooth[max(0, at - 8) : at + 9].min()
    ]
    return sorted(int(at) * HOP for at in sorted(lows, key=lambda at: float(smooth[at]))[:MOST_CUTS])


if __name__ == "__main__":
    main()
