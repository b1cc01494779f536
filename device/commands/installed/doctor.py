"""`ostiary doctor`: what is wrong with this unit, and the fix."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from device import isolation
from device.commands.installed.board import LET_GO, REMEDY, board, strike_let_go
from device.commands.installed.disk import disk, shared_memory
from device.errors import DeviceError
from device.settings import Settings, kept_in, load, models_dir, settings_file, state_dir
from device.state_folder import StateFolder
from sync.errors import SyncError
from sync.plain_words import package, remedy, what_and_why
from sync.transport.connecting import REMIND_DAYS

if TYPE_CHECKING:
    from device.secure_store import Store

EXIT_NO = 1
NOT_OURS = ("uplink", "board", "strike", "shared memory", "key store")
"""Findings for which an update of the whole system is not undone."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `fix` is empty when it is well."""

    what: str
    well: bool
    detail: str
    fix: str = ""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="The findings as a JSON list.")
@click.option("--sound", is_flag=True, help="Also play a chirp and listen for it.")
@click.option(
    "--offline",
    is_flag=True,
    help="Leave out uplink, board, the strike's driver and a locked TPM: no fault of the software.",
)
def doctor(as_json: bool, sound: bool, offline: bool) -> None:
    """Look at settings, board, models, store, log, disk and microphone, and say how to mend what is wrong.

    Exit code 0 when everything is well, 1 when something needs mending.

    \b
    Example: ostiary doctor
    """
    findings = [one for one in examine(sound) if not offline or one.what not in NOT_OURS]
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings]))
    else:
        for finding in findings:
            mark = click.style("well ", fg="green") if finding.well else click.style("WRONG", fg="red")
            click.echo(f"{mark}  {finding.what}: {finding.detail}")
            if finding.fix:
                click.echo(f"       fix: {finding.fix}")
    if not all(finding.well for finding in findings):
        raise click.exceptions.Exit(EXIT_NO)


def examine(sound: bool = False) -> list[Finding]:
    """Every finding, in the order in which the unit needs the parts; with `sound` the door plays a chirp."""
    try:
        settings = load()
    except DeviceError as err:
        return [Finding("settings", False, str(err), "mend the file named above")]
    looks: tuple[tuple[str, Callable[[Settings], str], str], ...] = (
        (
            "disk",
            lambda _: disk(state_dir()),
            "make room, or give the state folder to the user that runs the unit",
        ),
        ("shared memory", lambda _: shared_memory(), "end the program that fills it: `ls -lS /dev/shm`"),
        ("board", lambda _: board(), REMEDY),
        ("models", _models, "ostiary models build"),
        ("self-test", _self_test, "ostiary models build; exchange the unit when that does not help"),
        ("store", _store, "ostiary store status"),
        ("key store", _key_store, "find out whose they are; `tpm2_dictionarylockout --clear-lockout`"),
        ("oldest models", _oldest_models, "ostiary models use NEWEST-BUNDLE"),
        ("rules", _rules, f"ostiary policy check {StateFolder(state_dir()).rules}"),
        ("fire input", check_fire_input, "wire it and name the line, or change the rules"),
        ("memory of utterances", _memory, "find out why, then `ostiary policy start-over`"),
        ("audit log", check_audit_log, "keep the disk as it is and tell the operator"),
        ("start", check_start, "mend what is named above"),
        (
            "uplink",
            _uplink,
            "the broker's address and the certificates in /etc/ostiary/uplink.conf; the line",
        ),
        (
            "place at a site",
            check_place,
            "`ostiary sync` renews it by itself while the claim service answers",
        ),
        ("network", _network, isolation.REMEDY),
        ("door", _door, "`ostiary door wires` shows each wire; the lines are named under `[door.gpio]`"),
        ("strike", lambda settings: strike_let_go(settings.door.gpio), LET_GO),
        ("microphone", _microphone, "check its plug; `[audio.microphone] device` in the settings names it"),
        *((("sound", _sound, "turn the loudspeaker up, uncover the microphone"),) if sound else ()),
    )
    return [Finding("settings", True, str(settings_file() or "defaults"))] + [
        look_at(what, look, settings, fix) for what, look, fix in looks
    ]


_PUT_BACK = "tell security, and find out who may have put an old copy back"


def look_at(what: str, look: Callable[[Settings], str], settings: Settings, fix: str) -> Finding:
    try:
        return Finding(what, True, look(settings))
    except (DeviceError, SyncError, OSError) as err:
        return Finding(what, False, what_and_why(err), _fix(err, fix))
    except ImportError as err:
        return Finding(what, False, f"{package(err)} cannot be loaded", "scripts/setup")


