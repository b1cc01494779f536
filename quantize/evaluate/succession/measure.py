"""Does any impostor's score rise while one speaker model follows another?

Each person enrols with the model in use from their first three files. Each further file is an attempt on a
day of its own; what passes well inside voice and liveness is what the next model hears, by the unit's own
rule, until the voiceprint is ready; from then on the lower of both models' scores counts, as at the door.
Beside it stand the grown voiceprint alone, and what a recall would have given: the next model's voiceprint
from the three files of the enrolment. Only speakers on whom nothing was fitted are measured; the
others' scores make the next model's calibration where its bundle states none. Words are taken as said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np

from device.access.policy import Thresholds
from device.evidence.voice.held import lower_llr
from device.model_store.calibration import Calibration
from device.secure_store import Growing
from device.unit.succession.rule import MARGIN_LLR, Llr, Step, with_another
from quantize.evaluate.checks.phrase import Rate, rate
from quantize.evaluate.checks.speaker import Embedding, Embeddings, template
from quantize.evaluate.figures.calibrate import fit, fits
from quantize.evaluate.recordings.manifest import Recording

ENROLMENT = 3
LEAST_FILES = 7
"""Three to enrol, three days to come over on, and one more attempt."""
CLOSEST = 5
"""Impostors who sound most like a person, each let in once by force."""
RISE_BOUND_LLR = 3.0
"""By how much a grown voiceprint alone may score a person's highest impostor above a recall's."""


@dataclass(frozen=True, slots=True)
class PersonCompared:
    """One person's highest impostor by each voiceprint."""

    speaker: str
    days: int
    highest_old: float
    highest_recalled: float
    highest_grown: float
    highest_both: float


@dataclass(frozen=True, slots=True)
class Intrusion:
    """One impostor, let in by force on one of the first three days."""

    speaker: str
    ready_with_it: bool
    """Whether a voiceprint became ready that has the impostor in it."""
    before_llr: float
    after_llr: float
    """The same impostor's best other file against the voiceprint: without and with the intrusion."""


@dataclass(frozen=True, slots=True)
class Strangers:
    """Every recording of every other person, as an attempt under the name of who came over."""

    attempts: int
    well_inside: int
    """Of which the model in use and the live check let so many grow somebody's voiceprint."""
    seeded: int
    """Of those, how many became part of one, on the first, second or third day."""


@dataclass(frozen=True, slots=True)
class SuccessionResult:
    """What happened to people and impostors while the model `following` came after `old`."""

    old: str
    following: str
    calibration: Calibration
    threshold_llr: float
    came_over: Rate
    days: tuple[int, ...]
    """Attempts that each of them took."""
    accepted: dict[str, Rate] = field(default_factory=dict)
    """Impostor trials accepted: by the old model, recalled, grown, by both."""
    refused: dict[str, Rate] = field(default_factory=dict)
    risen: Rate = field(default_factory=lambda: Rate(0, 1, 0.0, 1.0))
    """Impostor trials that score higher by both models than by the old one alone."""
    people: tuple[PersonCompared, ...] = ()
    intrusions: tuple[Intrusion, ...] = ()
    strangers: Strangers = Strangers(0, 0, 0)
    turned: SuccessionResult | None = None
    """The same with the models turned round: what follows is in use."""

    def summary(self) -> dict[str, object]:
        """The few figures most readers want, by plain names."""
        rises = sorted(self.rises)
        seeded = [one for one in self.intrusions if one.ready_with_it]
        return {
            "came_over": [self.came_over.accepted, self.came_over.trials],
            "attempts_median": float(np.median(self.days)) if self.days else None,
            "accepted": {name: [one.accepted, one.trials] for name, one in self.accepted.items()},
            "refused": {name: [one.accepted, one.trials] for name, one in self.refused.items()},
            "risen": [self.risen.accepted, self.risen.trials],
            "people_with_a_higher_impostor": sum(p.highest_both > p.highest_old for p in self.people),
            "grown_above_recalled_llr": {"median": float(np.median(rises)), "highest": rises[-1]}
            if rises
            else None,
            "above_bound": sum(rise > RISE_BOUND_LLR for rise in rises),
            "strangers": asdict(self.strangers),
            "intrusions": len(self.intrusions),
            "ready_with_the_impostor": len(seeded),
            "opens_only_since": sum(
                one.after_llr >= self.threshold_llr > one.before_llr for one in self.intrusions
            ),
            "calibration": [self.calibration.scale, self.calibration.offset],
            "turned_round": None if self.turned is None else self.turned.summary(),
        }

    @property
    def rises(self) -> tuple[float, ...]:
        """Per person: the highest impostor by the grown voiceprint, above that of a recall."""
        return tuple(one.highest_grown - one.highest_recalled for one in self.people)


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """How one speaker model heard every recording; without a calibration where its bundle states none."""

    version: str
    voices: Embeddings
    calibration: Calibration | None


