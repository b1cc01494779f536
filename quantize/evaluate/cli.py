"""`ostiary evaluate`: error rates over a manifest of recordings, as report.json and report.html."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import click

from device.access.policy import Thresholds
from device.evidence.enrolled import ENROLMENT_PHRASES
from device.models.speaker import MIN_ENROLMENT
from device.settings import WordsEngine, models_dir
from quantize.errors import QuantizeError
from quantize.evaluate.campaigns.chapter import campaign_lines
from quantize.evaluate.checks.scoring import Bars
from quantize.evaluate.conversation.part import Conversations
from quantize.evaluate.door.chapter import attempt_lines
from quantize.evaluate.door.heard import CONDITIONS
from quantize.evaluate.door.whole import Scope
from quantize.evaluate.figures.machine import describe_machine
from quantize.evaluate.figures.named import FLOAT_MODEL, PEER_MODEL, PRODUCT_MODEL, TFLITE_MODEL
from quantize.evaluate.inspection.chapter import inspection_lines
from quantize.evaluate.recordings.manifest import (
    MANIFEST_LIMIT_BYTES,
    ROOM,
    Recording,
    noises,
    read_manifest,
)
from quantize.evaluate.report import page
from quantize.evaluate.report.result import Provenance, Report
from quantize.evaluate.run import Plan, evaluate_all
from quantize.evaluate.splices.measure import RENDITIONS
from quantize.evaluate.succession.chapter import succession_lines
from sync.durable import replace_file
from sync.plain_file import plain_bytes
from sync.plain_words import why

PARTS = ("speaker", "spoof", "phrase")
CONVERSATIONS = ("diarization", "changes")
"""Only when asked for: they take minutes and need the segmentation, which is an optional model."""
ATTEMPTS = "attempts"
"""Only when asked for: every recording is heard under a dozen conditions."""
SPLICES = "splices"
CAMPAIGNS = "campaigns"
EVIDENCE = "evidence"
"""How far `ostiary inspect` may be believed."""
SUCCESSION = "succession"
SPEAKER_MODELS = (PRODUCT_MODEL, TFLITE_MODEL, FLOAT_MODEL, PEER_MODEL)


@click.command(
    epilog="Example: ostiary evaluate --manifest data/manifest.tsv --root data --out report --only speaker"
)
@click.option(
    "--manifest",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Tab-separated list: path, label, speaker, system; text, group and gender where known.",
)
@click.option(
    "--root",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The folder that the paths start from.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where report.json and report.html go; made if missing.",
)
@click.option(
    "--only",
    multiple=True,
    type=click.Choice((*PARTS, ATTEMPTS, SPLICES, SUCCESSION, CAMPAIGNS, EVIDENCE, *CONVERSATIONS)),
    help="One part only; may be repeated. All but the first three only when they are named.",
)
@click.option(
    "--speaker-model",
    multiple=True,
    type=click.Choice((*SPEAKER_MODELS, "all")),
    help="Which speaker models to compare; the door's own is always measured.",
)
@click.option(
    "--words-model",
    type=click.Choice([engine.value for engine in WordsEngine]),
    default=WordsEngine.ONNX.value,
    show_default=True,
    help="Which words model to measure, by its name under [judge] words.",
)
@click.option("--models", type=click.Path(file_okay=False, path_type=Path), help="The model directory.")
@click.option(
    "--reference",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the float reference models are kept or built; `reference` beside the models by default.",
)
@click.option(
    "--replicates",
    default=300,
    show_default=True,
    type=click.IntRange(0, 10_000),
    help="Bootstrap replicates behind every interval.",
)
@click.option(
    "--pairings",
    default=0,
    show_default=True,
    type=click.IntRange(0, 10_000),
    help="Further wrong phrases for every recording with a text.",
)
@click.option(
    "--clips",
    default=0,
    show_default=True,
    type=click.IntRange(0, 1_000_000),
    help="Clips of noise, babble, music and silence; none may pass for a phrase.",
)
@click.option(
    "--keep",
    "kept",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keeps measurements of whole attempts here, without any sound: a second run takes seconds.",
)
@click.option(
    "--heard",
    multiple=True,
    type=click.Choice([condition.name for condition in CONDITIONS]),
    help="With --only attempts: under this condition; may be repeated. All of them otherwise.",
)
@click.option("--no-attacks", is_flag=True, help="With --only attempts: people and strangers alone.")
@click.option(
    "--fitted-people",
    is_flag=True,
    help="With --only attempts: the people that calibrations are fitted on, to look for causes.",
)
@click.option(
    "--enrolled-by",
    "phrases",
    default=ENROLMENT_PHRASES,
    show_default=True,
    type=click.IntRange(MIN_ENROLMENT, 20),
    help="With --only attempts: by how many recordings people are enrolled who have as many.",
)
@click.option(
    "--mixtures",
    default=48,
    show_default=True,
    type=click.IntRange(1, 10_000),
    help="With --only diarization: how many conversations to make.",
)
@click.option(
    "--conversations",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="With --only diarization: a folder of real recordings, each with its RTTM file beside it.",
)
@click.option(
    "--streams",
    default=200,
    show_default=True,
    type=click.IntRange(2, 100_000),
    help="With --only changes: how many streams to splice.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def evaluate(
    manifest: Path,
    root: Path,
    out: Path,
    only: tuple[str, ...],
    speaker_model: tuple[str, ...],
    words_model: str,
    models: Path | None,
    reference: Path | None,
    replicates: int,
    pairings: int,
    clips: int,
    mixtures: int,
    conversations: Path | None,
    streams: int,
    kept: Path | None,
    heard: tuple[str, ...],
    no_attacks: bool,
    fitted_people: bool,
    phrases: int,
    as_json: bool,
) -> None:
    """Error rates of the door's own checks over a manifest of recordings.

    Speakers with five or more bona fide files: the first three by path enrol, the rest probe, every other
    speaker's probes are impostors. Every spoof faces all bona fide speech. Files with a text are held against
    it and against another one. Writes report.json and report.html.
    """
    recordings = read_manifest(manifest, root)
    folder = models or models_dir()
    # The TFLite variant is an optional part of a bundle, so it is measured only when it is named.
    every = {PRODUCT_MODEL, FLOAT_MODEL, PEER_MODEL} if "all" in speaker_model else set()
    chosen = every | set(speaker_model) | {PRODUCT_MODEL}
    plan = Plan(
        parts=frozenset(only or PARTS),
        speaker_models=tuple(model for model in SPEAKER_MODELS if model in chosen),
        models_dir=folder,
        reference_dir=reference or folder.parent / "reference",
        thresholds=Thresholds(),
        replicates=replicates,
        pairings=pairings,
        clips=clips,
        noises=noises(manifest, root) if clips or {ATTEMPTS, SPLICES} & set(only) else (),
        words=WordsEngine(words_model),
        conversations=_conversations(manifest, root, mixtures, streams, conversations, only),
        kept=kept,
        scope=Scope(heard, attacks=not no_attacks, fitted=fitted_people, phrases=phrases),
    )
    with Bars() as bars:
        findings = evaluate_all(recordings, root, plan, bars)
    report = findings(_provenance(manifest, recordings))
    _write(out / "report.json", report.to_json())
    _write(out / "report.html", page.render(report))
    if as_json:
        click.echo(json.dumps(report.summary(), indent=1, allow_nan=False))
    else:
        _tell(report, out)


def _conversations(
    manifest: Path, root: Path, mixtures: int, streams: int, real: Path | None, only: Sequence[str]
) -> Conversations:
    if not set(only) & set(CONVERSATIONS):
        return Conversations()
    rooms = noises(manifest, root, ROOM)
    return Conversations(mixtures, streams, noises(manifest, root), rooms, real)


def _provenance(manifest: Path, recordings: list[Recording]) -> Provenance:
    return Provenance(
        made_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        manifest=manifest.name,
        manifest_sha256=hashlib.sha256(plain_bytes(manifest, MANIFEST_LIMIT_BYTES)).hexdigest(),
        files=len(recordings),
        bona_fide=sum(r.label == "bonafide" for r in recordings),
        spoofs=sum(r.label == "spoof" for r in recordings),
        speakers=len({r.speaker for r in recordings if r.speaker}),
        versions={"ostiary": version("ostiary")},
        machine=describe_machine(),
    )


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, text.encode(), 0o644)
    except OSError as err:
        raise QuantizeError(f"cannot write {path}: {why(err)}; choose another --out") from err


def _tell(report: Report, out: Path) -> None:
    for result in report.speaker:
        for name, view in result.views.items():
            figure = view.figures["eer"]
            click.echo(
                f"voice  {result.model:<12} {name:<10} EER {_percent(figure.value)}"
                f"  ({_percent(figure.low)} to {_percent(figure.high)})"
            )
    if report.spoof:
        worst = report.spoof.worst_attack_by_eer
        pooled = report.spoof.pooled.figures["eer"]
        click.echo(
            f"spoof  pooled EER {_percent(pooled.value)}"
            f"  ({_percent(pooled.low)} to {_percent(pooled.high)}), worst {worst} "
            f"{_percent(report.spoof.attacks[worst].figures['eer'].value)}"
        )
    if report.phrase:
        for name, rate in report.phrase.right_phrase_accepted.items():
            click.echo(
                f"phrase {name:<10} right accepted {_percent(rate)}, wrong accepted "
                f"{_percent(report.phrase.wrong_phrase_accepted[name])}"
            )
        for title, counted in report.phrase.counts().items():
            for name, found in counted.items():
                click.echo(f"phrase {name:<10} {title} accepted {found.accepted} of {found.trials:,}")
        for title, counted in report.phrase.attempts.items():
            for name, found in counted.items():
                click.echo(f"phrase {name:<10} {title} {_percent(found.value)} of {found.trials:,}")
    told = (*attempt_lines(report.attempts), *campaign_lines(report.campaigns))
    for line in (*told, *inspection_lines(report.inspection)):
        click.echo(line)
    if report.splices:
        for name, cell in report.splices.cells.items():
            click.echo(
                f"splice {name:<16} one accepted {_percent(cell.one.value)} of {cell.one.trials:,} (at once "
                f"{_percent(cell.at_once.value)}), best of {RENDITIONS} {_percent(cell.best.value)}; without "
                f"a second phrase {_percent(cell.first.value)}, by the live check alone "
                f"{_percent(cell.live_alone.value)}"
            )
        for name, refused in report.splices.people_refused.items():
            asked = report.splices.people_asked[name]
            click.echo(
                f"splice people {name:<14} asked once more {_percent(asked.value)}, refused "
                f"{_percent(refused.value)} of {refused.trials:,}"
            )
    if report.succession:
        for line in succession_lines(report.succession):
            click.echo(line)
    if report.diarization:
        for mode, by in report.diarization.figures.items():
            for collar, shares in by.items():
                click.echo(
                    f"talk   {mode}, collar {collar} s: DER {_percent(shares.der.value)} "
                    f"({_percent(shares.der.low)} to {_percent(shares.der.high)}), missed "
                    f"{_percent(shares.missed)}, false alarm {_percent(shares.false_alarm)}, confusion "
                    f"{_percent(shares.confusion)}"
                )
    if report.changes:
        one = report.changes.chosen
        click.echo(
            f"change 95 % told within {one.p95_s:.2f} s, {one.false_per_hour:.1f} false an hour; "
            + ", ".join(f"window EER {n} {_percent(e.value)}" for n, e in report.changes.window_eer.items())
        )
    click.echo(f"Written: {out / 'report.html'} and {out / 'report.json'}")


def _percent(rate: float) -> str:
    return f"{100 * rate:.2f} %"
