"""The speech and the attacks to learn from, in memory, levelled; a tenth of it is kept out of training."""

from __future__ import annotations

import csv
import hashlib
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import soxr
from rich.progress import track

from device.audio.utterance import SAMPLE_RATE_HZ
from quantize.errors import QuantizeError
from quantize.train.speech.attacks import INDEX, Row, listed
from sync.plain_file import LARGE_BYTES, plain_path, plain_text

CACHE_VERSION = 4
Samples = npt.NDArray[np.int16]
Wave = npt.NDArray[np.floating[Any]]

FAMILIES = {
    "autovc": "autovc",
    "voicemixer": "voicemixer",
    "vm": "voicemixer",
    "diffvc": "diffvc",
    "styletts2": "styletts2",
    "st_styletts2": "styletts2",
    "st_styletts": "styletts",
    "naturalspeech2": "naturalspeech2",
    "st_naturalspeech2": "naturalspeech2",
    "st_naturalspeech": "naturalspeech",
    "valle": "valle",
    "st_valle": "valle",
    "yourtts": "yourtts",
    "st_yourtts": "yourtts",
    "freevc": "freevc",
    "freevc-s": "freevc",
    "freevc-spk": "freevc",
    "freevc-sr": "freevc",
    "flite": "diphone-and-hts",
    "festival": "diphone-and-hts",
    "mlsa": "diphone-and-hts",
    "timescale": "stretched",
    "pitchshift": "stretched",
    "neuralcopy": "piper",
}
"""A system's name on a page -> its family. Flite and Festival share voices and methods, MLSA copies have the
method of their statistical voices; the two ways to stretch speech share tools, and neural copies come out of
Piper's decoder."""

