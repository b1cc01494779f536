"""`ostiary doctor --sound`: a chirp out and in again, and what is wrong with the microphone itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from threading import Event

from device.audio.card.health import Trouble
from device.audio.card.loudspeaker import Loudspeaker, self_test
from device.audio.card.process import CardProcess
from device.audio.microphone import Microphone
from device.audio.settings import MicrophoneSettings
from device.errors import DeviceError
from device.settings import Settings

LISTEN_S = 11.0
"""Two looks at its rate, and two at each other trouble."""
REMEDIES = {
    Trouble.STUCK: "it gives one number for ever; replace it",
    Trouble.DEAD_CHANNEL: "one of its channels is dead; see to its plug and cable",
    Trouble.CLIPPED: "it is far too loud; turn its capture level down with `alsamixer`",
    Trouble.OFFSET: "its sound stands far from zero; replace it",
    Trouble.INVERTED: "one of two channels is wired the wrong way round; turn its wires",
    Trouble.RATE: "it loses samples or runs at another rate than it says; try another port or card",
}


def sound(settings: Settings) -> str:
    """Try loudspeaker and microphone together: level, noise and band; then listen. Raises DeviceError."""
    with closing(Loudspeaker()) as speaker, closing(Microphone(settings.audio.microphone)) as microphone:
        report = self_test(microphone, speaker)
    if report.complaint:
        raise DeviceError(f"{report}; {report.complaint}")
    if found := troubles(settings.audio.microphone):
        raise DeviceError(f"{report}; " + "; ".join(REMEDIES[trouble] for trouble in found))
    return str(report)


def troubles(
    settings: MicrophoneSettings,
    start: Callable[[], CardProcess] = CardProcess,
    listen_s: float = LISTEN_S,
) -> list[Trouble]:
    """What is found in so many seconds of its sound, from the first frame on: a device may be slow to open.
    Raises AudioError where nothing is heard.
    """
    found: list[Trouble] = []
    until_s: float | None = None
    with closing(Microphone(settings, found.append, start)) as microphone:
        frames = microphone.frames(Event())
        with closing(frames):  # type: ignore[type-var]
            for frame in frames:
                frame.samples[:] = 0
                if until_s is None:
                    until_s = time.monotonic() + listen_s
                elif time.monotonic() >= until_s:
                    break
    return found
