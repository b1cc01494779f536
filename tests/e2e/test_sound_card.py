"""Loudspeaker and microphone on one sound card that is pulled, replaced and shared, with tones on."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.sound_server import SoundServer, require_sound

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
NO_EXECUTABLE_MEMORY = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(65, 1, 0, 0, 0):  # PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN; stays in force over exec
    sys.exit(77)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.fixture(scope="module")
def server() -> Iterator[SoundServer]:
    require_sound()
    with SoundServer() as running:
        yield running


def run(server: SoundServer, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=server.environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_the_chirp_of_the_loudspeaker_is_heard_by_the_microphone(server: SoundServer) -> None:
    ran = run(server, "-m", "tests.e2e.card_cycles", "chirp")
    assert json.loads(ran.stdout)["complaint"] == "", ran.stderr


def test_a_microphone_is_heard_where_memory_must_not_be_writable_and_executable(server: SoundServer) -> None:
    ran = run(server, "-c", NO_EXECUTABLE_MEMORY, "-m", "tests.e2e.card_cycles", "chirp")
    if ran.returncode == 77:
        pytest.skip("this kernel has no PR_SET_MDWE (6.3 and newer have it)")
    assert json.loads(ran.stdout)["complaint"] == "", ran.stderr


def test_a_door_with_tones_hears_after_every_glitch_unplugging_and_replugging(server: SoundServer) -> None:
    ran = run(server, "-m", "tests.e2e.card_cycles", "cycles", "6")
    assert ran.returncode == 0, ran.stderr[-2000:]
    told = json.loads(ran.stdout.splitlines()[-1])
    assert told["heard_at_the_end"]
    assert told["cycles"] == 6
