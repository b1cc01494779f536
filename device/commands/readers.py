"""`ostiary readers`: shows what a badge reader sends."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path

import click

from device.access.badges import Swipe
from device.access.claims import Directory
from device.door.readers import swipes
from device.evidence.phrase import normalise
from device.settings import load, state_dir
from device.unit.assembly import rules_of


@click.group()
def readers() -> None:
    """Badge readers of this unit.

    \b
    Example: ostiary readers watch
    """


@readers.command()
@click.option(
    "--device",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A serial reader's device; standard input, where a keyboard wedge types, when left out.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a swipe.")
def watch(device: Path | None, as_json: bool) -> None:
    """Show what a reader sends, the badge number that the unit makes of it, and whom the rules give it.

    Stop it with Ctrl-C. The number as shown is what belongs under `badges` in the rules. Nothing is recorded.

    \b
    Example: ostiary readers watch
    """
    directory = Directory.of(rules_of(state_dir(), load().door.name), normalise)
    with ExitStack() as open_files:
        stream = sys.stdin.buffer
        if device is not None:
            stream = open_files.enter_context(device.open("rb", buffering=0))
        try:
            for swipe in swipes(stream):
                _tell(swipe, directory, as_json)
        except KeyboardInterrupt:
            return


def _tell(swipe: Swipe, directory: Directory, as_json: bool) -> None:
    owner = directory.by_badge.get(swipe.number, "") if swipe.number else ""
    if as_json:
        facts = {"sent": swipe.sent.hex(), "badge": swipe.number, "trouble": swipe.trouble, "person": owner}
        click.echo(json.dumps(facts))
    elif swipe.is_button:
        click.echo("a line end alone: a button")
    elif swipe.trouble:
        click.echo(f"unreadable: {swipe.trouble}\n    sent {_shown(swipe.sent)}")
    else:
        whose = f"badge of {owner}" if owner else "of nobody in the rules"
        click.echo(f"{swipe.number}: {whose}\n    sent {_shown(swipe.sent)}")


def _shown(sent: bytes) -> str:
    """`sent` in readable form, without bytes that steer a terminal."""
    return f"{sent!r} ({sent.hex(' ')})"
