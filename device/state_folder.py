"""The paths in a unit's state folder, and what an earlier version left in it when it was killed.

That version wrote the draft of `history` to `history.new`. Now each draft has a name and a lock of its own
(`sync/durable.py`), and the next writer in the folder removes those that nobody finishes.
"""

from __future__ import annotations

import logging
import os
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_DRAFT = ".new"
_OF_THE_VAULT = {"vault.db.new", "vault-copy.db.new"}
"""They are written, and go, under the vault's lock."""
OLD_S = 3_600.0
"""A process of that version may still be ending beside this one."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StateFolder:
    """Names every path in the folder; makes none of them."""

    root: Path

    @property
    def store(self) -> Path:
        """Keys and vault."""
        return self.root / "store"

    @property
    def models(self) -> Path:
        """The bundle in use and the last good one, unless $OSTIARY_MODELS_DIR names another folder."""
        return self.root / "models"

    @property
    def rules(self) -> Path:
        return self.root / "rules.toml"

    @property
    def history(self) -> Path:
        """Failures, lock-downs, positions, the epoch of challenges."""
        return self.root / "history"

    @property
    def replay_memory(self) -> Path:
        """Fingerprints of the attempts of late."""
        return self.root / "memory.db"

    @property
    def input_level(self) -> Path:
        """How loudly people are heard, and by how much the microphone is raised."""
        return self.root / "input-level.json"

    @property
    def audit_log(self) -> Path:
        return self.root / "audit" / "outbox.db"

    @property
    def uplink_state(self) -> Path:
        """The uplink's last word on its connection."""
        return self.root / "audit" / "uplink.json"

    @property
    def audit_archive(self) -> Path:
        """Files of the log, on a unit without a registry."""
        return self.root / "audit" / "archive"

    @property
    def orders(self) -> Path:
        """Orders of other processes on this machine to the door process."""
        return self.root / "orders"

    @property
    def desired(self) -> Path:
        """The fleet's documents and the unit's answers; shared with the uplink."""
        return self.root / "desired"

    @property
    def threats(self) -> Path:
        """The threat list in force, and prints of granted attempts; the door process's own."""
        return self.root / "threats"

    @property
    def applied(self) -> Path:
        """What was applied of the fleet's documents, and what is on trial; the door process's own."""
        return self.root / "applied"

    @property
    def network(self) -> Path:
        """Certificate and place at a site, once provisioned."""
        return self.root / "network"

    @property
    def api_results(self) -> Path:
        return self.root / "api" / "results.db"

    @property
    def api_tokens(self) -> Path:
        return self.root / "api" / "tokens.db"


def remove_old_drafts(state: Path, now_s: float | None = None) -> list[Path]:
    """Drafts beside the file that they were to replace, untouched for an hour; returns those that went.

    What cannot be removed stays, until the next start.
    """
    before_s = (time.time() if now_s is None else now_s) - OLD_S
    gone = []
    for path in _drafts(state):
        with suppress(OSError):
            found = path.lstat()
            if stat.S_ISREG(found.st_mode) and found.st_mtime < before_s:
                path.unlink()
                gone.append(path)
    if gone:
        log.info("%d unfinished files of an earlier version were removed", len(gone))
    return gone


def _drafts(state: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(state):
        known = set(names)
        for name in names:
            if name.endswith(_DRAFT) and name not in _OF_THE_VAULT and name.removesuffix(_DRAFT) in known:
                yield Path(folder, name)