CODECS = {
    "mp3-32": (["-c:a", "libmp3lame", "-b:a", "32k"], "mp3"),
    "mp3-64": (["-c:a", "libmp3lame", "-b:a", "64k"], "mp3"),
    "mp3-96": (["-c:a", "libmp3lame", "-b:a", "96k"], "mp3"),
    "opus-16": (["-c:a", "libopus", "-b:a", "16k"], "ogg"),
    "opus-24": (["-c:a", "libopus", "-b:a", "24k"], "ogg"),
    "aac-32": (["-c:a", "aac", "-b:a", "32k"], "m4a"),
    "vorbis": (["-c:a", "libvorbis", "-q:a", "1"], "ogg"),
    "g722": (["-c:a", "g722"], "wav"),
    "speex": (["-c:a", "libspeex", "-b:a", "24k"], "ogg"),
}
GAP = np.zeros(SAMPLE_RATE_HZ // 5, np.int16)


def family(system: str) -> str:
    """The family of a system, by any name it has; a system without an entry is its own family."""
    return FAMILIES.get(system.lower(), system.lower())


CLASSICAL = ("codec2", "espeak", "festival", "flite", "griffinlim", "lpc", "mlsa", "world")
"""Systems made here that synthesise without a neural network: what the envelopes' head learns."""
COPIES = frozenset(
    [
        "codec2",
        "griffinlim",
        "lpc",
        "melcopy",
        "mlsa",
        "phasecopy",
        "pitchshift",
        "timescale",
        "upsampler",
        "world",
    ]
)
"""Systems made here that copy a person's recording through a vocoder or a codec (`research/attacks`)."""


@dataclass(frozen=True, slots=True)
class Item:
    """One file: `wave` as it is and `coded` through a codec, both (n,) at 16 kHz.

    `page` is its top folder; `system` is '-' for bona fide.
    """

    path: str
    spoof: bool
    system: str
    page: str
    speaker: str
    voice: str
    wave: Samples
    coded: Samples

    @property
    def family(self) -> str:
        return family(self.system)

    @property
    def part(self) -> str:
        """'calibration' for a tenth of speakers, of voices and of files without a speaker, or 'train'."""
        if self.page == "made" and self.voice in HELD_VOICES:
            return "calibration"
        known = (
            self.speaker
            if self.speaker and not self.speaker.startswith(("espeak", "flite", "fest"))
            else self.path
        )
        return "calibration" if hashlib.sha256(known.encode()).digest()[0] < 26 else "train"


def training(items: Sequence[Item]) -> list[Item]:
    """What a model may hear."""
    return [i for i in items if i.part == "train"]


def calibration(items: Sequence[Item]) -> list[Item]:
    """Speakers, voices and files that no model hears in training."""
    return [i for i in items if i.part == "calibration"]


HELD_VOICES = frozenset({"en-gb-scotland", "en-gb+f3", "hy_fi_mv_diphone", "jm_kumo"})
"""Voices of trained synthesisers that no model hears in training: few, and no English diphones."""


def _equalise(wave: Wave) -> Samples:
    """Trim what is far below the loudest part, remove DC, set one level: none may tell the classes apart."""
    wave = wave - wave.mean()
    frames = len(wave) // 160
    level = (wave[: frames * 160].reshape(frames, 160) ** 2).mean(axis=1)
    level = np.convolve(level, np.ones(3) / 3, "same")
    loud = np.flatnonzero(level > level.max() * 10**-3.8)
    if len(loud):
        wave = wave[max(0, loud[0] - 5) * 160 : (loud[-1] + 6) * 160]
    rms = float(np.sqrt((wave**2).mean())) + 1e-9
    levelled: Samples = np.clip(wave * (0.06 / rms) * 32768, -32767, 32767).astype(np.int16)
    return levelled


def _rows(data: Path, attacks: Path | None) -> Iterator[tuple[Path, Row]]:
    for row in csv.DictReader(plain_text(data / "manifest.tsv", LARGE_BYTES).splitlines(), delimiter="\t"):
        if row["label"] in ("bonafide", "spoof"):
            yield data / row["path"], {**row, "voice": "", "page": row["path"].split("/")[0]}
    if attacks is not None:
        made = listed(attacks)
        if not made:
            raise QuantizeError(f"{attacks / INDEX} lists no attacks; name the folder that holds them")
        for row in made:
            yield attacks / row["path"], {**row, "page": "made"}


PACKAGED = (
    ("asterisk", "fr_CA_f_June", "/usr/share/asterisk/sounds/fr_CA_f_June", "*.g722", 70),
    ("asterisk", "it_IT_m_Carlo", "/usr/share/asterisk/sounds/it_IT_m_Carlo", "*.g722", 70),
    ("asterisk", "ru_RU_f_IvrvoiceRU", "/usr/share/asterisk/sounds/ru_RU_f_IvrvoiceRU", "*.g722", 70),
    ("fillets", "fillets-cs", "/usr/share/games/fillets-ng/sound", "*/cs/*.ogg", 150),
    ("fillets", "fillets-nl", "/usr/share/games/fillets-ng/sound", "*/nl/*.ogg", 150),
    *(
        ("hedgewars", voice, f"/usr/share/games/hedgewars/Data/Sounds/voices/{voice}", "*.ogg", 25)
        for voice in ("British", "Default_es", "HillBilly", "Mobster", "Pirate", "Russian_pl", "Surfer")
    ),
)
"""Recorded people in Debian's packages, used when installed: (corpus, voice, folder, pattern, files at most).
The largest ten of a voice are left out: they hold music, or many sentences."""
_PACKAGES = {
    "fr_CA_f_June": "asterisk-core-sounds-fr-g722",
    "it_IT_m_Carlo": "asterisk-core-sounds-it-g722",
    "ru_RU_f_IvrvoiceRU": "asterisk-core-sounds-ru-g722",
    "fillets-cs": "fillets-ng-data-cs",
    "fillets-nl": "fillets-ng-data-nl",
}


def absent(packaged: Sequence[tuple[str, str, str, str, int]] = PACKAGED) -> tuple[str, ...]:
    """The Debian packages of those of `packaged` that are not installed here."""
    gone = (voice for _, voice, folder, pattern, _ in packaged if not any(Path(folder).glob(pattern)))
    return tuple(sorted({_PACKAGES.get(voice, "hedgewars-data") for voice in gone}))


def prompts(packaged: Sequence[tuple[str, str, str, str, int]] = PACKAGED) -> Iterator[tuple[Path, Row]]:
    """Files and rows of `packaged`: more channels, languages and rooms for the bona fide side."""
    for name, voice, folder, pattern, most in packaged:
        files = sorted(Path(folder).glob(pattern), key=lambda p: (-p.stat().st_size, str(p)))
        for path in files[10 : 10 + most]:
            row = {
                "path": f"{name}/{voice}/{path.parent.parent.name}-{path.name}",
                "label": "bonafide",
                "speaker": voice,
                "system": "-",
            }
            yield path, {**row, "voice": "", "page": name}


def read_wave(path: Path) -> Wave:
    """The first channel, (n,) from -1 to 1, brought to 16 kHz; G.722 through ffmpeg. Raises OSError."""
    if path.suffix == ".g722":
        command = ["ffmpeg", "-v", "error", "-f", "g722", "-i", str(path), "-f", "s16le", "-ar", "16000", "-"]
        raw = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
        return np.frombuffer(raw, np.int16).astype(np.float32) / 32768
    wave, rate = soundfile.read(plain_path(path), dtype="float32", always_2d=True)
    mono: Wave = wave[:, 0] if rate == SAMPLE_RATE_HZ else soxr.resample(wave[:, 0], rate, SAMPLE_RATE_HZ)
    return mono


def through_codec(waves: Sequence[Samples], options: Sequence[str], suffix: str) -> list[Samples]:
    """All `waves` through one of ffmpeg's codecs and back, in a single run: the same pieces and lengths.

    Raises CalledProcessError.
    """
    joined = np.concatenate([part for wave in waves for part in (wave, GAP)])
    with tempfile.TemporaryDirectory() as folder:
        source, coded = str(Path(folder, "in.wav")), str(Path(folder, "coded." + suffix))
        soundfile.write(source, joined, SAMPLE_RATE_HZ)
        quiet = ["ffmpeg", "-v", "error", "-y", "-i"]
        subprocess.run([*quiet, source, *options, coded], check=True, timeout=600)
        back = subprocess.run(
            [*quiet, coded, "-f", "s16le", "-ar", str(SAMPLE_RATE_HZ), "-ac", "1", "-"],
            check=True,
            capture_output=True,
            timeout=600,
        ).stdout
    decoded = np.frombuffer(back, np.int16)
    decoded = np.pad(decoded, (0, max(0, len(joined) - len(decoded))))
    pieces, start = [], 0
    for wave in waves:
        pieces.append(decoded[start : start + len(wave)].copy())
        start += len(wave) + len(GAP)
    return pieces


def load(
    data: Path,
    attacks: Path | None,
    cache: Path,
    packaged: Sequence[tuple[str, str, str, str, int]] = PACKAGED,
    wanted: Callable[[Mapping[str, str]], bool] = lambda row: True,
) -> list[Item]:
    """Every usable file, plain and through a codec drawn by its path. Kept in `cache` for the next run.

    `wanted` says by its row (`label`, `page`, ...) whether a file is read. A run with more files than the
    last one reads only those that are new. Raises QuantizeError where ATTACKS lists none, OSError where a
    file cannot be read.
    """
    rows = [one for one in (*_rows(data, attacks), *prompts(packaged)) if wanted(one[1])]
    keys = [f"{row['path']} {path.stat().st_size}" for path, row in rows]
    digest = hashlib.sha256(repr((CACHE_VERSION, keys)).encode()).hexdigest()[:16]
    stored = cache / f"corpus-{digest}.npz"
    if not stored.exists():
        cache.mkdir(parents=True, exist_ok=True)
        known = _known(cache)
        fresh = [n for n, key in enumerate(keys) if key not in known]
        read = [_equalise(read_wave(rows[n][0])) for n in track(fresh, description="reading")]
        again = _coded(read, [rows[n][1]["path"] for n in fresh])
        known |= {keys[n]: both for n, both in zip(fresh, zip(read, again, strict=True), strict=True)}
        waves = [known[key] for key in keys]
        np.savez(
            stored,
            version=CACHE_VERSION,
            keys=np.array(keys),
            lengths=np.array([len(plain) for plain, _ in waves]),
            plain=np.concatenate([plain for plain, _ in waves]),
            coded=np.concatenate([coded for _, coded in waves]),
        )
    items: list[Item] = []
    for (_, row), (plain, coded) in zip(rows, _waves(np.load(plain_path(stored))), strict=True):
        if len(plain) >= SAMPLE_RATE_HZ // 2:
            spoof, speaker = row["label"] == "spoof", row["speaker"] or ""
            items.append(
                Item(row["path"], spoof, row["system"], row["page"], speaker, row["voice"], plain, coded)
            )
    return items


def _waves(held: Mapping[str, npt.NDArray[Any]]) -> Iterator[tuple[Samples, Samples]]:
    """(plain, coded) of every file of a stored corpus."""
    plain, coded = held["plain"], held["coded"]
    ends = np.cumsum(held["lengths"])
    for end, length in zip(ends, held["lengths"], strict=True):
        yield plain[end - length : end], coded[end - length : end]


def _known(cache: Path) -> dict[str, tuple[Samples, Samples]]:
    """Path and size -> (plain, coded), of the last corpus stored in `cache`."""
    for path in sorted(cache.glob("corpus-*.npz"), key=lambda p: -p.stat().st_mtime):
        held = np.load(plain_path(path))
        if "keys" in held and int(held["version"]) == CACHE_VERSION:
            return dict(zip(held["keys"].tolist(), _waves(held), strict=True))
    return {}


def _coded(plain: Sequence[Samples], paths: Sequence[str]) -> list[Samples]:
    """Each wave through a codec drawn by its path."""
    coded, names = list(plain), list(CODECS)
    which = np.array([hashlib.sha256(path.encode()).digest()[1] % len(names) for path in paths])
    for number, name in enumerate(track(names, description="codecs")):
        chosen = np.flatnonzero(which == number)
        if len(chosen):
            for i, piece in zip(
                chosen, through_codec([plain[i] for i in chosen], *CODECS[name]), strict=True
            ):
                coded[i] = piece
    return coded
