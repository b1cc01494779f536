"""What a bundle of models says about itself: the content of `manifest.json`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from device.errors import DeviceError
from device.model_store.calibration import Calibration
from sync.errors import MALFORMED
from sync.plain_words import malformed

FORMAT = 1
MAX_MANIFEST_BYTES = 256 * 1024
MAX_FILES = 32
MAX_FILE_BYTES = 256 * 1024 * 1024
MAX_TOTAL_BYTES = 512 * 1024 * 1024
MAX_VERSION = 2**31

_HASH = re.compile(r"[0-9a-f]{64}")
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_ROLE = re.compile(r"[a-z][a-z0-9-]{0,31}")
_RELEASE = re.compile(r"\d{1,4}\.\d{1,4}\.\d{1,4}")


class BundleError(DeviceError):
    """The bundle must not be used. The door keeps the last good one, or stays locked."""


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output of a network; a dimension that may vary has a name instead of a number."""

    name: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a bundle, and everything an auditor asks about it."""

    role: str
    name: str
    sha256: str
    size_bytes: int
    version: str
    """Names network and weights; goes into every piece of evidence."""
    task: str
    licence: str
    source: Mapping[str, str] = field(default_factory=dict)
    inputs: tuple[Port, ...] = ()
    outputs: tuple[Port, ...] = ()
    calibration: Calibration | None = None
    calibration_origin: str = ""
    calibration_set: str = ""
    """SHA-256 of the speech on which activation ranges were chosen; empty when none were."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """How close it is to float, as its release proved."""

    def __post_init__(self) -> None:
        if not _ROLE.fullmatch(self.role) or not _FILE_NAME.fullmatch(self.name):
            raise BundleError(f"the manifest names a file or role that is not allowed: {self.name[:96]!r}")
        if not _HASH.fullmatch(self.sha256):
            raise BundleError(f"the manifest has no proper SHA-256 for {self.name}")
        if type(self.size_bytes) is not int or not 0 < self.size_bytes <= MAX_FILE_BYTES:
            raise BundleError(f"the manifest's size of {self.name} is outside 1..{MAX_FILE_BYTES} bytes")


@dataclass(frozen=True, slots=True)
class Manifest:
    """A bundle's version, what it asks of the device, and its files by role."""

    version: int
    minimum_device: str
    files: tuple[Entry, ...]

    def __post_init__(self) -> None:
        if type(self.version) is not int or not 1 <= self.version < MAX_VERSION:
            raise BundleError("the manifest's bundle version must be a whole number from 1 up")
        if not _RELEASE.fullmatch(self.minimum_device):
            raise BundleError("the manifest's minimum device version must look like 1.2.3")
        if not 1 <= len(self.files) <= MAX_FILES:
            raise BundleError(f"the manifest lists {len(self.files)} files; 1 to {MAX_FILES} are accepted")
        for what in ("role", "name"):
            values = [getattr(entry, what) for entry in self.files]
            if len(set(values)) != len(values):
                raise BundleError(f"the manifest lists a {what} twice")
        if sum(entry.size_bytes for entry in self.files) > MAX_TOTAL_BYTES:
            raise BundleError(f"the bundle claims more than {MAX_TOTAL_BYTES} bytes")

    def entry(self, role: str) -> Entry:
        """The file that plays `role`; raises BundleError when none does."""
        for entry in self.files:
            if entry.role == role:
                return entry
        raise BundleError(f"the bundle has no {role} model; run `ostiary models build --only {role}`")

    def to_bytes(self) -> bytes:
        """Canonical JSON: the same manifest is always the same bytes."""
        document = {"format": FORMAT, **asdict(self)}
        document["files"] = sorted(document["files"], key=lambda entry: str(entry["role"]))
        text = json.dumps(document, sort_keys=True, indent=1, ensure_ascii=True, allow_nan=False)
        return text.encode() + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """Parse and check; raises BundleError for anything but a manifest of this format."""
        if len(data) > MAX_MANIFEST_BYTES:
            raise BundleError(f"manifest.json is larger than {MAX_MANIFEST_BYTES} bytes; refused")
        try:
            document = json.loads(data)
            if document.pop("format") != FORMAT:
                raise BundleError("manifest.json has a format this unit does not know; update the unit")
            files = tuple(_entry(fields) for fields in document.pop("files"))
            return cls(files=files, **document)
        except MALFORMED as err:
            raise BundleError(
                f"manifest.json is damaged ({malformed(err)}); run `ostiary models build`"
            ) from err


def _entry(fields: dict[str, Any]) -> Entry:
    ports: dict[str, Any] = {
        side: tuple(Port(port["name"], tuple(port["shape"])) for port in fields.pop(side))
        for side in ("inputs", "outputs")
    }
    for of_a_machine in ("tools", "recipe"):  # what bundles once said about who built them
        fields.pop(of_a_machine, None)
    given = fields.pop("calibration")
    calibration = None if given is None else Calibration(float(given["scale"]), float(given["offset"]))
    return Entry(**ports, calibration=calibration, **fields)
