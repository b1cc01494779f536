"""From a sound source to utterances that may be judged.

`listen(source, stop)` gives a stream's events, `utterances(source, stop)` only what was said, and
`load_utterance(path)` the speech in a file. `Microphone` is imported from `device.audio.microphone`, the
one module that touches the sound card: everything else here works on a machine without one.
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
    ClippedError,
    GapError,
    QualityError,
    SilenceError,
    TooEarlyError,
    TooLongError,
    TooNoisyError,
    TooShortError,
    UnreadableAudioError,
    WhisperedError,
)
from device.audio.fifo import FifoSource, RawFormat
from device.audio.listen import listen, load_utterance, utterances
from device.audio.quality import check
from device.audio.settings import (
    AudioSettings,
    EndpointerSettings,
    FileLimits,
    MicrophoneSettings,
    QualityLimits,
)
from device.audio.source import AudioSource, FileSource, Reopening
from device.audio.utterance import SAMPLE_RATE_HZ, Frame, Quality, Samples, Utterance

__all__ = [
    "SAMPLE_RATE_HZ",
    "AudioDeviceLostError",
    "AudioError",
    "AudioSettings",
    "AudioSource",
    "ClippedError",
    "Ended",
    "Endpointer",
    "EndpointerSettings",
    "Event",
    "FifoSource",
    "FileLimits",
    "FileSource",
    "Frame",
    "GapError",
    "MicrophoneSettings",
    "Quality",
    "QualityError",
    "QualityLimits",
    "RawFormat",
    "Refused",
    "Reopening",
    "Samples",
    "SilenceBegan",
    "SilenceError",
    "SilenceLasts",
    "SpeechResumed",
    "SpeechStarted",
    "TooEarlyError",
    "TooLongError",
    "TooNoisyError",
    "TooShortError",
    "UnreadableAudioError",
    "Utterance",
    "WhisperedError",
    "check",
    "listen",
    "load_utterance",
    "utterances",
]
