"""What an evaluation found, as one value; `to_json` is the machine's copy, `page.render` the auditor's."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Any

from quantize.evaluate.campaigns.measure import CampaignsResult
from quantize.evaluate.campaigns.measure import summary as campaigns_summary
from quantize.evaluate.checks.phrase import PhraseResult
from quantize.evaluate.checks.speaker import SpeakerResult
from quantize.evaluate.checks.spoof import SpoofResult, TandemResult
from quantize.evaluate.conversation.changes import ChangesResult
from quantize.evaluate.conversation.measure import DiarizationResult
from quantize.evaluate.conversation.measure import summary as diarization_summary
from quantize.evaluate.door.attempts import Findings
from quantize.evaluate.inspection.measure import InspectionResult
from quantize.evaluate.inspection.measure import summary as inspection_summary
from quantize.evaluate.splices.measure import SplicesResult
from quantize.evaluate.succession.measure import SuccessionResult

SCHEMA = "ostiary.evaluation/1"


@dataclass(frozen=True, slots=True)
class Provenance:
    """What was measured, on what, by which versions."""

    made_at: str
    manifest: str
    manifest_sha256: str
    files: int
    bona_fide: int
    spoofs: int
    speakers: int
    versions: dict[str, str]
    machine: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """The product's speaker model beside another, on the same trials of one view."""

    view: str
    other: str
    eer: float
    other_eer: float
    decision_flips: float | None
    """Share of trials decided differently at the deployed threshold; None where scales differ."""

    @property
    def difference_points(self) -> float:
        """EER of the product less that of the other, in percentage points."""
        return 100 * (self.eer - self.other_eer)


@dataclass(frozen=True, slots=True)
class Report:
    """Everything one run found. A part that was not asked for is None or empty."""

    provenance: Provenance
    speaker: list[SpeakerResult] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    spoof: SpoofResult | None = None
    tandem: TandemResult | None = None
    phrase: PhraseResult | None = None
    refused: dict[str, str] = field(default_factory=dict)
    """Recordings the device's own audio checks would turn away, and why; they are scored all the same."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Recordings that could not be scored at all, and why."""
    attempts: dict[str, Findings] = field(default_factory=dict)
    """Whole attempts, by condition."""
    diarization: DiarizationResult | None = None
    changes: ChangesResult | None = None
    splices: SplicesResult | None = None
    succession: SuccessionResult | None = None
    campaigns: CampaignsResult | None = None
    inspection: InspectionResult | None = None
    """How far `ostiary inspect` may be believed."""

    def summary(self) -> dict[str, Any]:
        """The few figures most readers want, by plain names. All are fractions."""
        summary: dict[str, Any] = {}
        if self.speaker:
            summary["speaker_eer"] = {
                result.model: {name: view.figures["eer"].value for name, view in result.views.items()}
                for result in self.speaker
            }
        if self.spoof:
            worst, attacks = self.spoof.worst_attack_by_eer, self.spoof.attacks
            summary["spoof_eer"] = {
                "pooled": self.spoof.pooled.figures["eer"].value,
                "worst": {"system": worst, "eer": attacks[worst].figures["eer"].value},
                "by_system": {name: found.figures["eer"].value for name, found in attacks.items()},
                "by_folder": {name: f.figures["eer"].value for name, f in self.spoof.folders.items()},
            }
            worst = self.spoof.worst_attack_by_apcer
            summary["spoof_at_threshold"] = {
                "bpcer": self.spoof.pooled.figures["frr"].value,
                "apcer_pooled": self.spoof.pooled.figures["far"].value,
                "apcer_worst": {"system": worst, "apcer": attacks[worst].figures["far"].value},
            }
        if self.phrase:
            summary["right_phrase_accepted"] = self.phrase.right_phrase_accepted
            summary["wrong_phrase_accepted"] = self.phrase.wrong_phrase_accepted
            summary["phrase_accepted_in_error"] = {
                title: {name: [rate.accepted, rate.trials] for name, rate in counted.items()}
                for title, counted in self.phrase.counts().items()
            }
            summary["phrase_attempts"] = {
                title: {name: [rate.accepted, rate.trials] for name, rate in counted.items()}
                for title, counted in self.phrase.attempts.items()
            }
            summary["phrase_eer"] = {n: view.figures["eer"].value for n, view in self.phrase.views.items()}
        if self.attempts:
            summary["attempts"] = {name: found.summary() for name, found in self.attempts.items()}
        if self.splices:
            summary["splices"] = {
                name: {
                    "one_accepted": [cell.one.accepted, cell.one.trials],
                    "best_accepted": [cell.best.accepted, cell.best.trials],
                    "without_a_second_phrase_accepted": [cell.first.accepted, cell.first.trials],
                    "at_once_accepted": [cell.at_once.accepted, cell.at_once.trials],
                    "live_alone_accepted": [cell.live_alone.accepted, cell.live_alone.trials],
                }
                for name, cell in self.splices.cells.items()
            }
            summary["splices_eer"] = {n: f.figures["eer"].value for n, f in self.splices.joins.items()}
            summary["splices_pieces"] = {
                name: [found.accepted, found.trials] for name, found in self.splices.pieces.items()
            }
            for what, counted in (
                ("without_a_second_phrase_refused", self.splices.people),
                ("asked", self.splices.people_asked),
                ("refused", self.splices.people_refused),
            ):
                summary[f"splices_people_{what}"] = {
                    name: [found.accepted, found.trials] for name, found in counted.items()
                }
        if self.succession:
            summary["succession"] = self.succession.summary()
        if self.diarization:
            summary["diarization"] = diarization_summary(self.diarization)
        if self.campaigns:
            summary["campaigns"] = campaigns_summary(self.campaigns)
        if self.inspection:
            summary["evidence"] = inspection_summary(self.inspection)
        if self.changes:
            summary["changes"] = {
                "in_use": dataclasses.asdict(self.changes.chosen),
                "window_eer": {name: found.value for name, found in self.changes.window_eer.items()},
            }
        return _finite(summary)  # type: ignore[no-any-return]

    def to_json(self) -> str:
        """The whole report as JSON text (schema `ostiary.evaluation/1`); infinities become null."""
        document = {"schema": SCHEMA, "summary": self.summary(), **dataclasses.asdict(self)}
        return json.dumps(_finite(document), indent=1, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 8) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value
