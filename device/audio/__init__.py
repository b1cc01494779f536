"""From a sound source to utterances that may be judged.

`listen(source, stop)` gives a stream's events, `load_utterance(path)` the speech in a file. `Microphone` is
imported from `device.audio.microphone`: everything else here works on a machine without a sound card.
"""

from device.audio.endpointer import (
    Ended,
    Endpointer,
    Event,
    Refused,
    SilenceBegan,
    SilenceLasts,
    SpeechResumed,
    SpeechStarted,
)
from device.audio.errors import (
    AudioDeviceLostError,
    AudioError,
    Flaw,
    QualityError,
)
from device.audio.fifo import FifoSource
from device.audio.listen import listen, load_utterance
from device.audio.settings import (
    AudioSettings,
    EndpointerSettings,
    QualityLimits,
)
from device.audio.source import AudioSource, FileSource
from device.audio.utterance import SAMPLE_RATE_HZ, Frame, Quality, Samples, Utterance

__all__ = [
    "SAMPLE_RATE_HZ",
    "AudioDeviceLostError",
    "AudioError",
    "AudioSettings",
    "AudioSource",
    "Ended",
    "Endpointer",
    "EndpointerSettings",
    "Event",
    "FifoSource",
    "FileSource",
    "Flaw",
    "Frame",
    "Quality",
    "QualityError",
    "QualityLimits",
    "Refused",
    "Samples",
    "SilenceBegan",
    "SilenceLasts",
    "SpeechResumed",
    "SpeechStarted",
    "Utterance",
    "listen",
    "load_utterance",
]
