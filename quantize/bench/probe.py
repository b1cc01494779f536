"""One decision in a process of its own, so that memory and cold start are the door's and not the bench's."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from device.settings import Settings

PATIENCE_S = 480.0
"""A door gives the larger model up after seconds; how long it takes is measured, on a busy machine too."""


def main() -> None:
    """Print when the models were ready (monotonic clock), the first decision's time, and memory, as JSON.

    With a third argument, `again`, the larger model hears the words too, twice: the first time opens it.
    """
    models, seconds, again = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3:] == ["again"]
    # Imported here and not above: their cost belongs to the cold start that is measured.
    from device.access.policy import decide
    from device.errors import DeviceError
    from device.model_store import slots
    from device.models.second_words import second_words
    from device.settings import Settings
    from device.unit.assembly import open_judge
    from quantize.bench.speech import packaged_sentences

    settings = Settings()
    again_ms = []
    try:
        with open_judge(models, heard_once(settings)) as judge:
            ready_at = time.monotonic()
            ready_rss_mib = _memory_mib("VmRSS")
            sentence = packaged_sentences(seconds, settings.audio)[0]
            began = time.perf_counter()
            decide(judge(sentence.again(), sentence.phrase, None), claimed=False)
            first_decision_ms = (time.perf_counter() - began) * 1e3
            second = second_words(slots.active(models), settings) if again else None
            if second is not None:
                second.patience_s = PATIENCE_S
                for _ in range(2):
                    began = time.perf_counter()
                    second.score(sentence.again().wave(), sentence.phrase)
                    again_ms.append((time.perf_counter() - began) * 1e3)
                second.close()
    except DeviceError as err:
        sys.exit(str(err))
    sys.stdout.write(
        json.dumps(
            {
                "ready_at": ready_at,
                "first_decision_ms": first_decision_ms,
                "again_ms": again_ms,
                "ready_rss_mib": ready_rss_mib,
                "peak_rss_mib": _memory_mib("VmHWM"),
            }
        )
    )


def heard_once(settings: Settings) -> Settings:
    """The same, without a second hearing of doubtful words."""
    from device.settings import SecondWords  # as above

    judge = dataclasses.replace(settings.judge, second_words=SecondWords.NONE)
    return dataclasses.replace(settings, judge=judge)


def _memory_mib(field: str) -> float:
    """VmHWM is this program's peak; getrusage's would still show the parent that started it."""
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) / 1024
    return 0.0


if __name__ == "__main__":
    main()
