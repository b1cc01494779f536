"""The float networks that the small ones are measured against. They never go onto a door."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx

from quantize.graphs import campplus, pyannote, resemblyzer
from quantize.graphs.builder import Weights
from quantize.upstream.checkpoint import read_tensors
from quantize.upstream.fetch import Report, fetch, sha256_of
from quantize.upstream.sources import source


@dataclass(frozen=True, slots=True)
class Reference:
    """Float networks as ONNX files."""

    campplus: Path
    """`features` (batch, frames, 80) -> `embedding` (batch, 192), not yet unit."""
    resemblyzer: Path
    """`mel` (windows, 160, 40) -> `embedding` (windows, 256), unit."""
    pyannote: Path
    """`wave` (batch, 1, samples) -> `log_probability` (batch, frames, 7)."""


_BUILDERS: dict[str, tuple[str, Callable[[Weights], onnx.ModelProto]]] = {
    "campplus": ("campplus", campplus.build),
    "resemblyzer": ("resemblyzer", resemblyzer.build),
    "pyannote": ("pyannote-segmentation", pyannote.build),
}


def build(directory: Path, *, folder: Path | None = None, report: Report | None = None) -> Reference:
    """Every float network in `directory`, made from the pinned sources where it is not there yet."""
    directory.mkdir(parents=True, exist_ok=True)
    return Reference(**{name: _one(name, directory, folder, report) for name in _BUILDERS})


def _one(name: str, directory: Path, folder: Path | None, report: Report | None) -> Path:
    upstream, make = _BUILDERS[name]
    code = Path(make.__code__.co_filename)
    # Named after what it was made from, so that a newer source or builder is never mistaken for an older one.
    path = directory / f"{name}-{source(upstream).tensors[:8]}-{sha256_of(code)[:8]}.float.onnx"
    if not path.is_file():
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=directory) as work:
            made = Path(work) / path.name
            onnx.save(make(read_tensors(fetch(upstream, folder=folder, report=report))), made)
            made.replace(path)
    return path
