"""Tables from the folds' scores, each on pages, systems and corpora that the scoring model never heard."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from quantize.evaluate.figures.intervals import Share
from quantize.evaluate.figures.metrics import cllr
from quantize.train.judging.calibrate import LIVE, against_any, calibrate, llrs
from quantize.train.speech.scoring import eer
from research.detector.operating import POINTS, points_table
from research.detector.scores import by_head, interval, pick, read_rows

CORPORA = ("libri", "so762", "an4")
SYNTHESIS = ("synthetic", "envelopes", "cadence")
"""The kinds of evidence that know a machine; together they are the synthesis score of the tables."""


def with_llrs(rows, heads):
    """Rows with what the door would have seen, calibrated: each head, `synthesis`, and `llr`."""
    found = {name: llrs(rows, name, head) for name, head in heads.items()}
    found["llr"] = against_any(*found.values())
    found["synthesis"] = against_any(*(found[name] for name in SYNTHESIS))
    return [{**row, **{name: float(found[name][n]) for name in found}} for n, row in enumerate(rows)]


def load(work: Path):
    """Every fold's unseen rows and its rows of known pages, each under that fold's own calibration."""
    unseen, seen = [], []
    for path in sorted(work.glob("scores-[A-Z].tsv")):
        rows = read_rows(path)
        known = [r for r in rows if r["part"] == "seen"]
        zeros = json.loads((work / f"zeros-{rows[0]['fold']}.json").read_text())
        heads, _ = calibrate(known, zeros)
        seen += with_llrs(known, heads)
        unseen += with_llrs([r for r in rows if r["part"] == "unseen"], heads)
    return unseen, seen


def line(name, bonafide, spoof):
    """One row of a table: EER with its interval, both errors at the default threshold, and Cllr in bits."""
    if len(bonafide) < 5 or len(spoof) < 2:
        return (name, str(len(bonafide)), str(len(spoof)), *"-----")
    low, high = interval(bonafide, spoof)
    return (
        name,
        str(len(bonafide)),
        str(len(spoof)),
        f"{eer(bonafide, spoof):.1%}",
        f"{low:.1%} - {high:.1%}",
        f"{(bonafide <= 0).mean():.1%}",
        f"{(spoof > 0).mean():.1%}",
        f"{cllr(bonafide, spoof):.2f}",
    )


def _show(console, title, lines):
    table = Table("", "bona fide", "spoof", "EER", "95 %", "BPCER at 0", "APCER at 0", "Cllr", title=title)
    for one in lines:
        table.add_row(*one)
    console.print(table)


def report(work: Path, baseline: Path | None, plots: Path | None = None) -> None:
    """Print every table; raises SystemExit when WORK holds no scores."""
    console = Console(width=130)
    unseen, seen = load(work)
    if not unseen:
        raise SystemExit("no scores found; run `python -m research.detector folds` first")
    digital = by_head([r for r in unseen if r["condition"] == "plain"], "synthesis")
    _pages(console, digital)
    _kinds(console, unseen)
    _door(console, unseen)
    _systems(console, digital)
    _known(console, seen)
    for corpus in CORPORA:
        scores = pick(unseen, condition={"plain"}, page={corpus}, label={"bonafide"})
        if len(scores):
            refused = Share(int((scores <= 0).sum()), len(scores))
            console.print(f"bona fide of the unseen corpus {corpus}: {refused} of {len(scores)} refused")
    table = Table("", "files", *POINTS, title="operating points, everything unseen")
    for row in points_table(unseen, seen):
        table.add_row(*row)
    console.print(table)
    if baseline is not None:
        compare(console, digital, baseline)
    if plots is not None:
        from research.spoof.plots import draw

        draw(unseen, seen, plots)


def _both(name, rows, people=None):
    """A line of the people and the attacks among `rows`, or of these attacks and other `people`."""
    own = pick(rows, label={"bonafide"})
    return line(name, own if people is None else people, pick(rows, label={"spoof"}))


def _of_pages(rows):
    return [r for r in rows if r["page"] not in (*CORPORA, "made")]


def _pages(console, digital) -> None:
    lines = []
    for page in sorted({r["page"] for r in _of_pages(digital)}):
        own = [r for r in digital if r["page"] == page]
        if len(pick(own, label={"bonafide"})) >= 5:
            lines.append(_both(page, own))
        else:
            people = pick(digital, fold={r["fold"] for r in own}, label={"bonafide"})
            lines.append(_both(f"{page} *", own, people))
    lines.append(_both("pages, pooled", _of_pages(digital)))
    lines.append(_both("pages + corpora", [r for r in digital if r["page"] != "made"]))
    lines.append(_both("everything", digital))
    _show(
        console,
        "unseen pages and systems, digital, evidence for synthesis (* against the fold's other bona fide)",
        lines,
    )


def _kinds(console, unseen) -> None:
    """What each kind of evidence knows of the pages' synthesis, in every condition."""
    lines = []
    for kind in (*SYNTHESIS, "synthesis"):
        for condition in (*LIVE, "replayed"):
            rows = by_head([r for r in _of_pages(unseen) if r["condition"] == condition], kind)
            lines.append(_both(f"{kind}, {condition}", rows))
    _show(console, "unseen pages by each kind of evidence, people heard the same way", lines)


