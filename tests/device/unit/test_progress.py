"""The watchdog is fed by work that was done, never because time went by."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Event

import numpy as np
import pytest

from device.access.decision import Decision, Notice, Outcome, Reason
from device.audio import AudioDeviceLostError, Frame
from device.unit.progress import LISTEN_AGAIN_S, Progress
from sync.service.service_manager import ServiceManager


class Plug:
    """A microphone that can be pulled out; two frames each time it is opened."""

    def __init__(self) -> None:
        self.there = True
        self.opened = 0

    def frames(self, stop: Event) -> Iterator[Frame]:
        self.opened += 1
        for _ in range(2):
            if not self.there:
                raise AudioDeviceLostError("no microphone can be opened; plug one in")
            yield Frame(np.zeros(320, np.int16), 0)


class World:
    """A unit's loop, its clock and systemd's end of the socket."""

    def __init__(self, folder: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(folder / "n"))
        self._socket.setblocking(False)
        self.now_s = 1_000.0
        self.standing = ""
        self.store = ""
        self.microphone = Plug()
        environment = {"NOTIFY_SOCKET": str(folder / "n"), "WATCHDOG_USEC": "60000000"}
        self.progress = Progress(
            ServiceManager(environment, lambda: self.now_s),
            stuck={"watch": lambda: self.standing},
            troubles={"store": lambda: self.store},
            now_s=lambda: self.now_s,
            gone_deaf=self._note,
        )
        self.noted = 0
        self.heard = self.progress.hearing(self.microphone, microphone=True)

    def _note(self) -> None:
        self.noted += 1

    def told(self) -> str:
        found = []
        while True:
            try:
                found.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return "\n".join(found)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_each_frame_that_was_processed_feeds_the_watchdog(world: World) -> None:
    frames = iter(world.heard.frames(Event()))
    next(frames)
    assert "WATCHDOG" not in world.told(), "a frame that was handed out is not one that was processed"
    next(frames)
    assert "WATCHDOG=1" in world.told()


def test_a_loop_that_stands_still_feeds_nothing(world: World) -> None:
    world.progress()
    world.told()
    world.now_s += 3_600.0
    assert world.told() == ""


def test_a_part_that_stands_still_starves_the_watchdog_and_the_status_says_which(world: World) -> None:
    world.standing = "fire input and orders were not looked at for 61 s"
    world.progress()
    told = world.told()
    assert "WATCHDOG" not in told
    assert "fire input" in told
    world.standing = ""
    world.progress()
    assert "WATCHDOG=1" in world.told()


def test_no_microphone_is_a_state_that_feeds_the_watchdog_and_ends_when_one_is_plugged_in(
    world: World,
) -> None:
    world.microphone.there = False
    world.progress.waiting()
    world.progress.ready()
    told = world.told()
    assert "READY=1" in told
    assert "the door stays locked: no microphone can be opened" in told
    assert "WATCHDOG=1" in told
    world.microphone.there = True
    world.now_s += LISTEN_AGAIN_S
    world.progress.waiting()
    assert "STATUS=ready" in world.told()


def test_a_trouble_that_locks_no_door_is_told_as_one_that_needs_attention(world: World) -> None:
    world.store = "the audit log is half full"
    world.progress()
    assert "STATUS=needs attention: the audit log is half full" in world.told()
    world.microphone.there = False
    world.progress.waiting()
    told = world.told()
    assert "the door stays locked: no microphone" in told
    assert "; needs attention: the audit log" in told


def test_a_microphone_that_goes_is_noted_once_and_again_when_it_goes_again(world: World) -> None:
    for there, noted in ((True, 0), (False, 1), (False, 1), (True, 1), (False, 2)):
        world.microphone.there = there
        world.now_s += LISTEN_AGAIN_S
        with suppress(AudioDeviceLostError):
            list(world.heard.frames(Event()))
        assert world.noted == noted


def test_no_microphone_at_the_start_is_noted(world: World) -> None:
    world.microphone.there = False
    world.progress.waiting()
    assert world.noted == 1


def test_a_microphone_that_works_is_not_opened_again_while_nobody_comes(world: World) -> None:
    for _ in range(50):
        world.progress.waiting()
        world.now_s += 5.0
    assert world.microphone.opened == 1


def test_a_tpm_that_is_gone_is_a_state_and_no_restart_loop(world: World) -> None:
    world.store = "the key store does not answer; run `ostiary doctor`"
    world.progress()
    told = world.told()
    assert "the key store does not answer" in told
    assert "WATCHDOG=1" in told


def test_decisions_are_counted_in_the_status(world: World) -> None:
    world.progress.ready()
    for outcome in (Outcome.GRANTED, Outcome.DENIED_VOICE):
        world.progress.decided(Decision(outcome, Reason.ALL_FACTORS_PASSED, "", Notice.WELCOME))
    assert "ready; 2 decisions" in world.told()
