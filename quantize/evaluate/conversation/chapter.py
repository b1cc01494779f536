"""The report's chapters about conversations."""

from __future__ import annotations

import math
from html import escape

from quantize.evaluate.conversation.changes import GOAL_P95_S, GOAL_PER_HOUR, ChangesResult, Point
from quantize.evaluate.conversation.measure import (
    GOALS,
    KNOWN,
    LIVE,
    MODES,
    UNKNOWN,
    Attempted,
    DiarizationResult,
    Figures,
)
from quantize.evaluate.figures.markup import figure, percent, span, table
from quantize.evaluate.figures.plots import changes_plot, stacked_plot


def diarization_chapter(result: DiarizationResult) -> str:
    """Figures by mode and collar, by condition, the count, real recordings."""
    rows = [
        _row(f"{mode}, collar {collar} s", found, GOALS.get(mode) if collar == "0.25" else None)
        for mode in MODES
        for collar, found in result.figures[mode].items()
    ]
    parts = [
        "<h2>Who spoke when?</h2>"
        f'<p class="soft">{len(result.recordings)} conversations of people that nothing was fitted on: '
        "2 to 4 people, overlap, noise at 10 to 20 dB, half of them in a room. Overlap is scored; in known "
        "voices a wrong name is wrong, and all these people are in the gallery, not only who takes part. "
        f"{escape(result.version)}</p>",
        table(("", "DER", "missed", "false alarm", "confusion", "goal"), rows, "Of reference speech"),
        figure(
            stacked_plot(
                {
                    mode: (found["0.25"].missed, found["0.25"].false_alarm, found["0.25"].confusion)
                    for mode, found in result.figures.items()
                },
                ("missed", "false alarm", "confusion"),
            ),
            "What the errors are, collar 0.25 s",
        ),
    ]
    for condition, values in result.by_condition.items():
        rows = [
            f"<tr><th>{escape(value)}</th>"
            + "".join(_cell(by[mode]) for mode in MODES)
            + f"<td>{by[UNKNOWN].recordings}</td></tr>"
            for value, by in values.items()
        ]
        parts.append(table((condition, *MODES, "recordings"), rows, "DER, collar 0.25 s"))
    parts.append(
        "<p>The number of people was right in "
        f"{percent(result.count_right[UNKNOWN], 0)} of recordings (known voices "
        f"{percent(result.count_right[KNOWN], 0)}, live {percent(result.count_right[LIVE], 0)}), and within "
        f"the range that the answer states in {percent(result.count_in_range, 0)}. One second of sound takes "
        f"{result.real_time[UNKNOWN]:.3f} s of one core in a file, {result.real_time[LIVE]:.3f} s live. "
        f"Where nobody of a conversation was enrolled, {result.strangers_named[0]} of "
        f"{result.strangers_named[1]} voices got somebody else's name.</p>"
    )
    if result.real:
        parts.append(
            table(
                (
                    "real recording",
                    "people",
                    "counted",
                    "DER, collar 0",
                    "DER, collar 0.25 s",
                    "live, 0.25 s",
                ),
                [_real(one) for one in result.real],
                "Unknown voices; nothing was chosen on these",
            )
        )
    return "".join(parts)


def changes_chapter(result: ChangesResult) -> str:
    """The curve, the product's point on it, and the windows alone."""
    rows = [_point(one) for one in result.curve] + [_point(result.chosen, "in use: ")]
    eers = "; ".join(
        f"{escape(name)}: EER {percent(found.value)} ({span(found)}), Cllr {result.cllr[name]:.3f}"
        for name, found in result.window_eer.items()
    )
    return (
        "<h2>Still the same person?</h2>"
        f'<p class="soft">{result.streams} streams, {result.own_speech_h:.2f} hours of the claimed person '
        "before another person goes on at once; every other stream in noise. Asked for: a change told within "
        f"{GOAL_P95_S:g} s in 95 of 100 cases, at {GOAL_PER_HOUR:g} false change an hour.</p>"
        + figure(
            changes_plot(
                [(one.false_per_hour, one.p95_s) for one in result.curve],
                (result.chosen.false_per_hour, result.chosen.p95_s),
                (GOAL_PER_HOUR, GOAL_P95_S),
            ),
            "Each point is a setting that no other one beats in both",
        )
        + table(
            ("setting", "false changes an hour", "median s", "95 % within s", "unnoticed", "never trusted"),
            rows,
            "Streams against one claimed person",
        )
        + f"<p>One window of 1.5 s alone: {eers}.</p>"
    )


def _row(name: str, found: Figures, goal: float | None) -> str:
    met = (
        ""
        if goal is None
        else f'<span class="{"good" if found.der.value <= goal else "bad"}">{percent(goal, 0)}</span>'
    )
    return (
        f"<tr><th>{escape(name)}</th>{_cell(found)}<td>{percent(found.missed)}</td>"
        f"<td>{percent(found.false_alarm)}</td><td>{percent(found.confusion)}</td><td>{met}</td></tr>"
    )


def _cell(found: Figures) -> str:
    return f"<td>{percent(found.der.value)}<small>{span(found.der)}</small></td>"


def _real(one: Attempted) -> str:
    by = one.errors[UNKNOWN]
    return (
        f"<tr><th>{escape(one.name)}</th><td>{one.people}</td><td>{one.counted[UNKNOWN]}</td>"
        f"<td>{percent(by['0'].der)}</td><td>{percent(by['0.25'].der)}</td>"
        f"<td>{percent(one.errors[LIVE]['0.25'].der)}</td></tr>"
    )


def _point(one: Point, prefix: str = "") -> str:
    at = one.settings
    told = f"{prefix}weight {at.weight:g}, change {at.change_per_s:g}/s, below {at.doubted_below:g}"
    return (
        f"<tr><th>{escape(told)}</th><td>{one.false_per_hour:.1f}</td><td>{_seconds(one.p50_s)}</td>"
        f"<td>{_seconds(one.p95_s)}</td><td>{percent(one.unnoticed)}</td><td>{percent(one.never_trusted)}</td></tr>"
    )


def _seconds(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "never"
