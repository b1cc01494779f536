"""What a command prints for another program when it cannot do what it was asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import click

from device.errors import DeviceError
from sync.errors import SyncError


@contextmanager
def error_as_json(as_json: bool) -> Iterator[None]:
    """With `as_json`, print `{"error": text}` for a refusal or a fault inside; the error itself goes on.

    It still ends the command with its line on standard error and its exit code.
    """
    try:
        yield
    except (DeviceError, SyncError, OSError) as err:
        if as_json:
            click.echo(json.dumps({"error": str(err)}))
        raise
