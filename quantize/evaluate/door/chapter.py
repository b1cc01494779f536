"""Whole attempts as lines, as a chapter of the report, and as its picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape

from quantize.evaluate.checks.phrase import Rate
from quantize.evaluate.door.attempts import ALL, Attack, Findings, Outcomes
from quantize.evaluate.door.causes import cause_lines
from quantize.evaluate.figures import plots
from quantize.evaluate.figures.markup import figure, percent, table

WORST = 5


def attempt_lines(findings: Mapping[str, Findings]) -> Iterator[str]:
    """One line for everybody under every condition."""
    for enrolled, of in {found.enrolled for found in findings.values()}:
        yield f"{enrolled} of {of} people could be enrolled"
    for condition, found in findings.items():
        for view, people in found.people.items():
            late = people.seconds
            failed = ", ".join(f"{name} {share:.1%}" for name, share in people.failed.items() if share)
            yield (
                f"{condition:<24} {view:<12} in after one {_rate(people.one)}, two {_rate(people.two)} "
                f"(asked by the door {people.asked.value:.1%}), {late[0]:.1f} s (p95 {late[1]:.1f}); not "
                f"judged {people.repeated.value:.1%}; refused by {failed or 'none'}"
            )
        for name, outcomes in _attackers(found).items():
            live = f"; live check passed {_rate(outcomes.live)}" if isinstance(outcomes, Attack) else ""
            yield (
                f"{condition:<24} {name:<12} in after one {_rate(outcomes.one)}, two "
                f"{_rate(outcomes.two)}{live}"
            )
    for condition, found in findings.items():
        if found.causes is not None:
            yield from cause_lines(condition, found.causes)


def attempts_chapter(findings: Mapping[str, Findings]) -> str:
    """Both tables and the picture."""
    people = [
        f"<tr><th>{escape(condition)}</th><td>{escape(view)}</td>{_cell(one.one)}{_cell(one.two)}"
        f"{_cell(one.asked)}<td>{one.seconds[0]:.1f}<small>p95 {one.seconds[1]:.1f}</small></td>"
        f"{_cell(one.repeated)}"
        + "".join(f"<td>{percent(share, 1)}</td>" for share in one.failed.values())
        + "</tr>"
        for condition, found in findings.items()
        for view, one in found.people.items()
    ]
    others = [
        f"<tr><th>{escape(condition)}</th><td>{escape(name)}</td>{_cell(one.one)}{_cell(one.two)}"
        f"{_cell(one.live) if isinstance(one, Attack) else '<td>-</td>'}<td>{one.one.trials:,}</td></tr>"
        for condition, found in findings.items()
        for name, one in _attackers(found).items()
    ]
    worst = [
        f"<tr><th>{escape(condition)}</th><td>{escape(', '.join(_worst(found)))}</td></tr>"
        for condition, found in findings.items()
        if found.attacks
    ]
    return (
        "<h2>Who gets in?</h2>"
        "<p>Words, voice and live together, as the door decides. Three clean recordings enrol; people say "
        "a phrase, and a second one when the door asks for one more or refuses. Strangers have the right "
        "words and another person's badge. An attack is a perfect clone: it is given the words and the voice "
        "of somebody enrolled, so that the live check alone stands in its way.</p>"
        + table(
            (
                "heard",
                "who",
                "in after one",
                "after two",
                "asked by the door",
                "seconds",
                "not judged",
                "words fail",
                "voice fails",
                "live fails",
                "joins fail",
                "asked again, counted",
            ),
            people,
            "Intervals by speaker. Seconds: from the first sound to the decision, without the computation.",
        )
        + table(
            ("heard", "who", "in after one", "after two", "live check passed", "attempts"),
            others,
            "Attacks are of pages that the live check was not trained on. Intervals by speaker, by "
            "system for attacks; when nobody was in, the rule of three.",
        )
        + table(
            ("heard", "first phrases", "of those not in, refused by"),
            [
                f"<tr><th>{escape(condition)}</th><td>{found.causes.phrases}</td><td>"
                + "<br>".join(escape(line.strip()) for line in cause_lines(condition, found.causes))
                + "</td></tr>"
                for condition, found in findings.items()
                if found.causes is not None
            ],
            "Why people were not in after one phrase; words by what was heard of them.",
        )
        + table(("heard", "attacks that most often are in"), worst, "After one phrase; a few files of each.")
        + figure(
            plots.attempts_plot(
                {
                    condition: _points(found)
                    for condition, found in findings.items()
                    if found.people or found.attacks
                }
            ),
            "In after one phrase (small) and after two (large).",
        )
    )


def _points(found: Findings) -> dict[str, tuple[float, float]]:
    people = {"people": found.people[ALL]} if ALL in found.people else {}
    every = {**people, **_attackers(found)}
    return {name: (one.one.value, one.two.value) for name, one in every.items()}


def _attackers(found: Findings) -> dict[str, Outcomes]:
    pools = {"attacks": found.attacks[ALL]} if ALL in found.attacks else {}
    others = {"strangers": found.strangers, "replays": found.replays}
    return {**{name: one for name, one in others.items() if one is not None}, **pools}


def _worst(found: Findings) -> list[str]:
    systems = [name for name in found.attacks if name != ALL]
    order = sorted(systems, key=lambda name: (-found.attacks[name].one.value, name))
    return [f"{name} {percent(found.attacks[name].one.value, 0)}" for name in order[:WORST]]


def _cell(rate: Rate) -> str:
    return f"<td>{percent(rate.value)}<small>{100 * rate.low:.1f} to {percent(rate.high, 1)}</small></td>"


def _rate(rate: Rate) -> str:
    return f"{rate.value:.2%} [{rate.low:.1%}, {rate.high:.1%}]"
