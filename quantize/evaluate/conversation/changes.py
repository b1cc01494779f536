"""Another person goes on speaking: how soon a stream reports it, and how often it reports it wrongly.

The two make a curve: settings that report sooner report wrongly more often. The LLRs of a stream's windows
are computed once; every setting of trust is then tried on them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from device.conversation.naming import Known
from device.conversation.opening import ConversationModels
from device.conversation.streams.claimed import STEP_S, WINDOW_S, ClaimedSpeaker
from device.conversation.streams.trust import Change, Trust, TrustSettings
from quantize.evaluate.checks.speaker import COSTS
from quantize.evaluate.conversation.mixtures import Splice
from quantize.evaluate.figures.detection import Trials, measure
from quantize.evaluate.figures.intervals import Estimate

SWEEP = tuple(
    replace(TrustSettings(), weight=weight, change_per_s=change, doubted_below=below, trusted_above=0.9)
    for weight in (0.2, 0.35, 0.5, 0.75, 1.0)
    for change in (0.003, 0.01, 0.03, 0.1)
    for below in (0.3, 0.1, 0.03, 0.01, 0.001)
)
GOAL_P95_S, GOAL_PER_HOUR = 0.5, 1.0
CLEAN, NOISY = "clean", "noise 10 to 20 dB"


@dataclass(frozen=True, slots=True)
class Series:
    """One stream: (time, LLR or None) of each step, when the other person goes on, and who the two are."""

    steps: tuple[tuple[float, float | None], ...]
    change_s: float
    people: tuple[str, str]
    noisy: bool


@dataclass(frozen=True, slots=True)
class Point:
    """One setting on the curve."""

    settings: TrustSettings
    false_per_hour: float
    """Of the claimed person's own speech, after trust was won."""
    p50_s: float
    p95_s: float
    """From the change to the report; infinite where more than a twentieth of changes went unnoticed."""
    unnoticed: float
    never_trusted: float
    """Streams in which the claimed person was not trusted before the change."""


@dataclass(frozen=True, slots=True)
class ChangesResult:
    """The curve's outer points, the one that the product uses, and the windows' own error rates."""

    streams: int
    own_speech_h: float
    chosen: Point
    curve: list[Point] = field(default_factory=list)
    window_eer: dict[str, Estimate] = field(default_factory=dict)
    cllr: dict[str, float] = field(default_factory=dict)


def series(
    splices: Iterable[Splice], models: ConversationModels, known: Known, progress: Callable[[], None]
) -> list[Series]:
    """Every stream through the product's own windows."""
    found = []
    for splice in splices:
        template = known.templates[splice.first.name].copy()
        claimed = ClaimedSpeaker(models.speaker, models.speaker.version, template)
        heard = claimed.push(splice.samples)
        claimed.wipe()
        found.append(
            Series(
                tuple((one.at_s, one.llr) for one in heard),
                splice.change_s,
                (splice.first.name, splice.second.name),
                splice.snr_db is not None,
            )
        )
        progress()
    return found


def point(streams: Sequence[Series], settings: TrustSettings) -> Point:
    """How soon and how wrongly these settings would have reported."""
    false, latencies, unnoticed, never, own_s = 0, [], 0, 0, 0.0
    for stream in streams:
        trust, trusted_at, told_at = Trust(settings), None, None
        for at_s, llr in stream.steps:
            change = trust.silent(STEP_S) if llr is None else trust.heard(llr, STEP_S)
            before = at_s <= stream.change_s
            if change is Change.TRUSTED and before and trusted_at is None:
                trusted_at = at_s
            if change is Change.DOUBTED:
                if before and trusted_at is not None:
                    false += 1
                elif not before and told_at is None:
                    told_at = at_s
        if trusted_at is None:
            never += 1
            continue
        own_s += stream.change_s - trusted_at
        if told_at is None:
            # The stream doubted the person before the change, so the change needs no second report.
            if trust.state is not Change.DOUBTED:
                unnoticed += 1
                latencies.append(float("inf"))
        else:
            latencies.append(told_at - stream.change_s)
    p50, p95 = _percentiles(latencies)
    return Point(
        settings,
        3600.0 * false / own_s if own_s > 0.0 else float("nan"),
        p50,
        p95,
        unnoticed / max(1, len(latencies)),
        never / max(1, len(streams)),
    )


def _percentiles(latencies: Sequence[float]) -> tuple[float, float]:
    """Median and 95th percentile by rank, so that what was never noticed counts as infinite."""
    ordered = sorted(latencies)
    if not ordered:
        return float("nan"), float("nan")
    return tuple(ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in (0.5, 0.95))  # type: ignore[return-value]


def outer(points: Sequence[Point]) -> list[Point]:
    """Those that no other point beats in both, from the fewest false changes up."""
    found: list[Point] = []
    for one in sorted(points, key=lambda p: (p.false_per_hour, p.p95_s)):
        if not found or one.p95_s < found[-1].p95_s:
            found.append(one)
    return found


def evaluate_changes(
    streams: Sequence[Series], chosen: TrustSettings, replicates: int = 300
) -> ChangesResult:
    """The curve over SWEEP, the product's own point, and the windows alone, clean and in noise."""
    eers, cllrs = {}, {}
    for name, noisy in ((CLEAN, False), (NOISY, True)):
        some = [stream for stream in streams if stream.noisy == noisy]
        found = windows_of(some)
        if len(found.targets) and len(found.nontargets):
            measured = measure(found, COSTS, None, True, replicates)
            eers[name], cllrs[name] = measured.figures["eer"], measured.figures["cllr"].value
    own_h = sum(stream.change_s for stream in streams) / 3600.0
    curve = outer([point(streams, settings) for settings in SWEEP])
    return ChangesResult(len(streams), own_h, point(streams, chosen), curve, eers, cllrs)


def windows_of(streams: Sequence[Series]) -> Trials:
    """Windows that lie wholly before or wholly after the change."""
    targets, nontargets, target_units, nontarget_units = [], [], [], []
    for stream in streams:
        for at_s, llr in stream.steps:
            if llr is None:
                continue
            if at_s <= stream.change_s:
                targets.append(llr)
                target_units.append((stream.people[0],))
            elif at_s - WINDOW_S >= stream.change_s:
                nontargets.append(llr)
                nontarget_units.append(stream.people)
    return Trials(np.array(targets), np.array(nontargets), target_units, nontarget_units)
