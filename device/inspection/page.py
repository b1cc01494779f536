"""The findings as one HTML page with its own pictures: no script, nothing fetched, reproducible."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from device.inspection.findings import Findings, Mark
from device.inspection.places import MARK_LLR
from device.inspection.scale import LIMITS, STEPS

KINDS = {
    "synthetic_llr": "synthesis that it was taught",
    "envelopes_llr": "a classical synthesiser or vocoder",
    "cadence_llr": "a machine's frames",
    "loudspeaker_llr": "a loudspeaker",
    "llr": "any of these",
}
WIDTH, HEIGHT, EDGE = 900.0, 130.0, 58.0
LIMIT = 12.0
CSS = """
body{margin:0;color:#1b2733;background:#fff;font:16px/1.55 system-ui,"DejaVu Sans",sans-serif}
main{max-width:980px;margin:0 auto;padding:36px 28px 70px}
h1{font-size:27px;margin:0 0 4px}h2{font-size:20px;margin:40px 0 6px;padding-top:16px;border-top:2px solid}
p{max-width:78ch;margin:8px 0}.soft,figcaption{color:#5b6875;font-size:14px}
table{border-collapse:collapse;margin:12px 0;font-size:14.5px;font-variant-numeric:tabular-nums}
th,td{padding:5px 16px 5px 0;text-align:left;border-bottom:1px solid #dde2e8}
figure{margin:16px 0;overflow-x:auto}svg{display:block;width:100%;min-width:640px;height:auto}
code{overflow-wrap:anywhere}
.short{border-left:4px solid #0072b2;padding:2px 0 2px 16px;margin:18px 0}
@media print{svg{min-width:0}h2,figure{break-inside:avoid;break-after:avoid}}
"""


def render(found: Findings) -> str:
    """The page as text."""
    parts = [
        _head(found),
        _short(found),
        _voice(found),
        _live(found),
        _joins(found),
        _unsaid(found),
        _how(found),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>Findings on {escape(found.name)}</title><style>{CSS}</style></head><body><main>"
        + "\n".join(parts)
        + "</main></body></html>\n"
    )


def _head(found: Findings) -> str:
    return (
        f"<h1>Findings on {escape(found.name)}</h1>"
        f'<p class="soft">{found.seconds:.2f} s, {found.level_dbfs:.1f} dBFS. SHA-256 of the file '
        f"<code>{escape(found.sha256)}</code></p>"
    )


def _short(found: Findings) -> str:
    """What was found, before how: three lines of text."""
    lines = [] if found.voice is None else [found.voice.in_words]
    lines += [found.live_in_words, found.joins_in_words]
    places = ", ".join(f"{mark.at_s:.2f} s" for mark in found.marks)
    lines.append(f"looks joined at {places}" if places else "no place looks joined")
    told = "".join(f"<p>{_sentence(line)}.</p>" for line in lines)
    return f'<div class="short">{told}</div>'


def _voice(found: Findings) -> str:
    told = "<h2>Who speaks?</h2>"
    if found.voice is None:
        return told + "<p>Not asked, or not known: see what cannot be said.</p>"
    voice = found.voice
    spread = (
        f", between {voice.low:+.1f} and {voice.high:+.1f} in 95 % of redrawn stretches of the recording"
        if voice.low is not None and voice.high is not None
        else ", from too little speech for an interval"
    )
    points = [(one.start_s, one.end_s, one.voice_llr) for one in found.windows if one.voice_llr is not None]
    return (
        told + f"<p>{_sentence(voice.in_words)}. Natural-log likelihood ratio {voice.llr:+.1f}{spread}. "
        f"Fitted on: {escape(found.calibrations.get('voice', 'not stated'))}.</p>"
        + _figure(
            _steps(points, found.seconds),
            "Ratio of the voice, stretch by stretch: above the line for the person named, below for another.",
        )
    )


def _live(found: Findings) -> str:
    rows = [
        (escape(KINDS.get(name, name)), f"{llr:+.1f}", f"{min(one.live[name] for one in found.windows):+.1f}")
        for name, llr in found.live.items()
    ]
    points = [(one.start_s, one.end_s, one.live["llr"]) for one in found.windows]
    return (
        "<h2>A person, or made?</h2>"
        f"<p>{_sentence(found.live_in_words)} (ratio {found.live_llr:+.1f}), by the least live stretch of "
        f"{len(found.windows)}. Against all machines, also such as the check was never taught, it is worth "
        "less than the door's own ratios below. "
        f"Fitted on: {escape(found.calibrations.get('live', 'not stated'))}.</p>"
        + _table(("a live person against", "ratio there", "lowest anywhere"), rows)
        + _figure(
            _steps(points, found.seconds),
            "Ratio of a live person against any of these, stretch by stretch: above the line for a person.",
        )
    )


def _joins(found: Findings) -> str:
    rows = [
        (
            f"{mark.at_s:.2f} s",
            f"{mark.llr:+.1f}, {mark.in_words}",
            f"{mark.background_db:+.1f} dB",
            f"{mark.bandwidth_hz:+.0f} Hz",
            "-" if mark.voice is None else f"{mark.voice:.2f}",
        )
        for mark in found.marks
    ]
    heads = ("at", "ratio", "background changes by", "band changes by", "likeness of the voices")
    return (
        "<h2>Edited or joined?</h2>"
        f"<p>{_sentence(found.joins_in_words)} (ratio {found.joins_llr:+.1f}, of the whole "
        f"recording). Fitted on: {escape(found.calibrations.get('joins', 'not stated'))}.</p>"
        + (_table(heads, rows) if rows else "<p>No place stands out.</p>")
        + _figure(
            _curve(found.level_db, found.seconds, -80.0, 0.0, " dB", found.marks),
            "Level in dBFS; a line marks each place that looks joined.",
        )
        + _figure(
            _curve(found.edit_llrs, found.seconds, -LIMIT, LIMIT, "", found.marks, MARK_LLR),
            f"Ratio of an edit at each moment; from {MARK_LLR:.1f} on, ten times as likely, it is marked.",
        )
    )


def _sentence(text: str) -> str:
    return escape(text[:1].upper() + text[1:])


def _unsaid(found: Findings) -> str:
    lines = "".join(f"<li>{escape(one)}</li>" for one in found.unsaid)
    return f"<h2>What cannot be said</h2><ul>{lines}</ul>"


def _how(found: Findings) -> str:
    scale = [
        ("no support either way" if not n else name, "below 2" if not n else _upto(n))
        for n, (_, name) in enumerate(STEPS)
    ]
    limits = "".join(f"<p>{escape(one)}</p>" for one in LIMITS)
    return (
        "<h2>How to read this</h2>"
        + _table(("words", "times as likely"), scale)
        + limits
        + f'<p class="soft">Models: {escape(", ".join(found.models))}. The same file, models and voiceprint '
        "give the same page.</p>"
    )


def _upto(step: int) -> str:
    bounds = ("2", "10", "100", "1,000", "10,000")
    return f"over {bounds[-1]}" if step == len(bounds) else f"{bounds[step - 1]} to {bounds[step]}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _figure(svg: str, caption: str) -> str:
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


def _steps(points: Sequence[tuple[float, float, float]], seconds: float) -> str:
    """A level for each (start, end, ratio), filled down or up to nothing; stretches overlap."""
    zero = _down(0.0, -LIMIT, LIMIT)
    bars = "".join(
        f'<path d="M{_across(start, seconds):.1f} {zero:.1f}V{_down(llr, -LIMIT, LIMIT):.1f}'
        f'H{_across(end, seconds):.1f}V{zero:.1f}" fill="#0072b2" fill-opacity=".12" stroke="#0072b2" '
        'stroke-width="1.4"/>'
        for start, end, llr in points
    )
    return _svg(bars, seconds, -LIMIT, LIMIT, "")


def _curve(
    values: Sequence[float],
    seconds: float,
    low: float,
    high: float,
    unit: str,
    marks: Sequence[Mark],
    bar: float | None = None,
) -> str:
    """A line through values, one every 0.1 s, with a stroke at each mark and a broken line at `bar`."""
    points = " ".join(
        f"{_across((n + 0.5) / 10, seconds):.1f},{_down(value, low, high):.1f}"
        for n, value in enumerate(values)
    )
    strokes = "".join(
        f'<path d="M{_across(mark.at_s, seconds):.1f} 8V{HEIGHT:.0f}" stroke="#d55e00" stroke-width="1.4"/>'
        for mark in marks
    )
    line = f'<polyline points="{points}" fill="none" stroke="#0072b2" stroke-width="1.3"/>'
    if bar is not None:
        level = f"{_down(bar, low, high):.1f}"
        line += f'<path d="M{EDGE:.0f} {level}H{WIDTH:.0f}" stroke="#d55e00" stroke-dasharray="5 4"/>'
        line += f'<text x="{EDGE - 8:.0f}" y="{float(level) + 4:.1f}" text-anchor="end">{bar:.1f}</text>'
    return _svg(line + strokes, seconds, low, high, unit)


def _svg(inside: str, seconds: float, low: float, high: float, unit: str) -> str:
    step = next(s for s in (0.5, 1, 2, 5, 10, 30, 60, 120) if seconds / s <= 12 or s == 120)
    ticks = "".join(
        f'<text x="{_across(n * step, seconds):.1f}" y="{HEIGHT + 17:.0f}" text-anchor="middle">'
        f"{n * step:g} s</text>"
        for n in range(int(seconds / step) + 1)
    )
    levels = "".join(
        f'<path d="M{EDGE:.0f} {_down(value, low, high):.1f}H{WIDTH:.0f}" '
        f'stroke="{"#8a94a0" if value == 0.0 else "#e3e7ec"}" stroke-width=".8"/>'
        f'<text x="{EDGE - 8:.0f}" y="{_down(value, low, high) + 4:.1f}" text-anchor="end">'
        f"{f'{value:+g}' if value and low < 0.0 < high else f'{value:g}'}{unit}</text>"
        for value in sorted({low, (low + high) / 2, high})
    )
    return (
        f'<svg role="img" viewBox="0 0 {WIDTH:.0f} {HEIGHT + 26:.0f}" '
        'font-family="sans-serif" font-size="12" fill="#5b6875">'
        f"{levels}{ticks}{inside}</svg>"
    )


def _across(at_s: float, seconds: float) -> float:
    return EDGE + (WIDTH - EDGE - 20.0) * at_s / max(seconds, 1e-9)


def _down(value: float, low: float, high: float) -> float:
    inside = min(high, max(low, value))
    return 8.0 + (HEIGHT - 8.0) * (high - inside) / (high - low)
