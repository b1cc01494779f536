"""What a test runs in a process of its own: opens the default microphone, prints one JSON line per event.

PortAudio looks for devices when it is loaded, so the process is born with the sound server's environment.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import sys
import time
from collections.abc import Iterator
from threading import Event

from device.audio import AudioDeviceLostError, AudioSource, Ended, Frame, Refused, SilenceLasts, listen
from device.audio.microphone import Microphone
from device.audio.settings import MicrophoneSettings

PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1  # linux/prctl.h


def report(kind: str, **facts: object) -> None:
    print(json.dumps({"kind": kind, **facts}), flush=True)


class Announcing:
    """Says when a device has given its first frame: only then is there any use in playing."""

    def __init__(self, source: AudioSource) -> None:
        self._source = source

    def frames(self, stop: Event) -> Iterator[Frame]:
        for number, frame in enumerate(self._source.frames(stop)):
            if number == 0 or frame.lost_samples:
                report("Ready")
            yield frame


def hear(source: AudioSource) -> None:
    for event in listen(Announcing(source), Event()):
        if isinstance(event, SilenceLasts):
            continue  # it comes with every frame of a pause
        facts: dict[str, object] = {"at_s": event.at_s}
        if isinstance(event, Ended):
            facts |= {
                "speech_s": event.utterance.quality.speech_s,
                "snr_db": event.utterance.quality.snr_db,
            }
        elif isinstance(event, Refused):
            facts |= {"code": event.error.code}
        report(type(event).__name__, **facts)


def be_late(microphone: Microphone) -> None:
    """Sleep for longer than the buffer lasts, then go on."""
    frames = microphone.frames(Event())
    next(frames)
    report("Ready")
    time.sleep(1.5)
    lost = [next(frames).lost_samples for _ in range(50)]
    report("Late", lost_samples=sum(lost))


def forbid_writable_code() -> None:
    """What `MemoryDenyWriteExecute=` of the unit's service does to a process; exits with 77 where the kernel
    cannot (before 6.3)."""
    if ctypes.CDLL(None).prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0):
        sys.exit(77)
    try:
        mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    except OSError:
        return
    raise SystemExit("pages can still be written and run")


def main(mode: str, rate_hz: str | None = None) -> None:
    if mode == "restricted":
        forbid_writable_code()
    microphone = Microphone(MicrophoneSettings(rate_hz=int(rate_hz) if rate_hz else None, buffer_s=0.5))
    while True:
        try:
            if mode == "late":
                be_late(microphone)
            else:
                hear(microphone)
        except AudioDeviceLostError as err:
            report("Lost", message=str(err))
        if mode != "again":
            return
        time.sleep(0.2)


if __name__ == "__main__":
    main(*sys.argv[1:])
