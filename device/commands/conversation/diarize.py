"""`ostiary diarize`: who spoke when in a recording of several people."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from device.commands.people import AUDIO, error_as_json
from device.conversation.diarization import MAX_SPEAKERS, Diarization
from device.conversation.files import diarize_file
from device.conversation.known import known_people
from device.conversation.naming import Known
from device.conversation.opening import ConversationModels, open_models
from device.conversation.picture import picture
from device.conversation.turns import to_rttm
from device.model_store.minimum_versions import pinned_minimum
from device.models.self_test import MEMORY_NAME
from device.secure_store import open_store
from device.settings import Settings, load, models_dir, own_models_dir, state_dir
from sync.durable import replace_file


@contextmanager
def open_conversation(
    settings: Settings, *, with_known: bool
) -> Iterator[tuple[ConversationModels, Known | None]]:
    """The networks and, if wanted, the people who may be recognised."""
    memory = own_models_dir() / MEMORY_NAME
    with ExitStack() as parts:
        if not with_known:
            yield open_models(models_dir(), memory), None
            return
        store = parts.enter_context(open_store(state_dir(), settings.store))
        models = open_models(models_dir(), memory, pinned_minimum(store.vault))
        yield models, parts.enter_context(known_people(store.vault, models, settings))


@click.command()
@click.argument("recording", type=AUDIO)
@click.option(
    "--speakers",
    type=click.IntRange(1, MAX_SPEAKERS),
    help="How many people there are, when that is known; otherwise they are counted.",
)
@click.option(
    "--known", "with_known", is_flag=True, help="Recognise enrolled people whose consent covers it."
)
@click.option("--rttm", "as_rttm", is_flag=True, help="Print the turns as RTTM lines.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
@click.option(
    "--picture", "image", type=click.Path(dir_okay=False, path_type=Path), help="Also draw it, as SVG."
)
def diarize(
    recording: Path, speakers: int | None, with_known: bool, as_rttm: bool, as_json: bool, image: Path | None
) -> None:
    """Say who spoke when in RECORDING, a WAV or FLAC file of several people.

    People who speak at once are both named. The recording is read, never kept. Without --speakers the count
    is an estimate, and the range beside it says what slightly other bars would have counted. Exit code 1
    where nobody spoke.

    \b
    Example: ostiary diarize meeting.wav --speakers 3 --picture meeting.svg
    """
    if as_rttm and as_json:
        raise click.UsageError("give --rttm or --json, not both")
    settings = load()
    bar = Progress(console=Console(stderr=True), transient=True, disable=not Console(stderr=True).is_terminal)
    with error_as_json(as_json), open_conversation(settings, with_known=with_known) as (models, known), bar:
        task = bar.add_task("listening", total=1.0)
        found = diarize_file(
            recording,
            models,
            longest_s=settings.conversation.longest_min * 60.0,
            known=known,
            speakers=speakers,
            progress=lambda done: bar.update(task, completed=done),
        )
    if image is not None:
        replace_file(image, picture(found, f"Who spoke when in {recording.name}").encode(), 0o600)
    if as_rttm:
        click.echo(to_rttm(found.turns, recording.stem), nl=False)
    elif as_json:
        click.echo(json.dumps(as_document(found, models.versions), allow_nan=False))
    else:
        show(Console(), found)
    if not found.turns:
        raise click.exceptions.Exit(1)


def as_document(found: Diarization, versions: tuple[str, ...]) -> dict[str, Any]:
    """As JSON types."""
    return {
        "seconds": round(found.seconds, 3),
        "count": {
            "people": len(found.speakers),
            "fewest": found.fewest,
            "most": found.most,
            "given": found.told,
        },
        "speakers": [
            {**asdict(one), "llr": None if one.llr is None else round(one.llr, 2)} for one in found.speakers
        ],
        "turns": [
            {"start_s": round(t.start_s, 3), "end_s": round(t.end_s, 3), "speaker": t.speaker}
            for t in found.turns
        ],
        "overlaps": [[round(begin, 3), round(end, 3)] for begin, end in found.overlaps],
        "model_versions": list(versions),
    }


def show(console: Console, found: Diarization) -> None:
    """Print it for a person."""
    if not found.turns:
        console.print("Nobody spoke.")
        return
    table = Table(box=None)
    for heading in ("from", "to", "who"):
        table.add_column(heading, justify="left" if heading == "who" else "right")
    for turn in found.turns:
        together = any(begin < turn.end_s and turn.start_s < end for begin, end in found.overlaps)
        table.add_row(
            f"{turn.start_s:.2f}", f"{turn.end_s:.2f}", turn.speaker + ("  (overlap)" if together else "")
        )
    console.print(table)
    for one in found.speakers:
        llr = "" if one.llr is None else f", LLR {one.llr:+.1f} for this person"
        console.print(f"{one.name}: {one.seconds:.1f} s{llr}", highlight=False)
    if found.told is None and found.fewest != found.most:
        console.print(
            f"The count is uncertain: {found.fewest} to {found.most} people. Say --speakers N if you know.",
            highlight=False,
        )
