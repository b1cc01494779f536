"""The report's pictures, as SVG text that stands inside the page."""

from __future__ import annotations

import html
import io
import math
import re
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from quantize.errors import QuantizeError
from quantize.evaluate.figures.detection import Detection

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TICKS = (0.0001, 0.001, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95)
# Okabe & Ito: told apart by people with any colour vision.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_STYLE: Any = {
    "svg.hashsalt": "ostiary",
    "svg.fonttype": "none",
    "text.parse_math": False,  # a speaker or system may be called "$1"
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a94a0",
    "axes.grid": True,
    "grid.color": "#e3e7ec",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "legend.frameon": False,
}


def det_plot(curves: Mapping[str, Detection], false_alarm: str, miss: str) -> str:
    """Detection error trade-off on normal-deviate axes: Gaussian scores give straight lines."""
    probit = NormalDist().inv_cdf
    low, high = probit(TICKS[0] * 0.7), probit(TICKS[-1])

    def place(rate: float) -> float:
        return low if rate <= 0.0 else high if rate >= 1.0 else max(low, min(high, probit(rate)))

    def draw(axes: Axes) -> None:
        for (name, found), colour in zip(curves.items(), _colours(len(curves)), strict=True):
            points = [(place(far), place(frr)) for far, frr in found.det]
            label = f"{name}: EER {found.figures['eer'].value:.2%}"
            axes.plot(*zip(*points, strict=True), color=colour, linewidth=1.6, label=label)
        axes.plot([low, high], [low, high], color="#b8c0c9", linewidth=0.8, linestyle=(0, (4, 4)))
        positions = [probit(tick) for tick in TICKS]
        labels = [f"{tick * 100:g}" for tick in TICKS]
        axes.set_xticks(positions, labels)
        axes.set_yticks(positions, labels)
        axes.set(xlim=(low, high), ylim=(low, high), xlabel=f"{false_alarm} (%)", ylabel=f"{miss} (%)")
        axes.legend(loc="upper right", fontsize=8.5)

    return _svg(draw, 5.4, 5.0, f"DET curves: {', '.join(curves)}")


def calibration_plot(curves: Mapping[str, Detection], limit: float = 10.0) -> str:
    """Claimed against supported log-likelihood ratio: on the diagonal, a score means what it says."""

    def draw(axes: Axes) -> None:
        axes.plot([-limit, limit], [-limit, limit], color="#b8c0c9", linewidth=0.8, linestyle=(0, (4, 4)))
        for (name, found), colour in zip(curves.items(), _colours(len(curves)), strict=True):
            if found.reliability:
                claimed, supported = zip(*found.reliability, strict=True)
                actual, least = found.figures["cllr"].value, found.figures["min_cllr"].value
                label = f"{name}: Cllr {actual:.3f}, least {least:.3f}"
                axes.step(claimed, supported, where="post", color=colour, linewidth=1.5, label=label)
        axes.set(xlim=(-limit, limit), ylim=(-limit, limit))
        axes.set(xlabel="LLR the system claims", ylabel="LLR the data support (PAV)")
        if any(found.reliability for found in curves.values()):
            axes.legend(loc="upper left", fontsize=8.5)

    return _svg(draw, 5.4, 5.0, f"Calibration: {', '.join(curves)}")


def histogram_plot(found: Detection, target: str, nontarget: str, threshold: float | None, unit: str) -> str:
    """How both classes' scores are spread, with the deployed threshold."""

    def draw(axes: Axes) -> None:
        edges = found.histogram.edges
        for shares, name, colour in (
            (found.histogram.nontargets, nontarget, COLOURS[1]),
            (found.histogram.targets, target, COLOURS[0]),
        ):
            axes.stairs([100 * share for share in shares], edges, fill=True, alpha=0.35, color=colour)
            axes.stairs([100 * share for share in shares], edges, color=colour, linewidth=1.2, label=name)
        if threshold is not None:
            axes.axvline(threshold, color="#1b2733", linewidth=1.1, linestyle=(0, (4, 2)))
            top = axes.get_ylim()[1]
            axes.annotate(
                f"threshold {threshold:g}",
                (threshold, top),
                (5, -1),
                textcoords="offset points",
                va="top",
                fontsize=8.5,
            )
        axes.set(xlabel=unit, ylabel="share of trials (%)")
        axes.legend(loc="best", fontsize=8.5)

    return _svg(draw, 5.4, 3.2, f"Scores: {target} and {nontarget}")


