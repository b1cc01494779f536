"""Copy-synthesis: real speech taken apart and put together again by a vocoder.

Each attack keeps speaker, words, room and microphone of its source, so only the vocoder's own traces tell the
two apart (Wang and Yamagishi, ICASSP 2023, train on such pairs).
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import numpy as np
import soundfile
from scipy import signal
from scipy.ndimage import uniform_filter1d

from device.audio.utterance import SAMPLE_RATE_HZ
from sync.plain_file import plain_path


def world(wave, rng):
    """WORLD analysis and resynthesis (Morise 2016), sometimes with pitch and formants moved."""
    import pyworld

    x = wave.astype(np.float64)
    f0, times = pyworld.dio(x, SAMPLE_RATE_HZ)
    f0 = pyworld.stonemask(x, f0, times, SAMPLE_RATE_HZ)
    envelope = pyworld.cheaptrick(x, f0, times, SAMPLE_RATE_HZ)
    aperiodicity = pyworld.d4c(x, f0, times, SAMPLE_RATE_HZ)
    if rng.random() < 0.5:
        f0 = f0 * 2.0 ** rng.uniform(-0.4, 0.4)
    if rng.random() < 0.4:
        envelope = _warp(envelope, rng.uniform(0.88, 1.12))
    return pyworld.synthesize(f0, envelope, aperiodicity, SAMPLE_RATE_HZ)


def _warp(envelope, factor):
    bins = np.arange(envelope.shape[1])
    source = np.clip(bins / factor, 0, bins[-1])
    return np.ascontiguousarray(np.stack([np.interp(source, bins, row) for row in envelope]))


def mel_matrix(mels, fft_size, top_hz=8000.0, rate_hz=SAMPLE_RATE_HZ):
    """Triangular mel filters, shape (mels, fft_size // 2 + 1)."""
    mel = np.linspace(0.0, 2595 * np.log10(1 + top_hz / 700), mels + 2)
    hz = 700 * (10 ** (mel / 2595) - 1)
    freqs = np.linspace(0, rate_hz / 2, fft_size // 2 + 1)
    up = (freqs - hz[:-2, None]) / (hz[1:-1] - hz[:-2])[:, None]
    down = (hz[2:, None] - freqs) / (hz[2:] - hz[1:-1])[:, None]
    return np.maximum(0.0, np.minimum(up, down))


def griffin_lim(wave, rng, mels=80):
    """Mel spectrogram, inverted by pseudo-inverse and fast Griffin-Lim (Perraudin 2013)."""
    fft_size = int(rng.choice([512, 1024]))
    hop = fft_size // 4
    spectrum = signal.stft(wave, nperseg=fft_size, noverlap=fft_size - hop)[2]
    matrix = mel_matrix(mels, fft_size)
    magnitude = np.maximum(1e-7, np.linalg.pinv(matrix) @ (matrix @ np.abs(spectrum)))
    phase = np.exp(2j * np.pi * rng.random(magnitude.shape))
    previous = np.zeros_like(phase)
    for _ in range(int(rng.integers(16, 48))):
        sound = signal.istft(magnitude * phase, nperseg=fft_size, noverlap=fft_size - hop)[1]
        again = signal.stft(sound, nperseg=fft_size, noverlap=fft_size - hop)[2][:, : magnitude.shape[1]]
        step = again + 0.99 * (again - previous)
        previous = again
        phase = step / np.maximum(1e-12, np.abs(step))
    return signal.istft(magnitude * phase, nperseg=fft_size, noverlap=fft_size - hop)[1]


def lpc(wave, rng):
    """Linear prediction with the residual replaced by pulses or noise, as the classical vocoders do."""
    import pyworld

    order, hop, size = int(rng.integers(14, 22)), 80, 400
    f0, _ = pyworld.dio(wave.astype(np.float64), SAMPLE_RATE_HZ, frame_period=5.0)
    window = np.hanning(size)
    out = np.zeros(len(wave) + size)
    phase = 0.0
    for index, start in enumerate(range(0, len(wave) - size, hop)):
        frame = wave[start : start + size] * window
        r = np.correlate(frame, frame, "full")[size - 1 : size + order]
        if r[0] < 1e-8:
            continue
        r[0] *= 1.0001
        from scipy.linalg import solve_toeplitz

        a = solve_toeplitz(r[:-1], r[1:])
        gain = np.sqrt(max(1e-12, r[0] - a @ r[1:]) / size)
        pitch = f0[min(index, len(f0) - 1)]
        excitation = np.zeros(size)
        if pitch > 0:
            period = SAMPLE_RATE_HZ / pitch
            first = (-phase) % period
            excitation[np.arange(first, size, period).astype(int)] = np.sqrt(period)
            phase = (phase + hop) % period
        else:
            excitation = rng.standard_normal(size)
        voiced = signal.lfilter([gain], np.concatenate([[1.0], -a]), excitation)
        out[start : start + size] += voiced * window
    return out[: len(wave)]


def mlsa(wave, rng):
    """Mel cepstra and pulses or noise through an MLSA filter (Imai 1983), smoothed as statistics leave them.

    What statistical parametric voices are made with: flite's clustergen and Festival's HTS voices.
    """
    import pyworld

    order, alpha, hop = int(rng.choice([24, 24, 24, 34, 39])), float(rng.choice([0.42, 0.42, 0.41, 0.35])), 80
    warped = ("-m", str(order), "-a", str(alpha))
    f0, _ = pyworld.dio(wave.astype(np.float64), SAMPLE_RATE_HZ, frame_period=1000 * hop / SAMPLE_RATE_HZ)
    frames = _sptk("frame", wave * (16384 / (np.abs(wave).max() + 1e-9)), "-l", "400", "-p", str(hop))
    windowed = _sptk("window", frames, "-l", "400", "-L", "512")
    cepstra = _sptk("mcep", windowed, "-l", "512", *warped, "-e", "0.001").reshape(-1, order + 1)
    kernel = np.hanning(int(rng.integers(1, 8)) + 2)[1:-1]
    cepstra = _smoothed(cepstra, kernel)
    if rng.random() < 0.4:
        mean = cepstra[:, 1:].mean(axis=0)
        cepstra[:, 1:] = mean + (cepstra[:, 1:] - mean) * rng.uniform(0.8, 1.1)
    pitch = f0 * 2.0 ** rng.uniform(-0.35, 0.35)
    voiced = pitch > 0
    if len(kernel) > 1 and voiced.any():
        whole = np.interp(np.arange(len(pitch)), np.flatnonzero(voiced), np.log(pitch[voiced]))
        pitch = np.where(voiced, np.exp(_smoothed(whole[:, None], np.hanning(13)[1:-1])[:, 0]), 0.0)
    length = min(len(cepstra), len(pitch))
    periods = np.divide(SAMPLE_RATE_HZ, pitch, out=np.zeros(len(pitch)), where=voiced)[:length]
    with tempfile.TemporaryDirectory() as folder:
        filters = Path(folder, "cepstra")
        cepstra[:length].astype(np.float32).tofile(filters)
        excitation = _sptk("excite", periods, "-p", str(hop))
        return _sptk("mlsadf", excitation, *warped, "-p", str(hop), "-P", "5", str(filters))


def _sptk(name, values, *options):
    """One of SPTK's filters over `values`, float32 in and out; a copy, which may be changed."""
    raw = np.asarray(values, np.float32).tobytes()
    done = subprocess.run(["sptk", name, *options], input=raw, check=True, capture_output=True, timeout=60)
    return np.frombuffer(done.stdout, np.float32).copy()


def _smoothed(rows, kernel):
    """`rows` (n, values) averaged over time."""
    before = len(kernel) // 2
    padded = np.pad(rows, ((before, len(kernel) - 1 - before), (0, 0)), mode="edge")
    return signal.convolve(padded, (kernel / kernel.sum())[:, None], mode="valid")


def mel_copy(wave, rng):
    """The source's phase under a magnitude that went through a mel spectrogram and was smoothed in time.

    What an acoustic model and a good vocoder leave: right phases, too smooth an envelope.
    """
    fft_size = int(rng.choice([512, 1024]))
    hop = fft_size // 4
    spectrum = signal.stft(wave, nperseg=fft_size, noverlap=fft_size - hop)[2]
    matrix = mel_matrix(int(rng.choice([64, 80, 100])), fft_size)
    mel = matrix @ np.abs(spectrum)
    if rng.random() < 0.6:
        mel = np.exp(uniform_filter1d(np.log(mel + 1e-7), int(rng.choice([2, 3])), axis=1))
    envelope = np.maximum(1e-7, np.linalg.pinv(matrix) @ mel)
    harmonic = np.abs(spectrum) ** rng.uniform(0.0, 0.5)
    smooth = uniform_filter1d(harmonic, 9, axis=0) + 1e-7
    phase = np.angle(spectrum) + rng.normal(0, rng.uniform(0.0, 0.6), spectrum.shape)
    return signal.istft(
        envelope * harmonic / smooth * np.exp(1j * phase), nperseg=fft_size, noverlap=fft_size - hop
    )[1][: len(wave)]


def phase_copy(wave, rng):
    """The source's magnitude under nearly right phases: the fault of vocoders that predict a spectrum."""
    fft_size = int(rng.choice([400, 512, 800, 1024]))
    hop = fft_size // 4
    spectrum = signal.stft(wave, nperseg=fft_size, noverlap=fft_size - hop)[2]
    high = np.linspace(0, 1, spectrum.shape[0])[:, None] ** rng.uniform(0.0, 1.5)
    noise = rng.normal(0, rng.uniform(0.5, 2.0), spectrum.shape) * high
    return signal.istft(spectrum * np.exp(1j * noise), nperseg=fft_size, noverlap=fft_size - hop)[1][
        : len(wave)
    ]


def upsampler(wave, rng):
    """The source through a leaky upsampler: images of the low band and a ripple at the frame rate.

    Transposed convolutions leave both (Pons 2021), whatever network they stand in.
    """
    factor = int(rng.choice([2, 3, 4, 5, 8]))
    low = signal.resample_poly(wave, 1, factor)
    raised = np.zeros(len(low) * factor)
    raised[::factor] = low * factor
    taps = int(rng.integers(1, 4)) * factor + 1
    kernel = np.hanning(taps + 2)[1:-1] * (1 + 0.2 * rng.standard_normal(taps))
    leaky = signal.fftconvolve(raised, kernel / kernel.sum(), mode="same")
    exact = signal.resample_poly(low, factor, 1)
    shared = min(len(leaky), len(exact), len(wave))
    wrong = leaky[:shared] - exact[:shared]
    copy = wave[:shared] + wrong * rng.uniform(0.03, 0.3) * wave.std() / (wrong.std() + 1e-9)
    period = SAMPLE_RATE_HZ / rng.choice([50.0, 62.5, 80.0, 86.13, 93.75, 100.0])
    phase = np.arange(shared) % period / period
    ripple = np.interp(phase, np.linspace(0, 1, 9), np.append(rng.standard_normal(8), 0.0))
    return copy * (1 + rng.uniform(0.0, 0.06) * ripple) + ripple * wave.std() * 10 ** rng.uniform(-3.5, -2)


def _through(commands_of):
    def copy(wave, rng):
        with tempfile.TemporaryDirectory() as folder:
            source, target = str(Path(folder, "in.wav")), str(Path(folder, "out.wav"))
            soundfile.write(source, wave, SAMPLE_RATE_HZ, subtype="PCM_16")
            for command in commands_of(source, target, folder, rng):
                subprocess.run(command, check=True, capture_output=True, timeout=60)
            found, rate = soundfile.read(plain_path(target), dtype="float32", always_2d=True)
        return (
            found[:, 0] if rate == SAMPLE_RATE_HZ else signal.resample_poly(found[:, 0], SAMPLE_RATE_HZ, rate)
        )

    return copy


@_through
def codec2(source, target, folder, rng):
    """Codec 2 at 1.2 to 3.2 kbit/s: a sinusoidal vocoder, 8 kHz."""
    mode = str(rng.choice(["3200", "2400", "1600", "1200"]))
    raw, bits, back = (str(Path(folder, name)) for name in ("in.raw", "bits", "back.raw"))
    pcm = ["-t", "raw", "-r", "8000", "-e", "signed", "-b", "16", "-c", "1"]
    yield ["sox", source, *pcm, raw]
    yield ["c2enc", mode, raw, bits]
    yield ["c2dec", mode, bits, back]
    yield ["sox", *pcm, back, target]


@_through
def timescale(source, target, folder, rng):
    """Faster or slower at the same pitch: overlap-add (sox, soundstretch) or a phase vocoder (rubberband)."""
    rate = rng.choice([rng.uniform(0.75, 0.92), rng.uniform(1.08, 1.3)])
    tool = int(rng.integers(3))
    if tool == 0:
        yield ["sox", source, target, "tempo", "-s", f"{rate:.3f}"]
    elif tool == 1:
        yield ["soundstretch", source, target, f"-tempo={(rate - 1) * 100:.1f}"]
    else:
        yield ["rubberband", "-q", "-T", f"{rate:.3f}", source, target]


@_through
def pitchshift(source, target, folder, rng):
    """Another pitch at the same speed, formants moved or (rubberband -F) kept: cheap voice conversion."""
    semitones = rng.choice([-1, 1]) * rng.uniform(1.5, 5)
    tool = int(rng.integers(3))
    if tool == 0:
        yield ["sox", source, target, "pitch", f"{semitones * 100:.0f}"]
    elif tool == 1:
        yield ["soundstretch", source, target, f"-pitch={semitones:.2f}"]
    else:
        yield ["rubberband", "-q", "-F", "-p", f"{semitones:.2f}", source, target]


def pieces(wave, least_s=0.25):
    """Cuts speech where it is quietest, into stretches of about a word, each at least `least_s` seconds."""
    step = SAMPLE_RATE_HZ // 100
    level = np.sqrt(np.convolve(wave**2, np.full(2 * step, 0.5 / step), "same"))[::step]
    quiet = np.flatnonzero(level < 0.25 * np.median(level[level > level.max() * 0.05])) * step
    cuts = [0]
    for at in quiet:
        if at - cuts[-1] >= least_s * SAMPLE_RATE_HZ:
            cuts.append(int(at))
    return [
        wave[a:b]
        for a, b in zip(cuts, [*cuts[1:], len(wave)], strict=True)
        if b - a >= least_s * SAMPLE_RATE_HZ
    ]


def splice(waves, rng, words=6):
    """Words of several recordings of one person, joined with 5 ms cross-fades: a phrase they never said."""
    cut = [piece for wave in waves for piece in pieces(wave / (np.abs(wave).max() + 1e-9))]
    fade = SAMPLE_RATE_HZ // 200
    ramp = np.linspace(0, 1, fade)
    joined = np.zeros(fade)
    for index in rng.permutation(len(cut))[:words]:
        piece = cut[index].copy()
        joined[-fade:] = joined[-fade:] * (1 - ramp) + piece[:fade] * ramp
        joined = np.concatenate([joined, piece[fade:]])
    return joined.astype(np.float32)


VOCODERS = {
    "world": world,
    "griffinlim": griffin_lim,
    "lpc": lpc,
    "mlsa": mlsa,
    "melcopy": mel_copy,
    "phasecopy": phase_copy,
    "upsampler": upsampler,
    "codec2": codec2,
    "timescale": timescale,
    "pitchshift": pitchshift,
}
