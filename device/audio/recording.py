"""Reads a recorded phrase from a file or from memory: WAV or FLAC of any usual rate, to 16 kHz mono int16.

Of two channels that agree (one voice, two microphones) the first is heard, for what reaches one of them later
would cancel a part of it; two that do not agree are refused. What is
cut short, not finite or not audio is refused, never repaired; only the length, which a writer to a pipe
cannot know, is taken from where the file ends.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from device.audio.errors import Flaw, QualityError, UnreadableAudioError
from device.audio.files.containers import plain
from device.audio.settings import FileLimits
from device.audio.spoiled.lost_blocks import replaced
from device.audio.utterance import SAMPLE_RATE_HZ, Samples
from sync.plain_file import plain_descriptor
from sync.plain_words import why

MIN_RATE_HZ, MAX_RATE_HZ = 8_000, 192_000
MAX_CHANNELS = 2
MAX_SIDE_TO_MID = 0.25
"""Energy of half the channels' difference over that of their mean; one voice on both stays far below."""
BLOCK_S = 1
MIN_GAPS = 3
"""Lost blocks that one file may hold: an editor leaves one or two."""
_SUBTYPES = frozenset({"PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"})

_Wave = npt.NDArray[np.float32]


def read_recording(
    source: str | os.PathLike[str] | bytes, limits: FileLimits, *, unbroken: bool = False
) -> Samples:
    """The samples of a file, or of its content: int16, mono, 16 kHz, shape (n,), n > 0. Raises
    QualityError: TOO_LONG beyond `limits`, GAP where `unbroken` sound is wanted and blocks of it were
    lost, UNREADABLE."""
    content: bytes | bytearray
    if isinstance(source, bytes):
        name, content = "recording", _in_memory(source, limits)
    else:
        name = "".join(letter if letter.isprintable() else "?" for letter in Path(source).name)
        content = _in_file(source, name, limits)
    try:
        found = plain(content, name)
        pieces = (found.header, memoryview(content)[found.start : found.stop])
        with (
            _anonymous(pieces) as descriptor,
            soundfile.SoundFile(descriptor, closefd=False) as sound,
        ):
            _check_format(sound, name, limits)
            return _to_samples(_Blocks(sound, name, unbroken), sound.samplerate)
    except soundfile.SoundFileError as err:
        raise UnreadableAudioError(f"{name}: this audio file is damaged; record it again") from err
    finally:
        if isinstance(content, bytearray):
            content[:] = bytes(len(content))


def _in_file(path: str | os.PathLike[str], name: str, limits: FileLimits) -> bytearray:
    """The file's content, to be overwritten. Non-blocking: a named pipe without a writer cannot hang us."""
    try:
        descriptor = plain_descriptor(path)
    except (OSError, ValueError) as err:
        reason = why(err) if isinstance(err, OSError) else "not a path"
        raise UnreadableAudioError(f"{name}: cannot be opened ({reason})") from err
    try:
        status = os.fstat(descriptor)
        if status.st_size == 0:
            raise UnreadableAudioError(f"{name}: the file is empty; record it again")
        if status.st_size > limits.max_bytes:
            raise QualityError(
                Flaw.TOO_LONG, f"{name}: larger than {limits.max_bytes >> 20} MiB; give one phrase per file"
            )
        content, at = bytearray(status.st_size), 0
        while at < len(content):
            count = os.preadv(descriptor, [memoryview(content)[at:]], at)
            if count == 0:
                raise UnreadableAudioError(f"{name}: the file became shorter while it was read; try again")
            at += count
        return content
    except OSError as err:
        raise UnreadableAudioError(f"{name}: cannot be read ({why(err)})") from err
    finally:
        os.close(descriptor)


def _in_memory(content: bytes, limits: FileLimits) -> bytes:
    if not content:
        raise UnreadableAudioError("recording: it is empty; record it again")
    if len(content) > limits.max_bytes:
        raise QualityError(
            Flaw.TOO_LONG, f"recording: larger than {limits.max_bytes >> 20} MiB; give one phrase at a time"
        )
    return content


