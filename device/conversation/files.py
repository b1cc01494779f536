"""One recording of several people, from the file to who spoke when."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from device.audio import QualityError
from device.audio.errors import Flaw
from device.audio.recording import read_recording
from device.audio.settings import FileLimits
from device.audio.utterance import SAMPLE_RATE_HZ, wipe
from device.conversation.band import is_narrow
from device.conversation.diarization import Diarization, diarize
from device.conversation.hearing import SHORTEST_S, Progress, windows
from device.conversation.naming import Known
from device.conversation.opening import ConversationModels
from device.errors import DeviceError

MAX_BYTES = 1 << 30


def diarize_file(
    source: str | os.PathLike[str] | bytes,
    models: ConversationModels,
    *,
    longest_s: float,
    known: Known | None = None,
    speakers: int | None = None,
    progress: Progress = lambda done: None,
) -> Diarization:
    """Who spoke when in a WAV or FLAC file (its path, or its content); the samples are overwritten. Raises
    QualityError for what cannot be read, and for a telephone's band, on which no threshold was chosen,
    unless `speakers` is given and `known` is not. Raises DeviceError for what is too long or too short."""
    name = "recording" if isinstance(source, bytes) else Path(source).name
    try:
        samples = read_recording(source, replace(FileLimits(), max_bytes=MAX_BYTES, max_s=longest_s))
    except QualityError as err:
        if err.code is not Flaw.TOO_LONG:
            raise
        raise DeviceError(
            f"{name}: longer than {longest_s / 60:g} min; cut it, or raise [conversation] longest_min"
        ) from err
    try:
        seconds = len(samples) / SAMPLE_RATE_HZ
        if seconds < SHORTEST_S:
            raise DeviceError(f"{name}: shorter than {SHORTEST_S:g} s; there is nobody to tell apart")
        if is_narrow(samples) and (known is not None or speakers is None):
            raise QualityError(
                Flaw.OTHER,
                f"{name}: a telephone's band, for which voices are not calibrated; leave out --known and say "
                "how many people there are (--speakers)",
            )
        heard = [*windows(samples, models.segmentation, models.speaker, progress)]
        return diarize(heard, seconds, known, speakers)
    finally:
        wipe(samples)
