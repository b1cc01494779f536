"""Orders of other processes to the running door: one small file each, obeyed in turn.

The door process opens no socket, so orders come through a folder that only the unit's user can write. Their
sender waits for the file to go; a refusal lies beside it until it is read.
"""

from __future__ import annotations

import contextlib
import json
import logging
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from device.errors import DeviceError
from sync.durable import replace_file
from sync.plain_file import plain_bytes, plain_text
from sync.plain_words import what_and_why, why

MAX_ORDER_BYTES = 1024
_ORDER, _REFUSED = ".order", ".refused"

log = logging.getLogger(__name__)


class OrderError(DeviceError):
    """The running unit did not obey an order."""


class Action(StrEnum):
    """The orders to a running unit."""

    LOCK_DOWN = "lock_down"
    END_LOCK_DOWN = "end_lock_down"
    PARDON = "pardon"
    ADOPT_RULES = "adopt_rules"
    FORGET = "forget"
    TRUST_CLOCK = "trust_clock"
    ERASE = "erase"
    ROTATE_KEYS = "rotate_keys"
    ADOPT_MODELS = "adopt_models"
    ADOPT_THREATS = "adopt_threats"
    HOLD_OPEN = "hold_open"
    END_HOLD = "end_hold"
    LIMIT_VISIT = "limit_visit"
    LIFT_VISIT = "lift_visit"


@dataclass(frozen=True, slots=True)
class Order:
    """`subject`: a door (`*`: all), a uid, a hold or visit (`to_text`), a pseudonym or nothing."""

    action: Action
    subject: str = ""

    def to_bytes(self) -> bytes:
        return json.dumps({"action": self.action, "subject": self.subject}).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Order:
        """Raises OrderError."""
        try:
            table = json.loads(data)
            action, subject = Action(table["action"]), table["subject"]
        except (ValueError, KeyError, TypeError) as err:
            raise OrderError(f"not an order ({type(err).__name__})") from err
        if not isinstance(subject, str) or len(subject) > 128 or len(data) > MAX_ORDER_BYTES:
            raise OrderError("an order's subject is a short text")
        return cls(action, subject)


def post(folder: Path, order: Order) -> Path:
    """Write an order for the running unit; returns its file."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{time.time_ns():020d}-{secrets.token_hex(4)}{_ORDER}"
    replace_file(path, order.to_bytes(), 0o644)
    return path


def await_done(path: Path, within_s: float = 30.0) -> None:
    """Wait until the order at `path` was obeyed. Raises OrderError when it was refused or not taken.

    On a busy board large rules take a unit seconds.
    """
    deadline_s = time.monotonic() + within_s
    while path.exists():
        if time.monotonic() > deadline_s:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
                raise OrderError("the running unit did not take the order; look at its log")
            break  # taken at the last moment
        time.sleep(0.05)
    refused = path.with_suffix(_REFUSED)
    with contextlib.suppress(FileNotFoundError):
        reason = plain_text(refused)
        refused.unlink()
        raise OrderError(reason)


def waiting(folder: Path) -> Iterator[tuple[Path, Order]]:
    """Waiting orders, oldest first; what cannot be read or is none is refused, for its sender would else take
    it for obeyed."""
    for path in sorted(folder.glob(f"*{_ORDER}")):
        try:
            order = Order.from_bytes(plain_bytes(path, MAX_ORDER_BYTES))
        except FileNotFoundError:
            continue  # its sender has withdrawn it
        except (OSError, OrderError) as err:
            log.warning("an order was thrown away: %s", what_and_why(err))
            done(path, f"the running unit could not read the order: {why(err)}")
            continue
        yield path, order


def done(path: Path, refusal: str = "") -> None:
    """Remove an order; leaves a refusal for its sender."""
    if refusal:
        refused = path.with_suffix(_REFUSED)
        refused.write_text(refusal, "utf-8")
        refused.chmod(0o640)  # the poster of the order may be another user of this folder's group
    path.unlink(missing_ok=True)
