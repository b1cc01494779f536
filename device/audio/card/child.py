"""Started as a script: owns PortAudio and one stream, and may be killed at any instant.

Reads one JSON line that says what to do. Captures (blocks of samples to standard output, until its pipe is
closed) or plays (blocks from standard input, until that ends). Blocking calls only: a callback needs memory
that is writable and executable, which the unit's service forbids. Nothing of `device` is imported, so that it
starts quickly.

Messages out: one letter, four bytes of length (little-endian), that many bytes. `o` the stream is open
(JSON), `s` samples after one byte that says whether some were lost before them, `e` why not (JSON), `p`
played.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import struct
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

BLOCK_MS = 20
SHARED = Path("/dev/shm")  # noqa: S108 - JACK's library does, and cannot be told otherwise
NOWHERE = "/dev/null/pulse"


def tell(kind: bytes, body: bytes) -> None:
    """Write one message, however often the pipe takes only a part."""
    message = memoryview(kind + struct.pack("<I", len(body)) + body)
    while message:
        message = message[os.write(1, message) :]


@contextmanager
def without_jacks_database(shared: Path) -> Iterator[None]:
    """Load PortAudio inside. It asks JACK's library, which makes a database in the memory that programs
    share. Where that is nearly full the library is killed in the middle, or leaves one that every later
    process waits for (3, 6, 12 s). So a file stands in its place, unless JACK runs for this user, until the
    last of the processes that load PortAudio at the same time has done so."""
    user = os.geteuid()
    place = shared / f"jack_db-{user}"
    held = None
    try:
        if not list(shared.glob(f"jack_*_{user}_0")):
            shutil.rmtree(place, ignore_errors=True)  # of a server that has gone, or half made
            held = stand_in(place)
    except OSError:
        pass  # there is no such memory, or something of another user
    try:
        yield
    finally:
        if held is not None:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                place.unlink(missing_ok=True)
            except OSError:
                pass  # another process is at it, and takes it away
            os.close(held)


def stand_in(path: Path) -> int:
    """A file there, held together with others. Raises OSError."""
    while True:
        held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(held, fcntl.LOCK_SH)
            if os.fstat(held).st_ino == os.stat(path).st_ino:  # noqa: PTH116 - not taken away meanwhile
                return held
        except FileNotFoundError:
            pass
        except OSError:
            os.close(held)
            raise
        os.close(held)


def spare_the_home(environment: MutableMapping[str, str], user: int) -> None:
    """Where no PulseAudio runs or can be started, its library, which ALSA's plugin asks, would make a folder
    in the user's home and one in /tmp, only to look for a server there. It gets a place where none can be."""
    if "XDG_RUNTIME_DIR" in environment or any(name.startswith("PULSE_") for name in environment):
        return
    home = environment.get("HOME") or os.path.expanduser("~")  # noqa: PTH111 - never raises
    settings = environment.get("XDG_CONFIG_HOME") or f"{home}/.config"
    used = os.path.exists(f"{settings}/pulse") or os.path.exists(f"{home}/.pulse")  # noqa: PTH110 - the same
    startable = user != 0 and shutil.which("pulseaudio") is not None  # it starts none for root
    if not used and not startable:
        environment["PULSE_RUNTIME_PATH"] = NOWHERE


def capture(sounddevice: Any, wanted: dict[str, Any]) -> None:
    device = wanted["device"]
    found = sounddevice.query_devices(device, "input")
    rate_hz = wanted["rate_hz"] or int(found["default_samplerate"])
    channels = min(2, int(found["max_input_channels"]))
    block = rate_hz * BLOCK_MS // 1_000
    with sounddevice.RawInputStream(
        samplerate=rate_hz,
        blocksize=block,
        device=device,
        channels=channels,
        dtype="int16",
        latency=wanted["latency_s"],
    ) as stream:
        name = sounddevice.query_devices(stream.device)["name"]
        tell(b"o", json.dumps({"rate_hz": rate_hz, "channels": channels, "name": name}).encode())
        while True:
            samples, lost = stream.read(block)
            tell(b"s", bytes((lost,)) + bytes(samples))


def play(sounddevice: Any, wanted: dict[str, Any], source: BinaryIO) -> None:
    rate_hz = wanted["rate_hz"]
    while header := source.read(4):
        (count,) = struct.unpack("<I", header)
        samples = source.read(2 * count)
        with sounddevice.RawOutputStream(
            samplerate=rate_hz, device=wanted["device"], channels=1, dtype="int16"
        ) as stream:
            stream.write(samples)
        tell(b"p", b"")


def main() -> None:
    source = sys.stdin.buffer
    wanted = json.loads(source.readline() or b"null")
    if wanted is None:  # the process that started this has gone
        return
    try:
        spare_the_home(os.environ, os.geteuid())
        with without_jacks_database(SHARED):
            import sounddevice  # here: it lists the devices once, when it is loaded
    except OSError:
        tell(b"e", json.dumps({"code": "library", "text": "PortAudio is missing"}).encode())
        return
    try:
        if wanted["do"] == "capture":
            capture(sounddevice, wanted)
        else:
            tell(b"o", b"{}")
            play(sounddevice, wanted, source)
    except BrokenPipeError:
        return
    except (sounddevice.PortAudioError, ValueError) as err:
        code = err.args[1] if len(err.args) > 1 else 0
        tell(b"e", json.dumps({"code": code, "text": " ".join(str(err).split())}).encode())


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        os._exit(0)
    os._exit(0)  # PortAudio's own farewell may hang on a device that is gone
