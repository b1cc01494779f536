"""The race of `ostiary bench --peers`, for people, for programs and as a picture."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from device.errors import DeviceError
from quantize.bench.peers import Row, predictions
from sync.plain_words import why

OURS, THEIRS = "#0072b2", "#d55e00"


def document(rows: Sequence[Row], seconds: float, threads: int, rounds: int) -> dict[str, Any]:
    """The race as plain values: ratios are each contender's figure over ours."""
    whole = next(row for row in rows if row.key == "ours-judge")
    return {
        "utterance_s": seconds,
        "threads": threads,
        "rounds": rounds,
        "contenders": [dataclasses.asdict(row) for row in rows],
        "predictions": predictions(whole.latency_ms),
    }


def show(found: dict[str, Any], console: Console) -> None:
    """One table by task, then the predictions."""
    table = Table(
        title=f"{found['utterance_s']:.1f} s speech, {found['threads']} threads, {found['rounds']} rounds, ms"
    )
    table.add_column("")  # in a narrow terminal labels fold, and no figure loses its end
    for heading in ("p50", "p95", "MiB", "MB", "x time", "x MiB", "x MB"):
        table.add_column(heading, justify="right", no_wrap=True)
    task = ""
    for row in found["contenders"]:
        if task and row["task"] != task:
            table.add_section()
        task = row["task"]
        table.add_row(
            row["label"],
            f"{row['latency_ms']['p50']:.0f}",
            f"{row['latency_ms']['p95']:.0f}",
            f"{row['peak_rss_mib']:.0f}",
            f"{row['model_bytes'] / 1e6:.1f}",
            f"{row['ratio_latency']:.1f}",
            f"{row['ratio_memory']:.1f}",
            f"{row['ratio_size']:.1f}",
        )
    console.print(table)
    for board in found["predictions"]:
        low, high = board["p50_ms"]
        console.print(
            f"Predicted on a {board['board']}: {low:.0f} to {high:.0f} ms. Not measured: {board['source']}."
        )


def write(found: dict[str, Any], folder: Path) -> None:
    """peers.json and peers.svg in `folder`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "peers.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        (folder / "peers.svg").write_text(plot(found), encoding="utf-8")
    except OSError as err:
        raise DeviceError(f"cannot write to {folder}: {why(err)}; choose another --out") from err


def plot(found: dict[str, Any]) -> str:
    """Bars of median time, grouped by task, as SVG text; raises DeviceError when matplotlib is missing."""
    try:
        import matplotlib as mpl
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError as err:
        raise DeviceError("a plot needs matplotlib; install the package's [report] extra") from err
    rows = found["contenders"]
    style: Any = {"svg.fonttype": "none", "svg.hashsalt": "ostiary", "font.size": 10}
    with mpl.rc_context(style):
        figure = Figure(figsize=(8.2, 0.9 + 0.42 * len(rows)), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.subplots()
        places, place, task = [], 0.0, rows[0]["task"]
        for row in rows:
            place += 1.0 if row["task"] == task else 1.6
            task = row["task"]
            places.append(-place)
        times = [row["latency_ms"]["p50"] for row in rows]
        colours = [OURS if row["key"].startswith("ours-") else THEIRS for row in rows]
        axes.barh(places, times, color=colours, height=0.68)
        for where, row, time_ms in zip(places, rows, times, strict=True):
            note = "" if row["key"].startswith("ours-") else f", {row['ratio_latency']:.1f} x"
            label = f"{time_ms:.0f} ms{note}"
            axes.annotate(label, (time_ms, where), (5, 0), textcoords="offset points", va="center")
        axes.set_yticks(places, [row["label"] for row in rows])
        axes.set_xlabel(
            f"median ms for a {found['utterance_s']:.0f} s utterance, {found['threads']} threads, same audio"
        )
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.margins(x=0.2)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Title": "Ostiary beside its peers"})
    return text.getvalue()
