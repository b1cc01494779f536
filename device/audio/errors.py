"""Why sound is refused. Every message is one line that tells the person or the operator what to do."""

from __future__ import annotations

from typing import ClassVar

from device.errors import DeviceError


class AudioError(DeviceError):
    """Sound could not be had at all. Nothing was heard, so nothing can be decided."""


class AudioDeviceLostError(AudioError):
    """The sound device went away or fell silent on the wire. Back off, reopen, keep the door locked."""


class QualityError(AudioError):
    """A recording that must not be judged. The door stays locked and the person may try again.

    `code` is a closed vocabulary for logs and audit events; the message is for people.
    """

    code: ClassVar[str] = "QUALITY"


class SilenceError(QualityError):
    """No voice was heard."""

    code = "SILENCE"


class WhisperedError(QualityError):
    """Speech in which no voice sounds."""

    code = "WHISPERED"


class TooEarlyError(QualityError):
    """Speech began before the door's own tone was over, and its first words are missing."""

    code = "TOO_EARLY"


class TooShortError(QualityError):
    """A voice, but too little of it."""

    code = "TOO_SHORT"


class TooLongError(QualityError):
    """Speech went on past the limit, or a recording is larger than we read."""

    code = "TOO_LONG"


class ClippedError(QualityError):
    """The microphone was overdriven."""

    code = "CLIPPED"


class TooNoisyError(QualityError):
    """The voice does not stand out from what is around it."""

    code = "TOO_NOISY"


class GapError(QualityError):
    """Samples were lost while the person spoke."""

    code = "GAP"


class UnreadableAudioError(QualityError):
    """Not the audio it claims to be: cut short, not finite, wrong rate or channels, or no audio at all."""

    code = "UNREADABLE"
