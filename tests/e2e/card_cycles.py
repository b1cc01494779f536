"""What a test runs in a process of its own: one microphone and one loudspeaker through a bad day.

`python -m tests.e2e.card_cycles cycles 500` is the long form; it wants the environment of a SoundServer, and
starts one when it has none.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from threading import Event

import numpy as np

from device.audio import AudioDeviceLostError, Frame
from device.audio.card.loudspeaker import Loudspeaker, self_test
from device.audio.microphone import Microphone
from device.audio.settings import MicrophoneSettings
from device.feedback.earcons import Earcon, waveform
from tests.e2e.sound_server import SINK, SoundServer

RATES_HZ = (44_100, 48_000, 16_000, 22_050)


def pactl(*arguments: str) -> None:
    subprocess.run(["pactl", *arguments], check=True, timeout=60, stdout=subprocess.DEVNULL)


def plug(rate_hz: int) -> None:
    pactl("load-module", "module-null-sink", f"sink_name={SINK}", f"rate={rate_hz}")
    pactl("set-default-sink", SINK)


def unplug() -> None:
    pactl("unload-module", "module-null-sink")


def hears(microphone: Microphone, speaker: Loudspeaker) -> bool:
    """Whether a tone of the loudspeaker reaches the microphone, within minutes: slow is not deaf."""
    patience_s = time.monotonic() + 180.0
    while time.monotonic() < patience_s:
        try:
            speaker(waveform(Earcon.OPEN))
            loudest, until_s = 0, time.monotonic() + 10.0
            for frame in microphone.frames(Event()):
                loudest = max(loudest, int(np.abs(frame.samples.astype(np.int32)).max()))
                if loudest > 1_000 or time.monotonic() > until_s:
                    break
            if loudest > 1_000:
                return True
        except AudioDeviceLostError:
            time.sleep(0.2)
    return False


def lost(microphone: Microphone) -> bool:
    """Whether an attempt on it ends with an error within a minute."""
    return lost_from(microphone.frames(Event()))


def lost_from(frames: Iterator[Frame]) -> bool:
    until_s = time.monotonic() + 60.0
    try:
        for _ in frames:
            if time.monotonic() > until_s:
                return False
    except AudioDeviceLostError:
        return True
    return False


def glitch(microphone: Microphone, speaker: Loudspeaker, rate_hz: int) -> bool:
    """The device is gone for a moment while a tone plays."""
    speaker(waveform(Earcon.SPEAK_NOW))
    unplug()
    plug(rate_hz)
    return True


def unplugged(microphone: Microphone, speaker: Loudspeaker, rate_hz: int) -> bool:
    """It is not there when somebody comes."""
    unplug()
    told = lost(microphone)
    plug(rate_hz)
    return told


def replugged(microphone: Microphone, speaker: Loudspeaker, rate_hz: int) -> bool:
    """It goes while somebody speaks, and comes back a moment later."""
    frames = microphone.frames(Event())
    next(frames)
    unplug()
    told = lost_from(frames)
    plug(rate_hz)
    return told


def busy(microphone: Microphone, speaker: Loudspeaker, rate_hz: int) -> bool:
    """Another program has it: PulseAudio gives a device away by suspending what uses it."""
    pactl("suspend-sink", SINK, "1")
    told = lost(microphone)
    pactl("suspend-sink", SINK, "0")
    return told


def another_rate(microphone: Microphone, speaker: Loudspeaker, rate_hz: int) -> bool:
    """In mid-stream and mid-tone it becomes a device with another rate."""
    frames = microphone.frames(Event())
    next(frames)
    speaker(waveform(Earcon.REFUSED))
    unplug()
    plug(rate_hz)
    lost_from(frames)
    return True


KINDS = (glitch, unplugged, replugged, busy, another_rate)


def cycles(count: int) -> int:
    """`count` faults of every kind in turn, then a tone that must be heard. Prints what came out, as JSON."""
    microphone, speaker = Microphone(MicrophoneSettings(start_s=10.0, stall_s=1.0)), Loudspeaker()
    wrong: dict[str, int] = {}
    for cycle in range(count):
        kind = KINDS[cycle % len(KINDS)]
        began_s = time.monotonic()
        told = kind(microphone, speaker, RATES_HZ[cycle % len(RATES_HZ)])
        fault_s = time.monotonic() - began_s
        heard = hears(microphone, speaker)
        if not told or not heard:
            wrong[kind.__name__] = wrong.get(kind.__name__, 0) + 1
        print(
            f"{cycle} {kind.__name__}: {'told' if told else 'NOT TOLD'} after {fault_s:.1f} s, "
            f"{'heard' if heard else 'DEAF'} after {time.monotonic() - began_s:.1f} s",
            file=sys.stderr,
            flush=True,
        )
    heard = hears(microphone, speaker)
    speaker.close()
    microphone.close()
    print(json.dumps({"cycles": count, "deaf_or_silent_about_it": wrong, "heard_at_the_end": heard}))
    return 0 if heard and not wrong else 1


def main(mode: str, count: str = "1") -> int:
    if mode == "cycles":
        return cycles(int(count))
    microphone, speaker = Microphone(MicrophoneSettings(start_s=10.0)), Loudspeaker()
    report = self_test(microphone, speaker)
    speaker.close()
    microphone.close()
    print(json.dumps({"report": str(report), "complaint": report.complaint}))
    return 0


if __name__ == "__main__":
    if "ALSA_CONFIG_PATH" not in os.environ:
        with SoundServer() as server:
            sys.exit(
                subprocess.run(
                    [sys.executable, "-m", "tests.e2e.card_cycles", *sys.argv[1:]],
                    env=server.environment,
                    check=False,
                ).returncode
            )
    sys.exit(main(*sys.argv[1:]))
