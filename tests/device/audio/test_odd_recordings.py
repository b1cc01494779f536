"""Recordings whose headers are odd: read bit for bit, or refused with the true reason."""

from __future__ import annotations

import base64
import gzip
import io
import struct

import numpy as np
import pytest
import soundfile

from device.audio.errors import UnreadableAudioError
from device.audio.recording import read_recording
from device.audio.settings import FileLimits

SOUND = (9_000 * np.sin(np.arange(8_000) / 8.5)).astype("<i2")
RAW = SOUND.tobytes()
PCM = bytes.fromhex("0100000000001000800000aa00389b71")
TOTAL = (1 << 36) - 1


def chunk(kind: bytes, data: bytes, length: int | None = None) -> bytes:
    return kind + struct.pack("<I", len(data) if length is None else length) + data + bytes(len(data) % 2)


def form(
    tag: int = 1, channels: int = 1, hz: int = 16_000, align: int = 2, bits: int = 16, more: bytes = b""
) -> bytes:
    each_s = hz * align & 0xFFFF_FFFF
    return chunk(b"fmt ", struct.pack("<HHIIHH", tag, channels, hz, each_s, align, bits) + more)


def extended(valid: int = 16, mask: int = 4, coding: bytes = PCM) -> bytes:
    return struct.pack("<HHI", 22, valid, mask) + coding


def riff(*chunks: bytes, magic: bytes = b"RIFF", length: int | None = None) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return magic + struct.pack("<I", len(body) if length is None else length) + body


DATA = chunk(b"data", RAW)
LONG = chunk(b"ds64", struct.pack("<QQQI", 0, 1 << 63, 0, 0))


def flac(hz: int | None = None, total: int | None = None, md5: bytes | None = None) -> bytes:
    written = io.BytesIO()
    soundfile.write(written, SOUND, 16_000, format="FLAC", subtype="PCM_16")
    content = bytearray(written.getvalue())
    packed = int.from_bytes(content[18:26], "big")
    if hz is not None:
        packed = packed & ~(0xFFFFF << 44) | hz << 44
    if total is not None:
        packed = packed & ~TOTAL | total
    content[18:26] = packed.to_bytes(8, "big")
    content[26:42] = md5 or content[26:42]
    return bytes(content)


def wave64() -> bytes:
    written = io.BytesIO()
    soundfile.write(written, SOUND, 16_000, format="W64", subtype="PCM_16")
    return written.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        riff(form(0xFFFE, more=extended()), DATA),
        riff(form(0xFFFE, more=extended(valid=0, mask=0)), DATA),
        riff(form(0xFFFE, more=extended(valid=200, mask=0xFFFF_FFFF)), DATA),
        riff(form(), form(), DATA),
        riff(form(), chunk(b"data", RAW, 0xFFFF_FFFF)),
        riff(form(), chunk(b"data", RAW, 0x8000_0000)),
        riff(form(), chunk(b"data", RAW, 0), length=0),
        riff(form(), DATA, length=36),
        riff(form(), DATA, chunk(b"data", b"")),
        riff(form(), DATA) * 2,
        riff(LONG, form(), chunk(b"data", RAW, 0xFFFF_FFFF), magic=b"RF64"),
        flac(md5=bytes(range(16))),
        flac() + bytes(5_000),
        flac(total=0) + bytes(5_000),
    ],
)
def test_an_odd_header_changes_no_sample(content: bytes) -> None:
    assert np.array_equal(read_recording(content, FileLimits()), SOUND)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (riff(form(0xFFFE, more=extended(coding=b"\x01\0" + b"\xaa" * 14)), DATA), "a coding of its own"),
        (riff(form(0xFFFE, more=bytes(2)), DATA), "header is cut short"),
        (riff(form(channels=0), DATA), "0 channels"),
        (riff(form(channels=65_535), DATA), "65535 channels"),
        (riff(form(hz=0), DATA), "0 Hz is no rate"),
        (riff(form(hz=0xFFFF_FFFF), DATA), "4294967295 Hz is no rate"),
        (riff(form(bits=0), DATA), "whole numbers of 0 bits"),
        (riff(form(bits=64, align=8), DATA), "whole numbers of 64 bits"),
        (riff(form(3, bits=16), DATA), "floating-point numbers of 16 bits"),
        (riff(form(bits=24, align=4), DATA), "contradicts itself"),
        (riff(form(align=4), DATA), "contradicts itself"),
        (riff(form(bits=8), DATA), "contradicts itself"),
        (riff(form(hz=8_000), form(), DATA), "says two things"),
        (riff(form(), DATA, chunk(b"LIST", b"INFO"), DATA), "more than one recording"),
        (riff(form(), chunk(b"data", b""), DATA), "more than one recording"),
        (riff(form(), chunk(b"LIST", b"wavl" + DATA)), "no chunk of this WAV file holds samples"),
        (riff(form(), chunk(b"DATA", RAW)), "no chunk of this WAV file holds samples"),
        (riff(DATA, form()), "does not say what the samples are"),
        (riff(form(), chunk(b"LIST", b"INFO", 0xFFFF_FFFF), DATA), "header is cut short"),
        (flac(total=4_000), "speaks of 4000 samples and 8000 are there"),
        (flac()[:30], "header is cut short"),
        (flac()[:4] + b"\x04" + flac()[5:], "FLAC header does not say"),
        (flac()[:5] + b"\0\0\x10" + flac()[8:], "FLAC header does not say"),
        (wave64(), "Wave64"),
        (b"FORM\0\0\x10\x008SVX" + RAW, "8SVX"),
        (b"RIFF\0\x10\0\0AVI " + RAW, "AVI"),
        (base64.b64encode(riff(form(), DATA)), "base64"),
        (base64.b64encode(flac()), "base64"),
        (b"data:audio/wav;base64,UklGRg==", "a data URL"),
        (gzip.compress(riff(form(), DATA)), "a compressed file"),
        (b"PK\x03\x04" + RAW, "a ZIP archive"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_true_reason(content: bytes, reason: str) -> None:
    with pytest.raises(UnreadableAudioError, match=reason) as refused:
        read_recording(content, FileLimits())
    assert "damaged" not in str(refused.value)
