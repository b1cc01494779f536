"""`ostiary bench`: how fast the door is on this machine, and how much memory and disk it takes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from device.liveness.context import ContextChecks
from device.liveness.memory import MemoryLimits
from device.settings import Settings, load, models_dir
from device.unit.assembly import open_judge
from quantize.bench.measure import (
    FreshProcess,
    FullMemory,
    HeardAgain,
    Latency,
    Spread,
    fresh_process,
    heard_again,
    idle_share,
    latency,
    model_sizes,
    processor_alone,
)
from quantize.bench.probe import heard_once
from quantize.bench.speech import Sentence, own_sentence, packaged_sentences

GOAL_P95_MS = 300.0
GOAL_PEAK_MIB = 400.0


@dataclasses.dataclass(frozen=True, slots=True)
class BenchResult:
    """Everything one run measured."""

    latency: Latency
    processor_alone: dict[str, Spread]
    fresh: FreshProcess | None
    heard_again: HeardAgain | None
    idle_core_share: float
    model_bytes: dict[str, int]
    threads: int
    sentences: list[str]

    def to_json(self) -> str:
        """As JSON text; times in ms or s, memory in MiB, as the names say."""
        return json.dumps(dataclasses.asdict(self), indent=1)


@click.command(epilog="Example: ostiary bench --rounds 40 --json")
@click.option(
    "--rounds", default=30, show_default=True, type=click.IntRange(1, 10_000), help="Judgements timed."
)
@click.option(
    "--seconds",
    default=4.0,
    show_default=True,
    type=click.FloatRange(1.0, 6.0),
    help="Length of the utterances.",
)
@click.option(
    "--audio",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Your own recording instead of the packaged reader; needs --phrase.",
)
@click.option("--phrase", help="What is said in --audio.")
@click.option("--models", type=click.Path(file_okay=False, path_type=Path), help="The model directory.")
@click.option("--peers", is_flag=True, help="The same work through the reference models too, as ratios.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="With --peers: write peers.json and peers.svg there.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def bench(
    rounds: int,
    seconds: float,
    audio: Path | None,
    phrase: str | None,
    models: Path | None,
    peers: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Latency from end of speech to decision, memory, model sizes and idle cost on this machine.

    The endpoint's wait for silence is not counted, and words are heard once: what doubtful ones cost that the
    larger model hears again stands beside it. Nothing is written unless --out is given.
    --peers installs torch and others into .venv-peers the first time.
    """
    if (audio is None) != (phrase is None):
        raise click.UsageError("--audio and --phrase go together")
    if out is not None and not peers:
        raise click.UsageError("--out goes with --peers")
    settings = load()
    folder = models or models_dir()
    if audio is not None and phrase is not None:
        sentences = [own_sentence(audio, phrase, settings.audio)]
    else:
        sentences = packaged_sentences(seconds, settings.audio)
    if peers:
        _beside_peers(folder, settings, sentences, rounds, out, as_json)
        return
    result = measure(folder, settings, sentences, rounds, seconds, fresh=audio is None)
    if as_json:
        click.echo(result.to_json())
    else:
        show(result, Console())


def _beside_peers(
    models: Path, settings: Settings, sentences: list[Sentence], rounds: int, out: Path | None, as_json: bool
) -> None:
    # Only here are the quantiser and the plots wanted; a plain bench starts without them.
    from quantize.bench import peers as _bench_peers
    from quantize.bench import peers_show as _bench_peers_show

    progress = Console(stderr=True)
    _bench_peers.prepare_environment(progress.print)
    files = _bench_peers.prepare_files(models, progress.print)
    turns = len(_bench_peers.CONTENDERS) * (rounds + 1)
    with Progress(console=progress, disable=not progress.is_terminal) as bar:
        task = bar.add_task("Taking turns", total=turns)
        rows = _bench_peers.race(files, sentences, rounds, settings.judge.threads, lambda: bar.advance(task))
    seconds = float(np.mean([sentence.utterance.duration_s for sentence in sentences]))
    found = _bench_peers_show.document(rows, seconds, settings.judge.threads, rounds)
    if out is not None:
        _bench_peers_show.write(found, out)
    if as_json:
        click.echo(json.dumps(found, indent=1))
    else:
        _bench_peers_show.show(found, Console())


