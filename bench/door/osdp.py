"""How soon a controller hears of a card, and how long a line holds: `python -m bench.door.osdp`.

    python -m bench.door.osdp                           200 cards, libosdp's controller in another process
    python -m bench.door.osdp --panel pure              the pure-Python controller, in its own environment
    python -m bench.door.osdp --polls 100000 --lines 8  so many polls in all, on eight lines side by side
    python -m bench.door.osdp --polls 20000 --lose 0.002  one frame in five hundred is lost on the wire

Prints the time to the secure channel, from handing over a card to the controller's event (median, p95), the
controller's own interval between polls (p95), how many polls were answered, and how often the channel was
lost, each loss with the frames before it (when, who, number, bytes, how it begins). libosdp's controller
polls as soon as it has an answer, at most every 50 ms. Every line has a process for the unit and one for the
controller.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import time
from collections import deque
from itertools import pairwise

from device.door.osdp.frames import Framer, sequence
from device.door.osdp.keys import new_key
from tests.device.door.osdp.panels import PanelProcess, wait_for
from tests.device.door.osdp.test_panels import derived
from tests.device.door.osdp.wire import CARD, Recorder, Wire, unit

TOLD = {"libosdp": "event", "pure": "card"}


LAST = 24
"""So many frames before a loss of the channel are shown with it."""


class Watching(Recorder):
    """Keeps what passed the wire before each loss of the channel, so that a loss can be explained."""

    def __init__(self) -> None:
        super().__init__()
        self.last: deque[str] = deque(maxlen=LAST)
        self.losses: list[list[str]] = []

    def online(self, secure: bool) -> None:
        super().online(secure)
        if not secure:
            self.losses.append([*self.last, f"{time.monotonic():.3f} the channel is lost"])


class Counted:
    """What passes the wire: the unit's answers, when the controller asked, and what we lose on purpose."""

    def __init__(self, wire: Wire, lose: float, last: deque[str]) -> None:
        self._lose, self._rng, self._last = lose, random.Random(1), last
        self._answers, self._asks = Framer(0x81), Framer(1)
        self.answered = self.lost = 0
        self.asked_s: list[float] = []
        wire.from_reader, wire.from_panel = self._from_reader, self._from_panel

    def _spoil(self, data: bytes) -> bytes:
        if self._rng.random() < self._lose:
            self.lost += 1
            return b""
        return data

    def _from_reader(self, data: bytes) -> bytes:
        answers = self._answers.feed(data, time.monotonic())
        self.answered += len(answers)
        self._note("unit", answers)
        return self._spoil(data)

    def _from_panel(self, data: bytes) -> bytes:
        now_s = time.monotonic()
        asked = self._asks.feed(data, now_s)
        self.asked_s += [now_s] * len(asked)
        self._note("panel", asked)
        return self._spoil(data)

    def _note(self, who: str, frames: list[bytes]) -> None:
        for frame in frames:
            self._last.append(
                f"{time.monotonic():.3f} {who} {sequence(frame)} {len(frame)} {frame[:9].hex()}"
            )


def arrived(controller: PanelProcess, kind: str, before: int) -> bool:
    """Whether the controller tells of one more event within five seconds."""
    until_s = time.monotonic() + 5.0
    while time.monotonic() < until_s:
        if len(controller.of(kind)) > before:
            return True
        time.sleep(0.001)
    return False


def started(panel_name: str, wire: Wire, master: bytes) -> PanelProcess:
    """The controller, in its own process."""
    if panel_name == "pure":
        return PanelProcess.pure(wire.panel, master, seconds=86_400.0)
    return PanelProcess.libosdp(wire.panel, master)


def one_line(panel_name: str, cards: int, polls: int, lose: float) -> dict[str, object]:
    """Figures of one line: `cards` cards, then polls until the unit has answered `polls`."""
    master, panel, kind = new_key(), Watching(), TOLD[panel_name]
    key = derived(master) if panel_name == "pure" else master
    with Wire() as wire, unit(wire, key, panel) as reader:
        counted = Counted(wire, lose, panel.last)
        began_s = time.monotonic()
        with started(panel_name, wire, master) as controller:
            wait_for(lambda: counted.asked_s)
            wait_for(lambda: reader.secure)
            secure_s = time.monotonic() - counted.asked_s[0]
            wait_for(lambda: controller.of("status"))
            waits_ms, dropped = [], 0
            for _ in range(cards):
                sent_s, before = time.monotonic(), len(controller.of(kind))
                if not reader.send_card(CARD) or not arrived(controller, kind, before):
                    dropped += 1
                    wait_for(lambda: reader.secure, 600.0)
                    continue
                waits_ms.append(1_000 * (controller.of(kind)[-1]["at_s"] - sent_s))
            while counted.answered < polls:
                time.sleep(0.2)
            losses = list(panel.losses)
        intervals = sorted(1_000 * (after - before_) for before_, after in pairwise(counted.asked_s))
        channel = reader.channel
        return {
            "from_first_frame_to_secure_s": round(secure_s, 2),
            "from_start_to_secure_s": round(counted.asked_s[0] - began_s + secure_s, 2),
            "cards_ms": [round(wait, 1) for wait in waits_ms],
            "cards_dropped": dropped,
            "poll_interval_p95_ms": round(intervals[int(0.95 * (len(intervals) - 1))], 1),
            "longest_pause_of_polls_ms": round(intervals[-1], 1),
            "answered": counted.answered,
            "lost_on_purpose": counted.lost,
            "answered_again": channel.repeated,
            "damaged": channel.damaged,
            "channel_lost": len(losses),
            "losses": losses,
        }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--panel", choices=sorted(TOLD), default="libosdp")
    parser.add_argument("--cards", type=int, default=200, help="on each line")
    parser.add_argument("--polls", type=int, default=0, help="in all")
    parser.add_argument("--lines", type=int, default=1)
    parser.add_argument("--lose", type=float, default=0.0, help="share of frames lost on the wire")
    asked = parser.parse_args()
    share = -(-asked.polls // asked.lines)
    if asked.lines == 1:
        print(json.dumps(one_line(asked.panel, asked.cards, share, asked.lose)), flush=True)
        return
    own = [sys.executable, "-m", "bench.door.osdp", "--panel", asked.panel, "--cards", str(asked.cards)]
    own += ["--polls", str(share), "--lose", str(asked.lose)]
    lines = [subprocess.Popen(own, stdout=subprocess.PIPE, text=True) for _ in range(asked.lines)]
    found = [json.loads(line.communicate()[0]) for line in lines]
    waits_ms = sorted(wait for line in found for wait in line["cards_ms"])
    summed = ("cards_dropped", "answered", "lost_on_purpose", "answered_again", "damaged", "channel_lost")
    largest = (
        "from_first_frame_to_secure_s",
        "from_start_to_secure_s",
        "poll_interval_p95_ms",
        "longest_pause_of_polls_ms",
    )
    pooled = {name: sum(line[name] for line in found) for name in summed}
    worst = {name: max(line[name] for line in found) for name in largest}
    losses = [loss for line in found for loss in line["losses"]]
    print(json.dumps({"lines": asked.lines, **cards(waits_ms), **worst, **pooled, "losses": losses}))


def cards(waits_ms: list[float]) -> dict[str, float]:
    """Median and p95 of the time from card to event."""
    if not waits_ms:
        return {}
    p95 = waits_ms[int(0.95 * (len(waits_ms) - 1))]
    return {"cards": len(waits_ms), "card_median_ms": statistics.median(waits_ms), "card_p95_ms": p95}


if __name__ == "__main__":
    main()
