"""Which converters take a fake past the narrow-band guard and the live check?

    python -m research.trials.converters --data SPEECH --out FILE.json [--most N] [--only TEXT] [--people]

Somebody who takes a fake to a lower rate and back takes the upper band away, in which synthesis is heard. The
guard is there to tell that, whatever a converter's filters leave above. Every way is played on one recording
of each system; what is printed is how many pass the live check at its default threshold before and behind the
guard. FFmpeg and SoX, where they are installed, bring the codecs.

`--people` counts instead how many people, one recording each and on whom no weights were fitted, the guard
calls narrow: as recorded, in the conditions of `research.fits.made_band`, under steady noise, and in noise
behind a mask or far away. That needs no converter.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import soxr

from device.audio import load_utterance
from device.errors import DeviceError
from device.evidence import conditioned
from device.liveness.condition import Blindness, Conditions, blindness
from device.settings import models_dir
from quantize.evaluate.checks.opened import open_spoof
from quantize.evaluate.door.heard import Condition, heard
from quantize.evaluate.door.measure import wav
from quantize.evaluate.figures.calibrate import fits
from quantize.evaluate.recordings.manifest import noises, read_manifest
from research.fits.made_band import CONDITIONS, EACH_CONDITIONS, MOST_ATTACKS, RATE_HZ, cast, dice_of, read
from research.fits.upper_bands import Floats
from research.trials.disturbances import stage_of

Convert = Callable[[Floats], Floats]

RATES_HZ = (8_000, 8_400, 8_800, 9_000, 9_600, 10_000, 11_025, 12_000)
STEADY_DB = (-60.0, -50.0, -40.0, -30.0, -20.0)
BURIED = (
    Condition("mask, noise 20 dB", "noise", 20.0, mask=True),
    Condition("2 m, lively room, noise 20 dB", "noise", 20.0, "far"),
    Condition("noise 15 dB", "noise", 15.0),
)
HIDDEN_DB = (-60.0, -50.0, -40.0, -30.0)
CODECS: dict[str, tuple[str, ...]] = {
    "MP3 8 kHz 8 kbit/s": ("mp3", "-ar", "8000", "-b:a", "8k"),
    "MP3 8 kHz 16 kbit/s": ("mp3", "-ar", "8000", "-b:a", "16k"),
    "MP3 8 kHz 64 kbit/s": ("mp3", "-ar", "8000", "-b:a", "64k"),
    "MP3 11 kHz": ("mp3", "-ar", "11025", "-b:a", "24k"),
    "MP3 16 kHz, cut at 4 kHz": ("mp3", "-ar", "16000", "-b:a", "32k", "-cutoff", "4000"),
    "MP3 16 kHz, cut at 4.6 kHz": ("mp3", "-ar", "16000", "-b:a", "32k", "-cutoff", "4600"),
    "AAC 8 kHz": ("adts", "-ar", "8000", "-b:a", "16k"),
    "AAC 11 kHz": ("adts", "-ar", "11025", "-b:a", "24k"),
    "AAC 16 kHz, cut at 4.6 kHz": ("adts", "-ar", "16000", "-b:a", "32k", "-cutoff", "4600"),
    "Opus, narrow": ("opus", "-ar", "8000", "-b:a", "12k"),
    "Opus, cut at 4 kHz": ("opus", "-ar", "48000", "-b:a", "24k", "-cutoff", "4000"),
    "Opus, cut at 6 kHz": ("opus", "-ar", "48000", "-b:a", "24k", "-cutoff", "6000"),
    "Opus, cut at 8 kHz": ("opus", "-ar", "48000", "-b:a", "16k", "-cutoff", "8000"),
    "Speex 8 kHz": ("ogg", "-c:a", "libspeex", "-ar", "8000"),
    "Speex 16 kHz": ("ogg", "-c:a", "libspeex", "-ar", "16000", "-b:a", "8k"),
    "Vorbis 8 kHz": ("ogg", "-c:a", "libvorbis", "-ar", "8000"),
    "Vorbis 11 kHz": ("ogg", "-c:a", "libvorbis", "-ar", "11025"),
    "GSM": ("wav", "-c:a", "libgsm_ms", "-ar", "8000"),
    "G.722": ("wav", "-c:a", "g722", "-ar", "16000"),
    "G.723.1": ("matroska", "-c:a", "g723_1", "-ar", "8000", "-b:a", "6300"),
    "G.726": ("wav", "-c:a", "g726", "-ar", "8000", "-b:a", "32k"),
    "IMA ADPCM 8 kHz": ("wav", "-c:a", "adpcm_ima_wav", "-ar", "8000"),
    "IMA ADPCM 11 kHz": ("wav", "-c:a", "adpcm_ima_wav", "-ar", "11025"),
    "μ-law": ("wav", "-c:a", "pcm_mulaw", "-ar", "8000"),
    "Nellymoser 8 kHz": ("flv", "-c:a", "nellymoser", "-ar", "8000"),
    "Nellymoser 11 kHz": ("flv", "-c:a", "nellymoser", "-ar", "11025"),
    "WMA 11 kHz": ("asf", "-c:a", "wmav2", "-ar", "11025", "-b:a", "24k"),
    "Codec2": ("codec2", "-c:a", "libcodec2", "-ar", "8000", "-mode", "3200"),
}
"""The container, and what FFmpeg is told."""
SWR = {
    "swr of 2 taps": "filter_size=2",
    "swr of 8 taps": "filter_size=8",
    "swr, linear": "filter_size=4:phase_shift=2:linear_interp=0",
    "swr, wide": "filter_size=16:cutoff=1.0",
}
SOX = {"SoX -l": ("-l",), "SoX -q": ("-q",), "SoX, aliases kept": ("-m", "-a"), "SoX, minimal": ("-h", "-M")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--most", type=int, default=MOST_ATTACKS)
    parser.add_argument(
        "--only", action="append", metavar="TEXT", help="ways whose names hold it; again for more"
    )
    parser.add_argument("--people", action="store_true")
    given = parser.parse_args()
    if given.people:
        people(given.data, given.out)
    else:
        attacks(given.data, given.out, given.most, given.only or [""])


def ways() -> Iterator[tuple[str, Convert]]:
    yield "as it is", lambda wave: wave
    for rate_hz in RATES_HZ:
        for quality in ("QQ", "LQ", "HQ"):
            yield f"soxr {quality} {rate_hz} Hz", partial(by_soxr, quality=quality, rate_hz=rate_hz)
        yield f"linear {rate_hz} Hz", partial(by_line, rate_hz=rate_hz)
        yield f"nearest {rate_hz} Hz", partial(by_nearest, rate_hz=rate_hz)
        yield f"cubic {rate_hz} Hz", partial(by_kernel, rate_hz=rate_hz, kernel=cubic)
        yield f"Lanczos 2 {rate_hz} Hz", partial(by_kernel, rate_hz=rate_hz, kernel=lanczos)
    for db in HIDDEN_DB:
        yield f"noise of {db:.0f} dB added", partial(hidden, convert=lambda wave: wave, db=db)
        for rate_hz in (8_000, 9_600, 11_025):
            best = partial(by_soxr, quality="HQ", rate_hz=rate_hz)
            yield f"soxr HQ {rate_hz} Hz, noise of {db:.0f} dB added", partial(hidden, convert=best, db=db)
        cheap = partial(by_kernel, rate_hz=9_600, kernel=lanczos)
        yield f"Lanczos 2 9600 Hz, noise of {db:.0f} dB added", partial(hidden, convert=cheap, db=db)
    if shutil.which("ffmpeg"):
        for name, told in CODECS.items():
            yield name, partial(by_codec, told=told)
        for db in HIDDEN_DB:
            aac = partial(by_codec, told=CODECS["AAC 11 kHz"])
            yield f"AAC 11 kHz, noise of {db:.0f} dB added", partial(hidden, convert=aac, db=db)
        for name, told_swr in SWR.items():
            for rate_hz in (8_000, 9_000):
                yield f"{name} {rate_hz} Hz", partial(by_swr, rate_hz=rate_hz, options=told_swr)
    if shutil.which("sox"):
        for name, told in SOX.items():
            for rate_hz in (8_000, 9_000):
                yield f"{name} {rate_hz} Hz", partial(by_sox, rate_hz=rate_hz, options=told)


def by_soxr(wave: Floats, quality: str, rate_hz: int) -> Floats:
    low = soxr.resample(wave, RATE_HZ, rate_hz, quality)
    return np.asarray(soxr.resample(low, rate_hz, RATE_HZ, quality), np.float64)


def by_line(wave: Floats, rate_hz: int) -> Floats:
    """What many a small program does; the way down is clean, for the attacker loses nothing by it."""
    low = soxr.resample(wave, RATE_HZ, rate_hz, "HQ")
    return np.interp(np.arange(len(wave)) * rate_hz / RATE_HZ, np.arange(len(low)), low)


def by_nearest(wave: Floats, rate_hz: int) -> Floats:
    low = soxr.resample(wave, RATE_HZ, rate_hz, "HQ")
    at = np.round(np.arange(len(wave)) * rate_hz / RATE_HZ).astype(int)
    return np.asarray(low[np.minimum(at, len(low) - 1)], np.float64)


def by_kernel(wave: Floats, rate_hz: int, kernel: Callable[[Floats], Floats]) -> Floats:
    """Interpolated by four samples."""
    low = np.pad(soxr.resample(wave, RATE_HZ, rate_hz, "HQ"), (2, 3))
    at = np.minimum(np.arange(len(wave)) * rate_hz / RATE_HZ + 2, len(low) - 3)
    first = np.floor(at).astype(int)
    near = [(low[first + k], kernel(at - first - k)) for k in (-1, 0, 1, 2)]
    return np.asarray(sum(value * weight for value, weight in near), np.float64)


def cubic(away: Floats) -> Floats:
    """Catmull-Rom."""
    x = np.abs(away)
    return np.where(
        x < 1, 1.5 * x**3 - 2.5 * x**2 + 1, np.where(x < 2, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2, 0)
    )


def lanczos(away: Floats) -> Floats:
    return np.sinc(away) * np.sinc(away / 2)


def by_codec(wave: Floats, told: tuple[str, ...]) -> Floats:
    container, *options = told
    with tempfile.TemporaryDirectory() as folder:
        coded = Path(folder) / "coded"
        ffmpeg("-i", sound(wave, folder), *options, "-f", container, coded)
        return opened(coded, folder)


def hidden(wave: Floats, convert: Convert, db: float) -> Floats:
    """What a coder or converter cut, filled with steady noise so far below the speech."""
    coded = convert(wave)
    noise = np.random.default_rng(len(wave)).normal(size=len(coded))
    return coded + noise * 10 ** (db / 20) * coded.std()


def by_swr(wave: Floats, rate_hz: int, options: str) -> Floats:
    chain = f"aresample={rate_hz}:{options},aresample={RATE_HZ}:{options}"
    with tempfile.TemporaryDirectory() as folder:
        ffmpeg("-i", sound(wave, folder), "-af", chain, Path(folder) / "low.wav")
        return opened(Path(folder) / "low.wav", folder)


def by_sox(wave: Floats, rate_hz: int, options: tuple[str, ...]) -> Floats:
    with tempfile.TemporaryDirectory() as folder:
        command = ["sox", sound(wave, folder), Path(folder) / "out.wav"]
        twice = [text for hz in (rate_hz, RATE_HZ) for text in ("rate", *options, str(hz))]
        subprocess.run([*command, *twice], check=True, capture_output=True)
        return np.asarray(soundfile.read(Path(folder) / "out.wav")[0], np.float64)


def ffmpeg(*told: str | Path) -> None:
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-y", *told], check=True, capture_output=True)


def sound(wave: Floats, folder: str) -> Path:
    path = Path(folder) / "in.wav"
    soundfile.write(path, np.clip(wave, -1, 0.9999), RATE_HZ, "PCM_16")
    return path


def opened(coded: Path, folder: str) -> Floats:
    out = Path(folder) / "out.wav"
    ffmpeg("-i", coded, "-ar", str(RATE_HZ), "-ac", "1", out)
    return np.asarray(soundfile.read(out)[0], np.float64)


def attacks(data: Path, out: Path, most: int, only: list[str]) -> None:
    _, chosen, _ = cast(data)
    detector = open_spoof(models_dir())
    found: dict[str, dict[str, int]] = {}
    for name, convert in ways():
        if not any(text in name for text in only):
            continue
        counts = {"of": 0, "not heard": 0, "narrow": 0, "before": 0, "behind": 0}
        for one in chosen[:most]:
            counts["of"] += 1
            try:
                utterance = load_utterance(wav(convert(read(data, one)).astype(np.float32)))
                evidence = detector.evidence(utterance.wave()).llr
                llr = conditioned.shipped().llr(detector.version, evidence, utterance.quality)
            except DeviceError:
                counts["not heard"] += 1
                continue
            except subprocess.CalledProcessError as err:
                print(f"{name}: {err.stderr.decode(errors='replace').strip()[-200:]}", flush=True)
                break
            blind = blindness(utterance.quality, Conditions())
            counts["narrow"] += blind is not None and blind[0] is Blindness.NARROW_BAND
            counts["before"] += llr >= 0.0
            counts["behind"] += llr >= 0.0 and blind is None
        found[name] = counts
        print(f"{name}: {counts}", flush=True)
        out.write_text(json.dumps(found, indent=1))


def people(data: Path, out: Path) -> None:
    manifest = data / "manifest.tsv"
    chosen = [one for one in cast(data)[0] if not fits(one.unit)]
    around = stage_of(read_manifest(manifest, data), noises(manifest, data), data, fitted=False).around
    told: dict[str, list[int]] = {}
    for one in chosen:
        wave, dice = read(data, one), dice_of(one)
        sounds = [("as recorded", wave)]
        for at in dice.permutation(len(CONDITIONS))[:EACH_CONDITIONS]:
            condition = CONDITIONS[int(at)]
            placed = heard(wave.astype(np.float32), one.path, one.speaker, condition, around)
            sounds.append((condition.name, np.asarray(placed, np.float64)))
        db = float(dice.choice(STEADY_DB))
        sounds.append((f"steady noise of {db:.0f} dB", hidden(wave, lambda as_it_is: as_it_is, db)))
        buried = BURIED[int(dice.integers(len(BURIED)))]
        placed = heard(wave.astype(np.float32), one.path, one.speaker, buried, around)
        sounds.append((buried.name, np.asarray(placed, np.float64)))
        for name, played in sounds:
            try:
                quality = load_utterance(wav(played.astype(np.float32))).quality
            except DeviceError:
                continue
            told.setdefault(name, []).append(int(quality.bandwidth_hz < Conditions().min_bandwidth_hz))
        rows = {name: {"narrow": sum(each), "of": len(each)} for name, each in told.items()}
        out.write_text(json.dumps(rows, indent=1))
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
