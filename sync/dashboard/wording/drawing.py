"""Pictures as SVG: scores against thresholds, bars, distributions. The style sheet has the colours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

from sync.dashboard.wording.languages import say, word

LOW, HIGH = -10.0, 15.0
WIDTH = 420


def score(name: str, llr: float | None, threshold: float) -> Markup:
    """One score on a scale from "against" to "for", with the threshold as a line."""
    left, right = 20, WIDTH - 20
    line = _x(threshold, left, right)
    parts = [
        f'<rect class="against" x="{left}" y="26" width="{line - left:.1f}" height="14" rx="3"/>',
        f'<rect class="for" x="{line:.1f}" y="26" width="{right - line:.1f}" height="14" rx="3"/>',
    ]
    for tick in range(-10, 16, 5):
        x = _x(tick, left, right)
        parts.append(f'<text class="tick" x="{x:.1f}" y="62" text-anchor="middle">{signed(tick)}</text>')
    needed = say("{0} needed", signed(threshold, 1))
    parts.append(f'<line class="threshold" x1="{line:.1f}" x2="{line:.1f}" y1="18" y2="48"/>')
    parts.append(f'<text class="needed" x="{line:.1f}" y="13" text-anchor="middle">{needed}</text>')
    if llr is None:
        said = say("{0}: this check was not made; {1} was needed", name, signed(threshold, 1))
    else:
        passed = llr >= threshold
        x = _x(llr, left, right)
        tone = "passed" if passed else "failed"
        parts.append(f'<circle class="{tone}" cx="{x:.1f}" cy="33" r="9"/>')
        end = word("passed") if passed else word("not passed")
        said = say("{0}: {1}, {2} was needed, {3}", name, signed(llr, 2), signed(threshold, 1), end)
    return _svg(WIDTH, 70, said, parts, "score")


def bars(
    values: Sequence[tuple[str, Mapping[str, int]]],
    tones: Mapping[str, str],
    label: str,
    width: int = 640,
    height: int = 160,
) -> Markup:
    """Stacked bars: each value is a label below it and how many of each tone; `tones` says what they mean."""
    most = max((sum(parts.values()) for _, parts in values), default=0) or 1
    top = _nice(most)
    left, floor = 44, height - 22
    right = width - 18  # half of the last label
    step = (right - left) / max(1, len(values))
    parts = []
    for share in (0, 0.5, 1):
        y = floor - share * (floor - 10)
        parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(
            f'<text class="tick" x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{top * share:g}</text>'
        )
    every = max(1, math.ceil(len(values) / 12))
    for number, (name, counted) in enumerate(values):
        x, y = left + number * step, float(floor)
        told = ", ".join(f"{tones[tone]} {counted[tone]}" for tone in tones if counted.get(tone)) or "0"
        pieces = []
        for tone in tones:
            tall = counted.get(tone, 0) / top * (floor - 10)
            if tall:
                y -= tall
                pieces.append(
                    f'<rect class="bar {tone}" x="{x + step * 0.12:.1f}" y="{y:.1f}" '
                    f'width="{step * 0.76:.1f}" height="{tall:.1f}"/>'
                )
        parts.append(f"<g><title>{escape(name)}: {escape(told)}</title>{''.join(pieces)}</g>")
        if number % every == 0:
            parts.append(
                f'<text class="tick" x="{x + step / 2:.1f}" y="{height - 6}" text-anchor="middle">'
                f"{escape(name)}</text>"
            )
    return _svg(width, height, label, parts, "bars")


def distributions(
    shapes: Sequence[tuple[str, Sequence[int]]], low: float, high: float, threshold: float, label: str
) -> Markup:
    """Histograms over one scale, each drawn to its own height, and the threshold."""
    height, floor, left, right = 150, 122, 20, WIDTH - 20
    parts = []
    for tone, counted in shapes:
        most = max(counted, default=0)
        if not most:
            continue
        step = (right - left) / len(counted)
        points = [f"{left},{floor}"]
        for number, times in enumerate(counted):
            y = floor - times / most * (floor - 14)
            points += [f"{left + number * step:.1f},{y:.1f}", f"{left + (number + 1) * step:.1f},{y:.1f}"]
        points.append(f"{right},{floor}")
        parts.append(f'<polygon class="shape {tone}" points="{" ".join(points)}"/>')
    x = left + (threshold - low) / (high - low) * (right - left)
    parts.append(f'<line class="threshold" x1="{x:.1f}" x2="{x:.1f}" y1="8" y2="{floor}"/>')
    for tick in range(math.ceil(low / 5) * 5, math.floor(high) + 1, 5):
        at = left + (tick - low) / (high - low) * (right - left)
        parts.append(
            f'<text class="tick" x="{at:.1f}" y="{height - 10}" text-anchor="middle">{signed(tick)}</text>'
        )
    return _svg(WIDTH, height, label, parts, "shapes")


def signed(value: float, places: int = 0) -> str:
    """A number with a sign as wide as a digit; zero has none."""
    text = f"{abs(value):.{places}f}"
    return text if not float(text) else f"{'−' if value < 0 else '+'}{text}"


def _x(llr: float, left: int, right: int) -> float:
    return left + (min(HIGH, max(LOW, llr)) - LOW) / (HIGH - LOW) * (right - left)


def _nice(most: int) -> int:
    """The next round number, so that the scale has readable labels."""
    size = 10 ** int(math.log10(most))
    return int(
        next((m * size for m in (1, 2, 4, 5, 10) if m * size >= most and m * size % 2 == 0), 10 * size)
    )


def _svg(width: int, height: int, label: str, parts: Sequence[str], kind: str) -> Markup:
    # Everything in `parts` is a number, a word of ours, or escaped where it was put in.
    return Markup(  # noqa: S704
        f'<svg class="drawing {kind}" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">'
        f"{''.join(parts)}</svg>"
    )
