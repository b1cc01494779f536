"""`ostiary door`: what an installer does with the hardware of a door."""

from __future__ import annotations

import json
import time

import click

from device.clock import system_clock
from device.door.lines import DoorError
from device.door.opening import lines_of
from device.door.wiring import WORDS, tried
from device.settings import load


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
