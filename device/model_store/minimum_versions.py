"""Remembers the lowest bundle version that a unit accepts, where an older copy of the disk cannot lower it.

`shelf.json` says what was accepted, and is a file like any other. The lowest version that it may name is
pinned in the store, under the counter of its keystore: with a TPM, neither an older `shelf.json` nor an older
disk passes for the newest. A pin is raised after the slots were switched, never before, and again at every
start: after a crash in between the slots are newer than the pin, which is allowed, and never older.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from device.model_store.manifest import BundleError

_UNKNOWN = "the store remembers models in a form this release does not know; update the unit"


@dataclass(frozen=True, slots=True)
class MinimumVersions:
    """The key that must have signed, and the lowest version of the bundle in use and of the last good one."""

    key: str
    version: int
    fallback: int

    def raised(self, other: MinimumVersions) -> MinimumVersions:
        """The higher of both; raises BundleError when they are not under one key."""
        if self.key != other.key:
            raise BundleError("shelf.json names another key than this unit's store remembers; refused")
        return MinimumVersions(self.key, max(self.version, other.version), max(self.fallback, other.fallback))

    @classmethod
    def from_fields(cls, fields: Any) -> MinimumVersions:
        """Raises BundleError: what the store vouches for is never damaged, but may be of a newer release."""
        try:
            return cls(str(fields["key"]), int(fields["version"]), int(fields["fallback"]))
        except (ValueError, KeyError, TypeError) as err:
            raise BundleError(_UNKNOWN) from err


class Pins(Protocol):
    """Where a minimum is kept: the store's vault."""

    def pinned(self) -> bytes:
        """What was pinned last; empty when nothing was."""
        ...

    def pin(self, data: bytes) -> None:
        """Keep `data` for good."""
        ...


def pinned_minimum(pins: Pins) -> MinimumVersions | None:
    """The minimum of this unit, or None before it accepted its first signed bundle."""
    held = _pinned(pins)
    return MinimumVersions.from_fields(held["models"]) if "models" in held else None


def pinned_document(pins: Pins) -> int:
    """The number of the last document of the fleet that this unit applied; 0 before the first."""
    number = _pinned(pins).get("document", 0)
    if type(number) is not int:
        raise BundleError(_UNKNOWN)
    return number


def with_document(pins: Pins, number: int) -> bytes:
    """What to pin so that no document up to `number` ever counts again."""
    return _packed({**_pinned(pins), "document": number})


def _pinned(pins: Pins) -> dict[str, Any]:
    data = pins.pinned()
    try:
        held = json.loads(data) if data else {}
    except ValueError as err:
        raise BundleError(_UNKNOWN) from err
    if not isinstance(held, dict) or set(held) - {"models", "document"} or (data and not held):
        raise BundleError(_UNKNOWN)
    return held


def _packed(held: dict[str, Any]) -> bytes:
    return json.dumps(held, sort_keys=True).encode()


def raise_minimum(pins: Pins, reached: MinimumVersions | None) -> MinimumVersions | None:
    """Pin what was reached where it is higher, and return what holds now. Raises what the store raises."""
    held = pinned_minimum(pins)
    wanted = held if reached is None else reached if held is None else held.raised(reached)
    if wanted is not None and wanted != held:
        pins.pin(_packed({**_pinned(pins), "models": asdict(wanted)}))
    return wanted
