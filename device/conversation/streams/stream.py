"""Reports who speaks in a stream of sound, and whether the person who was claimed still does.

It keeps samples for one window, pieces for a minute and a half, the template until `close`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from device.audio.utterance import Samples
from device.conversation.naming import Known
from device.conversation.opening import ConversationModels
from device.conversation.streams.claimed import ClaimedSpeaker, Heard
from device.conversation.streams.live import LiveDiarizer, Update
from device.models.speaker import Embedding

TELEPHONE = "a telephone's band: voices are not calibrated for it, so nothing is scored"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that a stream told, as JSON types."""

    kind: str
    at_s: float
    facts: dict[str, Any]

    def document(self) -> dict[str, Any]:
        return {"event": self.kind, "at_s": round(self.at_s, 3), **self.facts}


class Stream:
    """One stream. Belongs to one thread at a time; `close` overwrites what is left."""

    def __init__(
        self, models: ConversationModels, *, claimed: Embedding | None = None, known: Known | None = None
    ) -> None:
        """`claimed` is the template of the person who should be speaking; it is overwritten at the end.
        Raises DeviceError where a claim cannot be scored with this speaker model."""
        self._live = LiveDiarizer(models.segmentation, models.speaker, known)
        self._claimed = (
            None if claimed is None else ClaimedSpeaker(models.speaker, models.speaker.version, claimed)
        )
        self._held: list[Samples] = []
        self._narrow: bool | None = None

    @property
    def samples(self) -> int:
        """How many were taken since the beginning."""
        return self._live.samples

    def push(self, samples: Samples) -> list[Event]:
        """Take int16 samples (n,) at 16 kHz; what they told, in order."""
        found: list[Event] = []
        for update in self._live.push(samples):
            found += self._updated(update)
        if self._claimed is not None and self._narrow is None:
            self._held.append(samples.copy())  # until the first window tells what came through which band
        elif self._claimed is not None:
            found += self._scored([*self._held, samples])
            self._held = []
        return sorted(found, key=lambda event: event.at_s)

    def finish(self) -> list[Event]:
        """What the rest of the stream told; nothing is kept after it."""
        found = [event for update in self._live.finish() for event in self._updated(update)]
        if self._claimed is not None:
            found += self._scored(self._held)
        self.close()
        return sorted(found, key=lambda event: event.at_s)

    def close(self) -> None:
        """Overwrite sound and template."""
        self._live.wipe()
        for held in self._held:
            held[:] = 0
        self._held = []
        if self._claimed is not None:
            self._claimed.wipe()

    def _updated(self, update: Update) -> list[Event]:
        before, self._narrow = self._narrow, update.narrow
        if update.narrow:
            text = {"detail": TELEPHONE}
            return [] if before else [Event("telephone", update.to_s, text)]
        turns = [
            {"start_s": round(t.start_s, 3), "end_s": round(t.end_s, 3), "speaker": t.speaker}
            for t in update.turns
        ]
        facts = {"from_s": round(update.from_s, 3), "turns": turns, "people": update.people}
        return [Event("turns", update.to_s, facts)]

    def _scored(self, parts: list[Samples]) -> list[Event]:
        """What the claim makes of samples; their time goes by, but nothing is told, on a telephone."""
        if self._claimed is None or not parts:
            return []
        samples = np.concatenate(parts)
        for part in parts[:-1]:
            part[:] = 0
        found = self._claimed.push(samples, scored=not self._narrow)
        samples[:] = 0
        return [event for heard in found for event in _told(heard)]


def _told(heard: Heard) -> list[Event]:
    facts = {"llr": None if heard.llr is None else round(heard.llr, 1), "trust": round(heard.trust, 2)}
    events = [Event("window", heard.at_s, facts)] if heard.llr is not None else []
    if heard.change is not None:
        events.append(Event("changed", heard.at_s, {"state": str(heard.change), "trust": facts["trust"]}))
    return events
