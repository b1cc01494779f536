"""`ostiary decide` and `ostiary score`: one attempt from a file, by the code that runs at the door."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from device.access.decision import Decision, Outcome
from device.audio import load_utterance
from device.commands.people import AUDIO, PERSON, error_as_json
from device.errors import DeviceError
from device.evidence.judge import Evidence
from device.evidence.listener import judge_file
from device.evidence.vocabulary import Language
from device.models.speaker import MIN_ENROLMENT
from device.models.words.transcriber import check_phrase
from device.settings import load, models_dir, state_dir
from device.unit.assembly import NoSuchDoorError, open_judge, open_tools, rules_of
from device.unit.enrolment import heard_voices, named
from device.unit.recordings import asked_in, decide_recording
from device.unit.reports import evidence_report, report

EXIT_NO = 1
EXIT_FAULT = 3


LANGUAGE = click.Choice([str(one) for one in Language])


def said(phrase: str, language: Language) -> str:
    """`phrase`, which can be said and heard in `language`. Raises click.UsageError."""
    try:
        check_phrase(phrase, language)
    except DeviceError as err:
        raise click.BadParameter(str(err), param_hint="'--phrase'") from err
    return phrase


@click.command()
@click.option("--door", required=True, help="Name of the door, as in the rules.")
@click.option("--claim", "uid", type=PERSON, default="", metavar="UID", help="Who the person says they are.")
@click.option("--phrase", metavar="TEXT", required=True, help="The words on the display.")
@click.option(
    "--language", "code", type=LANGUAGE, help="Of the phrase; else the one this person is asked in."
)
@click.option("--json", "as_json", is_flag=True, help="Evidence and decision as one JSON object.")
@click.argument("probe", type=AUDIO)
def decide(door: str, uid: str, phrase: str, code: str | None, as_json: bool, probe: Path) -> None:
    """Decide one attempt from the recording PROBE: the judge, the rules and the audit log of this unit.

    A rehearsal: no strike moves and nothing is charged against the attempt limit, but waits, lock-down, where
    people are and who waits for a second person count as the door last wrote them down. Without --claim the
    voice is searched for among everybody who may pass, where the door's rule asks for no claim. Exit code 0
    when the door would open, 1 when not, 3 when the attempt could not be judged.

    \b
    Example: ostiary decide --door door-1 --claim 4711 --phrase "ten of clubs" probe.wav
    """
    with error_as_json(as_json):
        settings, state = load(), state_dir()
        language = Language(code) if code else asked_in(settings, rules_of(state, settings.door.name), uid)
        said(phrase, language)
        with open_tools(settings, state, models_dir()) as tools:
            try:
                decision, evidence = decide_recording(
                    tools, probe, door=door, uid=uid, phrase=phrase, language=language
                )
            except NoSuchDoorError as err:
                raise click.UsageError(str(err)) from err
    if as_json:
        click.echo(json.dumps(report(decision, evidence), allow_nan=False))
    else:
        show(Console(), decision, evidence)
    raise click.exceptions.Exit(exit_code(decision))


def exit_code(decision: Decision) -> int:
    """0 yes, 1 no, 3 when the unit, not the person, failed."""
    if decision.opens:
        return 0
    return EXIT_FAULT if decision.outcome is Outcome.DENIED_FAULT else EXIT_NO


def show(console: Console, decision: Decision, evidence: Evidence | None) -> None:
    """Print a decision and its evidence for a person."""
    colour = "green" if decision.opens else "red"
    console.print(f"[bold {colour}]{decision.outcome}[/]  {decision.reason}")
    if evidence is None:
        return
    table = Table(box=None)
    for heading in ("check", "LLR", "needed", "ms"):
        table.add_column(heading, justify="left" if heading == "check" else "right")
    needed = {f.name: f.threshold_llr for f in decision.findings}
    rows = (
        ("phrase", evidence.phrase_llr, evidence.timings.words_ms),
        ("voice", evidence.speaker_llr, evidence.timings.speaker_ms),
        ("live", evidence.spoof_llr, evidence.timings.spoof_ms),
    )
    for factor, llr, spent_ms in rows:
        wanted = f"{needed[factor]:+.1f}" if factor in needed else "-"
        table.add_row(factor, "-" if llr is None else f"{llr:+.1f}", wanted, f"{spent_ms:.0f}")
    for name, llr in evidence.context.scores().items():
        if llr is not None:
            wanted = f"{needed[name]:+.1f}" if name in needed else "-"
            table.add_row(f"  {name.removesuffix('_llr')}", f"{llr:+.1f}", wanted, "")
    console.print(table)
    console.print(f"heard: {evidence.transcript or '-'}   judged in {evidence.timings.total_ms:.0f} ms")


@click.command()
@click.option(
    "--enroll",
    "first",
    type=AUDIO,
    required=True,
    metavar="A.wav B.wav C.wav",
    help="Three or more recordings.",
)
@click.argument("more", nargs=-1, type=AUDIO, metavar="")
@click.option("--probe", type=AUDIO, required=True, help="The recording to judge.")
@click.option("--phrase", metavar="TEXT", required=True, help="The words that should be in it.")
@click.option("--language", "code", type=LANGUAGE, help="Of the phrase; else that of `[door] phrases`.")
@click.option("--json", "as_json", is_flag=True, help="Evidence as one JSON object.")
def score(
    first: Path, more: tuple[Path, ...], probe: Path, phrase: str, code: str | None, as_json: bool
) -> None:
    """Evidence only: how well PROBE fits the enrolled voice and the phrase. Touches no store.

    \b
    Example: ostiary score --enroll a.wav b.wav c.wav --probe p.wav --phrase "ten of clubs" --json
    """
    recordings = (first, *more)
    if len(recordings) < MIN_ENROLMENT:
        raise click.UsageError(f"--enroll takes at least {MIN_ENROLMENT} recordings of one person")
    with error_as_json(as_json):
        settings = load()
        language = Language(code) if code else settings.door.phrases
        said(phrase, language)
        with open_judge(models_dir(), settings) as judge:
            with heard_voices(judge, settings, named(recordings)) as voices:
                template = voices.voice(judge.speaker)
            heard = judge_file(
                lambda: load_utterance(probe, settings.audio), judge, phrase, template, language
            )
    if not isinstance(heard, Evidence):
        if as_json:
            click.echo(json.dumps({"evidence": None, "reason": str(heard)}))
        raise click.ClickException(f"{probe.name}: {heard}")
    if as_json:
        click.echo(json.dumps(evidence_report(heard), allow_nan=False))
        return
    click.echo(
        f"phrase {heard.phrase_llr:+.1f}  voice {heard.speaker_llr:+.1f}  live {heard.spoof_llr:+.1f}"
        f"  (LLR, natural log)\nheard: {heard.transcript or '-'}   judged in {heard.timings.total_ms:.0f} ms"
    )
