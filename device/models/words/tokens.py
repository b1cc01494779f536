"""Text to Whisper's tokens and back: byte-pair encoding, where a token's number is its rank.

The vocabulary is the list of byte strings in the order in which training merged them (Radford et al. 2019),
so joining the two neighbours whose union has the lowest number gives the tokens that training saw.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from itertools import pairwise

from device.errors import DeviceError

_PIECE = re.compile(r"'(?:s|t|re|ve|m|ll|d)| ?[^\W\d_]+| ?\d+| ?[^\s\w]+|\s+|_+")


class Vocabulary:
    """Ordinary tokens only; numbers from `len` up say nothing. Raises DeviceError on a damaged list."""

    def __init__(self, words: Sequence[bytes]) -> None:
        self._words = tuple(words)
        self._rank = {word: rank for rank, word in enumerate(self._words)}
        if len(self._rank) != len(self._words) or any(bytes([b]) not in self._rank for b in range(256)):
            raise DeviceError("the model's vocabulary is damaged; run `ostiary models build`")

    @classmethod
    def from_text(cls, text: str) -> Vocabulary:
        """From `to_text`'s form."""
        try:
            # Not `split()`: a multilingual Whisper has an empty word, and every later number counts on it.
            return cls([binascii.a2b_base64(word, strict_mode=True) for word in text.split(" ")])
        except binascii.Error as err:
            raise DeviceError("the model's vocabulary is damaged; run `ostiary models build`") from err

    def __len__(self) -> int:
        return len(self._words)

    def tokens(self, text: str) -> tuple[int, ...]:
        return tuple(token for piece in _PIECE.findall(text) for token in self._merged(piece.encode()))

    def text(self, tokens: Sequence[int]) -> str:
        known = b"".join(self._words[token] for token in tokens if token < len(self._words))
        return known.decode("utf-8", errors="replace").strip()

    def _merged(self, piece: bytes) -> list[int]:
        parts = [piece[at : at + 1] for at in range(len(piece))]
        while len(parts) > 1:
            unions = [self._rank.get(left + right) for left, right in pairwise(parts)]
            lowest = min((rank for rank in unions if rank is not None), default=None)
            if lowest is None:
                break
            at = unions.index(lowest)
            parts[at : at + 2] = [self._words[lowest]]
        return [self._rank[part] for part in parts]


def vocabulary_text(words: Sequence[bytes]) -> str:
    """The list as a model file carries it."""
    return " ".join(base64.b64encode(word).decode() for word in words)