@contextmanager
def _anonymous(pieces: tuple[bytes | memoryview, ...]) -> Iterator[int]:
    """The pieces behind a descriptor that never had a path. Its pages are overwritten before they go."""
    descriptor = os.memfd_create("recording", os.MFD_CLOEXEC)
    size = sum(len(piece) for piece in pieces)
    try:
        with open(descriptor, "wb", closefd=False) as memory:
            for piece in pieces:
                memory.write(piece)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.pwrite(descriptor, bytes(size), 0)
        os.close(descriptor)


def _check_format(sound: soundfile.SoundFile, name: str, limits: FileLimits) -> None:
    if not MIN_RATE_HZ <= sound.samplerate <= MAX_RATE_HZ:
        raise UnreadableAudioError(
            f"{name}: {sound.samplerate} Hz is no rate we take; record at 16000 Hz "
            f"(between {MIN_RATE_HZ} and {MAX_RATE_HZ})"
        )
    if sound.channels > MAX_CHANNELS:
        raise UnreadableAudioError(f"{name}: {sound.channels} channels; record in mono")
    if sound.subtype not in _SUBTYPES:
        raise UnreadableAudioError(f"{name}: {sound.subtype} coding is not taken; convert it to 16-bit PCM")
    if sound.frames > limits.max_s * sound.samplerate:
        raise QualityError(
            Flaw.TOO_LONG, f"{name}: longer than {limits.max_s:.0f} s; give one phrase per file"
        )


class _Blocks:
    """The file's mono blocks, one second each, so that memory stays small whatever the rate."""

    def __init__(self, sound: soundfile.SoundFile, name: str, unbroken: bool) -> None:
        self._sound = sound
        self.name = name
        self._unbroken = unbroken

    def __iter__(self) -> Iterator[_Wave]:
        sound, name = self._sound, self.name
        read, mid_energy, side_energy, gaps = 0, 0.0, 0.0, 0
        while read < sound.frames:
            block: _Wave = sound.read(sound.samplerate * BLOCK_S, dtype="float32", always_2d=True)
            if not len(block):
                raise UnreadableAudioError(f"{name}: the recording is cut short; record it again")
            if not np.isfinite(block).all():
                raise UnreadableAudioError(f"{name}: holds values that are no sound (NaN or infinite)")
            read += len(block)
            np.clip(block, -1.0, 1.0, out=block)
            mono = block[:, 0].copy()
            if sound.channels == MAX_CHANNELS:
                mid_energy += float(np.square(block.mean(axis=1)).sum())
                side_energy += float(np.square((block[:, 0] - block[:, 1]) / 2).sum())
            if self._unbroken:
                whole = np.round(block[:, 0] * 32767).astype(np.int16)
                gaps += len(replaced(whole, sound.samplerate))
                whole[:] = 0
            block[:] = 0.0
            yield mono
        if gaps >= MIN_GAPS:
            raise QualityError(Flaw.GAP, "Part of that was lost. Please say the phrase again.")
        if side_energy > MAX_SIDE_TO_MID * mid_energy:
            raise UnreadableAudioError(f"{name}: its two channels differ too much; record in mono")


def _to_samples(blocks: _Blocks, rate_hz: int) -> Samples:
    resampler = None
    if rate_hz != SAMPLE_RATE_HZ:
        resampler = soxr.ResampleStream(rate_hz, SAMPLE_RATE_HZ, 1, dtype="float32", quality="HQ")
    parts = []
    for block in blocks:
        parts.append(_to_int16(block if resampler is None else resampler.resample_chunk(block)))
        block[:] = 0.0
    if resampler is not None:
        parts.append(_to_int16(resampler.resample_chunk(np.zeros(0, np.float32), last=True)))
    if not any(len(part) for part in parts):
        raise UnreadableAudioError(f"{blocks.name}: the recording holds no samples; record it again")
    samples: Samples = np.concatenate(parts)
    for part in parts:
        part[:] = 0
    return samples


def _to_int16(wave: _Wave) -> Samples:
    samples: Samples = np.clip(np.rint(wave * 32768.0), -32768, 32767).astype(np.int16)
    return samples
