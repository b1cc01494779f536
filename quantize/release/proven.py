"""What a release proved: the SHA-256 of every file that a build must end with, and how close it is to float.

`proven.json` is committed. `ostiary models prove --release` writes it, and nothing else does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from quantize.errors import QuantizeError
from sync.plain_file import plain_bytes
from sync.plain_words import what_and_why

PROVEN_FILE = Path(__file__).parents[1] / "proven.json"
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Proven:
    """One file. Without a hash it may be any and is made each time: a trainer proves what it makes itself."""

    sha256: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.sha256 and not _HASH.fullmatch(self.sha256):
            raise ValueError("a SHA-256 is 64 hexadecimal digits")

    def fits(self, sha256: str) -> bool:
        return self.sha256 in ("", sha256)


def read_proven(path: Path = PROVEN_FILE) -> dict[str, Proven]:
    """By role; raises QuantizeError when the file is not what `proven_bytes` writes."""
    try:
        document = json.loads(plain_bytes(path))
        return {
            str(role): Proven(
                str(one["sha256"]), {str(name): float(value) for name, value in one["metrics"].items()}
            )
            for role, one in document.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as err:
        raise QuantizeError(
            f"{path.name} cannot be read ({what_and_why(err)}); restore it from version control"
        ) from err


def proven_bytes(files: Mapping[str, Proven]) -> bytes:
    """The content of `proven.json`."""
    document = {role: {"sha256": one.sha256, "metrics": dict(one.metrics)} for role, one in files.items()}
    return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"
