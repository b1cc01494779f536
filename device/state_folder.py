"""Where everything lies in a unit's state folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


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
        """What was heard lately."""
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
        """How the uplink is, as it told last."""
        return self.root / "audit" / "uplink.json"

    @property
    def audit_archive(self) -> Path:
        """The log's files on a unit without a registry."""
        return self.root / "audit" / "archive"

    @property
    def orders(self) -> Path:
        """What the door process is asked to do by others on this machine."""
        return self.root / "orders"

    @property
    def desired(self) -> Path:
        """What the fleet asks of this unit, and what the unit answers: shared with the uplink."""
        return self.root / "desired"

    @property
    def threats(self) -> Path:
        """What this unit was warned of, and prints of granted attempts: the door process's own."""
        return self.root / "threats"

    @property
    def applied(self) -> Path:
        """What was applied of it, and what is on trial: the door process's own."""
        return self.root / "applied"

    @property
    def network(self) -> Path:
        """Certificate and place at a site, of a unit that was provisioned."""
        return self.root / "network"

    @property
    def api_results(self) -> Path:
        return self.root / "api" / "results.db"

    @property
    def api_tokens(self) -> Path:
        return self.root / "api" / "tokens.db"
