"""Applies a document's rules and bundle durably: staged, taken up, confirmed, or taken back.

The vault's pin is the commit: with document N pinned, N counts, whatever else is on the disk. The unit then
takes up what was staged for N (`finish`), now or at the next start before it serves anybody, and throws away
what was staged for a document that was never pinned. Killed anywhere, it serves by the old or by the new,
never by a mixture.
"""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from device.errors import DeviceError
from device.model_store import slots
from device.model_store.bundle import MANIFEST_NAME, SIGNATURE_NAME
from device.model_store.manifest import Manifest
from device.model_store.minimum_versions import MinimumVersions
from device.secure_store.voiceprints.vault_file import write_durably
from device.state_folder import StateFolder
from sync.durable import replace_file, sync_folder
from sync.plain_file import plain_bytes

MAX_PLAN_BYTES = 8192
MAX_STARTS = 2
"""How often a unit may start with unconfirmed models: to take them up, and once more."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One document's change of rules and models. `bundle` is the SHA-256 of the manifest, in hexadecimal."""

    document: int
    rules: bool = False
    bundle: str = ""
    key: str = ""
    """Ed25519, raw, in hexadecimal: the key that a unit without one trusts from now on."""
    starts: int = 0
    taken_back: str = ""
    """The reason, once the unit goes back."""


@dataclass(frozen=True, slots=True)
class Standing:
    """The state of the last document (`applied`, `trial`, `refused`, `went_back`) and the reason, a word."""

    document: int = 0
    standing: str = "applied"
    why: str = "none"


@dataclass(frozen=True, slots=True)
class Committed:
    """What is left to do after the commit: take up `plan`, forget the attempts of whom it dropped."""

    plan: Plan
    dropped: tuple[str, ...]
    standing: Standing


class Applied:
    """The folder of a unit's door process."""

    def __init__(self, state: Path, models: Path) -> None:
        self._folder = StateFolder(state).applied
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._rules = StateFolder(state).rules
        self._models = models

    # Before the commit

    def stage(self, plan: Plan, rules: str | None, bundle: Path | None) -> None:
        """Put on the disk all that `finish` needs. `bundle` is a checked folder; it is moved."""
        self.clear()
        if rules is not None:
            write_durably(self._folder / "rules.new", rules.encode())
            old = plain_bytes(self._rules) if self._rules.exists() else b""
            write_durably(self._folder / "rules.old", old)
        if bundle is not None:
            bundle.replace(self._folder / "bundle")
            sync_folder(self._folder)
        self._save(plan)

    def clear(self) -> None:
        """Nothing is staged, nothing on trial."""
        for name in ("plan.json", "rules.new", "rules.old"):
            (self._folder / name).unlink(missing_ok=True)
        shutil.rmtree(self._folder / "bundle", ignore_errors=True)

    # After the commit

    def plan(self, document: int) -> Plan | None:
        """The plan of `document`, None when it is settled. Another document's plan is thrown away."""
        path = self._folder / "plan.json"
        if not path.exists():
            return None
        try:
            plan = Plan(**json.loads(plain_bytes(path)[:MAX_PLAN_BYTES]))
        except (OSError, ValueError, TypeError) as err:
            raise DeviceError(
                f"{path} is damaged; remove it, and have the fleet send its document anew"
            ) from err
        if plan.document != document:
            self.clear()
            return None
        return plan

    def finish(self, plan: Plan, minimum: MinimumVersions | None) -> None:
        """Take up what was staged; safe to repeat. Raises BundleError or OSError."""
        staged = self._folder / "rules.new"
        if plan.rules and staged.exists():
            replace_file(self._rules, plain_bytes(staged), 0o644)
            staged.unlink()
        if plan.bundle and (self._folder / "bundle").exists():
            key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(plan.key))
            slots.use(self._models, self._folder / "bundle", key, minimum)
            shutil.rmtree(self._folder / "bundle")

    def started(self, plan: Plan) -> Plan:
        """Count a start on trial, before anything can go wrong in it."""
        counted = replace(plan, starts=plan.starts + 1)
        self._save(counted)
        return counted

    def confirm(self, document: int) -> None:
        """End the trial: only the last good bundle is kept to go back to."""
        self.note(Standing(document, "applied"))
        self.clear()

    def go_back(self, plan: Plan, why: str) -> None:
        """Restore rules and models as before `plan`; killed anywhere, it goes on at the next start."""
        self._save(replace(plan, taken_back=why))
        if plan.bundle:
            slots.go_back(self._models, plan.bundle)
        old = self._folder / "rules.old"
        if plan.rules and old.exists():
            before = plain_bytes(old)
            if before:
                replace_file(self._rules, before, 0o644)
            else:
                self._rules.unlink(missing_ok=True)
        self.refuse(plan.bundle)
        self.note(Standing(plan.document, "went_back", why))
        self.clear()

    def untold(self) -> Standing | None:
        """The change that was taken back, while the unit's log does not say so."""
        last = self.standing()
        told = self._folder / "taken-back.told"
        known = plain_bytes(told).decode("ascii", "replace") if told.exists() else ""
        return last if last.standing == "went_back" and known != str(last.document) else None

    def told(self, document: int) -> None:
        """The log has it."""
        write_durably(self._folder / "taken-back.told", str(document).encode())

    # What is known for good

    def refuse(self, bundle: str) -> None:
        """Never try this bundle again."""
        if bundle and bundle not in (known := self.refused()):
            kept = [*known, bundle][-64:]
            write_durably(self._folder / "refused.json", json.dumps(kept).encode())

    def refused(self) -> tuple[str, ...]:
        with suppress(OSError, ValueError):
            return tuple(map(str, json.loads(plain_bytes(self._folder / "refused.json"))))
        return ()

    def note(self, standing: Standing) -> None:
        write_durably(self._folder / "standing.json", json.dumps(asdict(standing)).encode())

    def standing(self) -> Standing:
        with suppress(OSError, ValueError, TypeError):
            return Standing(**json.loads(plain_bytes(self._folder / "standing.json")))
        return Standing()

    def _save(self, plan: Plan) -> None:
        write_durably(self._folder / "plan.json", json.dumps(asdict(plan)).encode())


def candidate(folder: Path, manifest: bytes, signature: bytes, part: dict[str, Path]) -> None:
    """Make a bundle's folder from its parts, by SHA-256 in hexadecimal. Raises BundleError, OSError."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    (folder / MANIFEST_NAME).write_bytes(manifest)
    (folder / SIGNATURE_NAME).write_bytes(signature)
    for entry in Manifest.from_bytes(manifest).files:
        shutil.copyfile(part[entry.sha256], folder / entry.name)
