"""`scripts/setup` when it cannot do its work, or is ended in the middle: what people see and what is left."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.speech import missing

pytestmark = pytest.mark.e2e
REPOSITORY = Path(__file__).parents[2]
PATIENCE_S = 240.0


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what set-up reads, in which nothing was ever set up."""
    if shutil.which("dpkg-query") is None:
        missing("dpkg", "dpkg")
    folder = tmp_path / "checkout"
    (folder / "scripts").mkdir(parents=True)
    for name in ("scripts/setup", "pyproject.toml", "requirements.lock", "requirements.build.lock"):
        shutil.copy2(REPOSITORY / name, folder / name)
    (tmp_path / "packages").mkdir()
    return folder


def command(checkout: Path) -> list[str]:
    """From a folder that holds no package, so that installing fails for certain and asks no network."""
    return [str(checkout / "scripts/setup"), "--wheels", str(checkout.parent / "packages")]


def environment(checkout: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    return {**kept, "OSTIARY_STATE_DIR": str(checkout.parent / "state")}


def set_up(checkout: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(checkout), env=environment(checkout), capture_output=True, text=True, timeout=PATIENCE_S
    )


def test_a_set_up_that_fails_ends_with_the_failure_and_keeps_the_rest_in_a_log(checkout: Path) -> None:
    done = set_up(checkout)
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 3
    assert any(line.startswith("setup: Installing Python packages failed") for line in lines), done.stderr
    assert lines[-1].startswith("  ERROR: No matching distribution found for"), done.stderr
    assert "WARNING" not in done.stderr
    assert "No matching distribution" in (checkout / ".setup" / "log").read_text()
    assert not (checkout / ".setup" / "product").exists()


def test_a_set_up_that_was_killed_is_mended_by_the_next(checkout: Path) -> None:
    first = subprocess.Popen(
        command(checkout), env=environment(checkout), stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + PATIENCE_S
    while not (
        checkout / ".venv" / "pyvenv.cfg"
    ).exists():  # half a virtual environment: pip is not in it yet
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    again = set_up(checkout)
    assert "No matching distribution found" in again.stderr.splitlines()[-1], again.stderr
    pip = [str(checkout / ".venv/bin/python"), "-m", "pip", "--version"]
    assert subprocess.run(pip, capture_output=True, check=False).returncode == 0


def test_two_set_ups_at_once_take_turns(checkout: Path) -> None:
    (checkout / ".setup").mkdir()
    holder = subprocess.Popen(
        ["flock", str(checkout / ".setup" / "lock"), "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    holder.stdin.write(b"held\n")
    holder.stdin.flush()
    assert holder.stdout.readline() == b"held\n"
    waiting = subprocess.Popen(
        command(checkout), env=environment(checkout), stderr=subprocess.PIPE, text=True
    )
    assert waiting.stderr is not None
    assert waiting.stderr.readline() == "Waiting for another set-up of this checkout\n"
    assert not (checkout / ".venv").exists()
    holder.communicate(timeout=PATIENCE_S)
    assert waiting.stderr.readline().startswith("Installing Python packages")
    waiting.terminate()
    assert waiting.wait(PATIENCE_S) == 143
    waiting.stderr.close()


@pytest.mark.parametrize("arguments", [["--nonsense"], ["--key", "pyproject.toml"], ["--bundle"]])
def test_a_wrong_option_is_answered_in_a_few_lines(checkout: Path, arguments: list[str]) -> None:
    done = subprocess.run(
        [str(checkout / "scripts/setup"), *arguments],
        env=environment(checkout), capture_output=True, text=True, timeout=PATIENCE_S, cwd=checkout,
    )  # fmt: skip
    assert done.returncode in (2, 3)
    assert 1 <= len(done.stderr.splitlines()) <= 4
    assert not (checkout / ".venv").exists()