def _door(console, unseen) -> None:
    lines = []
    for condition in LIVE[1:]:
        rows = by_head([r for r in unseen if r["condition"] == condition], "synthesis")
        lines.append(_both(condition, rows))
    heard = by_head(unseen, "loudspeaker")
    aloud = pick(heard, condition={*LIVE}, label={"bonafide"})
    lines.append(line("loudspeaker: fakes", aloud, pick(heard, condition={"replayed"}, label={"spoof"})))
    lines.append(line("loudspeaker: people", aloud, pick(heard, condition={"replayed"}, label={"bonafide"})))
    live = pick(unseen, condition={*LIVE}, label={"bonafide"})
    plain = [r for r in unseen if r["condition"] == "plain"]
    replayed = [r for r in unseen if r["condition"] == "replayed"]
    clean = pick(plain, label={"bonafide"})
    lines.append(_both("either: digital fakes", plain, live))
    lines.append(_both("either: replayed fakes", replayed, live))
    lines.append(line("either: replayed people", live, pick(replayed, label={"bonafide"})))
    lines.append(_both("either: clean people, pages", _of_pages(plain), clean))
    lines.append(_both("either: the pages' clean people, pages", _of_pages(plain)))
    lines.append(_both("either: clean people, digital", plain, clean))
    lines.append(_both("either: clean people, replayed", replayed, clean))
    rooms = pick(unseen, condition={"room"}, label={"bonafide"})
    lines.append(_both("either: people in a room, replayed", replayed, rooms))
    _show(console, "everything unseen in other conditions, by loudspeakers, and as the door scores", lines)


def _systems(console, digital) -> None:
    people = pick(digital, label={"bonafide"})
    families = sorted({(r["page"], r["family"]) for r in digital if r["label"] == "spoof"})
    _show(
        console,
        "per unseen system, digital, against all unseen bona fide",
        [line(f"{p}/{f}", people, pick(digital, page={p}, family={f}, label={"spoof"})) for p, f in families],
    )


def _known(console, seen) -> None:
    known = by_head([r for r in seen if r["condition"] == "plain"], "synthesis")
    people = pick(known, label={"bonafide"})
    names = sorted({r["family"] for r in known if r["page"] == "made"})
    _show(
        console,
        "known synthesisers, voices and speakers not heard",
        [line(n, people, pick(known, page={"made"}, family={n})) for n in names],
    )


def compare(console, rows, baseline: Path) -> None:
    """Another detector's EER beside ours on the very same files."""
    theirs = {r["path"]: float(r["score"]) for r in csv.DictReader(baseline.open(), delimiter="\t")}
    groups = defaultdict(list)
    for row in rows:
        if row["path"] in theirs:
            both = {**row, "theirs": theirs[row["path"]]}
            groups["pooled"].append(both)
            if row["page"] not in CORPORA:
                groups["pages, pooled"].append(both)
                groups[row["page"]].append(both)
    table = Table("same files", "bona fide", "spoof", "ours", "95 %", "theirs", "95 %")
    for name, group in sorted(groups.items()):
        sides = [
            [pick(group, column, label={label}) for label in ("bonafide", "spoof")]
            for column in ("llr", "theirs")
        ]
        if min(len(sides[0][0]), len(sides[0][1])) < 5:
            continue
        cells = [name, str(len(sides[0][0])), str(len(sides[0][1]))]
        for side in sides:
            low, high = interval(*side)
            cells += [f"{eer(*side):.1%}", f"{low:.1%} - {high:.1%}"]
        table.add_row(*cells)
    console.print(table)