def _fix(err: Exception, fix: str) -> str:
    """The fix for an error that any part may meet; `fix` for all others."""
    from device.access.memory.history import HistoryError, HistoryRollbackError
    from device.feedback.messages import LanguageError
    from device.liveness.errors import MemoryRollbackError
    from device.secure_store.errors import RollbackError, SealPolicyError, StoreUnavailableError, TpmBusyError
    from device.unit.assembly import NoSuchDoorError
    from sync.outbox import OutboxRollbackError

    known: tuple[tuple[type[Exception], str], ...] = (
        (
            TpmBusyError,
            "start the TPM, or end what holds it; `[store] tcti` names it, `ls -l /dev/tpm*` shows it",
        ),
        (
            StoreUnavailableError,
            "make room on the disk, or give the state folder to the user that runs the unit",
        ),
        (RollbackError, f"{_PUT_BACK}; then restore the newest vault, or start an empty store"),
        (HistoryRollbackError, f"{_PUT_BACK}; then `ostiary policy start-over`"),
        (MemoryRollbackError, f"{_PUT_BACK}; then `ostiary policy start-over`"),
        (OutboxRollbackError, f"{_PUT_BACK}; then `ostiary audit start-over`"),
        (
            SealPolicyError,
            "put this unit's own TPM and disk together again; for a machine that starts in another way, "
            "`ostiary store reseal` with a signed policy",
        ),
        (HistoryError, "find out why, then `ostiary policy start-over`"),
        (LanguageError, "`[door] language` in the settings"),
        (
            NoSuchDoorError,
            "`[door] name` in the settings, or `ostiary policy adopt` rules that have this door",
        ),
    )
    if err.__cause__ is not None and (of_the_disk := remedy(err.__cause__)):
        return of_the_disk  # what a disk does not give is not to be begun anew
    return next((own for kind, own in known if isinstance(err, kind)), fix)


def _models(settings: Settings) -> str:
    from device.model_store import slots
    from device.model_store.pick import read
    from device.models.race import FRAMES_PER_S as RUNTIME_ROLES

    told: list[str] = []
    bundle = slots.active(models_dir(), told.append)
    if told:
        raise DeviceError(told[0])
    pick = read(kept_in(models_dir()), bundle)
    named = [
        f"{entry.version} in {pick.runtime(entry.role)}" if entry.role in RUNTIME_ROLES else entry.version
        for entry in bundle.manifest.files
    ]
    return f"bundle {bundle.manifest.version}, " + ", ".join(named)


def _self_test(settings: Settings) -> str:
    """Run the self-test again, whatever its remembered result."""
    from device.model_store import slots
    from device.model_store.pick import remembered
    from device.model_store.processor import processor_class
    from device.models import self_test
    from device.unit.assembly import second_hearing

    bundle = slots.active(models_dir())
    findings = self_test.run(bundle, remembered(kept_in(models_dir()), bundle, lambda _: None))
    forms = self_test.chosen(findings)
    stray = [f"{one.check} strays in {one.form}" for one in findings if not one.passed]
    largest = max(one.largest_difference for one in findings if one.passed)
    used = ", ".join(f"{role} in {form}" for role, form in forms.items())
    told = f"{processor_class()}: LLRs differ by {largest:.2f} at most ({used})"
    return "; ".join([told, *stray, second_hearing(bundle, settings)])


def _store_of(settings: Settings) -> Store:
    from device.secure_store import open_store

    return open_store(state_dir(), settings.store, warn=lambda _: None)


def _store(settings: Settings) -> str:
    with _store_of(settings) as store:
        status = store.status()
    if status.vault.damaged:
        raise DeviceError(
            f"{len(status.vault.damaged)} records are damaged; `ostiary store status` names them, "
            "`ostiary forget --record` erases one, then enrol that person again"
        )
    return f"{store.keystore.kind} keystore, {status.vault.people} enrolled"


def _key_store(settings: Settings) -> str:
    """Whether others have locked the TPM of a store that opens."""
    with _store_of(settings) as store:
        status = store.keystore.status()
    if not status.ready:
        raise DeviceError(status.state)
    return status.state


def _oldest_models(settings: Settings) -> str:
    """The oldest models that the store accepts, and whether those in use are newer."""
    from device.model_store import slots
    from device.model_store.minimum_versions import pinned_minimum

    with _store_of(settings) as store:
        minimum, kind = pinned_minimum(store.vault), store.keystore.kind
    if minimum is None:
        return "any that this machine built: no signed bundle was accepted yet"
    slots.active(models_dir(), minimum=minimum)
    held = "the TPM's counter holds it" if kind == "tpm" else "no TPM holds it: an older disk brings it back"
    return f"bundle {minimum.version}, and {minimum.fallback} to fall back on; {held}"


