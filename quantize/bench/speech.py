"""What `ostiary bench` listens to: real sentences that a Debian package carries, or the operator's own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from device.audio import SAMPLE_RATE_HZ, AudioSettings, Samples, Utterance, load_utterance
from device.errors import DeviceError
from sync.plain_file import plain_text

LIBRIVOX = Path("/usr/share/pocketsphinx/test/data/librivox")
_LINE = re.compile(r"<s>\s*(.*?)\s*</s>\s*\((\S+)\)")


@dataclass(frozen=True, slots=True, eq=False)
class Sentence:
    """One reader's words, cut to a given length. `samples` is int16 at 16 kHz, shape (n,)."""

    name: str
    phrase: str
    utterance: Utterance

    def again(self) -> Utterance:
        """The same utterance on its own samples: a judgement wipes what it was given."""
        one = self.utterance
        return Utterance(one.samples.copy(), one.speech_start_s, one.speech_end_s, one.quality)


def packaged_sentences(seconds: float, settings: AudioSettings, folder: Path = LIBRIVOX) -> list[Sentence]:
    """Sentences of one LibriVox reader of `seconds` or longer, cut there with their share of the words.

    Raises DeviceError when the package is missing or no sentence is long enough.
    """
    try:
        lines = _LINE.findall(plain_text(folder / "transcription"))
    except OSError as err:
        raise DeviceError(
            "no speech to measure with: apt-get install pocketsphinx-testdata, or give --audio and --phrase"
        ) from err
    found = [_cut(folder / f"{name}.wav", text, seconds, settings) for text, name in lines]
    sentences = [sentence for sentence in found if sentence is not None]
    if not sentences:
        raise DeviceError(f"no packaged sentence lasts {seconds:g} s; ask for fewer --seconds")
    return sentences


def own_sentence(path: Path, phrase: str, settings: AudioSettings) -> Sentence:
    """The operator's recording, whole."""
    return Sentence(path.name, phrase, load_utterance(path, settings))


def _cut(path: Path, text: str, seconds: float, settings: AudioSettings) -> Sentence | None:
    whole = load_utterance(path, settings)
    count = round(seconds * SAMPLE_RATE_HZ)
    if len(whole.samples) < count:
        return None
    words = text.split()
    kept = " ".join(words[: max(1, round(len(words) * count / len(whole.samples)))])
    samples: Samples = whole.samples[:count].copy()
    cut = Utterance(samples, whole.speech_start_s, min(whole.speech_end_s, seconds), whole.quality)
    return Sentence(path.name, kept, cut)
