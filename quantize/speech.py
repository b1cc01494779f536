"""Real speech that Debian packages carry, for choosing activation ranges and for proving parity.

It is read where the packages install it and never copied. The hash of the files goes into the manifest.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from device.audio.utterance import SAMPLE_RATE_HZ
from quantize.errors import QuantizeError
from sync.plain_file import LARGE_BYTES, plain_bytes
from sync.plain_words import what_and_why, why

MAX_CLIP_S = 8
PACKAGES = ("pocketsphinx-testdata", "asterisk-core-sounds-en-wav")

_SPHINX = Path("/usr/share/pocketsphinx/test/data")
_ASTERISK = Path("/usr/share/asterisk/sounds/en_US_f_Allison")
_SHORTEST_BYTES = 48_000  # three seconds of an 8 kHz prompt
_ASTERISK_CLIPS = 24
_PROMPT_BYTES = 24_000
"""One and a half seconds: shorter prompts tell little about a phrase."""
_SHORT_BYTES = 10_000


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """One recording: float32 mono at 16 kHz, at most MAX_CLIP_S long."""

    name: str
    speaker: str
    wave: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SpeechSet:
    """Files of real speech by speaker. Cheap until `clips` reads them."""

    files: tuple[tuple[str, Path], ...]

    @property
    def sha256(self) -> str:
        """Fingerprint of the files' names and bytes."""
        digest = hashlib.sha256()
        for _, path in self.files:
            data = _bytes(path)
            digest.update(f"{path.name}\0{len(data)}\0".encode() + data)
        return digest.hexdigest()

    def clips(self) -> list[Clip]:
        """Every recording, decoded; raises QuantizeError when one cannot be read."""
        return [Clip(path.name, speaker, _decode(path)) for speaker, path in self.files]


def packaged_speech(sphinx: Path = _SPHINX, asterisk: Path = _ASTERISK) -> SpeechSet:
    """Speech of several readers from Debian packages; raises QuantizeError naming the packages it lacks."""
    missing = [p for p, folder in zip(PACKAGES, (sphinx, asterisk), strict=True) if not folder.is_dir()]
    if missing:
        raise QuantizeError(f"the build needs recorded speech: sudo apt-get install {' '.join(missing)}")
    files = [("librivox", path) for path in sorted((sphinx / "librivox").glob("*.wav"))]
    files += [("cards", path) for path in sorted((sphinx / "cards").glob("*.wav"))]
    files += [(name, sphinx / f"{name}.raw") for name in ("goforward", "numbers", "something")]
    long_enough = [p for p in sorted(asterisk.glob("*.wav")) if p.stat().st_size > _SHORTEST_BYTES]
    step = max(1, len(long_enough) // _ASTERISK_CLIPS)
    files += [("asterisk", path) for path in long_enough[::step][:_ASTERISK_CLIPS]]
    return SpeechSet(tuple(files))


def parity_speech(sphinx: Path = _SPHINX, asterisk: Path = _ASTERISK, *, short: bool = False) -> SpeechSet:
    """Speech that no range is chosen on: half of `packaged_speech`, and all other sentences.

    With `short` the single words, digits and letters too, from 0.6 s.
    """
    known = packaged_speech(sphinx, asterisk).files
    others = [p for p in sorted(asterisk.glob("*.wav")) if p.stat().st_size > _PROMPT_BYTES]
    if short:
        spoken = [p for p in sorted(asterisk.rglob("*.wav")) if p.parent.name != "silence"]
        others = [p for p in spoken if p.stat().st_size > _SHORT_BYTES]
    taken = {path for _, path in known}
    return SpeechSet((*known[1::2], *(("asterisk", path) for path in others if path not in taken)))


def _bytes(path: Path) -> bytes:
    try:
        return plain_bytes(path, LARGE_BYTES)
    except OSError as err:
        raise QuantizeError(f"{path.name} cannot be read ({why(err)}); reinstall its package") from err


def _decode(path: Path) -> npt.NDArray[np.float32]:
    limit = MAX_CLIP_S * SAMPLE_RATE_HZ
    if path.suffix == ".raw":
        samples = np.frombuffer(_bytes(path), dtype="<i2")
        return samples[:limit].astype(np.float32) / 32768.0
    import soundfile  # imported here: a build with nothing to do never decodes
    import soxr

    try:
        wave, rate_hz = soundfile.read(io.BytesIO(_bytes(path)), dtype="float32", always_2d=True)
    except (OSError, soundfile.LibsndfileError) as err:
        raise QuantizeError(
            f"{path.name} cannot be read ({what_and_why(err)}); reinstall its package"
        ) from err
    mono = wave[:, 0]
    if rate_hz != SAMPLE_RATE_HZ:
        mono = soxr.resample(mono, rate_hz, SAMPLE_RATE_HZ)
    return np.ascontiguousarray(mono[:limit], dtype=np.float32)