def both_ways(
    recordings: Sequence[Recording],
    old: Heard,
    following: Heard,
    live: Mapping[str, float],
    thresholds: Thresholds,
) -> SuccessionResult | None:
    """As `evaluate_succession`, and the same with the models turned round."""
    found = evaluate_succession(recordings, old, following, live, thresholds)
    if found is None:
        return None
    before = replace(following, calibration=found.calibration)
    return replace(found, turned=evaluate_succession(recordings, before, old, live, thresholds))


def evaluate_succession(
    recordings: Sequence[Recording],
    old: Heard,
    following: Heard,
    live: Mapping[str, float],
    thresholds: Thresholds,
    together: Callable[[float, float], float] = lower_llr,
) -> SuccessionResult | None:
    """None where the model in use has no calibration, or fewer than two speakers have enough recordings or
    come over. `live` are LLRs by path; `together` makes one LLR of those by the voiceprint that was enrolled
    and by the one that has grown."""
    everybody = _by_speaker(recordings, old.voices, following.voices)
    judged = {name: files for name, files in everybody.items() if not fits(name)}
    if len(judged) < 2 or old.calibration is None:
        return None
    calibration = following.calibration or fitted(everybody, following.voices)
    heard_old, heard_next = old.voices, following.voices
    old_llr, next_llr = _llr(old.calibration), _llr(calibration)
    inside = {
        name: [p for p in files[ENROLMENT:] if _inside(p, files, heard_old, old_llr, live, thresholds)]
        for name, files in judged.items()
    }
    came: dict[str, tuple[Growing, int, list[str]]] = {}
    for name, files in judged.items():
        grown = grow([heard_next[path] for path in inside[name]], next_llr)
        if grown is not None:
            used = inside[name][: grown[1]]
            came[name] = (*grown, [path for path in files[ENROLMENT:] if path not in used])
    if len(came) < 2:
        return None
    voices = {
        "old": {n: template([heard_old[p] for p in judged[n][:ENROLMENT]]) for n in came},
        "recalled": {n: template([heard_next[p] for p in judged[n][:ENROLMENT]]) for n in came},
        "grown": {n: growing.template().vector for n, (growing, _, _) in came.items()},
    }
    probes = {name: rest for name, (_, _, rest) in came.items()}
    scored = {
        kind: _scores(voices[kind], probes, heard_old if kind == "old" else heard_next, llr)
        for kind, llr in (("old", old_llr), ("recalled", next_llr), ("grown", next_llr))
    }
    scored["both"] = {
        name: _Scored(
            list(map(together, before.own, scored["grown"][name].own)),
            list(map(together, before.impostors, scored["grown"][name].impostors)),
        )
        for name, before in scored["old"].items()
    }
    at = thresholds.voice_llr
    return SuccessionResult(
        old.version,
        following.version,
        calibration,
        at,
        rate(list(judged), [[name in came] for name in judged]),
        tuple(used for _, used, _ in came.values()),
        {k: rate(list(v), [[x >= at for x in s.impostors] for s in v.values()]) for k, v in scored.items()},
        {k: rate(list(v), [[x < at for x in s.own] for s in v.values()]) for k, v in scored.items()},
        rate(list(came), [_risen(scored["old"][n].impostors, scored["both"][n].impostors) for n in came]),
        tuple(
            PersonCompared(
                name,
                came[name][1],
                *(max(scored[kind][name].impostors) for kind in ("old", "recalled", "grown", "both")),
            )
            for name in came
        ),
        tuple(_intrusions(came, inside, judged, voices, heard_old, heard_next, old_llr, next_llr)),
        _strangers(came, inside, judged, heard_old, heard_next, old_llr, next_llr, live, thresholds),
    )


def _risen(before: Sequence[float], since: Sequence[float]) -> list[bool]:
    return [after > llr for llr, after in zip(before, since, strict=True)]


def grow(days: Sequence[Embedding], llr: Llr) -> tuple[Growing, int] | None:
    """(what is ready, after how many attempts), or None where these did not suffice; one a day."""
    growing: Growing | None = None
    for day, heard in enumerate(days, 1):
        found = with_another(growing, "next", day, heard, llr)
        growing = found.growing
        if found.step is Step.READY and growing is not None:
            return growing, day
    return None


def fitted(everybody: Mapping[str, Sequence[str]], heard: Embeddings) -> Calibration:
    """On the half of the speakers that calibrations are fitted on: every probe at every voiceprint."""
    known = {name: files for name, files in everybody.items() if fits(name)}
    voices = {name: template([heard[path] for path in files[:ENROLMENT]]) for name, files in known.items()}
    same: list[float] = []
    other: list[float] = []
    for owner, files in known.items():
        for path in files[ENROLMENT:]:
            for name, voice in voices.items():
                (same if name == owner else other).append(float(voice @ heard[path]))
    linear = fit(same, other, prior=0.1)
    return Calibration(float(linear.weights[0]), linear.offset)


