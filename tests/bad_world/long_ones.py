"""What takes minutes: a door watched for ten of them, and a sound card through a bad year."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.bad_world.sounds_and_badges import after_the_tone
from tests.bad_world.world import OSTIARY, PATIENCE_S, PERSON, Ended, NotCheckedError, Scenario, World
from tests.e2e.watched import Watched, door_folders, door_peers

CYCLES = 500
WATCHED_S, ATTEMPT_EVERY_S = 600.0, 45.0
ROOT = Path(__file__).resolve().parents[2]


def five_hundred_faults_of_the_sound_card(world: World) -> Ended:
    """glitch, unplugged, replugged, busy, another rate: 500 times, with tones on"""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.e2e.card_cycles", "cycles", str(CYCLES)],
        cwd=ROOT,
        env=world.sound.environment,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    told = json.loads(ran.stdout.splitlines()[-1])
    assert told == {"cycles": CYCLES, "deaf_or_silent_about_it": {}, "heard_at_the_end": True}, told
    return Ended("each fault in one line", "one warning for each", "heard after every one of them")


def door_watched_for_ten_minutes(world: World) -> Ended:
    """every socket and file of `ostiary run`, for ten minutes, with tones on and somebody every minute"""
    if shutil.which("strace") is None:
        raise NotCheckedError("no strace: apt install strace")
    unit = world.unit("watched", "earcons = true\n[audio.microphone]\nstart_s = 60.0\nstall_s = 30.0")
    watched = Watched(unit.folder / "watched", [*OSTIARY, "run", "--verbose"], unit.environment)
    attempts, until_s = 0, time.monotonic() + WATCHED_S
    try:
        watched.shows("Show your badge", PATIENCE_S)
        while time.monotonic() < until_s:
            watched.types(PERSON)
            attempts += 1
            watched.shows(f"(?s)(Please say.*){{{attempts}}}", PATIENCE_S)
            world.sound.play(after_the_tone(world, unit))
            watched.shows(f"(?s)(stays locked.*){{{attempts}}}", PATIENCE_S)
            time.sleep(ATTEMPT_EVERY_S)
    finally:
        seen = watched.stop()
    strange = seen.peers - door_peers(unit.environment["XDG_RUNTIME_DIR"])
    written = seen.outside(*door_folders(unit.state, unit.folder / "page"))
    assert not strange, strange
    assert seen.families <= {"AF_UNIX"}, seen.families
    assert not seen.name_service, seen.name_service
    assert not written, written
    return Ended(
        f"{attempts} attempts, served as ever",
        "no socket, name or file but those of docs/threat-model.md",
        "nothing to recover from",
    )


SCENARIOS: tuple[Scenario, ...] = (
    five_hundred_faults_of_the_sound_card,
    door_watched_for_ten_minutes,
)
