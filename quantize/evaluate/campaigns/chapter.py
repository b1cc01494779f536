"""The report's chapter about campaigns, and what a terminal is told of them."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from quantize.evaluate.campaigns.measure import BOUT, GOALS, CampaignsResult
from quantize.evaluate.campaigns.runs import Run, Share
from quantize.evaluate.figures.markup import percent, table


def campaigns_chapter(result: CampaignsResult) -> str:
    """Figures at the likeness in use, the curve, each attack."""
    rows = [_row(f"{run.likeness / 1000:.2f}", run) for run in result.curve]
    attacks = [
        f"<tr><th>{escape(name)}</th><td>{percent(own)}</td><td>{percent(match)}</td><td>{count}</td></tr>"
        for name, (own, match, count) in (*result.by_kind.items(), *result.by_attack.items())
    ]
    names = (
        "likeness", "recognised", "from the fourth bout on", "warned of", "honest flagged", "purity",
        "campaigns",
    )  # fmt: skip
    bouts = (
        _row(f"{BOUT} at one door, each by itself", result.apart),
        _row(f"{BOUT} at one door, together", result.together),
        _row("the same, played by something else each time", result.other_players_together),
    )
    return "".join(
        [
            "<h2>Attacks over many doors</h2>"
            f'<p class="soft">{result.attempts} attempts of {result.attacks} attacks that nothing was fitted '
            f"on, at {result.doors} doors; {result.honest} attempts of {result.people} people. Counted from "
            "an attack's fourth attempt anywhere on. Whether two attempts are one person's is told from "
            f"prints with an equal error rate of {percent(result.same_person)}, among people of one corpus "
            f"{percent(result.same_person_corpus)}. Of honest attempts just after an attack's bout for "
            f"their badge {escape(_told(result.after_attack))} resemble it. {result.version}</p>",
            table(
                names,
                [
                    _row("in use", result.shipped),
                    _row("played by something else each time", result.other_players),
                    *bouts,
                    *rows,
                ],
                "Shares, with 95 % intervals",
            ),
            table(("attack", "recognised", "warned of", "attempts"), attacks, "Each attack"),
        ]
    )


def campaign_lines(result: CampaignsResult | None) -> Iterator[str]:
    """What a terminal is told."""
    if result is None:
        return
    run = result.shipped
    yield (
        f"campaigns recognised after the third {_told(run.recognised)} "
        f"(goal {percent(GOALS['recognised'])}), warned of {_told(run.matched)}"
    )
    yield f"campaigns honest flagged {_told(run.flagged)} (goal {percent(GOALS['flagged'])})"
    yield (
        f"campaigns purity {_told(run.purity)}; same person EER {percent(result.same_person)}, "
        f"in one corpus {percent(result.same_person_corpus)}"
    )
    yield (
        "campaigns played by something else each time: recognised "
        f"{_told(result.other_players.recognised)}, warned of {_told(result.other_players.matched)}"
    )
    for name, one in (
        ("each by itself", result.apart),
        ("together", result.together),
        ("together, by something else each time", result.other_players_together),
    ):
        yield (
            f"campaigns of {BOUT} attempts at a door, {name}: recognised {_told(one.recognised)}, from the "
            f"fourth bout on {_told(one.recognised_bouts)}, warned of {_told(one.matched)}, honest flagged "
            f"{_told(one.flagged)}, purity {_told(one.purity)}"
        )
    yield f"campaigns honest just after an attack for their badge flagged {_told(result.after_attack)}"
    for kind, (own, match, count) in result.by_kind.items():
        yield f"campaigns of {kind}: recognised {percent(own)}, warned of {percent(match)} of {count}"
    for one in result.curve:
        yield (
            f"campaigns at likeness {one.likeness / 1000:.2f}: recognised {percent(one.recognised.value)}, "
            f"warned of {percent(one.matched.value)}, honest flagged {percent(one.flagged.value)}, "
            f"purity {percent(one.purity.value)}"
        )


def _row(name: str, run: Run) -> str:
    cells = "".join(
        f"<td>{escape(_told(share))}</td>"
        for share in (run.recognised, run.recognised_bouts, run.matched, run.flagged, run.purity)
    )
    return f"<tr><th>{escape(name)}</th>{cells}<td>{run.campaigns}</td></tr>"


def _told(share: Share) -> str:
    return f"{percent(share.value)} ({percent(share.low)} to {percent(share.high)}, of {share.of})"