def _memory(settings: Settings) -> str:
    """Whether the memory is whole; the unit itself checks at its start that it is the latest."""

    from device.liveness.memory_file import MemoryFile

    path = StateFolder(state_dir()).replay_memory
    if not path.exists():
        return "empty"
    with (
        _store_of(settings) as store,
        closing(MemoryFile(path, store.mac)) as file,
    ):
        return f"{len(file.load(at_least=0))} utterances"


def _rules(settings: Settings) -> str:
    from device.unit.assembly import rules_of

    rules = rules_of(state_dir(), settings.door.name)
    return f"version {rules.version}, {len(rules.doors)} door(s)"


def check_fire_input(settings: Settings) -> str:
    from device.door.wiring import fire_input_missing
    from device.unit.assembly import rules_of

    rules = rules_of(state_dir(), settings.door.name)
    if told := fire_input_missing(settings.door, rules):
        raise DeviceError(told)
    door = rules.doors.get(settings.door.name)
    return "wired" if door is not None and door.fire_release else "the rules ask for none"


def check_start(settings: Settings) -> str:
    """Open the unit as `ostiary run` does; for the log this is a start."""
    from device.access.memory.history import HistoryBusyError
    from device.unit.assembly import open_unit

    try:
        with open_unit(settings, state_dir(), models_dir()):
            return "the unit opens as `ostiary run` opens it"
    except HistoryBusyError:
        return "a unit is running here"


def check_audit_log(settings: Settings) -> str:
    """Whether the log is there, the latest, and has room for long."""
    from device.clock import system_clock
    from device.unit.assembly import open_log, rules_of

    with _store_of(settings) as store:
        counter, first = store.keystore.counter("audit"), store.never_used("audit")
        if not StateFolder(state_dir()).audit_log.exists():
            if counter.value() > first:
                raise DeviceError(
                    "it is gone; put it back, or find out why and then `ostiary audit start-over`"
                )
            return "empty"
        rules = rules_of(state_dir(), settings.door.name)
        opened = open_log(settings, state_dir(), rules, system_clock, counter, first, advances=False)
        with closing(opened) as log:
            status, fill = log.status(), log.fill()
    told = f"{status.sequence} events, {status.pending} not yet received by a registry"
    if settings.audit.standalone:
        told = f"{status.sequence} events, {status.pending} of them not yet in a file"
    if fill.share >= 0.25:
        raise DeviceError(
            f"{told}; {fill.share:.0%} full, and then the door stays locked: connect `ostiary sync`, or set "
            "`[audit] standalone = true`, and make room on the disk"
        )
    return told


def _uplink(settings: Settings) -> str:
    """The uplink's last state; a unit works without one."""
    from device.uplink.state import read

    state = read(StateFolder(state_dir()).uplink_state)
    if state is None:
        return "none has run here: events wait on this disk"
    if not state.connected:
        raise DeviceError(str(state))
    if told := state.certificate_trouble(datetime.now(UTC)):
        raise DeviceError(told)
    return str(state)


def check_place(settings: Settings) -> str:
    """How long the certificate of a provisioned unit is valid."""
    from device.uplink.network import Network

    place = Network(state_dir()).place()
    if place is None:
        return "not provisioned: the network is set up by hand, or there is none"
    left = place.days_left(datetime.now(UTC))
    if left <= 0:
        raise DeviceError(f"the certificate of {place.unit} ran out {-left:.0f} days ago")
    if left < REMIND_DAYS:
        raise DeviceError(f"the certificate of {place.unit} ends in {left:.0f} days, and was not renewed")
    return f"{place.unit} at {place.broker}, certificate for {left:.0f} more days"


def _network(settings: Settings) -> str:
    """Whether the running door has a network; this process may have one."""
    found = isolation.of_running_door()
    if found is None:
        return f"{isolation.SERVICE} does not run here; it looks for itself when it starts"
    if not found.complete:
        raise DeviceError(f"the door has {found}, and must have none")
    return "the running door has none"


def _door(settings: Settings) -> str:
    from device.clock import system_clock
    from device.door.gpio import KernelGpio
    from device.door.wiring import examined

    return examined(settings.door, KernelGpio(), lambda: system_clock().monotonic_s)


def _microphone(settings: Settings) -> str:
    """Open the microphone for one frame: one that is only listed does not count."""
    from device.audio.card.level import kept
    from device.audio.microphone import Microphone, hear_one_frame

    with closing(Microphone(settings.audio.microphone)) as microphone:
        hear_one_frame(microphone)
    level = kept(StateFolder(state_dir()).input_level)
    if level.complaint:
        raise DeviceError(f"{level.complaint}; turn up its capture level (`alsamixer`), or move it closer")
    return f"{settings.audio.microphone.device or 'the default device'} can be heard; {level}"


def _sound(settings: Settings) -> str:
    from device.commands.installed.sound import sound

    return sound(settings)
