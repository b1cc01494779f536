"""Is it a live human? Every attack against all bona fide speech, each system by itself, and the worst."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from quantize.evaluate.figures.detection import Detection, Trials, measure
from quantize.evaluate.figures.metrics import AdcfCosts, Array, Costs, a_dcf
from quantize.evaluate.recordings.manifest import Recording

COSTS = Costs(target_prior=0.95, miss=1.0, false_accept=10.0)
"""ASVspoof 5, track 1: one attempt in twenty is an attack, and letting one in costs ten refusals."""

LEAST_OWN_BONAFIDE = 5

Llrs = Mapping[str, float]
"""By path: calibrated, positive speaks for a live human."""


@dataclass(frozen=True, slots=True)
class SpoofResult:
    """Figures name FRR what ISO/IEC 30107-3 calls BPCER, and FAR what it calls APCER.

    `attacks` and `folders` face the whole bona fide pool; `within_folders` only the bona fide speech of the
    same page, which shares its channel: the harder and fairer question.
    """

    model: str
    threshold_llr: float
    pooled: Detection
    attacks: dict[str, Detection]
    folders: dict[str, Detection]
    within_folders: dict[str, Detection]
    worst_attack_by_eer: str
    worst_attack_by_apcer: str
    bona_fide_rejected: dict[str, float]
    """BPCER at the deployed threshold, by top folder."""


def evaluate_spoof(
    model: str,
    recordings: Sequence[Recording],
    llrs: Llrs,
    threshold_llr: float,
    replicates: int = 300,
) -> SpoofResult:
    """All figures of the spoof check; `llrs` holds every path of `recordings` that could be scored."""
    scored = [r for r in recordings if r.path in llrs]
    pool = [r for r in scored if r.label == "bonafide"]
    spoofs = [r for r in scored if r.label == "spoof"]

    def against(bona_fide: Sequence[Recording], attacks: Sequence[Recording], pooled: bool) -> Detection:
        return measure(_trials(bona_fide, attacks, llrs, pooled), COSTS, threshold_llr, replicates=replicates)

    by_system, by_folder = _grouped(spoofs, "system"), _grouped(spoofs, "folder")
    attacks = {name: against(pool, files, False) for name, files in by_system.items()}
    own = {name: [r for r in pool if r.folder == name] for name in by_folder}
    rejected = {
        name: float(np.mean([llrs[r.path] < threshold_llr for r in files]))
        for name, files in _grouped(pool, "folder").items()
    }
    return SpoofResult(
        model=model,
        threshold_llr=threshold_llr,
        pooled=against(pool, spoofs, True),
        attacks=attacks,
        folders={name: against(pool, files, True) for name, files in by_folder.items()},
        within_folders={
            name: against(own[name], files, True)
            for name, files in by_folder.items()
            if len(own[name]) >= LEAST_OWN_BONAFIDE
        },
        worst_attack_by_eer=_worst(attacks, "eer"),
        worst_attack_by_apcer=_worst(attacks, "far"),
        bona_fide_rejected=rejected,
    )


def _trials(
    bona_fide: Sequence[Recording], attacks: Sequence[Recording], llrs: Llrs, by_system: bool
) -> Trials:
    # Attacks of one system fail together: where several are pooled, systems are what luck would draw again.
    systems = len({r.system for r in attacks})
    return Trials(
        targets=np.array([llrs[r.path] for r in bona_fide]),
        nontargets=np.array([llrs[r.path] for r in attacks]),
        target_units=[("person", r.unit) for r in bona_fide],
        nontarget_units=[
            ("attack", f"{r.folder}/{r.system}" if by_system and systems > 2 else r.path) for r in attacks
        ],
    )


def _grouped(recordings: Sequence[Recording], attribute: str) -> dict[str, list[Recording]]:
    groups: dict[str, list[Recording]] = defaultdict(list)
    for recording in recordings:
        groups[getattr(recording, attribute)].append(recording)
    return dict(sorted(groups.items()))


def _worst(attacks: Mapping[str, Detection], figure: str) -> str:
    return max(attacks, key=lambda name: (attacks[name].figures[figure].value, name))


@dataclass(frozen=True, slots=True)
class TandemResult:
    """Voice and liveness together, as the door uses them.

    The corpora here hold no attack on an enrolled person, so each attack is given the median score of a
    genuine voice: a clone that fools the speaker check completely.
    """

    targets: int
    nontargets: int
    spoofs: int
    min_a_dcf: float
    """Of the fused score, best threshold in hindsight."""
    act_a_dcf: float
    """Of the fused score at the Bayes threshold."""
    door_a_dcf: float
    """Of the door's own rule: both checks above their deployed thresholds."""
    speaker_only_min_a_dcf: float
    refused_genuine: float
    accepted_impostors: float
    accepted_clones: float


@dataclass(frozen=True, slots=True, eq=False)
class TandemScores:
    """(speaker LLR, liveness LLR) of every attempt, each of shape (n, 2)."""

    targets: Array
    nontargets: Array
    spoofs: Array


def evaluate_tandem(
    scores: TandemScores, voice_threshold: float, live_threshold: float, costs: AdcfCosts | None = None
) -> TandemResult:
    """Spoof-aware verification cost of the two checks together (a-DCF, Shim et al. 2024)."""
    costs = costs or AdcfCosts()
    impostor = costs.false_accept_nontarget * costs.nontarget_prior
    spoof = costs.false_accept_spoof * costs.spoof_prior
    share = spoof / (impostor + spoof)

    def fused(pairs: Array) -> Array:
        # LLR of "target and live" against the two ways to be refused, each by its price.
        against = np.logaddexp(np.log1p(-share) - pairs[:, 0], np.log(share) - pairs[:, 1])
        return np.asarray(-against, dtype=np.float64)

    def passes(pairs: Array) -> Array:
        both = (pairs[:, 0] >= voice_threshold) & (pairs[:, 1] >= live_threshold)
        return both.astype(np.float64)

    sides = (scores.targets, scores.nontargets, scores.spoofs)
    bayes = float(np.log((impostor + spoof) / (costs.miss * costs.target_prior)))
    target_pass, nontarget_pass, spoof_pass = (passes(side) for side in sides)
    target_voice, nontarget_voice, spoof_voice = (side[:, 0] for side in sides)
    target_fused, nontarget_fused, spoof_fused = (fused(side) for side in sides)
    return TandemResult(
        targets=len(scores.targets),
        nontargets=len(scores.nontargets),
        spoofs=len(scores.spoofs),
        min_a_dcf=a_dcf(target_fused, nontarget_fused, spoof_fused, costs),
        act_a_dcf=a_dcf(target_fused, nontarget_fused, spoof_fused, costs, bayes),
        door_a_dcf=a_dcf(target_pass, nontarget_pass, spoof_pass, costs, 0.5),
        speaker_only_min_a_dcf=a_dcf(target_voice, nontarget_voice, spoof_voice, costs),
        refused_genuine=float(1 - target_pass.mean()),
        accepted_impostors=float(nontarget_pass.mean()),
        accepted_clones=float(spoof_pass.mean()),
    )
