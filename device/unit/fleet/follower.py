"""Follows the fleet's documents beside a running door: fetch, check, rehearse, commit, take up, report."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from device.access.rules import RulesError, parse_rules
from device.background import Background
from device.errors import DeviceError
from device.evidence.judge import Evidence, Judge
from device.model_store import slots
from device.model_store.bundle import MANIFEST_NAME, Bundle, Trust
from device.model_store.manifest import BundleError, Manifest
from device.model_store.minimum_versions import pinned_minimum, raise_minimum
from device.secure_store import StoreError
from device.settings import Settings
from device.state_folder import StateFolder
from device.unit.assembly import Unit, rules_of
from device.unit.fleet.applied import Applied, Committed, Plan, Standing, candidate
from device.unit.fleet.mailbox import Mailbox
from device.unit.fleet.memory import FleetMemory
from device.unit.fleet.people import Change, People
from device.unit.fleet.rehearsed import RehearsalError, check_rules, evidence_of_recorded, rehearse
from device.unit.progress import restart
from sync.errors import SyncError
from sync.events import unit_id
from sync.orders.desired import Contents, Desired, Part, Roster, Statement, WantedBundle, open_desired
from sync.plain_file import plain_bytes, plain_text
from sync.plain_words import what_and_why
from sync.proofs.bundle import key_from_bytes

LOOK_EVERY_S = 0.2
PAUSE_S = 5.0
"""After something went wrong."""
THRESHOLDS_MARK = "\n# Thresholds of the fleet, in place of every class's.\n[thresholds]\n"

NOT_YET = DeviceError("the recorded attempt is not judged yet")

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Trial:
    plan: Plan
    since_s: float
    heard: Evidence | DeviceError | None = None


class Follower(Background):
    """A thread of its own, from entry to exit; `look` is one look."""

    def __init__(
        self,
        unit: Unit,
        settings: Settings,
        state: Path,
        models: Path,
        serving: Path | None = None,
        plan: Plan | None = None,
        end: Callable[[], None] = restart,
        recorded: Callable[[], Evidence] | None = None,
    ) -> None:
        """`models` is the folder for new models, `serving` that of those in use where it differs, `plan` the
        result of `take_up`. `recorded` gives the evidence of the recorded attempt on which rules and models
        are tried, or raises DeviceError; by default the unit's judge does. Raises DeviceError, SyncError or
        OSError.
        """
        if settings.fleet.commands is None:
            raise DeviceError("no [fleet] commands: this unit follows nobody")
        self._key: ec.EllipticCurvePublicKey = key_from_bytes(plain_bytes(settings.fleet.commands))
        self._unit, self._settings, self._state, self._models = unit, settings, state, models
        self._name, self._door = unit_id(settings.door.unit), settings.door.name
        self._serving = serving or models
        self._end = end
        self._applied = Applied(state, models)
        self._mailbox = Mailbox(state)
        self._memory = FleetMemory(StateFolder(state).applied, unit.store)
        self._people = People(self._name, unit.store, self._memory, unit.trail, self._now, settings)
        self._trial = None if plan is None else _Trial(plan, unit.clock().monotonic_s)
        self._looked_at = b""
        self._said: tuple[object, ...] = ()
        self._said_at: tuple[bytes, int, int] | None = None
        self._heard: Evidence | None = None
        self._recorded = recorded or self._judged
        self._trouble = ""
        self._committed: Committed | None = None
        self._may_have_gone_back = True
        self._counted: tuple[int, tuple[int, int]] = (-1, (0, 0))
        super().__init__("fleet")
        self._report()

    def trouble(self) -> str:
        """The error of the last look, in one line; empty without one."""
        return self._trouble

    def look(self) -> None:
        """Go on with a trial, apply a document that came, report what is new."""
        if self._may_have_gone_back:
            self._say_taken_back()
        if self._committed is not None:
            self._take_up(self._committed)
        if self._trial is not None:
            self._go_on(self._trial)
        message = self._mailbox.document()
        if message and message != self._looked_at and self._trial is None and self._obey(message):
            self._looked_at = message
        self._say(message)

    def _run(self) -> None:
        while True:
            try:
                self.look()
                self._trouble = ""
            except (DeviceError, SyncError, OSError) as err:
                if what_and_why(err) != self._trouble:
                    log.warning("the fleet's document: %s", what_and_why(err))
                self._trouble = what_and_why(err)
                self._stop.wait(PAUSE_S)
            except Exception:  # a supervisor: this thread must outlive whatever goes wrong in one look
                log.exception("following the fleet failed once; it goes on")
                self._stop.wait(PAUSE_S)
            if self._stop.wait(LOOK_EVERY_S):
                return

    # A document

    def _obey(self, message: bytes) -> bool:
        """Whether the document is settled; False while parts of it are on their way."""
        try:
            desired = self._opened(message)
            if desired.counter <= self._memory.known.document:
                return True  # applied before, or overtaken
        except SyncError as err:
            log.warning("a document of the fleet was refused: %s", err)
            return True
        roster = self._roster(desired.contents)
        missing = self._named(desired.contents) if roster is None else self._missing(desired.contents, roster)
        self._mailbox.ask(missing)
        if roster is None or missing:
            return False
        self._apply(desired, roster)
        self._mailbox.keep_only(part for part in (desired.contents.people,) if part is not None)
        return True

    def _named(self, contents: Contents) -> list[Part]:
        named = [part for part in (contents.rules, contents.people) if part is not None]
        if contents.bundle is not None and self._new_bundle(contents.bundle):
            named.append(contents.bundle.manifest)
        return [part for part in named if self._mailbox.read(part) is None]

    def _missing(self, contents: Contents, roster: Roster) -> list[Part]:
        """Parts that are needed and not here, as far as is known now."""
        missing = self._named(contents)
        missing += [part for part in self._people.missing(roster) if self._mailbox.read(part) is None]
        if self._new_bundle(contents.bundle) and contents.bundle is not None:
            manifest = self._mailbox.read(contents.bundle.manifest)
            if manifest is not None:
                with contextlib.suppress(BundleError):  # it is refused when it is applied
                    missing += [part for part in _files(manifest) if self._mailbox.read(part) is None]
        return missing

    def _roster(self, contents: Contents) -> Roster | None:
        """The roster; None while it has not come."""
        if contents.people is None:
            return Roster()
        data = self._mailbox.read(contents.people)
        return None if data is None else Roster.from_bytes(data)

    def _apply(self, desired: Desired, roster: Roster) -> None:
        """1. Check and rehearse; what does not pass stays as it is, and the rest goes on. 2. Stage. 3.
        Commit, with the people. 4. Take up.
        """
        whys: list[str] = []
        text = self._checked_rules(desired.contents, whys)  # 1
        folder = self._checked_bundle(desired.contents.bundle, whys)
        change = Change(replace(self._memory.known, document=desired.counter))
        if desired.contents.people is not None:
            change = self._people.change(roster, desired.counter, self._needed)
        if change.refused:
            whys.append("people_refused")
        bundle = desired.contents.bundle if folder is not None else None
        models = (bundle.manifest.sha256.hex(), bundle.key.hex()) if bundle else ("", "")
        plan = Plan(desired.counter, text is not None, *models)
        standing = "refused" if whys else "trial" if bundle else "applied"
        noted = Standing(desired.counter, standing, whys[0] if whys else "none")
        committed = Committed(plan, tuple(change.drop), noted)
        try:
            self._applied.stage(plan, text, folder)  # 2
            self._people.commit(change)  # 3
        finally:
            change.wipe()
            if self._memory.known.document == desired.counter:
                self._committed = committed
        self._take_up(committed)  # 4

    def _take_up(self, committed: Committed) -> None:
        """What a full disk stops here, the next look tries again."""
        plan = committed.plan
        for uid in committed.dropped:
            self._unit.controller.forget(uid)
        self._applied.note(committed.standing)
        self._report()
        self._applied.finish(plan, pinned_minimum(self._unit.store.vault))
        if plan.rules:
            self._unit.controller.adopt(rules_of(self._state, self._door), ordered=True)
            self._unit.trail.note("POLICY_APPLIED", "fleet", self._door, risk="low")
        if plan.bundle:
            log.warning("new models are taken up; the unit starts again")
            self._end()
        else:
            self._applied.clear()
        self._committed = None

    def _checked_rules(self, contents: Contents, whys: list[str]) -> str | None:
        """The new rules file, or None where it stays as it is."""
        path = StateFolder(self._state).rules
        old = plain_text(path) if path.exists() else ""
        try:
            part = None if contents.rules is None else self._mailbox.read(contents.rules)
            text = old.partition(THRESHOLDS_MARK)[0] if part is None else part.decode("utf-8")
            if contents.thresholds:
                if not text:
                    raise RulesError(["there are thresholds and no rules that they could stand in"])
                lines = (f"{name} = {value!r}\n" for name, value in sorted(contents.thresholds.items()))
                text += THRESHOLDS_MARK + "".join(lines)
            if text == old or not text:
                return None
            rules = parse_rules(text)
            present = rules_of(self._state, self._door)
            uids = tuple(self._people.versions())
            check_rules(rules, present, self._door, uids, self._recorded(), self._now())
        except (DeviceError, UnicodeDecodeError, OSError) as err:
            log.warning("rules of the fleet are refused, the old ones stay: %s", what_and_why(err))
            whys.append(err.why if isinstance(err, RehearsalError) else "rules_refused")
            self._unit.trail.note("POLICY_REFUSED", whys[-1], self._door, risk="low")
            return None
        return text

    def _new_bundle(self, wanted: WantedBundle | None) -> bool:
        """Whether these models are not those in use, and never failed here."""
        if wanted is None:
            return False
        name = wanted.manifest.sha256.hex()
        if name in self._applied.refused():
            return False
        found = slots.read_slots(self._models)
        if found is not None:
            return found.current != name
        own = self._serving / MANIFEST_NAME
        return not (own.exists() and Part.of(plain_bytes(own)) == wanted.manifest)

    def _checked_bundle(self, wanted: WantedBundle | None, whys: list[str]) -> Path | None:
        """A folder with the new models, verified; None where they stay."""
        if wanted is not None and wanted.manifest.sha256.hex() in self._applied.refused():
            whys.append("models_refused")
            return None
        if wanted is None or not self._new_bundle(wanted):
            return None
        folder = StateFolder(self._state).applied / "candidate"
        try:
            manifest = self._mailbox.read(wanted.manifest) or b""
            parts = {part.sha256.hex(): self._mailbox.path(part) for part in _files(manifest)}
            candidate(folder, manifest, wanted.signature, parts)
            minimum = pinned_minimum(self._unit.store.vault)
            found = slots.read_slots(self._models)
            trusted = minimum.key if minimum else found.key if found else wanted.key.hex()
            if trusted != wanted.key.hex():
                raise BundleError("the models are signed by another key than this unit trusts")
            lowest = max(found.accepted_version if found else 1, minimum.version if minimum else 1)
            key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(trusted))
            Bundle.open(folder, Trust(key, lowest))  # verified whole
        except (DeviceError, ValueError, OSError) as err:
            log.warning("models of the fleet are refused, the old ones stay: %s", what_and_why(err))
            whys.append("models_refused")
            self._applied.refuse(wanted.manifest.sha256.hex())
            self._unit.trail.note("MODELS_REFUSED", "signature_refused", self._door, risk="low")
            return None
        return folder

    def _needed(self, part: Part) -> bytes:
        data = self._mailbox.read(part)
        if data is None:
            raise StoreError("an enrolment is missing from the vault; the unit asks the fleet for it again")
        return data

    # A trial

    def _go_on(self, trial: _Trial) -> None:
        """Confirm new models that decide a recorded attempt and stay up to the trial's end, or go back."""
        lasted_s = self._unit.clock().monotonic_s - trial.since_s
        over = lasted_s >= self._settings.fleet.trial_s
        if trial.heard is None and not over:
            trial.heard = NOT_YET
            threading.Thread(target=self._try, args=(trial,), name="trial", daemon=True).start()
            return
        if isinstance(trial.heard, Evidence):
            if not over:
                return
            self._applied.confirm(trial.plan.document)
            raise_minimum(self._unit.store.vault, slots.reached(self._models))
            self._unit.trail.note("MODELS_APPLIED", "fleet", self._door, risk="low")
            self._trial = None
            self._report()
        elif over or isinstance(trial.heard, RehearsalError):
            log.error("the new models are taken back: %s", trial.heard)
            self._applied.go_back(trial.plan, "not_confirmed")
            self._trial = None
            self._report()
            with contextlib.suppress(SyncError):  # a log that takes no more keeps no bad models: said later
                self._say_taken_back()
            self._end()

    def _say_taken_back(self) -> None:
        """Log once that a change was taken back, also when that was at a start, before the log was open."""
        last = self._applied.untold()
        if last is not None:
            why = "model_fault" if last.why == "fault" else last.why
            self._unit.trail.note("CHANGE_TAKEN_BACK", why, self._door, risk="low")
            self._applied.told(last.document)
        self._may_have_gone_back = False

    def _try(self, trial: _Trial) -> None:
        try:
            heard = self._recorded()
            rehearse(self._unit.controller.rules, self._door, heard)
            trial.heard = heard
        except DeviceError as err:
            trial.heard = RehearsalError("not_confirmed", str(err))

    def _judged(self) -> Evidence:
        """The evidence of the recorded attempt, judged once a run."""
        if self._heard is None:
            bundle = slots.active(self._serving)
            self._heard = evidence_of_recorded(self._unit.judge, bundle, self._settings.audio)
        return self._heard

    # What the unit says

    def _say(self, message: bytes) -> None:
        state = (message, self._memory.known.document, self._unit.store.vault.status().counter)
        if state == self._said_at:
            return
        roster, lost = Roster(), False
        if message:
            with contextlib.suppress(SyncError):
                desired = self._opened(message)
                if desired.counter == self._memory.known.document:
                    roster = self._roster(desired.contents) or Roster()
                    lost = desired.contents.people is None
        items = self._people.says(roster, lost=lost)
        self._said_at = state
        if items == self._said:
            self._report()
            return
        said = Statement(self._name, self._now_ms(), items)
        self._mailbox.say(said.signed(self._unit.store.audit_signer) if items else b"")
        self._said = items
        self._report()

    def _report(self) -> None:
        held = len(self._people.versions()), self._people.of_the_fleet()
        self._mailbox.report(self._applied.standing(), held, self._over())

    def _over(self) -> tuple[int, int] | None:
        """How many people have come over to the newer speaker model and how many not; None without one."""
        judge: Judge | None = getattr(self._unit, "judge", None)
        if judge is None or judge.older is None:
            return None
        counter = self._unit.store.vault.status().counter
        if counter != self._counted[0]:
            growth = self._unit.store.vault.growth(judge.newer.version)
            over = sum(days is None for days in growth.values())
            self._counted = (counter, (over, len(growth) - over))
        return self._counted[1]

    def _opened(self, message: bytes) -> Desired:
        return open_desired(message, self._key, self._name, self._now_ms())

    def _now_ms(self) -> int:
        return int(self._now().timestamp() * 1000)

    def _now(self) -> datetime:
        return self._unit.controller.time.seen.time(self._unit.clock().wall)


def _files(manifest: bytes) -> list[Part]:
    """Raises BundleError."""
    entries = Manifest.from_bytes(manifest).files
    return [Part(bytes.fromhex(entry.sha256), entry.size_bytes) for entry in entries]
