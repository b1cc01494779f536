"""What a recipe is: one file of the bundle, from which sources, by which code."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from device.model_store.manifest import Port
from quantize.errors import QuantizeError
from quantize.upstream.fetch import fetch, fetch_from_origin

ReportProgress = Callable[[str, float], None]
"""Told what is being done and how far it is, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Artefact:
    """What a recipe says about the file it has just written."""

    inputs: tuple[Port, ...] = ()
    outputs: tuple[Port, ...] = ()
    version: str = ""
    """In place of a version made from the file's hash; empty for that."""
    source: Mapping[str, str] = field(default_factory=dict)
    """Sources of the file besides the recipe's upstream ones."""
    calibration_set: str = ""
    """SHA-256 of the speech that its quantiser learned from; empty when it learned nothing."""


@dataclass(frozen=True, slots=True)
class BuildContext:
    """What a recipe may use."""

    folder: Path | None
    """Where the operator keeps upstream files, instead of their packages."""
    progress: ReportProgress
    origin: bool = False
    """Take upstream files from where their authors publish them, instead of their packages."""
    made: Mapping[str, Path] = field(default_factory=dict)
    """The files already made, by role: those of the roles that a recipe comes `after`."""

    def source(self, name: str) -> Path:
        """The verified upstream file `name`, fetched where it is not here yet. Raises QuantizeError."""
        if self.origin and self.folder is None:
            self.progress(f"downloading {name} from its origin", 0.0)
            return fetch_from_origin(name)
        return fetch(name, folder=self.folder, report=lambda text: self.progress(text, 0.0))


Prove = Callable[[Path, BuildContext], dict[str, float]]
"""Given the finished file: its metrics beside float. Raises QuantizeError when it is not good enough."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """One file of the bundle: from which sources, by exact arithmetic alone, and how it is proven."""

    role: str
    file: str
    network: str
    task: str
    licence: str
    make: Callable[[Path, BuildContext], Artefact]
    prove: Prove | None = None
    """None for a file that belongs to another one."""
    sources: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    """Roles whose files this one is made from or proven with."""
    optional: bool = False
    """Built only where it is asked for: the door works without it."""


def ports(values: Any) -> tuple[Port, ...]:
    """Names and shapes of a graph's inputs or outputs."""
    return tuple(
        Port(value.name, tuple(d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim))
        for value in values
    )


def shipped(given: Path, version: str = "") -> Callable[[Path, BuildContext], Artefact]:
    """Makes a file by copying one that the repository has; raises QuantizeError where it is gone."""

    def make(out: Path, context: BuildContext) -> Artefact:
        if not given.is_file():
            raise QuantizeError(
                f"{given.name} is not in {given.parent.name}; restore it from version control"
            )
        shutil.copyfile(given, out)
        return Artefact(version=version)

    return make
