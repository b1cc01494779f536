"""From what programs write to what one reader takes: WAV and FLAC in their plainest form. Pure.

A recording that was streamed through a pipe does not know its own length; files of 4 GiB formats, tags and
odd chunks are common. All of that is undone here, so that the library behind sees one kind of header, and
whatever is something else is named.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from device.audio.errors import UnreadableAudioError
from device.audio.files.flac_length import flac_length

MAX_CHUNKS = 4096
_TOTAL = 0xF_FFFF_FFFF
_STREAMED = 0x7FFF_0000
"""A promised length from here on, or none, is a writer's way of saying that it did not know."""
_PRINTABLE = frozenset(range(0x20, 0x7F))
_OTHERS = (
    (0, b"\x1a\x45\xdf\xa3", "WebM, as browsers record it"),
    (0, b"OggS", "Ogg (Opus or Vorbis)"),
    (4, b"ftyp", "MPEG-4 (M4A or 3GP), as phones record it"),
    (0, b"#!AMR", "AMR, as phones record it"),
    (0, b"RIFX", "a big-endian WAV file"),
    (0, b"FORM", "AIFF"),
    (0, b"caff", "CAF"),
    (0, b"\x30\x26\xb2\x75", "Windows Media"),
    (0, b".snd", "AU"),
    (0, b"ID3", "MP3"),
)


@dataclass(frozen=True, slots=True)
class Plain:
    """What to hand to the library: `header`, then `content[start:stop]`."""

    header: bytes
    start: int
    stop: int


def plain(content: bytes | bytearray | memoryview, name: str) -> Plain:
    """Where the recording lies in `content`. Raises UnreadableAudioError saying what is there instead."""
    view = memoryview(content)
    start = _after_id3(view)
    magic = bytes(view[start : start + 12])
    if magic[:4] == b"fLaC":
        return _flac(view, start, name)
    if start == 0 and magic[:4] in (b"RIFF", b"RF64", b"BW64") and magic[8:] in (b"WAVE", b""):
        return _wave(view, name)
    raise UnreadableAudioError(f"{name}: {_what(view)}; send a WAV or FLAC file")


def _what(view: memoryview) -> str:
    for at, mark, known in _OTHERS:
        if bytes(view[at : at + len(mark)]) == mark:
            return f"this is {known}, not a WAV or FLAC file"
    if len(view) > 1 and view[0] == 0xFF and view[1] & 0xE0 == 0xE0:
        return "this is MP3 or AAC, not a WAV or FLAC file"
    return "not a WAV or FLAC file"


def _after_id3(view: memoryview) -> int:
    """Where the file begins behind an ID3v2 tag, which some programs put in front of FLAC."""
    if bytes(view[:3]) != b"ID3" or len(view) < 10 or any(byte & 0x80 for byte in view[6:10]):
        return 0
    size = view[6] << 21 | view[7] << 14 | view[8] << 7 | view[9]
    after = 10 + size + (10 if view[5] & 0x10 else 0)
    return after if bytes(view[after : after + 4]) == b"fLaC" else 0


def _flac(view: memoryview, start: int, name: str) -> Plain:
    """A FLAC whose STREAMINFO gives no length is given the one that its last frame tells."""
    info = start + 8  # magic, block header
    if len(view) < info + 34 or view[start + 4] & 0x7F:
        raise UnreadableAudioError(f"{name}: the FLAC header is cut short; record it again")
    # RFC 9639 8.2: 20 bits rate, 3 channels, 5 bits per sample, 36 bits of total samples, 128 of MD5.
    packed = int.from_bytes(view[info + 10 : info + 18], "big")
    if packed & _TOTAL:
        return Plain(b"", start, len(view))
    total = flac_length(view, info)
    if not 0 < total <= _TOTAL:
        raise UnreadableAudioError(f"{name}: the recording is cut short; record it again")
    header = bytes(view[start : info + 10]) + (packed | total).to_bytes(8, "big")
    return Plain(header, info + 18, len(view))


def _wave(view: memoryview, name: str) -> Plain:
    """RIFF is chunks: four letters, a length, the content, and a pad byte that some writers forget."""
    position, form, long_data = 12, b"", 0
    for _ in range(MAX_CHUNKS):
        if position + 8 > len(view):
            break
        kind, length = struct.unpack_from("<4sI", view, position)
        position += 8
        if kind == b"data":
            if not form:
                raise UnreadableAudioError(f"{name}: the WAV header does not say what the samples are")
            return _data(view, position, long_data if length == 0xFFFF_FFFF else length, form, name)
        if kind == b"ds64" and length >= 24 and position + 16 <= len(view):
            long_data = int(struct.unpack_from("<Q", view, position + 8)[0])
        if kind == b"fmt ":
            if length < 16 or position + length > len(view) or length > 64:
                break
            form = bytes(view[position : position + length])
        position = _next_chunk(view, position + length, length)
    raise UnreadableAudioError(f"{name}: the WAV header is cut short; record it again")


_USUAL = frozenset({b"data", b"fmt ", b"fact", b"LIST", b"ds64", b"junk", b"JUNK", b"bext"})


def _next_chunk(view: memoryview, end: int, length: int) -> int:
    """Behind the pad byte of an odd chunk, unless the next chunk plainly begins without one."""
    if length % 2 == 0:
        return end
    padded, unpadded = bytes(view[end + 1 : end + 5]), bytes(view[end : end + 4])
    if unpadded in _USUAL and padded not in _USUAL:  # "ata" and a letter's length would look like one too
        return end
    if _is_kind(unpadded) and not _is_kind(padded):
        return end
    return end + 1


def _is_kind(letters: bytes) -> bool:
    return len(letters) == 4 and all(byte in _PRINTABLE for byte in letters)


def _data(view: memoryview, start: int, promised: int, form: bytes, name: str) -> Plain:
    present = len(view) - start
    block_align = int.from_bytes(form[12:14], "little")
    if block_align == 0:
        raise UnreadableAudioError(f"{name}: the WAV header does not say what the samples are")
    streamed = promised >= _STREAMED or promised == 0
    if promised > present and not streamed:
        raise UnreadableAudioError(
            f"{name}: the recording is cut short ({present} of {promised} bytes are there); record it again"
        )
    size = min(present, promised) if not streamed else present
    size -= size % block_align
    if size <= 0:
        raise UnreadableAudioError(f"{name}: the recording holds no samples; record it again")
    # An odd `fmt ` chunk would need a pad of its own; none that we take is odd.
    form += bytes(len(form) % 2)
    head = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", size)
    header = b"RIFF" + struct.pack("<I", len(head) + size) + head
    return Plain(header, start, start + size)
