"""`ostiary door`: what an installer does with the hardware of a door."""

from __future__ import annotations

import json
import time

import click

from device.clock import system_clock
from device.door.lines import DoorError
from device.door.opening import connect, lines_of
from device.door.osdp.install import Installing
from device.door.osdp.keys import keep_key, new_key
from device.door.wiring import WORDS, tried
from device.secure_store import Store, open_store
from device.settings import Settings, load, state_dir
from device.unit.assembly import open_trail


@click.group()
def door() -> None:
    """The strike, the contacts and the controller behind this unit.

    \b
    Example: ostiary door wires
    """


@door.command()
@click.option(
    "--seconds", type=click.IntRange(1, 3600), default=120, show_default=True, help="How long to wait."
)
@click.option("--json", "as_json", is_flag=True, help="Each change as a JSON object, one a line.")
def wires(seconds: int, as_json: bool) -> None:
    """Show each wire's changes until every one was seen in both states; the unit must be stopped.

    Open and close the door, press the exit button, open the case, have the fire panel call for release, and
    end it. The strike stays locked. Exit code 1 when a wire did not move in time.

    \b
    Example: ostiary door wires --seconds 300
    """
    settings = load().door
    lines = lines_of(settings, lambda: system_clock().monotonic_s)
    try:
        levels = lines.levels()
        if not levels:
            raise DoorError("no input is wired; name the lines under `[door.gpio]` in the settings")
        for line, active in levels.items():
            _tell(as_json, line, WORDS[line][active])
        until_s = time.monotonic() + seconds
        left = tuple(levels)
        for line, active, unmoved in tried(lines, levels, lambda: time.monotonic() >= until_s):
            _tell(as_json, line, WORDS[line][active])
            left = unmoved
    finally:
        lines.close()
    if left:
        click.echo(f"not seen in both states: {', '.join(left)}; check these wires", err=True)
        raise click.exceptions.Exit(1)
    click.echo("Every wire was seen in both states.", err=as_json)


def _tell(as_json: bool, line: str, state: str) -> None:
    click.echo(json.dumps({"line": line, "state": state}) if as_json else f"{line:16} {state}")


@door.command("osdp-key")
@click.option("--import", "given", metavar="HEX", help="Take the controller's own key instead of a new one.")
def osdp_key(given: str | None) -> None:
    """Make a random key for the secure channel, keep it sealed, and print it once for the controller.

    The unit must be stopped. Set the same key at the controller by hand; no key ever travels in the clear.

    \b
    Example: ostiary door osdp-key
    """
    settings = load()
    try:
        key = bytes.fromhex(given) if given is not None else new_key()
    except ValueError as err:
        raise click.UsageError("a key is 32 hexadecimal digits") from err
    with open_store(state_dir(), settings.store) as store:
        keep_key(store.folder, store.vault.derive, key)
        _noted(settings, store, "key_set")
    if given is None:
        click.echo(key.hex().upper())
    click.echo("The unit uses this key from its next start.", err=True)


@door.command("osdp-install")
@click.option(
    "--seconds", type=click.IntRange(10, 600), default=120, show_default=True, help="How long to wait."
)
def osdp_install(seconds: int) -> None:
    """Let the controller set the key: opens the line with the standard's default key, for a limited time.

    The unit must be stopped. Do it with nobody else on the wire: a listener learns the key. `osdp-key`
    needs no such window. Beginning, key and end are in the log. Exit code 1 when no key was set in time.

    \b
    Example: ostiary door osdp-install --seconds 60
    """
    settings = load()
    with open_store(state_dir(), settings.store) as store:
        panel = Installing(lambda key: keep_key(store.folder, store.vault.derive, key))
        _noted(settings, store, "install_mode")
        try:
            with connect(settings.door, None, panel, install=True):
                panel.done.wait(seconds)
                if panel.done.is_set():
                    time.sleep(1.0)  # the answer still has to reach the controller
        finally:
            if panel.done.is_set():
                _noted(settings, store, "key_set")
            _noted(settings, store, "install_mode_ended")
    if not panel.done.is_set():
        click.echo(f"no key was set within {seconds} s{panel.refused}", err=True)
        raise click.exceptions.Exit(1)
    click.echo("The controller has set the key; the unit uses it from its next start.")


def _noted(settings: Settings, store: Store, reason: str) -> None:
    with open_trail(store, settings, state_dir()) as trail:
        trail.note("COMMAND_APPLIED", reason, settings.door.name)
