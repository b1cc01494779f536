"""The `ostiary` command: finds the subcommand, turns every expected error into one line and an exit code."""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import logging
import os
import pwd
import shlex
import sys
from collections.abc import Sequence

import click

from device.errors import DeviceError
from device.settings import own_models_dir, state_dir
from quantize.errors import QuantizeError
from sync.errors import SyncError
from sync.plain_words import package, remedy, why

EXIT_FAULT = 3

_LOG = logging.getLogger(__name__)

# Imported on use only: `ostiary doctor` must start when a model library is broken.
COMMANDS = {
    "run": ("device.commands.run:run", "Run the door unit."),
    "enroll": ("device.commands.people:enroll", "Enrol a person from five recordings, three at least."),
    "people": ("device.commands.people:people", "Who is enrolled, and until when."),
    "forget": ("device.commands.people:forget", "Erase a person's voiceprint."),
    "decide": ("device.commands.attempt:decide", "Decide one attempt from a file."),
    "score": ("device.commands.attempt:score", "Evidence only, no store touched."),
    "diarize": (
        "device.commands.conversation.diarize:diarize",
        "Who spoke when in a recording of several people.",
    ),
    "inspect": ("device.inspection.command:inspect", "Evidence about a recording: who, made, joined."),
    "watch": ("device.commands.conversation.watch:watch", "Who is speaking on a stream, and who should be."),
    "demo": ("device.commands.demo:demo", "Try a door on recorded voices."),
    "store": ("device.commands.store:store", "Keys and vault: status, sealing policy, rotation, backup."),
    "policy": ("device.commands.policy:policy", "Check the rules; explain a decision; pardon a person."),
    "api": ("device.commands.api:api", "The REST facade for other systems, and its tokens."),
    "door": ("device.commands.door:door", "The wires of a door, and the controller behind it."),
    "first-boot": ("device.commands.installed.first_boot:first_boot", "Name the door of a new unit."),
    "provision": ("device.commands.installed.provision:provision", "Take a new unit's place at a site."),
    "config": ("device.commands.installed.config:config", "Show and check the settings."),
    "readers": ("device.commands.readers:readers", "What a badge reader sends."),
    "support-bundle": (
        "device.commands.installed.support_bundle:support_bundle",
        "One file for remote help, without people.",
    ),
    "doctor": ("device.commands.installed.doctor:doctor", "What is wrong with this unit, and the fix."),
    "bench": ("quantize.bench.cli:bench", "Latency, memory and model sizes on this machine."),
    "audit": ("device.commands.audit:audit", "Verify a unit's log; export it; move it to files."),
    "sync": ("device.uplink.cli:sync", "The unit's side of the network: send events."),
    "registry": ("sync.registry.cli:registry", "The registry: ingest, alarms, exports."),
    "dashboard": ("sync.dashboard.cli:dashboard", "The web page: doors, events, incidents, proofs."),
    "fleet": ("sync.fleet.cli:fleet", "A site's authority, claims and certificates of units."),
    "models": ("quantize.cli:models", "Build, verify and show the models."),
    "evaluate": ("quantize.evaluate.cli:evaluate", "Error rates over a manifest of recordings."),
}


class LazyGroup(click.Group):
    """A group whose subcommands are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_line) for name, (_, help_line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ostiary")
def cli() -> None:
    """Ostiary, the voice-checked door unit. Every command has --help with an example."""


USES_STATE = frozenset(
    ("run", "enroll", "forget", "people", "decide", "store", "policy", "api", "audit", "doctor", "sync")
)
"""Commands that make or change files in the state folder."""
USES_MODELS = (("models", "pick"), ("models", "use"), ("models", "build"))
"""Commands that make or change files beside the unit's own models."""


def refuse_as_root(arguments: Sequence[str]) -> None:
    """Raises DeviceError where root would leave files that the unit's own user cannot open afterwards."""
    models = tuple(arguments[:2]) in USES_MODELS and "--dir" not in arguments
    ours = models or bool(USES_STATE & set(arguments[:1]))
    if os.geteuid() != 0 or not ours or {"-h", "--help"} & set(arguments):
        return
    if tuple(arguments[:2]) in (("store", "sign-policy"), ("store", "new-tenant-key")):  # at a desk
        return
    folder = own_models_dir() if models else state_dir()
    owner = folder.stat().st_uid if folder.exists() else 0
    if owner != 0:
        try:
            name = pwd.getpwuid(owner).pw_name
        except KeyError:
            name = f"#{owner}"
        raise DeviceError(
            f"{folder} belongs to {name}, and what root writes there stops the unit: "
            f"`sudo -u {shlex.quote(name)} ostiary {arguments[0]} ...`"
        )


def main() -> None:
    """Entry point. Exit codes: 0 yes, 1 no, 2 usage, 3 fault."""
    with contextlib.suppress(AttributeError, OSError, RuntimeError, ValueError):  # no stderr, or no file
        faulthandler.enable()  # a C library that crashes leaves in the journal where each thread was
    try:
        refuse_as_root(sys.argv[1:])
        code = cli(
            standalone_mode=False, auto_envvar_prefix="OSTIARY"
        )  # click hands back what a command gave to Exit
        sys.exit(code if isinstance(code, int) else 0)
    except click.Abort:
        click.echo("ostiary: stopped", err=True)
        sys.exit(EXIT_FAULT)
    except click.ClickException as err:
        err.show()
        sys.exit(err.exit_code)
    except (DeviceError, QuantizeError, SyncError) as err:
        click.echo(f"ostiary: {err}", err=True)
        sys.exit(err.exit_code if isinstance(err, DeviceError) else EXIT_FAULT)
    except BrokenPipeError:
        sys.exit(EXIT_FAULT)  # the reader of our output has gone
    except ImportError as err:
        _LOG.debug("a package cannot be loaded: %s", err)
        click.echo(f"ostiary: {package(err)} cannot be loaded; run scripts/setup", err=True)
        sys.exit(EXIT_FAULT)
    except OSError as err:  # a folder that cannot be made, a disk that is full
        named = f"{err.filename}: " if err.filename else ""
        todo = f"; {found}" if (found := remedy(err)) else ""
        click.echo(f"ostiary: {named}{why(err)}{todo}", err=True)
        sys.exit(EXIT_FAULT)
