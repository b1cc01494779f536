"""Pictures for the model card, as SVG: the trade-off at the door, and each unseen system."""

from __future__ import annotations

from pathlib import Path
from statistics import NormalDist

import numpy as np

from quantize.train.judging.calibrate import LIVE
from quantize.train.speech.scoring import eer
from research.detector.operating import DEFAULT, thresholds
from research.detector.scores import by_head, interval, pick

WIDTH, LEFT, TOP = 600, 60, 34
INK, GRID, COLOURS = "#333", "#ddd", ("#1b6ca8", "#c8553d", "#3b8254", "#8a5a9e", "#b8860b")
TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95)


def _page(title: str, height: int, body: list[str]) -> str:
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
            f'font-family="sans-serif" font-size="12" fill="{INK}">',
            f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
            f'<text x="12" y="20" font-size="14">{title}</text>',
            *body,
            "</svg>",
            "",
        ]
    )


def _text(x: float, y: float, text: str, anchor: str = "middle", colour: str = INK) -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" fill="{colour}">{text}</text>'


def det(title: str, curves: dict[str, tuple[np.ndarray, np.ndarray]]) -> str:
    """Attacks accepted against people refused, on normal deviates; a curve is (people, attacks)."""
    normal, span, bottom = NormalDist(), WIDTH - LEFT - 20, 420
    low, high = normal.inv_cdf(TICKS[0] * 0.8), normal.inv_cdf(TICKS[-1] + 0.01)

    def place(share: float) -> float:
        deviate = normal.inv_cdf(min(max(share, 1e-6), 1 - 1e-6))
        return (min(max(deviate, low), high) - low) / (high - low)

    body = []
    for tick in TICKS:
        x, y = LEFT + place(tick) * span, bottom - place(tick) * (bottom - TOP)
        body.append(f'<path d="M{x:.0f} {TOP}V{bottom}M{LEFT} {y:.0f}H{LEFT + span}" stroke="{GRID}"/>')
        body += [_text(x, bottom + 16, f"{tick:.0%}"), _text(LEFT - 6, y + 4, f"{tick:.0%}", "end")]
    body.append(_text(LEFT + span / 2, bottom + 34, "people refused"))
    body.append(
        f'<text transform="translate(14 {(bottom + TOP) / 2:.0f}) rotate(-90)" text-anchor="middle">'
        "attacks accepted</text>"
    )
    for number, (name, (people, attacks)) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        limits = np.quantile(np.concatenate([people, attacks]), np.linspace(0, 1, 240))
        points = [(float((people <= t).mean()), float((attacks > t).mean())) for t in limits]
        line = " ".join(
            f"{LEFT + place(x) * span:.1f},{bottom - place(y) * (bottom - TOP):.1f}" for x, y in points
        )
        body.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        label = f"{name}: EER {eer(people, attacks):.0%}"
        body.append(_text(LEFT + 10, bottom - 14 - 17 * (len(curves) - 1 - number), label, "start", colour))
    return _page(title, bottom + 48, body)


def bars(title: str, rows: list[tuple[str, float, tuple[float, float], float]]) -> str:
    """EER by system with its interval (bar and line), and what one operating point accepts (tick)."""
    left, step = 210, 20
    span, bottom = WIDTH - left - 20, TOP + step * len(rows)
    body = []
    for tick in (0, 0.25, 0.5, 0.75, 1):
        x = left + tick * span
        body.append(f'<path d="M{x:.0f} {TOP}V{bottom}" stroke="{GRID}"/>')
        body.append(_text(x, bottom + 16, f"{tick:.0%}"))
    for number, (name, rate, (low, high), taken) in enumerate(rows):
        y, x = TOP + step * (number + 0.5), left + taken * span
        body.append(_text(left - 8, y + 4, name, "end"))
        body.append(
            f'<rect x="{left}" y="{y - 6:.0f}" width="{rate * span:.0f}" height="12" fill="#9cc3e0"/>'
        )
        body.append(
            f'<path d="M{left + low * span:.0f} {y:.0f}H{left + high * span:.0f}" stroke="{INK}" '
            'stroke-width="2"/>'
        )
        body.append(f'<path d="M{x:.0f} {y - 8:.0f}v16" stroke="#c8553d" stroke-width="3"/>')
    return _page(title, bottom + 28, body)


