"""The report's chapter, and the command's lines, about one speaker model that follows another."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from quantize.evaluate.checks.phrase import Rate
from quantize.evaluate.figures import plots
from quantize.evaluate.figures.markup import figure, percent, table
from quantize.evaluate.succession.measure import RISE_BOUND_LLR, SuccessionResult

NAMES = {
    "old": "the model in use, from the enrolment",
    "recalled": "the next model, as if everybody had been recalled",
    "grown": "the next model alone, grown from granted attempts",
    "both": "both models, as at the door: the lower score counts",
}


def succession_lines(result: SuccessionResult) -> Iterator[str]:
    """The lines that a terminal shows."""
    told = result.summary()
    yield (
        f"over   {result.came_over.accepted} of {result.came_over.trials} people came over, median "
        f"{told['attempts_median']:g} attempts that passed well inside"
    )
    for name, title in NAMES.items():
        yield (
            f"over   {title}: impostors accepted {_said(result.accepted[name])}, people refused "
            f"{_said(result.refused[name])}"
        )
    rises = sorted(result.rises)
    yield (
        f"over   an impostor's score by both models above that by the model in use: "
        f"{result.risen.accepted} of {result.risen.trials:,} trials, "
        f"{told['people_with_a_higher_impostor']} of {len(rises)} people"
    )
    yield (
        f"over   the next model alone, a person's highest impostor against a recall: {rises[0]:+.2f} to "
        f"{rises[-1]:+.2f} LLR; "
        f"{told['above_bound']} of {len(rises)} people above the bound of {RISE_BOUND_LLR:+g}"
    )
    others = result.strangers
    yield (
        f"over   every recording of others as an attempt: {others.well_inside} of {others.attempts:,} were "
        f"well inside by the model in use, {others.seeded} of them became part of a voiceprint"
    )
    yield (
        f"over   an impostor let in once by force: {told['ready_with_the_impostor']} of {told['intrusions']} "
        f"became part of a voiceprint, {told['opens_only_since']} open only since"
    )
    if result.turned is not None:
        yield f"over   turned round: {result.following} is in use, {result.old} is to follow"
        yield from succession_lines(result.turned)


def succession_chapter(result: SuccessionResult) -> str:
    """The chapter as HTML; both ways where the models were turned round."""
    chapter = "<h2>Does any impostor's score rise with the next speaker model?</h2>" + _one_way(result)
    if result.turned is not None:
        chapter += f"<h3>Turned round: {escape(result.old)} follows</h3>{_one_way(result.turned)}"
    return chapter


def _one_way(result: SuccessionResult) -> str:
    told, others = result.summary(), result.strangers
    rows = [
        f"<tr><th>{escape(title)}</th>{_cell(result.accepted[name])}{_cell(result.refused[name])}</tr>"
        for name, title in NAMES.items()
    ]
    people = [
        f"<tr><th>{escape(one.speaker)}</th><td>{one.days}</td><td>{one.highest_old:+.2f}</td>"
        f"<td>{one.highest_both:+.2f}</td><td>{one.highest_grown:+.2f}</td>"
        f"<td>{one.highest_recalled:+.2f}</td></tr>"
        for one in sorted(result.people, key=lambda p: p.highest_old - p.highest_both)
    ]
    points = [(one.highest_recalled, one.highest_grown) for one in result.people]
    return (
        f"<p>{escape(result.following)} follows {escape(result.old)}. {result.came_over.accepted} of "
        f"{result.came_over.trials} people, on none of whom anything was fitted, came over by attempts that "
        "passed well inside voice and liveness. Words are taken as said.</p>"
        + table(
            ("voiceprint", "impostors accepted", "people refused"),
            rows,
            f"At the threshold {result.threshold_llr:g}; the same trials in each row.",
        )
        + f"<p>An impostor scores higher by both models than by the model in use alone in "
        f"<b>{result.risen.accepted} of {result.risen.trials:,}</b> trials, and the highest impostor of "
        f"{told['people_with_a_higher_impostor']} of {len(points)} people does.</p>"
        + figure(
            plots.scatter_plot(
                points,
                "highest impostor, recalled (LLR)",
                "highest impostor, grown alone (LLR)",
                RISE_BOUND_LLR,
            ),
            f"One point a person. The bound is {RISE_BOUND_LLR:+g} above the diagonal: "
            f"{told['above_bound']} of {len(points)} lie above it.",
        )
        + f"<p>Every recording of others as an attempt under each person's name: {others.well_inside} of "
        f"{others.attempts:,} were well inside by the model in use, and {others.seeded} of them became part "
        "of a voiceprint.</p>"
        + "<p>An impostor let in once by force, past the model in use, the closest five of each person, on "
        "the first, second or "
        f"third day: {told['ready_with_the_impostor']} of {told['intrusions']} became part of a voiceprint, "
        f"and {told['opens_only_since']} were accepted only since.</p>"
        + table(
            ("person", "attempts", "highest impostor, model in use", "both", "next alone", "recalled"),
            people,
            "LLR of the one of the others who sounds most like this person.",
        )
    )


def _cell(found: Rate) -> str:
    low, high = (percent(bound) for bound in (found.low, found.high))
    return f"<td>{percent(found.value)} of {found.trials:,}<small>{low} to {high}</small></td>"


def _said(found: Rate) -> str:
    return f"{found.accepted} of {found.trials:,} ({percent(found.low)} to {percent(found.high)})"
