"""`ostiary watch`: who is speaking on a stream, and whether the claimed person still is."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import click
import numpy as np

from device.access.voices import voiceprint
from device.audio.source import AudioSource, FileSource
from device.audio.utterance import wipe
from device.commands.conversation.diarize import open_conversation
from device.commands.people import AUDIO
from device.conversation.streams.stream import Event, Stream
from device.secure_store import NotEnrolledError, open_store
from device.settings import Settings, load, state_dir
from sync.service.terminated import Terminated

EXIT_DOUBTED = 1
MOST_LOST = 160_000
"""A longer gap is told as one of ten seconds."""


@click.command()
@click.option(
    "--source",
    type=AUDIO,
    help="Hear this WAV or FLAC file, or this FIFO of raw 16 kHz s16le, instead of the microphone.",
)
@click.option(
    "--claim", "uid", metavar="UID", help="Who should be speaking: each window of speech is scored."
)
@click.option(
    "--known", "with_known", is_flag=True, help="Recognise enrolled people whose consent covers it."
)
@click.option("--realtime", is_flag=True, help="Play a file at the speed of a microphone.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def watch(source: Path | None, uid: str | None, with_known: bool, realtime: bool, as_json: bool) -> None:
    """Say who is speaking while it goes on, until the stream ends or Ctrl-C.

    Every two and a half seconds the last minute and a half is told apart again; names stay. With --claim
    every half second of speech is held against that person's voiceprint: trust falls when somebody else goes
    on and while nobody speaks, and recovers. Nothing of the stream is kept. Exit code 1 when trust was gone
    at the end.

    \b
    Example: ostiary watch --claim 4711
    """
    settings, stop, doubted = load(), threading.Event(), False
    terminated = Terminated.heeded()
    with contextlib.suppress(KeyboardInterrupt), ExitStack() as parts:
        models, known = parts.enter_context(open_conversation(settings, with_known=with_known))
        template = _template(settings, uid, models.speaker.version) if uid else None
        stream = Stream(models, claimed=template, known=known)
        parts.callback(stream.close)
        heard = _source(settings, source, realtime)
        for event in events(stream, heard, stop, terminated.look):
            if event.kind == "changed":
                doubted = event.facts["state"] == "DOUBTED"
            if as_json:
                click.echo(json.dumps(event.document(), allow_nan=False))
            elif (line := in_words(event)) is not None:
                click.echo(line)
    if doubted:
        raise click.exceptions.Exit(EXIT_DOUBTED)


def events(
    stream: Stream, source: AudioSource, stop: threading.Event, each_frame: Callable[[], None]
) -> Iterator[Event]:
    """The events of a source's frames, in order. Raises what the source raises.

    Lost samples count as silence, so that times stay those of the stream.
    """
    for frame in source.frames(stop):
        each_frame()
        if frame.lost_samples:
            yield from stream.push(np.zeros(min(frame.lost_samples, MOST_LOST), np.int16))
        yield from stream.push(frame.samples)
        wipe(frame.samples)
    yield from stream.finish()


def in_words(event: Event) -> str | None:
    """One line for a person; None for an event that only programs need."""
    at = f"{event.at_s:8.1f} s  "
    if event.kind == "turns":
        said = [f"{t['speaker']} {t['start_s']:.1f}-{t['end_s']:.1f}" for t in event.facts["turns"]]
        return at + ", ".join(said) if said else None
    if event.kind == "changed":
        same = event.facts["state"] == "TRUSTED"
        told = (
            "the claimed person is speaking" if same else "somebody else is speaking, or nobody for too long"
        )
        return f"{at}{told} (trust {event.facts['trust']:.2f})"
    return at + str(event.facts["detail"]) if event.kind == "telephone" else None


def _template(settings: Settings, uid: str, model: str) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    with open_store(state_dir(), settings.store) as store, voiceprint(store.vault, uid, model) as vector:
        if vector is None:
            raise NotEnrolledError(
                "nobody is enrolled under this id whose voiceprint may be used; see `ostiary store status`"
            )
        return vector.copy()


def _source(settings: Settings, source: Path | None, realtime: bool) -> AudioSource:
    if source is None:
        from device.audio.microphone import Microphone  # the one module that loads the sound library

        return Microphone(settings.audio.microphone)
    if source.is_fifo():
        from device.audio.fifo import FifoSource

        return FifoSource(source)
    longest_s = settings.conversation.longest_min * 60.0
    limits = replace(settings.audio.file, max_s=longest_s, max_bytes=1 << 30)
    return FileSource(source, limits, realtime=realtime)
