"""What a second hearing leaves behind in memory when its model is given back, time after time.

    python -m bench.door.second_hearing             opened and given back twelve times
    python -m bench.door.second_hearing --times 3   the quick form

One process with the usual words model open, as a door has it; own memory is what no other process shares.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from device.model_store.bundle import Bundle
from device.model_store.sessions import give_memory_back
from device.models.second_words import SecondWords
from device.models.self_test import RECORDINGS, recordings_of
from device.models.words.transcriber import Transcriber
from device.settings import models_dir
from quantize.upstream.fetch import sha256_of

HEARD, SAID, USUAL = "goforward.raw", "go forward ten meters", 5
PATIENCE_S, KEPT_S = 300.0, 3600.0


def own_mb() -> float:
    """Memory of this process that no other shares, MB."""
    told = Path("/proc/self/smaps_rollup").read_text()
    return sum(int(kb) for kb in re.findall(r"^Private_(?:Clean|Dirty): +(\d+) kB$", told, re.M)) * 1024 / 1e6


def measured(times: int) -> list[tuple[float, float]]:
    """Before the first opening, and after each: (open, given back and judged on), MB."""
    bundle = Bundle.open(models_dir())
    usual = Transcriber.open(bundle, threads=1)
    second = SecondWords(bundle, 1, patience_s=PATIENCE_S, kept_s=KEPT_S)
    wave = recordings_of({HEARD: sha256_of(RECORDINGS / HEARD)})[HEARD]

    def judge() -> float:
        for _ in range(USUAL):
            usual.score(wave, SAID)
        give_memory_back()
        return own_mb()

    found = [(0.0, judge())]
    for _ in range(times):
        second.score(wave, SAID)
        opened = own_mb()
        second.release()
        found.append((opened, judge()))
    second.close()
    usual.close()
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=12)
    options = parser.parse_args(arguments)
    table = Table("second hearing", "open, MB", "given back, MB")
    for number, (opened, after) in enumerate(measured(options.times)):
        table.add_row(str(number or "before"), f"{opened:.1f}" if opened else "", f"{after:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
