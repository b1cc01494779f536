"""Which recordings prints are fitted on and which judge them, and how each sounds at a door.

Fitted: the pages that the spoof detector itself was taught on, and half of the people. Judged: pages and
systems that neither it nor the prints have heard, other voices of the synthesisers made here, other people.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from device.audio.utterance import SAMPLE_RATE_HZ, Wave
from quantize.errors import QuantizeError
from quantize.evaluate.recordings.manifest import Recording
from quantize.evaluate.recordings.sound import read_wave

SHORTEST_S, LONGEST_S = 0.9, 4.0
TAUGHT = frozenset(
    {"dddmvc_demo", "freevc_demo", "hierspeech_demo", "speecht5", "styletts2_demo", "tortoise"}
)
"""Pages that the spoof detector was trained on (its card lists them)."""
ALSO_TAUGHT = ("kokoro",)
LEFT_OUT = ("so762_child", "digits8k", "conversation")
"""Children do not work in hospitals, single digits over a telephone and meetings are no attempts."""
LEAST_FILES = 8
"""A judged system has at least so many: three of them are its first occurrences."""
ESPEAK_VOICES = (
    "en-us", "en-gb", "en-gb-scotland", "en-us+f2", "en-gb+f3", "en-us+m3", "en-us+klatt2", "en-029",
    "en-gb-x-rp", "en-us+m7", "en-gb+klatt4", "en-gb+f4",
)  # fmt: skip
FLITE_VOICES = ("kal", "rms", "kal16", "slt", "awb")
MADE_BY = ("espeak-ng ", "flite ")
"""What the names of attacks made here begin with: each of them has one voice."""
MADE_EACH = 12
WORDS = (
    "amber", "anchor", "basket", "beacon", "bishop", "bottle", "bridge", "candle", "canyon", "castle",
    "cherry", "circle", "copper", "coral", "cotton", "dragon", "eagle", "engine", "falcon", "feather",
    "forest", "garden", "ginger", "hammer", "island", "jacket", "kettle", "ladder", "lemon", "marble",
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """One recording. `who` is a system (with its voice, where made here) or a person."""

    name: str
    who: str
    attack: bool
    wave: Wave

    def dice(self, salt: str = "") -> np.random.Generator:
        """A generator that always draws the same for this recording and `salt`."""
        return dice(self.name + salt)


def dice(text: str) -> np.random.Generator:
    """A generator that always draws the same for this text."""
    return np.random.default_rng(list(hashlib.sha256(text.encode()).digest()[:16]))


def is_fitted(recording: Recording) -> bool:
    """Whether prints may be fitted on it; else it judges, or neither."""
    if recording.label == "spoof":
        return recording.folder in TAUGHT
    return recording.folder in TAUGHT or _half(recording.speaker or recording.path)


def is_judging(recording: Recording, taught: frozenset[str]) -> bool:
    """Whether it judges prints; `taught` are the `plain` names of systems that something was fitted on."""
    if recording.label == "spoof":
        name = plain(recording.system)
        return recording.folder not in TAUGHT and not any(a in name or name in a for a in taught)
    return recording.folder not in TAUGHT and not _half(recording.speaker or recording.path)


def plain(system: str) -> str:
    """A system's name without a page's habits: `st_VITS` and `vits` are one."""
    return system.lower().removeprefix("st_").replace("-", "").replace("_", "")


def chosen(recordings: Sequence[Recording], *, fitted: bool) -> list[Recording]:
    """One side of the split, in path order; judged systems have LEAST_FILES files."""
    used = [r for r in recordings if r.folder not in LEFT_OUT]
    mine = [r for r in used if is_fitted(r)]
    if fitted:
        return mine
    taught = frozenset({*(plain(r.system) for r in mine if r.system), *ALSO_TAUGHT})
    judging = [r for r in used if is_judging(r, taught)]
    counts = {r.system: sum(o.system == r.system for o in judging) for r in judging if r.system}
    return [r for r in judging if not r.system or counts[r.system] >= LEAST_FILES]


def listen(recordings: Sequence[Recording], root: Path) -> Iterator[Said]:
    """The recordings that are long enough, cut to LONGEST_S."""
    for recording in recordings:
        wave = read_wave(root / recording.path)
        if len(wave) >= SHORTEST_S * SAMPLE_RATE_HZ:
            attack = recording.label == "spoof"
            who = recording.system if attack else recording.unit
            yield Said(recording.path, who, attack, wave[: int(LONGEST_S * SAMPLE_RATE_HZ)])


def made(*, fitted: bool) -> Iterator[Said]:
    """Door phrases by espeak-ng and flite: the even voices to fit on, the odd ones to judge by.

    Raises QuantizeError where neither is installed.
    """
    tools = [tool for tool in ("espeak-ng", "flite") if shutil.which(tool)]
    if not tools:
        raise QuantizeError("attacks are made with espeak-ng and flite; install one of them")
    for tool in tools:
        voices = ESPEAK_VOICES if tool == "espeak-ng" else FLITE_VOICES
        for voice in voices[0 if fitted else 1 :: 2]:
            for number in range(MADE_EACH):
                name = f"made/{tool}/{voice}/{number}"
                yield Said(name, f"{tool} {voice}", True, _spoken(tool, voice, dice(name)))


def _spoken(tool: str, voice: str, chance: np.random.Generator) -> Wave:
    text = " ".join(chance.choice(WORDS, 5, replace=False))
    pace = chance.uniform(0.85, 1.2)
    with tempfile.TemporaryDirectory(prefix="ostiary-attack-") as folder:
        out = str(Path(folder, "out.wav"))
        if tool == "espeak-ng":
            pitch = str(int(chance.integers(35, 65)))
            command = [tool, "-v", voice, "-s", str(int(155 / pace)), "-p", pitch, "-w", out, text]
        else:
            command = [tool, "-voice", voice, "--setf", f"duration_stretch={pace:.2f}", "-t", text, "-o", out]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=60)
        except (OSError, subprocess.SubprocessError) as err:
            raise QuantizeError(f"{tool} made no attack ({type(err).__name__}); is it whole?") from err
        wave = read_wave(Path(out))
    return wave[: int(LONGEST_S * SAMPLE_RATE_HZ)]


def _half(who: str) -> bool:
    return hashlib.sha256(f"prints {who}".encode()).digest()[0] % 2 == 0
