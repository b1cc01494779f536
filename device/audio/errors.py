"""Why sound is refused. Every message is one line that tells the person or the operator what to do."""

from __future__ import annotations

from enum import StrEnum

from device.errors import DeviceError


class AudioError(DeviceError):
    """Sound could not be had at all. Nothing was heard, so nothing can be decided."""


class AudioDeviceLostError(AudioError):
    """The sound device went away or fell silent on the wire. Back off, reopen, keep the door locked."""


class Flaw(StrEnum):
    """Why a recording must not be judged: the codes of logs, audit events and the API."""

    SILENCE = "SILENCE"
    WHISPERED = "WHISPERED"
    TOO_EARLY = "TOO_EARLY"
    """Speech began before the door's own tone was over, and its first words are missing."""
    TOO_SHORT = "TOO_SHORT"
    TOO_LONG = "TOO_LONG"
    """Speech went on past the limit, or a recording is larger than is read."""
    CLIPPED = "CLIPPED"
    TOO_NOISY = "TOO_NOISY"
    GAP = "GAP"
    """Samples were lost while the person spoke."""
    UNREADABLE = "UNREADABLE"
    OTHER = "QUALITY"


class QualityError(AudioError):
    """A recording that must not be judged. The door stays locked and the person may try again."""

    def __init__(self, code: Flaw, message: str) -> None:
        """`message` is for people: one line that says what to do."""
        super().__init__(message)
        self.code = code


class UnreadableAudioError(QualityError):
    """Not the audio it claims to be: cut short, not finite, wrong rate or channels, or no audio at all."""

    def __init__(self, message: str) -> None:
        super().__init__(Flaw.UNREADABLE, message)