@dataclass(frozen=True, slots=True)
class _Scored:
    own: list[float]
    impostors: list[float]


def _scores(
    voices: Mapping[str, Embedding], probes: Mapping[str, Sequence[str]], heard: Embeddings, llr: Llr
) -> dict[str, _Scored]:
    return {
        name: _Scored(
            [llr(heard[path], voice) for path in probes[name]],
            [llr(heard[path], voice) for other in voices if other != name for path in probes[other]],
        )
        for name, voice in voices.items()
    }


def _inside(
    path: str,
    files: Sequence[str],
    heard: Embeddings,
    llr: Llr,
    live: Mapping[str, float],
    thresholds: Thresholds,
) -> bool:
    """As the unit asks: voice and liveness well above their thresholds. Words are taken as said."""
    voice = llr(heard[path], template([heard[one] for one in files[:ENROLMENT]]))
    good = voice >= thresholds.voice_llr + MARGIN_LLR
    return good and live.get(path, float("-inf")) >= thresholds.live_llr + MARGIN_LLR


def _intrusions(
    came: Mapping[str, tuple[Growing, int, list[str]]],
    inside: Mapping[str, Sequence[str]],
    judged: Mapping[str, Sequence[str]],
    voices: Mapping[str, Mapping[str, Embedding]],
    heard_old: Embeddings,
    heard: Embeddings,
    old_llr: Llr,
    llr: Llr,
) -> list[Intrusion]:
    """Of each person the CLOSEST impostors by the old model, at the first, second and third place."""
    found = []
    for name in came:
        others = sorted(
            (other for other in judged if other != name),
            key=lambda o: -max(old_llr(heard_old[p], voices["old"][name]) for p in judged[o]),
        )
        for other in others[:CLOSEST]:
            best, *rest = sorted(judged[other], key=lambda p: -old_llr(heard_old[p], voices["old"][name]))
            for place in range(ENROLMENT):
                own = [heard[path] for path in inside[name]]
                grown = grow([*own[:place], heard[best], *own[place:]], llr)
                contains = _contains(grown, heard[best])
                now = grown[0].template().vector if grown is not None else voices["grown"][name]
                before = max(llr(heard[p], voices["grown"][name]) for p in rest)
                after = max(llr(heard[p], now) for p in rest)
                found.append(Intrusion(name, contains, before, after))
    return found


def _strangers(
    came: Mapping[str, tuple[Growing, int, list[str]]],
    inside: Mapping[str, Sequence[str]],
    judged: Mapping[str, Sequence[str]],
    heard_old: Embeddings,
    heard: Embeddings,
    old_llr: Llr,
    llr: Llr,
    live: Mapping[str, float],
    thresholds: Thresholds,
) -> Strangers:
    """By the unit's whole rule: the check of the model in use is not skipped."""
    attempts = passed = seeded = 0
    for name in came:
        own = [heard[path] for path in inside[name]]
        for path in (p for other, files in judged.items() if other != name for p in files):
            attempts += 1
            if not _inside(path, judged[name], heard_old, old_llr, live, thresholds):
                continue
            passed += 1
            tries = (grow([*own[:at], heard[path], *own[at:]], llr) for at in range(ENROLMENT))
            seeded += any(_contains(grown, heard[path]) for grown in tries)
    return Strangers(attempts, passed, seeded)


def _contains(grown: tuple[Growing, int] | None, embedding: Embedding) -> bool:
    return grown is not None and any(np.allclose(row, embedding, atol=1e-6) for row in grown[0].vectors)


def _by_speaker(
    recordings: Sequence[Recording], old: Embeddings, following: Embeddings
) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in sorted(recordings, key=lambda r: r.path):
        if one.label == "bonafide" and one.speaker and one.path in old and one.path in following:
            found.setdefault(one.speaker, []).append(one.path)
    return {name: files for name, files in found.items() if len(files) >= LEAST_FILES}


def enough(recordings: Sequence[Recording]) -> list[Recording]:
    """The recordings of speakers who have enough of them."""
    own = [one for one in recordings if one.label == "bonafide" and one.speaker]
    counts: dict[str, int] = {}
    for one in own:
        counts[one.speaker] = counts.get(one.speaker, 0) + 1
    return [one for one in own if counts[one.speaker] >= LEAST_FILES]


def _llr(calibration: Calibration) -> Llr:
    return lambda probe, voice: calibration.llr(float(np.dot(probe, voice)))
