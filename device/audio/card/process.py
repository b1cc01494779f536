"""Owns the process that holds PortAudio: every wait has a deadline, and past it the process is killed."""

from __future__ import annotations

import json
import logging
import os
import re
import select
import signal
import struct
import subprocess
import sys
import time
import weakref
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from device.audio.errors import AudioDeviceLostError, AudioError

CHILD = Path(__file__).with_name("child.py")
MAX_MESSAGE_BYTES = 1 << 20
TAKES_S = 5.0
"""For what it is told or is to play, a process that does not read has hung."""
SHARED = Path("/dev/shm")  # noqa: S108 - nothing of ours is written there
CARDS = Path("/proc/asound")

# PortAudio's error numbers, portaudio.h.
_INVALID_RATE, _DEVICE_UNAVAILABLE = -9997, -9985
_INVALID_CHANNELS, _INVALID_FORMAT, _NO_MEMORY = -9998, -9994, -9992
_DRIVER_FAILS = (-9999, -9987, -9986)
"""An error of the host, no answer in time, an error of its own."""
_SEVERAL = "Multiple "
"""How `sounddevice` begins where a name fits several devices."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Message:
    """What the process says; see `child.py`."""

    kind: str
    body: bytes

    def facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads(self.body)
        return facts


class CardProcess:
    """Starts the process at once, so that it is ready when a person comes."""

    def __init__(self, child: Path = CHILD) -> None:
        # Its own output is the protocol; what PortAudio and ALSA print would fill the journal.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-B", str(child)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        os.set_blocking(_pipe(self._process.stdin).fileno(), False)
        self._kill = weakref.finalize(self, _end, self._process)
        self._pending = bytearray()

    def ask(self, **wanted: Any) -> None:
        """Say what to do."""
        self.send(json.dumps(wanted).encode() + b"\n")

    def send(self, data: bytes) -> None:
        """Raises AudioDeviceLostError when the process has gone, or does not take it in time."""
        stdin = _pipe(self._process.stdin)
        deadline_s = time.monotonic() + TAKES_S
        try:
            view = memoryview(data)
            while view:
                left_s = deadline_s - time.monotonic()
                if left_s <= 0 or not select.select([], [stdin], [], left_s)[1]:
                    raise AudioDeviceLostError("the sound card's process hangs; it is started again")
                view = view[stdin.write(view) or 0 :]
        except OSError as err:
            raise AudioDeviceLostError("the sound card's process has ended; it is started again") from err

    def message(self, timeout_s: float) -> Message | None:
        """The next message; None when none came in time. Raises AudioDeviceLostError at the stream's end."""
        stdout = _pipe(self._process.stdout)
        deadline_s = time.monotonic() + timeout_s
        while (found := self._whole()) is None:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or not select.select([stdout], [], [], left_s)[0]:
                return None
            data = stdout.read(65_536)
            if not data:
                raise AudioDeviceLostError(f"the microphone or loudspeaker was lost: {self._how_it_ended()}")
            self._pending += data
        return found

    def _how_it_ended(self) -> str:
        """For who looks for the cause: a signal is a crash in a driver's library, or somebody's."""
        try:
            code = self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            return "its process ended (still in the kernel); check its plug"
        if code == -signal.SIGBUS:  # JACK's library, which PortAudio always asks, shares memory there
            return f"{SHARED} is full; end the program that fills it: `ls -lS {SHARED}`"
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return f"its process ended ({how}); check its plug"

    def kill(self) -> None:
        """End the process whatever it waits for; what it has sent can still be read."""
        self._process.kill()

    def close(self) -> None:
        """End the process, whatever it waits for. Never waits long."""
        self._pending[:] = bytes(len(self._pending))
        self._kill()

    def _whole(self) -> Message | None:
        if len(self._pending) < 5:
            return None
        (length,) = struct.unpack_from("<I", self._pending, 1)
        if length > MAX_MESSAGE_BYTES:
            raise AudioError(f"the sound card's process sent a message of {length} bytes")
        if len(self._pending) < 5 + length:
            return None
        found = Message(chr(self._pending[0]), bytes(self._pending[5 : 5 + length]))
        self._pending[: 5 + length] = bytes(5 + length)
        del self._pending[: 5 + length]
        return found


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    with suppress(subprocess.TimeoutExpired):  # stuck in the kernel: it ends when its call does
        process.wait(1.0)


def _pipe(pipe: Any) -> BinaryIO:
    if pipe is None or pipe.closed:
        raise AudioDeviceLostError("the sound card's process has ended; it is started again")
    found: BinaryIO = pipe
    return found


def occupied_by(what: str, cards: Path = CARDS) -> str:
    """Which process holds a card's microphone or loudspeaker, according to the kernel; empty when none
    does. PortAudio leaves a device out of its list while another program has it, as if it were not there."""
    letter = "c" if what == "microphone" else "p"
    for status in sorted(cards.glob(f"card*/pcm*{letter}/sub*/status")):
        with suppress(OSError):
            if held := re.search(r"^owner_pid\s*:\s*(\d+)", status.read_text(errors="replace"), re.MULTILINE):
                return f"process {held[1]}"
    return ""


def refusal(
    facts: dict[str, Any],
    device: str | None,
    rate_hz: int | None,
    what: str = "microphone",
    cards: Path = CARDS,
) -> AudioError:
    """Why the stream is not open, and what to do about it."""
    code = facts.get("code")
    log.debug("PortAudio on the %s: %s %s", what, code, facts.get("text", ""))
    named = f" called {device!r}" if device else ""
    if code == "library":
        return AudioError("PortAudio is missing; run `apt install libportaudio2`")
    if code == _DEVICE_UNAVAILABLE:
        return AudioDeviceLostError(
            f"no {what} can be opened: another program is using it; stop that program"
        )
    if what == "loudspeaker" and code in (_INVALID_RATE, _INVALID_CHANNELS, _INVALID_FORMAT):
        return AudioDeviceLostError(
            f"no {what} can be opened: it does not play one channel of 16 bits at {rate_hz} Hz; make a "
            "device that converts (ALSA's `plug`, or a sound server) the default"
        )
    if code in (_INVALID_CHANNELS, _INVALID_FORMAT):
        return AudioDeviceLostError(
            f"no {what}{named} can be opened: it gives no one or two channels of 16 bits; name a device that "
            "converts (ALSA's `plug`, or a sound server) under `[audio.microphone] device`"
        )
    if code == _NO_MEMORY:
        return AudioDeviceLostError(f"no {what}{named} can be opened: this machine has no memory left for it")
    if _SEVERAL in str(facts.get("text", "")):
        return AudioDeviceLostError(
            f"no {what}{named} can be opened: several are called so; write more of the name under "
            "`[audio.microphone] device`"
        )
    if code == _INVALID_RATE:
        rate = f"at {rate_hz} Hz; remove `rate_hz` from the settings" if rate_hz else "at its own rate"
        return AudioDeviceLostError(f"no {what} can be opened: it does not run {rate}")
    if holder := occupied_by(what, cards):
        return AudioDeviceLostError(
            f"no {what}{named} can be opened: {holder} is using it; stop that program"
        )
    settings = ", or mend `[audio.microphone] device`" if device else ""
    if code in _DRIVER_FAILS:
        return AudioDeviceLostError(
            f"no {what}{named} can be opened: its driver or the sound server reports an "
            f"error; check its plug, and restart the sound server if it stays{settings}"
        )
    return AudioDeviceLostError(f"no {what}{named} can be opened: none is there; plug one in{settings}")
