"""From the end of speech to the strike: opening at the first complete pause beside waiting for the silence.

    python -m bench.door.strike --manifest M.tsv --root DIR --attempts 60

People of the manifest with five recordings or more and texts are enrolled with their first three; their other
recordings come from a source at the speed of a microphone, followed by silence, and are judged against their
own text. Attempts take turns between the two ways, so that whatever else the machine does falls on both. The
clock starts where the detector of speech last heard a voice, and stops when the decision's event is on the
disk, where the strike would move.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from device.access.decision import Outcome
from device.access.rules.model import RiskClass
from device.access.weigh import weigh
from device.audio import FileSource, Frame, SilenceBegan, listen
from device.audio.utterance import FRAME_MS, FRAME_SAMPLES
from device.errors import DeviceError
from device.evidence.judge import Evidence
from device.evidence.listener import AnswerProgress
from device.evidence.phrase import said_in_full
from device.settings import Settings, models_dir
from device.unit.assembly import Unit, open_unit
from device.unit.enrolment import heard_voices, named
from quantize.evaluate.recordings.manifest import Recording, read_manifest
from quantize.evaluate.recordings.trials import speaker_plan

SILENCE_S = 1.5


def played(path: Path) -> list[Frame]:
    """The frames of a recording; a source overwrites its own when it has ended."""
    source = FileSource(path).frames(threading.Event())
    return [Frame(frame.samples.copy()) for frame in source]


class Spoken:
    """A recording at the speed of a microphone, then silence; knows when its first frame was handed out."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.began_s = 0.0

    def frames(self, stop: threading.Event) -> Iterator[Frame]:
        recorded = played(self._path)
        silence = [
            Frame(np.zeros(FRAME_SAMPLES, np.int16)) for _ in range(round(SILENCE_S * 1_000 / FRAME_MS))
        ]
        self.began_s = time.monotonic()
        for number, frame in enumerate([*recorded, *silence], start=1):
            stop.wait(max(0.0, self.began_s + number * FRAME_MS / 1_000 - time.monotonic()))
            if stop.is_set():
                return
            yield frame


def speech_ends_s(path: Path, settings: Settings) -> float:
    """Seconds from the first sample to the last that the detector of speech calls a voice."""
    still = threading.Event()
    recorded = played(path)
    silence = [Frame(np.zeros(FRAME_SAMPLES, np.int16)) for _ in range(100)]

    class Quick:
        def frames(self, stop: threading.Event) -> Iterator[Frame]:
            yield from (*recorded, *silence)

    pauses = [
        event.at_s for event in listen(Quick(), still, settings.audio) if isinstance(event, SilenceBegan)
    ]
    if not pauses:
        raise DeviceError(f"{path.name}: nothing that can be judged")
    return pauses[-1] - settings.audio.endpointer.pause_ms / 1_000


def attempt(
    unit: Unit, settings: Settings, probe: Recording, path: Path, template, early: bool
) -> float | None:  # type: ignore[no-untyped-def]
    """Milliseconds from the end of speech to the event on the disk; None for somebody who stays outside."""
    risk = RiskClass("bench")
    ends_s = speech_ends_s(path, settings)
    source = Spoken(path)

    def complete(heard: Evidence) -> bool:
        passed = weigh(heard, risk, claimed=True).outcome is Outcome.GRANTED
        return early and passed and said_in_full(heard.transcript, probe.text)

    answer = unit.listener.hear(
        source,
        probe.text,
        template,
        start_within_s=20.0,
        stop=threading.Event(),
        progress=AnswerProgress(),
        complete=complete,
    )
    decision = replace(weigh(answer.heard, risk, claimed=True), door=settings.door.name)
    unit.trail.decided(decision, answer.heard if isinstance(answer.heard, Evidence) else None)
    at_s = time.monotonic()
    answer.rest()
    return 1e3 * (at_s - source.began_s - ends_s) if decision.opens else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--attempts", type=int, default=60, help="of each way")
    chosen = parser.parse_args()
    plan = speaker_plan([r for r in read_manifest(chosen.manifest, chosen.root) if r.text])
    settings = Settings()
    took: dict[str, list[float]] = {"at the first complete pause": [], "after the silence": []}
    outside = dict.fromkeys(took, 0)
    probes = plan.probes[:: max(1, len(plan.probes) // (2 * chosen.attempts))][: 2 * chosen.attempts]
    with tempfile.TemporaryDirectory() as folder, open_unit(settings, Path(folder), models_dir()) as unit:
        for turn, probe in enumerate(track(probes, description="attempts")):
            way = list(took)[turn % 2]
            enrolled = [chosen.root / file.path for file in plan.enrolments[probe.speaker]]
            try:
                with heard_voices(unit.judge, settings, named(enrolled)) as voices:
                    template = voices.voice(unit.judge.speaker)
                ms = attempt(unit, settings, probe, chosen.root / probe.path, template, early=turn % 2 == 0)
            except DeviceError as err:
                print(f"{probe.path}: {err}", file=sys.stderr)
                continue
            if ms is None:
                outside[way] += 1
            else:
                took[way].append(ms)
    table = Table("the strike moves", "let in", "not let in", "p50 ms", "p95 ms")
    for way, values in took.items():
        p50, p95 = np.percentile(values or [np.nan], [50, 95])
        table.add_row(way, str(len(values)), str(outside[way]), f"{p50:.0f}", f"{p95:.0f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
