"""How soon a controller hears of a card: `python -m bench.osdp`, libosdp's controller in another process.

Prints the time to the secure channel, then from handing over a card to the controller's event (median, p95),
and how many polls the line carried without a break. The controller polls as soon as it has an answer, at most
every 50 ms (libosdp's own interval).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from itertools import pairwise

from device.door.osdp.keys import new_key
from tests.device.door.osdp.panels import PanelProcess, wait_for
from tests.device.door.osdp.wire import CARD, Recorder, Wire, unit


def arrived(controller: PanelProcess, before: int) -> bool:
    """Whether the controller tells of one more event within five seconds."""
    until_s = time.monotonic() + 5.0
    while time.monotonic() < until_s:
        if len(controller.of("event")) > before:
            return True
        time.sleep(0.001)
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cards", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=0.0, help="keep the line up so long after the cards")
    asked = parser.parse_args()
    key, panel = new_key(), Recorder()
    with Wire() as wire, unit(wire, key, panel) as reader:
        began_s = time.monotonic()
        with PanelProcess.libosdp(wire.panel, key) as controller:
            wait_for(lambda: any(told["secure"] for told in controller.of("status")))
            ready = next(told["at_s"] for told in controller.of("status") if told["secure"])
            waits_ms, lost = [], 0
            for _ in range(asked.cards):
                sent_s = time.monotonic()
                before = len(controller.of("event"))
                if not reader.send_card(CARD) or not arrived(controller, before):
                    lost += 1
                    wait_for(lambda: reader.secure, 600.0)
                    continue
                waits_ms.append(1_000 * (controller.of("event")[-1]["at_s"] - sent_s))
            time.sleep(asked.seconds)
            breaks = sum(before and not after for before, after in pairwise(panel.secure))
            frames = wire.seen.count(b"\x53")
    waits_ms.sort()
    print(
        json.dumps(
            {
                "secure_channel_s": round(ready - began_s, 2),
                "cards": asked.cards,
                "lost": lost,
                "median_ms": round(statistics.median(waits_ms), 1),
                "p95_ms": round(waits_ms[int(0.95 * (len(waits_ms) - 1))], 1),
                "frames_at_least": frames // 2,
                "breaks": breaks,
            }
        )
    )


if __name__ == "__main__":
    main()
