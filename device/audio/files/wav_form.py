"""What a WAV file says of its samples, in its `fmt ` chunk. Pure."""

from __future__ import annotations

import struct

from device.audio.errors import UnreadableAudioError

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_CODINGS = {
    0x0002: "ADPCM",
    0x0006: "A-law",
    0x0007: "u-law",
    0x0011: "ADPCM",
    0x0031: "GSM",
    0x0050: "MPEG audio",
    0x0055: "MP3",
    0x00FF: "AAC",
    0x0160: "Windows Media",
    0x0161: "Windows Media",
    0x028F: "G.722",
    0x1600: "AAC",
    0x674F: "Vorbis",
    0x704F: "Opus",
}
"""What else a WAV file may hold (RFC 2361, and what ffmpeg writes)."""
_EXTENSIBLE_BYTES = 40
_SUBFORMATS = (
    bytes.fromhex("000000001000800000aa00389b71"),  # KSDATAFORMAT_SUBTYPE_*, behind the coding's number
    bytes.fromhex("00002107d3118644c8c1ca000000"),  # ambisonic B-format
)
_MOST_CHANNELS, _MOST_HZ = 1024, 0x7FFF_FFFF


def bytes_each(form: bytes, name: str) -> int:
    """Bytes that one moment of all channels takes. Raises UnreadableAudioError for a coding that is not
    taken, and for a header that contradicts itself: a guess would be another voice."""
    tag, channels, rate_hz, align, bits = struct.unpack_from("<HHI4xHH", form)
    if tag == _EXTENSIBLE:
        if len(form) < _EXTENSIBLE_BYTES:
            raise UnreadableAudioError(f"{name}: the WAV header is cut short; record it again")
        tag = int.from_bytes(form[24:26], "little") if form[26:40] in _SUBFORMATS else _EXTENSIBLE
    if tag not in (_PCM, _FLOAT):
        coding = _CODINGS.get(tag, f"a coding of its own (0x{tag:04X})")
        raise UnreadableAudioError(f"{name}: a WAV file that holds {coding}; convert it to 16-bit PCM")
    if align == 0:
        raise UnreadableAudioError(f"{name}: the WAV header does not say what the samples are")
    if not 0 < channels <= _MOST_CHANNELS:
        raise UnreadableAudioError(f"{name}: {channels} channels; record in mono")
    if not 0 < rate_hz <= _MOST_HZ:
        raise UnreadableAudioError(f"{name}: {rate_hz} Hz is no rate we take; record at 16000 Hz")
    if bits not in (range(1, 33) if tag == _PCM else (32, 64)):
        kind = "whole numbers" if tag == _PCM else "floating-point numbers"
        raise UnreadableAudioError(f"{name}: {kind} of {bits} bits are not taken; convert it to 16-bit PCM")
    if align != channels * ((bits + 7) // 8):
        raise UnreadableAudioError(
            f"{name}: the WAV header contradicts itself ({channels} of {bits} bits in {align} bytes); "
            "convert it to 16-bit PCM"
        )
    return int(align)
