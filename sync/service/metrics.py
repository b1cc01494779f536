"""Metrics in a file for Prometheus' textfile collector: no process opens a port for them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sync.durable import replace_file
from sync.errors import SyncError
from sync.plain_words import what_and_why

WRITE_EVERY_S = 10.0

Figures = Mapping[tuple[str, tuple[tuple[str, str], ...]], float]
"""(name, labels) -> value."""


def exposition(values: Figures) -> str:
    """As Prometheus text. Names that end in `_total` are counters, the others gauges."""
    lines: list[str] = []
    seen: set[str] = set()
    for (name, labels), value in sorted(values.items()):
        if name not in seen:
            seen.add(name)
            lines.append(f"# TYPE {name} {'counter' if name.endswith('_total') else 'gauge'}")
        inner = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels)
        lines.append(f"{name}{{{inner}}} {value!r}" if inner else f"{name} {value!r}")
    return "\n".join(lines) + "\n"


class MetricsFile:
    """Replaces `path` every ten seconds, in one step for the collector."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._next_s = 0.0

    def due(self, now_s: float) -> bool:
        return now_s >= self._next_s

    def write(self, values: Figures, now_s: float) -> None:
        """Raises SyncError when the file cannot be written."""
        self._next_s = now_s + WRITE_EVERY_S
        try:  # readable for the collector, which is another user: nothing in it is secret
            replace_file(self._path, exposition(values).encode(), 0o644, durable=False)
        except OSError as err:
            raise SyncError(
                f"the metrics file {self._path.name} cannot be written: {what_and_why(err)}"
            ) from err


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
