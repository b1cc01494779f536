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
from threading import Event

import numpy as np

from device.audio import AudioDeviceLostError, MicrophoneSettings
from device.audio.card.loudspeaker import Loudspeaker, self_test
from device.audio.microphone import Microphone
from device.feedback.earcons import Earcon, waveform
from tests.e2e.sound_server import SINK, SoundServer

RATES_HZ = (44_100, 48_000, 16_000, 22_050)


def pactl(*arguments: str) -> None:
    subprocess.run(["pactl", *arguments], check=True, timeout=60, stdout=subprocess.DEVNULL)


def plug(rate_hz: int) -> None:
    pactl("load-module", "module-null-sink", f"sink_name={SINK}", f"rate={rate_hz}")
    pactl("set-default-sink", SINK)


def hears(microphone: Microphone, speaker: Loudspeaker) -> bool:
    """Whether a tone of the loudspeaker reaches the microphone; two more tries for a slow machine."""
    for _ in range(3):
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
    try:
        for _ in microphone.frames(Event()):
            pass
    except AudioDeviceLostError:
        return True
    return False


def cycles(count: int) -> int:
    settings = MicrophoneSettings(start_s=10.0, stall_s=1.0)
    microphone, speaker = Microphone(settings), Loudspeaker()
    deaf = 0
    for cycle in range(count):
        kind = cycle % 3
        if kind == 0:  # a glitch: the device is gone for a moment while a tone plays
            speaker(waveform(Earcon.SPEAK_NOW))
            pactl("unload-module", "module-null-sink")
            plug(RATES_HZ[cycle % len(RATES_HZ)])
        elif kind == 1:  # unplugged, and tried meanwhile
            pactl("unload-module", "module-null-sink")
            if not lost(microphone):
                deaf += 1
            plug(RATES_HZ[cycle % len(RATES_HZ)])
        else:  # unplugged in mid-stream, back with another rate
            frames = microphone.frames(Event())
            next(iter(frames))
            pactl("unload-module", "module-null-sink")
            try:
                for _ in frames:
                    pass
            except AudioDeviceLostError:
                pass
            plug(RATES_HZ[cycle % len(RATES_HZ)])
        if not hears(microphone, speaker):
            deaf += 1
    heard = hears(microphone, speaker)
    speaker.close()
    microphone.close()
    print(json.dumps({"cycles": count, "deaf": deaf, "heard_at_the_end": heard}))
    return 0 if heard and not deaf else 1


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
