"""Runs `ostiary` in this process, with a state folder of its own and the built models."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from device.cli import main


class Ran(NamedTuple):
    """What a command left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str


Ostiary = Callable[..., Ran]


@pytest.fixture
def ostiary(
    tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Ostiary:
    """`ostiary("decide", "--door", ...)`; never a traceback, or the test fails."""
    monkeypatch.setenv("OSTIARY_MODELS_DIR", str(models))
    monkeypatch.setenv("OSTIARY_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("OSTIARY_CONFIG", raising=False)

    def run(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["ostiary", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0
        captured = capsys.readouterr()
        assert "Traceback" not in captured.out + captured.err
        return Ran(code, captured.out, captured.err)

    return run
