"""Tells a person at the door the state of their attempt: words, lights, tones."""

from device.feedback.earcons import Earcon, waveform
from device.feedback.messages import Language, LanguageError, language, languages
from device.feedback.outputs import KernelLeds
from device.feedback.page import PageSink
from device.feedback.sinks import Cue, EarconSink, Feedback, LightSink, Sink, Stage, TerminalSink

__all__ = [
    "Cue",
    "Earcon",
    "EarconSink",
    "Feedback",
    "KernelLeds",
    "Language",
    "LanguageError",
    "LightSink",
    "PageSink",
    "Sink",
    "Stage",
    "TerminalSink",
    "language",
    "languages",
    "waveform",
]