def measure(
    models: Path, settings: Settings, sentences: list[Sentence], rounds: int, seconds: float, fresh: bool
) -> BenchResult:
    """Every measurement, one after the other. Raises DeviceError when the models cannot be opened."""
    console = Console(stderr=True)
    with (
        open_judge(models, heard_once(settings)) as judge,
        Progress(console=console, disable=not console.is_terminal) as bar,
    ):
        # The speaker's own: a voice that fits badly is looked at twice more.
        template = judge.speaker.embed(sentences[0].again().wave())
        task = bar.add_task("Judging", total=rounds)
        beside = dataclasses.replace(ContextChecks.open(), memory=FullMemory(MemoryLimits()))
        remembering = judge.with_context(beside)
        timed = latency(remembering, sentences, template, settings.audio, rounds, lambda: bar.advance(task))
        alone = processor_alone(judge, beside.look, sentences, rounds)
    return BenchResult(
        latency=timed,
        processor_alone=alone,
        fresh=fresh_process(models, seconds) if fresh else None,
        heard_again=heard_again(models, seconds) if fresh else None,
        idle_core_share=idle_share(30.0, settings.audio),
        model_bytes=model_sizes(models),
        threads=settings.judge.threads,
        sentences=[sentence.name for sentence in sentences],
    )


def show(result: BenchResult, console: Console) -> None:
    """The result as two tables for people."""
    timed = result.latency
    table = Table(title=f"End of speech to decision, {timed.seconds:.1f} s utterances, {timed.rounds} rounds")
    for heading in ("stage", "p50 ms", "p95 ms", "worst ms"):
        table.add_column(heading, justify="left" if heading == "stage" else "right")
    notes = {
        "words": "  words",
        "speaker": "  speaker",
        "spoof": "  spoof",
        "context": "  context, full memory",
        "judge": "judge (they overlap)",
    }
    for stage in ("endpointer", "judge", "words", "speaker", "spoof", "context", "policy"):
        _add(table, notes.get(stage, stage), timed.stages[stage])
    table.add_section()
    _add(table, "total", timed.total)
    _add(table, "processor time, all threads", timed.processor)
    table.add_section()
    for name, value in result.processor_alone.items():
        _add(table, f"processor time, {name} alone", value)
    console.print(table)
    rest = Table(show_header=False, box=None)
    rest.add_column(style="bold")
    rest.add_column(justify="right")
    rest.add_column()
    verdict = "within" if timed.total.p95 <= GOAL_P95_MS else "over"
    rest.add_row("p95", f"{timed.total.p95:.0f} ms", f"{verdict} the {GOAL_P95_MS:.0f} ms goal")
    if result.fresh:
        verdict = "within" if result.fresh.peak_rss_mib <= GOAL_PEAK_MIB else "over"
        rest.add_row("cold start", f"{result.fresh.cold_start_s:.2f} s", "interpreter start to ready")
        rest.add_row("first decision", f"{result.fresh.first_decision_ms:.0f} ms", "in that fresh process")
        rest.add_row("memory, ready", f"{result.fresh.ready_rss_mib:.0f} MiB", "")
        rest.add_row(
            "memory, peak",
            f"{result.fresh.peak_rss_mib:.0f} MiB",
            f"{verdict} the {GOAL_PEAK_MIB:.0f} MiB goal",
        )
    if again := result.heard_again:
        rest.add_row(
            "doubtful words again", f"{again.again_ms:.0f} ms", f"{again.opened_ms:.0f} ms the first time"
        )
        rest.add_row("memory then, peak", f"{again.peak_rss_mib:.0f} MiB", "given back after a minute")
    rest.add_row("listening", f"{100 * result.idle_core_share:.2f} %", "of one core while nobody speaks")
    rest.add_row("models", f"{sum(result.model_bytes.values()) / 1e6:.1f} MB", _largest(result.model_bytes))
    console.print(rest)


def _add(table: Table, name: str, value: Any) -> None:
    table.add_row(name, f"{value.p50:.1f}", f"{value.p95:.1f}", f"{value.worst:.1f}")


def _largest(sizes: dict[str, int]) -> str:
    largest = sorted(sizes.items(), key=lambda item: -item[1])[:4]
    return ", ".join(f"{name} {size / 1e6:.1f}" for name, size in largest)
