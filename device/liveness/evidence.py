"""What was found about the context of one utterance."""

from __future__ import annotations

from dataclasses import dataclass, field

from device.liveness.fingerprint import Fingerprint

NAMES = ("reuse_llr", "consistency_llr", "joins_llr")
"""In the order in which the policy looks at them; rules, events and reports use these very names."""


@dataclass(frozen=True, slots=True)
class ContextEvidence:
    """Each LLR is natural-log; positive speaks for the person; None means that it was not looked at."""

    reuse_llr: float | None = None
    """That this was not heard before, against a playback of what the unit remembers."""
    reused_share: float = 0.0
    """Of the utterance, that fits something remembered."""
    reuse_sources: int = 0
    """How many remembered utterances it fits; two or more is a splice."""
    consistency_llr: float | None = None
    """That one voice speaks from the first half to the second, against a splice of two."""
    joins_llr: float | None = None
    """That this was said in one go, against an answer pasted from pieces of other recordings."""
    uncoughed_llr: float | None = None
    """`joins_llr` of the same sound without its coughs, where it is low and there are any. Opens nothing."""
    fingerprint: Fingerprint | None = field(default=None, repr=False, compare=False)

    def scores(self) -> dict[str, float | None]:
        """LLR by name, in the order of `NAMES`."""
        return {name: getattr(self, name) for name in NAMES}

    def reuse(self) -> dict[str, float]:
        """What was reused: a share near 1 from one source is a playback, from several a splice."""
        return {"reused_share": self.reused_share, "reuse_sources": float(self.reuse_sources)}


NO_CONTEXT_EVIDENCE = ContextEvidence()