def attack_plot(attacks: Mapping[str, Detection], pooled: float) -> str:
    """Equal error rate of every attack with its interval, hardest first."""
    names = sorted(attacks, key=lambda name: attacks[name].figures["eer"].value)

    def draw(axes: Axes) -> None:
        for row, name in enumerate(names):
            figure = attacks[name].figures["eer"]
            axes.plot([100 * figure.low, 100 * figure.high], [row, row], color=COLOURS[0], linewidth=1.4)
            axes.plot(100 * figure.value, row, "o", color=COLOURS[0], markersize=4.5)
        axes.axvline(100 * pooled, color="#1b2733", linewidth=1.0, linestyle=(0, (4, 2)))
        axes.axvline(50, color=COLOURS[1], linewidth=1.0, linestyle=(0, (1, 2)))
        axes.text(100 * pooled, len(names) - 0.3, " pooled", fontsize=8.5, va="bottom")
        axes.text(50, len(names) - 0.3, " guessing", fontsize=8.5, va="bottom", color=COLOURS[1])
        axes.set_yticks(range(len(names)), [f"{n} ({attacks[n].nontargets})" for n in names], fontsize=8.5)
        axes.set(xlabel="EER (%), 95 % interval", xlim=(0, 100), ylim=(-0.8, len(names) + 0.6))

    return _svg(draw, 7.4, 1.2 + 0.22 * len(names), "Equal error rate by attack")


def attempts_plot(findings: Mapping[str, Mapping[str, tuple[float, float]]]) -> str:
    """Shares in after one phrase and after two, of everybody named, by condition."""
    names = list(dict.fromkeys(name for shares in findings.values() for name in shares))
    conditions = list(findings)[::-1]

    def draw(axes: Axes) -> None:
        for name, colour in zip(names, _colours(len(names)), strict=True):
            rows = [row for row, condition in enumerate(conditions) if name in findings[condition]]
            shares = [findings[conditions[row]][name] for row in rows]
            axes.hlines(rows, [100 * one for one, _ in shares], [100 * two for _, two in shares], colour)
            axes.plot([100 * one for one, _ in shares], rows, "o", color=colour, markersize=3)
            axes.plot([100 * two for _, two in shares], rows, "o", color=colour, markersize=6, label=name)
        axes.set_yticks(range(len(conditions)), conditions, fontsize=8.5)
        axes.set(xlabel="in (%)", xlim=(-2, 102), ylim=(-0.8, len(conditions) - 0.2))
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, fontsize=8.5)

    return _svg(draw, 8.0, 1.6 + 0.3 * len(conditions), "In after one phrase and after two")


def stacked_plot(bars: Mapping[str, Sequence[float]], parts: Sequence[str]) -> str:
    """Shares that add up, one bar each: what an error rate is made of."""

    def draw(axes: Axes) -> None:
        left = [0.0] * len(bars)
        for at, (part, colour) in enumerate(zip(parts, COLOURS, strict=False)):
            values = [100 * shares[at] for shares in bars.values()]
            axes.barh(list(bars), values, left=left, color=colour, label=part, height=0.6)
            left = [begin + value for begin, value in zip(left, values, strict=True)]
        axes.invert_yaxis()
        axes.set(xlabel="% of reference speech")
        axes.legend(loc="lower right", fontsize=8.5)

    return _svg(draw, 7.4, 1.0 + 0.4 * len(bars), f"Errors: {', '.join(bars)}")


def changes_plot(
    curve: Sequence[tuple[float, float]], chosen: tuple[float, float], goal: tuple[float, float]
) -> str:
    """False changes an hour against the time until 95 % of changes are told."""
    finite = [(x, y) for x, y in curve if math.isfinite(x) and math.isfinite(y)]

    def draw(axes: Axes) -> None:
        if finite:
            axes.plot(
                *zip(*finite, strict=True), "o-", color=COLOURS[0], markersize=4, linewidth=1.4, label="curve"
            )
        if all(map(math.isfinite, chosen)):
            axes.plot(*chosen, "s", color=COLOURS[1], markersize=7, label="in use")
        axes.plot(*goal, "*", color=COLOURS[2], markersize=10, label="asked for")
        axes.set(xlabel="false changes an hour", ylabel="95 % told within (s)", ylim=(0, None))
        axes.legend(loc="upper right", fontsize=8.5)

    return _svg(draw, 6.4, 3.8, "Latency against false changes")


def scatter_plot(points: Sequence[tuple[float, float]], x: str, y: str, bound: float) -> str:
    """One point each, the diagonal, and a line so much above it."""

    def draw(axes: Axes) -> None:
        low = min(min(point) for point in points) - 1.0
        high = max(max(point) for point in points) + 1.0
        axes.plot([low, high], [low, high], color="#b8c0c9", linewidth=0.8, linestyle=(0, (4, 4)))
        axes.plot([low, high], [low + bound, high + bound], color=COLOURS[1], linewidth=0.9)
        axes.scatter([p[0] for p in points], [p[1] for p in points], s=16, color=COLOURS[0])
        axes.set(xlim=(low, high), ylim=(low, high), xlabel=x, ylabel=y)

    return _svg(draw, 5.4, 5.0, f"{y} against {x}")


def _colours(count: int) -> Sequence[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(count)]


def _svg(draw: Any, width_in: float, height_in: float, title: str) -> str:
    try:
        import matplotlib as mpl
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError as err:
        raise QuantizeError("report.html needs matplotlib; install the package's [report] extra") from err
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width_in, height_in), layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure.subplots())
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Title": title}, transparent=True)
    body = text.getvalue()
    return re.sub(r"^.*?(?=<svg )", "", body, flags=re.DOTALL).replace(
        "<svg ", f'<svg role="img" aria-label="{html.escape(title)}" ', 1
    )
