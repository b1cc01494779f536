"""Where the words of a recording begin and end: forced alignment by PocketSphinx, which no unit needs.

Its wheel carries an acoustic model of English; `pip install '.[train]'` brings it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np

from device.audio.utterance import Wave
from quantize.evaluate.recordings.splicing import Bounds

FRAMES_A_SECOND = 100
_WORD = re.compile(r"[a-z']+")


class Aligner:
    """Finds the borders of known words. Not safe for threads."""

    def __init__(self, decoder: Any) -> None:
        self._decoder = decoder

    @classmethod
    def open(cls) -> Aligner | None:
        """None where PocketSphinx is not installed."""
        try:
            sphinx = import_module("pocketsphinx")
        except ImportError:
            return None
        return cls(sphinx.Decoder(loglevel="FATAL"))

    def borders(self, wave: Wave, text: str) -> tuple[Bounds, ...]:
        """(word, start, end) in seconds, in order; nothing where a word is unknown or the text does not fit.

        Letters that stand alone, other than "a" and "i" in a sentence, are taken as spelled.
        """
        words = self._known(_WORD.findall(text.lower()))
        if not words:
            return ()
        samples = (np.clip(wave, -1.0, 32767 / 32768) * 32768).astype(np.int16)
        try:
            self._decoder.set_align_text(" ".join(words))
            self._decoder.start_utt()
            self._decoder.process_raw(samples.tobytes(), full_utt=True)
            self._decoder.end_utt()
            found = [(s.word, s.start_frame, s.end_frame + 1) for s in self._decoder.seg() or ()]
        except RuntimeError:  # it found no way through
            return ()
        spoken = [one for one in found if not one[0].startswith(("<", "["))]
        if len(spoken) != len(words):
            return ()
        return tuple(
            (word.split("(")[0].strip("."), first / FRAMES_A_SECOND, last / FRAMES_A_SECOND)
            for word, first, last in spoken
        )

    def _known(self, words: Sequence[str]) -> list[str]:
        """As the dictionary has them; nothing when it lacks one."""
        spelled = sum(len(word) == 1 for word in words) > len(words) / 2
        found = []
        for word in words:
            as_letter = f"{word}." if len(word) == 1 and (spelled or word not in ("a", "i")) else word
            known = next((one for one in (as_letter, word) if self._decoder.lookup_word(one)), None)
            if known is None:
                return []
            found.append(known)
        return found