def combs(title: str, rows: list[tuple[str, np.ndarray, np.ndarray]]) -> str:
    """What stands out at which frequency, one line of (hz, times the neighbourhood) below the other."""
    left, step, peak = 130, 56, 5.0
    span, bottom = WIDTH - left - 20, TOP + step * len(rows)
    low, high = (float(limit) for limit in (rows[0][1][0], rows[0][1][-1]))
    body = []
    for tick in range(50, int(high) + 1, 50):
        x = left + (tick - low) / (high - low) * span
        body.append(f'<path d="M{x:.0f} {TOP}V{bottom}" stroke="{GRID}"/>')
        body.append(_text(x, bottom + 16, f"{tick} Hz"))
    for number, (name, hz, times) in enumerate(rows):
        base, colour = TOP + step * (number + 1) - 6, COLOURS[number % len(COLOURS)]
        heights = np.clip((times - 1.0) / (peak - 1.0), 0.0, 1.0) * (step - 10)
        line = " ".join(
            f"{left + (x - low) / (high - low) * span:.1f},{base - y:.1f}"
            for x, y in zip(hz, heights, strict=True)
        )
        body.append(_text(left - 8, base - 8, name, "end"))
        body.append(f'<polyline points="{line}" fill="none" stroke="{colour}"/>')
    return _page(title, bottom + 28, body)


def steps(title: str, label: str, curves: dict[str, list[float]]) -> str:
    """Shares after 0, 1, 2, ... of something, one stair per name."""
    span, bottom = WIDTH - LEFT - 20, 300
    most = max(len(shares) for shares in curves.values()) - 1
    body = []
    for tick in (0, 0.25, 0.5, 0.75, 1):
        y = bottom - tick * (bottom - TOP)
        body += [f'<path d="M{LEFT} {y:.0f}H{LEFT + span}" stroke="{GRID}"/>']
        body.append(_text(LEFT - 6, y + 4, f"{tick:.0%}", "end"))
    for tick in range(0, most + 1, max(1, most // 8)):
        body.append(_text(LEFT + tick / most * span, bottom + 16, str(tick)))
    body.append(_text(LEFT + span / 2, bottom + 34, label))
    for number, (name, shares) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        places = [(LEFT + at / most * span, bottom - one * (bottom - TOP)) for at, one in enumerate(shares)]
        line = f"M{places[0][0]:.1f} {places[0][1]:.1f}" + "".join(f"H{x:.1f}V{y:.1f}" for x, y in places[1:])
        body.append(f'<path d="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        body.append(_text(LEFT + span - 6, bottom - 10 - 17 * number, name, "end", colour))
    return _page(title, bottom + 48, body)


def draw(unseen, seen, out: Path) -> None:
    """Writes `spoof-digital.svg`, `spoof-replayed.svg` and `spoof-systems.svg` to `out`."""
    out.mkdir(parents=True, exist_ok=True)
    for condition, name in (("plain", "digital"), ("replayed", "replayed")):
        attacks = pick(unseen, condition={condition}, label={"spoof"})
        groups = {f"people, {c}": pick(unseen, condition={c}, label={"bonafide"}) for c in LIVE}
        curves = {who: (people, attacks) for who, people in groups.items()}
        title = f"Unseen attacks, {name}, by the door's score, against people heard in each condition"
        (out / f"spoof-{name}.svg").write_text(det(title, curves))
    limits, rows = thresholds(seen), []
    people = pick(by_head([r for r in unseen if r["condition"] == "plain"], "synthesis"), label={"bonafide"})
    attacks = [r for r in unseen if r["condition"] == "plain" and r["label"] == "spoof"]
    for page, family in sorted({(r["page"], r["family"]) for r in attacks}):
        own = [r for r in attacks if r["page"] == page and r["family"] == family]
        heard = np.array([r["synthesis"] for r in own])
        taken = float(np.mean([r["llr"] > limits[r["fold"], DEFAULT] for r in own]))
        name = f"{family}" if page == "made" else f"{page.removesuffix('_demo')}: {family}"
        rows.append((name, eer(people, heard), interval(people, heard), taken))
    rows.sort(key=lambda r: r[1])
    title = "Unseen systems, digital: EER by the evidence for synthesis; red: accepted at LLR 0"
    (out / "spoof-systems.svg").write_text(bars(title, rows))
