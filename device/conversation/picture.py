"""Who spoke when, as an SVG picture: a row for each person, overlap marked. Pure text, no script."""

from __future__ import annotations

import math
from html import escape

from device.conversation.diarization import Diarization

# Okabe & Ito: told apart by people with any colour vision.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
WIDTH, LEFT, RIGHT, TOP, ROW, BAR = 960, 150, 20, 34, 30, 18
NAME_CHARS = 18


def picture(found: Diarization, title: str) -> str:
    """The whole SVG document."""
    names = [speaker.name for speaker in found.speakers]
    foot = TOP + ROW * max(1, len(names))
    height = foot + 44
    scale = (WIDTH - LEFT - RIGHT) / max(found.seconds, 1e-3)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'font-family="sans-serif" font-size="13"><title>{escape(title)}</title>'
        f"<desc>{escape(_told(found))}</desc>"
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>'
        f'<text x="{LEFT}" y="20" fill="#1b2733">{escape(_told(found))}</text>'
    ]
    for begin, end in found.overlaps:
        parts.append(
            f'<rect x="{LEFT + begin * scale:.1f}" y="{TOP}" width="{max(0.5, (end - begin) * scale):.1f}" '
            f'height="{foot - TOP}" fill="#f0d9c8"><title>{begin:.2f} to {end:.2f} s, more than one person'
            "</title></rect>"
        )
    for at, name in enumerate(names):
        y = TOP + at * ROW
        short = name if len(name) <= NAME_CHARS else name[: NAME_CHARS - 1] + "…"
        parts.append(
            f'<text x="{LEFT - 10}" y="{y + 19}" text-anchor="end" fill="#1b2733">{escape(short)}</text>'
        )
        for turn in found.turns:
            if turn.speaker == name:
                parts.append(
                    f'<rect x="{LEFT + turn.start_s * scale:.1f}" y="{y + 6}" '
                    f'width="{max(0.8, turn.seconds * scale):.1f}" height="{BAR}" '
                    f'fill="{COLOURS[at % len(COLOURS)]}"><title>{escape(name)}, {turn.start_s:.2f} to '
                    f"{turn.end_s:.2f} s</title></rect>"
                )
    step = _step(found.seconds)
    for tick in range(int(found.seconds / step) + 1):
        x = LEFT + tick * step * scale
        parts.append(
            f'<path d="M{x:.1f} {TOP}V{foot + 5}" stroke="#dde2e8"/><text x="{x:.1f}" y="{foot + 20}" '
            f'text-anchor="middle" fill="#5b6875">{_clock(tick * step)}</text>'
        )
    return "".join((*parts, "</svg>\n"))


def _told(found: Diarization) -> str:
    people = len(found.speakers)
    doubt = f" ({found.fewest} to {found.most})" if found.fewest != found.most else ""
    shared_s = sum(end - begin for begin, end in found.overlaps)
    word = "person" if people == 1 and not doubt else "people"
    return f"{people}{doubt} {word} in {found.seconds:.0f} s, {shared_s:.1f} s of it more than one at once"


def _step(seconds: float) -> float:
    """A round number of seconds that gives about ten ticks."""
    wanted = max(seconds, 1e-3) / 10
    power = 10.0 ** math.floor(math.log10(wanted))
    return (
        next((n * power for n in (1, 2, 5) if n * power >= wanted), 10 * power)
        if wanted < 30
        else (next((s for s in (30, 60, 120, 300, 600, 1200) if s >= wanted), 3600))
    )


def _clock(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:g} s"
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
