"""What a quantiser learned from speech about one network: numbers that a person can review and a file keeps.

Float kernels round differently on different processors, so a calibration made elsewhere learns slightly other
numbers. They are therefore learned once (`ostiary models calibrate`) and committed; from them to the bytes of
a model there is only arithmetic that gives the same on every processor.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from quantize.errors import QuantizeError
from sync.plain_file import open_plain
from sync.plain_words import why

FOLDER = Path(__file__).parents[1] / "calibration"
MAX_LEARNED_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Range:
    """Where a tensor's values lie, percentiles excepted; always includes zero."""

    low: float
    high: float

    def grid(self) -> tuple[np.float32, np.uint8]:
        """Scale and zero point of uint8."""
        scale = np.float32(max(self.high - self.low, 1e-6) / 255.0)
        return scale, np.uint8(min(255, max(0, round(-self.low / float(scale)))))


@dataclass(frozen=True, slots=True)
class Learned:
    """Ranges of activations, and what biases need to give back what rounding takes."""

    weights: str
    """Hash of the upstream tensors that it belongs to (`quantize.upstream.checkpoint.tensors_hash`)."""
    speech: str
    """SHA-256 of the recordings that were listened to."""
    percentile: float
    ranges: Mapping[str, Range]
    """By tensor."""
    bias_steps: Mapping[str, tuple[int, ...]]
    """By node: added to each output channel's bias, in whole steps of the bias's own grid."""

    def to_bytes(self) -> bytes:
        """JSON with a line for each tensor, so that a change can be read."""
        facts = {"weights": self.weights, "speech": self.speech, "percentile": self.percentile}
        lines = [f' "{name}": {json.dumps(value)},' for name, value in facts.items()]
        ranges = {name: [one.low, one.high] for name, one in self.ranges.items()}
        steps = {name: list(row) for name, row in self.bias_steps.items()}
        text = "\n".join(["{", *lines, _table("ranges", ranges) + ",", _table("bias_steps", steps), "}", ""])
        return text.encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Learned:
        """Raises QuantizeError for anything but what `to_bytes` writes."""
        try:
            document = json.loads(data)
            ranges = {str(name): Range(*map(float, ends)) for name, ends in document["ranges"].items()}
            if not all(-1e6 < one.low <= 0.0 <= one.high < 1e6 for one in ranges.values()):
                raise ValueError("a range that does not hold zero")
            steps = {str(name): tuple(map(int, row)) for name, row in document["bias_steps"].items()}
            facts = str(document["weights"]), str(document["speech"]), float(document["percentile"])
            return cls(*facts, ranges, steps)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as err:
            raise QuantizeError(
                f"a calibration file is damaged ({err}); restore it from version control"
            ) from err


def _table(name: str, rows: Mapping[str, list[Any]]) -> str:
    body = ",\n".join(f'  "{key}": {json.dumps(row)}' for key, row in rows.items())
    return f' "{name}": {{\n{body}\n }}'


def learned(name: str, weights: str, folder: Path = FOLDER) -> Learned:
    """What was learned for the network called `name`, whose upstream tensors hash to `weights`.

    Raises QuantizeError when there is nothing, or it belongs to other weights.
    """
    path = folder / f"{name}.json"
    try:
        with open_plain(path) as stream:
            found = Learned.from_bytes(stream.read(MAX_LEARNED_BYTES))
    except OSError as err:
        raise QuantizeError(
            f"{path.name} cannot be read ({why(err)}); restore it from version control"
        ) from err
    if found.weights != weights:
        raise QuantizeError(f"{path.name} was learned on other weights; run `ostiary models calibrate`")
    return found
