"""Turns what programs write into what one reader takes: WAV and FLAC in their plainest form. Pure.

A recording that was streamed through a pipe does not state its length; 4 GiB formats, tags and odd chunks are
common. All of that is undone here, and what is something else is named.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from device.audio.errors import UnreadableAudioError
from device.audio.files.flac_length import flac_length
from device.audio.files.wav_form import bytes_each

MAX_CHUNKS = 4096
MAX_TAGS = 8
MAX_FORM_BYTES = 1024
MAX_LIST_BYTES = 1 << 16
_TOTAL = 0xF_FFFF_FFFF
_STREAMED = 0x7FFF_0000
"""A promised length from here on, or none, is a writer's way of saying that it did not know."""
_PRINTABLE = frozenset(range(0x20, 0x7F))
_OTHERS = (
    (0, b"riff\x2e\x91\xcf\x11", "Wave64 (W64)"),
    (8, b"AVI ", "AVI"),
    (8, b"8SVX", "8SVX"),
    (0, b"UklGR", "base64 text"),
    (0, b"ZkxhQ", "base64 text"),
    (0, b"data:", "a data URL"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"\x1f\x8b", "a compressed file"),
    (0, b"version https://git-lfs", "a pointer of Git LFS"),
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
        return _flac(view[: _before_tags(view)], start, name)
    if magic[:4] in (b"RIFF", b"RF64", b"BW64") and magic[8:] in (b"WAVE", b""):
        found = _wave(view[start:], name)
        return Plain(found.header, start + found.start, start + found.stop)
    raise UnreadableAudioError(f"{name}: {_what(view)}; send a WAV or FLAC file")


def _what(view: memoryview) -> str:
    for at, mark, known in _OTHERS:
        if bytes(view[at : at + len(mark)]) == mark:
            return f"this is {known}, not a WAV or FLAC file"
    if len(view) > 1 and view[0] == 0xFF and view[1] & 0xE0 == 0xE0:
        return "this is MP3 or AAC, not a WAV or FLAC file"
    return "not a WAV or FLAC file"


def _after_id3(view: memoryview) -> int:
    """Where the file begins behind ID3v2 tags, which some programs put in front of FLAC and WAV."""
    at = 0
    for _ in range(MAX_TAGS):
        if bytes(view[at : at + 3]) != b"ID3" or len(view) < at + 10:
            break
        flags, size = view[at + 5], bytes(view[at + 6 : at + 10])
        if any(byte & 0x80 for byte in size):
            break
        at += 10 + (size[0] << 21 | size[1] << 14 | size[2] << 7 | size[3]) + (10 if flags & 0x10 else 0)
    return at if bytes(view[at : at + 4]) in (b"fLaC", b"RIFF", b"RF64", b"BW64") else 0


def _before_tags(view: memoryview) -> int:
    """Where the file ends before ID3v1 and APEv2 tags, which some programs put behind FLAC."""
    end = len(view)
    if bytes(view[max(0, end - 128) : end][:3]) == b"TAG":
        end -= 128
    if bytes(view[max(0, end - 32) : end][:8]) == b"APETAGEX":
        size, flags = struct.unpack_from("<I4xI", view, end - 20)
        size += 32 if flags & 0x8000_0000 else 0  # a header of its own, which `size` leaves out
        end = max(0, end - size)
    return end


def _flac(view: memoryview, start: int, name: str) -> Plain:
    """A FLAC whose STREAMINFO gives no length is given the one that its last frame tells."""
    info = start + 8  # magic, block header
    if len(view) < info + 34:
        raise UnreadableAudioError(f"{name}: the FLAC header is cut short; record it again")
    if view[start + 4] & 0x7F or int.from_bytes(view[start + 5 : info], "big") != 34:
        raise UnreadableAudioError(f"{name}: the FLAC header does not say what the samples are")
    # RFC 9639 8.2: 20 bits rate, 3 channels, 5 bits per sample, 36 bits of total samples, 128 of MD5.
    packed = int.from_bytes(view[info + 10 : info + 18], "big")
    total = flac_length(view, info)
    if stated := packed & _TOTAL:
        if total > stated:
            raise UnreadableAudioError(
                f"{name}: the FLAC header speaks of {stated} samples and {total} are there; save it again"
            )
        return Plain(b"", start, len(view))
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
            if length < 16 or position + length > len(view) or length > MAX_FORM_BYTES:
                break
            before, form = form, bytes(view[position : position + length])
            if before not in (b"", form):
                raise UnreadableAudioError(f"{name}: the WAV header says two things of its samples")
        position = _next_chunk(view, position + length, length)
    if form and position == len(view):
        raise UnreadableAudioError(f"{name}: no chunk of this WAV file holds samples; save it again as WAV")
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


def _chunks_to_end(view: memoryview, position: int) -> bool:
    """Whether nothing but whole chunks follows: then an empty one before them was meant to be empty."""
    for _ in range(MAX_CHUNKS):
        if position >= len(view) - 1:
            return position > 0
        if position + 8 > len(view) or not _is_kind(bytes(view[position : position + 4])):
            return False
        (length,) = struct.unpack_from("<I", view, position + 4)
        position += 8 + length
        if position > len(view):
            return False
        position = _next_chunk(view, position, length)
    return False


def _more_samples(view: memoryview, position: int) -> bool:
    """Whether another `data` chunk follows."""
    for _ in range(MAX_CHUNKS):
        if position + 8 > len(view):
            break
        kind, length = struct.unpack_from("<4sI", view, position)
        if kind == b"data" and length:
            return True
        if not _is_kind(kind):
            break
        position = _next_chunk(view, position + 8 + length, length)
    return False


def _before_list(view: memoryview, start: int, stop: int) -> int:
    """Where samples of unknown length end: before a LIST chunk that ends the file, or at `stop`."""
    tail = bytes(view[max(start, stop - MAX_LIST_BYTES) : stop])
    at = len(tail)
    while (at := tail.rfind(b"LIST", 0, at)) >= 0:
        here = stop - len(tail) + at
        if bytes(tail[at + 8 : at + 12]) in (b"INFO", b"adtl") and _chunks_to_end(view, here):
            return here
    return stop


def _data(view: memoryview, start: int, promised: int, form: bytes, name: str) -> Plain:
    block_align = bytes_each(form, name)
    present = len(view) - start
    streamed = promised >= _STREAMED or (promised == 0 and not _chunks_to_end(view, start))
    if promised > present and not streamed:
        raise UnreadableAudioError(
            f"{name}: the recording is cut short ({present} of {promised} bytes are there); record it again"
        )
    if not streamed and _more_samples(view, _next_chunk(view, start + promised, promised)):
        raise UnreadableAudioError(f"{name}: it holds more than one recording; save each in its own file")
    size = min(present, promised) if not streamed else _before_list(view, start, len(view)) - start
    size -= size % block_align
    if size <= 0:
        raise UnreadableAudioError(f"{name}: the recording holds no samples; record it again")
    # An odd `fmt ` chunk would need a pad of its own; none that we take is odd.
    form += bytes(len(form) % 2)
    head = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", size)
    header = b"RIFF" + struct.pack("<I", len(head) + size) + head
    return Plain(header, start, start + size)
