"""The report's chapter about `ostiary inspect`, and what a terminal is told of it."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from device.inspection.places import APART_S
from quantize.evaluate.checks.phrase import Rate
from quantize.evaluate.figures import plots
from quantize.evaluate.figures.intervals import Estimate
from quantize.evaluate.figures.markup import figure, percent, table
from quantize.evaluate.inspection.measure import GOALS, InspectionResult, Marks


def inspection_chapter(result: InspectionResult) -> str:
    """Do the ratios hold, are joins marked where they are, and which are not."""
    kinds = ", ".join(f"{count} {escape(name)}" for name, count in result.files.items())
    missing = "No aligner was installed: words were cut by energy. " if result.without_borders else ""
    return (
        "<h2>May findings about a recording be believed?</h2>"
        f"<p>{sum(result.files.values())} recordings of people and systems on whom nothing was fitted "
        f"({kinds}; {result.minutes:.1f} minutes), and all {result.people_minutes:.1f} minutes of these "
        f"{result.people} people as recorded. {missing}</p>"
        + table(
            ("ratio", "Cllr, bit", "least", "EER", "people below 0", "others above 0"),
            [
                f"<tr><th>{name}</th>"
                + "".join(f"<td>{cell}</td>" for cell in _ratio(found.figures))
                + "</tr>"
                for name, found in (
                    ("live, people against synthesis", result.live),
                    ("in one go, people against edits", result.joins),
                )
            ],
            "Cllr is the price of taking a ratio at its word; the least is what its order alone allows.",
        )
        + figure(
            plots.calibration_plot({"live": result.live, "in one go": result.joins}),
            "Appendix: claimed against supported ratio. On the diagonal a ratio means what it says.",
        )
        + table(
            ("marked from", "joins found", "false marks a minute", "of the marks false", "in people alone"),
            [_marks("in use", result.in_use), *(_marks("", one) for one in result.curve)],
            f"A join is found by a mark within {APART_S:g} s of it; a mark further than that from anything "
            f"edited is false. Goal: {percent(GOALS['found'], 0)} at {GOALS['false_a_minute']:g} a minute.",
        )
        + table(
            ("what was done", "joins found", "median ratio of one go"),
            [
                f"<tr><th>{escape(name)}</th><td>{_rate(found)}</td>"
                f"<td>{result.joins_by_edit[name]:+.1f}</td></tr>"
                for name, found in result.by_edit.items()
            ],
            "At the ratio in use.",
        )
    )


def inspection_lines(result: InspectionResult | None) -> Iterator[str]:
    """What a terminal is told."""
    if result is None:
        return
    for name, found in (("live", result.live), ("in one go", result.joins)):
        cllr, least, eer, *_ = _ratio(found.figures)
        yield f"evidence {name}: Cllr {cllr}, least {least}, EER {eer}"
    for one in (result.in_use, *result.curve):
        yield (
            f"evidence marked from {one.llr:g}: {_rate(one.found)} joins, "
            f"{_estimate(one.false_a_minute)} false marks a minute, {percent(one.false_share, 1)} of the "
            f"marks; in people alone {_estimate(one.in_people)} a minute"
        )
    for name, rate in result.by_edit.items():
        yield f"evidence {name}: {_rate(rate)} joins"


def _marks(name: str, one: Marks) -> str:
    cells = (
        _rate(one.found),
        _estimate(one.false_a_minute),
        percent(one.false_share, 1),
        _estimate(one.in_people),
    )
    label = f"{one.llr:g} {name}".strip()
    return f"<tr><th>{label}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _ratio(figures: dict[str, Estimate]) -> tuple[str, ...]:
    eer, frr, far = (figures[name] for name in ("eer", "frr", "far"))
    return (
        _estimate(figures["cllr"]),
        f"{figures['min_cllr'].value:.2f}",
        *(f"{percent(one.value, 1)} [{100 * one.low:.1f}, {100 * one.high:.1f}]" for one in (eer, frr, far)),
    )


def _estimate(one: Estimate) -> str:
    return f"{one.value:.2f} [{one.low:.2f}, {one.high:.2f}]"


def _rate(one: Rate) -> str:
    low, high = (percent(bound, 0) for bound in (one.low, one.high))
    return f"{one.accepted} of {one.trials} ({percent(one.value, 0)} [{low}, {high}])"
