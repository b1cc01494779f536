"""What a person sees who types something wrong: one line and an exit code, never a traceback."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from device.cli import COMMANDS, main


def typed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["ostiary", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    code = stopped.value.code
    return code if isinstance(code, int) else 0, captured.out, captured.err


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    code, out, _ = typed(monkeypatch, capsys, command, "--help")
    assert code == 0
    assert "Usage: " in out
    assert "\\b" not in out


@pytest.mark.parametrize(
    ("state", "arguments"),
    [
        ("file", ("policy", "failures")),
        ("file", ("forget", "4711")),
        ("file", ("api", "tokens")),
        ("ok", ("policy", "explain", "5f1c9f0e-6f4b-4a53-9a6c-0e5d0d1f2a3b")),
        ("ok", ("policy", "recent")),
        ("ok", ("policy", "adopt", "{folder}/broken.toml")),
        ("ok", ("run", "--config", "{folder}/broken.toml")),
        ("ok", ("api", "token", "--client", "x", "--scope", "otp", "--certificate", "{folder}/broken.toml")),
    ],
)
def test_each_kind_of_bad_input_is_one_line_and_exit_code_3(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    state: str,
    arguments: tuple[str, ...],
) -> None:
    (tmp_path / "broken.toml").write_text("nonsense")
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("OSTIARY_STATE_DIR", str(tmp_path / state))
    monkeypatch.delenv("OSTIARY_CONFIG", raising=False)
    code, _, err = typed(monkeypatch, capsys, *(a.format(folder=tmp_path) for a in arguments))
    assert code == 3
    told = [line for line in err.splitlines() if "SOFTWARE KEYSTORE" not in line]
    assert len(told) == 1
    assert told[0].startswith("ostiary: ")


@pytest.mark.parametrize(
    "arguments", [("nosuch",), ("policy", "explain", "x"), ("decide",), ("run", "--moon")]
)
def test_what_cannot_be_meant_is_a_usage_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    code, _, err = typed(monkeypatch, capsys, *arguments)
    assert code == 2
    assert "Usage" in err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can leave root's files")
@pytest.mark.parametrize("command", [("people",), ("enroll", "4711", "x"), ("store", "status"), ("doctor",)])
def test_root_leaves_nothing_of_its_own_in_the_units_folder(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    command: tuple[str, ...],
) -> None:
    os.chown(tmp_path, 54321, 54321)
    monkeypatch.setenv("OSTIARY_STATE_DIR", str(tmp_path))
    code, _, told = typed(monkeypatch, capsys, *command)
    assert code == 3
    assert "belongs to #54321" in told
    assert "sudo -u" in told
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can leave root's files")
@pytest.mark.parametrize("command", ["pick", "use", "build"])
@pytest.mark.parametrize("variable", ["OSTIARY_MODELS_DIR", "OSTIARY_STATE_DIR"])
def test_root_leaves_nothing_beside_the_units_own_models(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    command: str,
    variable: str,
) -> None:
    monkeypatch.delenv("OSTIARY_MODELS_DIR", raising=False)
    monkeypatch.setenv(variable, str(tmp_path))
    models = tmp_path if variable == "OSTIARY_MODELS_DIR" else tmp_path / "models"
    models.mkdir(exist_ok=True)
    os.chown(models, 54321, 54321)
    code, _, told = typed(monkeypatch, capsys, "models", command)
    assert code == 3
    assert "belongs to #54321" in told
    assert "ostiary models" in told
    assert list(models.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can leave root's files")
def test_what_root_is_told_to_type_is_no_comment_of_the_shell(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    os.chown(tmp_path, 54321, 54321)
    monkeypatch.setenv("OSTIARY_STATE_DIR", str(tmp_path))
    _, _, told = typed(monkeypatch, capsys, "people")
    line = told.partition("`")[2].partition("`")[0]
    assert shlex.split(line, comments=True) == ["sudo", "-u", "#54321", "ostiary", "people", "..."]


def test_numpy_starts_no_threads_of_its_own_beside_the_checks() -> None:
    """They would spin on the cores that the checks work on; said too late, the variable does nothing."""
    free = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    counted = subprocess.run(
        [sys.executable, "-c", "import device.cli, os, numpy; print(len(os.listdir('/proc/self/task')))"],
        env=free,
        capture_output=True,
        text=True,
        check=True,
        timeout=180,
    )
    assert counted.stdout.strip() == "1"
