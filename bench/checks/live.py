"""What the live check costs, and which part of it costs what: all parts in turns, on the same speech.

    python -m bench.checks.live --rounds 40

Every part runs once in each round, so that whatever else the machine does falls on all of them. Shares are
of the whole, round by round; milliseconds are this machine's alone.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from device.audio.utterance import SAMPLE_RATE_HZ
from device.model_store import slots
from device.models.spoof.detector import SpoofDetector
from device.models.spoof.envelopes import envelopes
from device.models.spoof.features import spoof_features
from device.models.spoof.frame_rates import frame_rates
from device.settings import models_dir
from quantize.speech import parity_speech

WHOLE = "the live check"


def parts(detector: SpoofDetector, wave: npt.NDArray[np.float32]) -> dict[str, Callable[[], object]]:
    """Name -> what to call: the whole as the door has it, and each of what it does."""
    return {
        WHOLE: lambda: detector.evidence(wave),
        "its networks' pictures": lambda: spoof_features(wave),
        "its frame rates": lambda: frame_rates(wave),
        "its envelopes": lambda: envelopes(wave),
    }


def measured(called: dict[str, Callable[[], object]], rounds: int) -> dict[str, npt.NDArray[np.float64]]:
    """Milliseconds of each part in each round, after one round that does not count."""
    took: dict[str, list[float]] = {name: [] for name in called}
    for turn in range(rounds + 1):
        for name, call in called.items():
            start = time.perf_counter()
            call()
            if turn:
                took[name].append(1e3 * (time.perf_counter() - start))
    return {name: np.array(each) for name, each in took.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    samples = int(given.seconds * SAMPLE_RATE_HZ)
    clips = [clip.wave for clip in parity_speech().clips() if len(clip.wave) >= samples]
    wave = clips[0][:samples].astype(np.float32)
    detector = SpoofDetector.open(slots.active(models_dir()), given.threads)
    took = measured(parts(detector, wave), given.rounds)
    table = Table("part", "share of the whole", "median ms", "least ms", "one in ten slower than")
    table.title = f"{given.seconds:g} s of speech, {given.rounds} rounds"
    for name, each in took.items():
        share = np.median(each / took[WHOLE])
        table.add_row(
            name, f"{share:.0%}", *(f"{v:.1f}" for v in (np.median(each), each.min(), np.quantile(each, 0.9)))
        )
    Console().print(table)


if __name__ == "__main__":
    main()
