"""One evaluation from recordings to findings: plan the trials, score each file once, measure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from device.access.policy import Thresholds
from device.access.rules.levels import LEVELS
from device.settings import WordsEngine
from quantize.errors import QuantizeError
from quantize.evaluate.campaigns.measure import DOORS, CampaignsResult, prints
from quantize.evaluate.campaigns.measure import measure as measure_campaigns
from quantize.evaluate.checks.attempts import attempts
from quantize.evaluate.checks.nonspeech import clips, judge_clips
from quantize.evaluate.checks.opened import (
    SpeakerUnderTest,
    open_speaker,
    open_spoof,
    open_successor,
    open_words,
)
from quantize.evaluate.checks.phrase import PhraseResult, evaluate_phrase, views_of
from quantize.evaluate.checks.scoring import Bars, Reader, embed_all, phrase_scores, spoof_llrs
from quantize.evaluate.checks.speaker import (
    Matrix,
    SpeakerResult,
    decision_flips,
    evaluate_speaker,
    score_matrix,
)
from quantize.evaluate.checks.spoof import (
    SpoofResult,
    TandemResult,
    TandemScores,
    evaluate_spoof,
    evaluate_tandem,
)
from quantize.evaluate.conversation import part
from quantize.evaluate.conversation.changes import ChangesResult
from quantize.evaluate.conversation.measure import DiarizationResult
from quantize.evaluate.conversation.part import Conversations
from quantize.evaluate.door.attempts import Findings
from quantize.evaluate.door.whole import Scope, whole_attempts
from quantize.evaluate.figures.named import FLOAT_MODEL, PRODUCT_MODEL, TFLITE_MODEL
from quantize.evaluate.inspection.measure import InspectionResult, evaluate_inspection
from quantize.evaluate.recordings.manifest import Recording
from quantize.evaluate.recordings.trials import SpeakerPlan, phrase_trials, speaker_plan
from quantize.evaluate.report.result import Comparison, Provenance, Report
from quantize.evaluate.splices.measure import SplicesResult, evaluate_splices
from quantize.evaluate.succession.measure import Heard, SuccessionResult, both_ways, enough


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure, with which models and at which deployed thresholds."""

    parts: frozenset[str]
    speaker_models: tuple[str, ...]
    models_dir: Path
    reference_dir: Path
    thresholds: Thresholds
    replicates: int = 300
    pairings: int = 0
    """Further wrong phrases for every recording with a text."""
    clips: int = 0
    """Clips of noise, babble, music and silence that meet phrases of the manifest."""
    noises: Sequence[Recording] = ()
    """What some of the clips are cut from."""
    words: WordsEngine = WordsEngine.ONNX
    conversations: Conversations = field(default_factory=Conversations)
    kept: Path | None = None
    """Where measurements of whole attempts are kept; None keeps none."""
    scope: Scope = field(default_factory=Scope)
    """Of the whole attempts."""


def evaluate_all(
    recordings: Sequence[Recording], root: Path, plan: Plan, bars: Bars
) -> Callable[[Provenance], Report]:
    """Everything `plan` asks for; give the result its provenance to have the report.

    Raises QuantizeError when no part has a trial, and what the checks raise when they cannot be
    opened.
    """
    reader = Reader(root)
    versions: dict[str, str] = {}
    speaker: list[SpeakerResult] = []
    comparisons: list[Comparison] = []
    spoof: SpoofResult | None = None
    tandem: TandemResult | None = None
    phrase: PhraseResult | None = None
    splices: SplicesResult | None = None
    matrix: Matrix | None = None
    voice: SpeakerUnderTest | None = None

    people = speaker_plan(recordings)
    if "speaker" in plan.parts and len(people.enrolments) >= 2:
        matrices: dict[str, Matrix] = {}
        for name in plan.speaker_models:
            under_test = open_speaker(name, plan.models_dir, plan.reference_dir)
            versions[f"speaker, {name}"] = under_test.version
            files = people.recordings()
            embeddings = embed_all(under_test, files, reader, bars.bar(f"voices, {name}", len(files)))
            matrices[name] = score_matrix(people, embeddings)
            speaker.append(
                evaluate_speaker(
                    name, matrices[name], people, under_test.llr, plan.thresholds.voice_llr, plan.replicates
                )
            )
            if name == PRODUCT_MODEL:
                matrix, voice = matrices[name], under_test
        comparisons = _comparisons(people, speaker, matrices, voice, plan.thresholds.voice_llr)

    live: dict[str, float] = {}
    if "spoof" in plan.parts and {r.label for r in recordings} == {"bonafide", "spoof"}:
        detector = open_spoof(plan.models_dir)
        versions["spoof"] = detector.version
        live = spoof_llrs(detector, recordings, reader, bars.bar("live or not", len(recordings)))
        spoof = evaluate_spoof(detector.version, recordings, live, plan.thresholds.live_llr, plan.replicates)
        if matrix is not None and voice is not None:
            tandem = _tandem(matrix, voice, recordings, live, plan.thresholds)

    trials = phrase_trials(recordings, pairings=plan.pairings) if "phrase" in plan.parts else []
    if trials:
        words = open_words(plan.models_dir, plan.words)
        versions["words"] = words.version
        threshold_llr = plan.thresholds.phrase_llr
        bar = bars.bar("phrases", len(trials))
        scores = phrase_scores(words, trials, reader, bar, threshold_llr)
        phrase = evaluate_phrase(words.version, trials, scores, threshold_llr, plan.replicates)
        phrase = replace(phrase, attempts=attempts(views_of(trials, scores), scores, threshold_llr))
        if plan.clips:
            made = clips([*recordings, *plan.noises], root, plan.clips)
            progress = bars.bar("clips without the phrase", plan.clips)
            phrase = replace(phrase, clips=judge_clips(words, made, threshold_llr, progress))
    whole: dict[str, Findings] = {}
    if "attempts" in plan.parts:
        whole, found_versions = whole_attempts(
            recordings, plan.noises, root, plan.models_dir, plan.words, plan.kept, bars, plan.scope
        )
        versions.update(found_versions)
    diarization: DiarizationResult | None = None
    changes: ChangesResult | None = None
    if plan.parts & {"diarization", "changes"}:
        given = plan.conversations
        on = part.stage(recordings, root, plan.models_dir, given)
        versions["conversations"] = " + ".join(on.models.versions)
        if "diarization" in plan.parts:
            diarization = part.diarization(on, given, bars.bar, plan.replicates)
        if "changes" in plan.parts:
            changes = part.changes(on, given, bars.bar, plan.replicates)
    if "splices" in plan.parts:
        check = open_spoof(plan.models_dir)
        versions["spoof"] = check.version
        heard = [*recordings, *plan.noises]
        kept = plan.kept / "word-borders.json" if plan.kept else None
        splices = evaluate_splices(
            heard, root, check, LEVELS["standard"].thresholds, bars.bar, plan.replicates, kept
        )
    inspection: InspectionResult | None = None
    if "evidence" in plan.parts:
        check = open_spoof(plan.models_dir)
        versions["spoof"] = check.version
        kept = plan.kept / "word-borders.json" if plan.kept else None
        inspection = evaluate_inspection(recordings, root, check, bars.bar, plan.replicates, kept)
    succession = None
    if "succession" in plan.parts:
        succession = _succession(recordings, plan, reader, bars, versions)
    campaigns: CampaignsResult | None = None
    if "campaigns" in plan.parts:
        seen = prints(recordings, root, DOORS, bars.bar)
        campaigns = measure_campaigns(seen, DOORS, bars.bar, plan.replicates)
    every = (speaker, spoof, phrase, whole, splices, diarization, changes, succession, campaigns, inspection)
    if not any(every):
        raise QuantizeError(
            "the manifest has no trial of that kind; it needs speakers with five files, spoofs, or texts"
        )

    def report(provenance: Provenance) -> Report:
        complete = replace(provenance, versions={**provenance.versions, **versions})
        return Report(
            complete, speaker, comparisons, spoof, tandem, phrase, reader.refused, reader.unreadable, whole,
            diarization, changes, splices, succession, campaigns, inspection,
        )  # fmt: skip

    return report


def _succession(
    recordings: Sequence[Recording], plan: Plan, reader: Reader, bars: Bars, versions: dict[str, str]
) -> SuccessionResult | None:
    files = enough(recordings)
    if not files:
        return None
    present = open_speaker(PRODUCT_MODEL, plan.models_dir, plan.reference_dir)
    following = open_successor(plan.models_dir, plan.reference_dir)
    detector = open_spoof(plan.models_dir)
    told = {"in use": present.version, "following": following.version, "spoof": detector.version}
    versions.update({f"succession, {name}": version for name, version in told.items()})
    if present.calibration is None:
        return None
    old = embed_all(present, files, reader, bars.bar("voices, in use", len(files)))
    heard = embed_all(following, files, reader, bars.bar("voices, following", len(files)))
    live = spoof_llrs(detector, files, reader, bars.bar("live or not", len(files)))
    return both_ways(
        files,
        Heard(present.version, old, present.calibration),
        Heard(following.version, heard, following.calibration),
        live,
        plan.thresholds,
    )


def _comparisons(
    people: SpeakerPlan,
    results: Sequence[SpeakerResult],
    matrices: dict[str, Matrix],
    voice: SpeakerUnderTest | None,
    threshold_llr: float,
) -> list[Comparison]:
    if voice is None or voice.llr is None:
        return []
    product = next(result for result in results if result.model == PRODUCT_MODEL)
    corpora = dict.fromkeys(files[0].folder for files in people.enrolments.values())
    found = []
    for view in ("all", *(name for name in corpora if name in product.views)):
        members = (
            set(people.enrolments)
            if view == "all"
            else {speaker for speaker, files in people.enrolments.items() if files[0].folder == view}
        )
        for other in results:
            if other.model == PRODUCT_MODEL or view not in other.views:
                continue
            flips = None
            if other.model in (FLOAT_MODEL, TFLITE_MODEL):
                flips = decision_flips(
                    matrices[PRODUCT_MODEL], matrices[other.model], voice.score_at(threshold_llr), members
                )
            found.append(
                Comparison(
                    view=view,
                    other=other.model,
                    eer=product.views[view].figures["eer"].value,
                    other_eer=other.views[view].figures["eer"].value,
                    decision_flips=flips,
                )
            )
    return found


def _tandem(
    matrix: Matrix,
    voice: SpeakerUnderTest,
    recordings: Sequence[Recording],
    live: dict[str, float],
    thresholds: Thresholds,
) -> TandemResult | None:
    attacks = np.array([live[r.path] for r in recordings if r.label == "spoof" and r.path in live])
    scored = np.array([probe.path in live for probe in matrix.probes])
    if voice.llr is None or len(attacks) == 0 or not scored.any():
        return None
    llrs = voice.llr(matrix.scores[:, scored].ravel()).reshape(len(matrix.speakers), -1)
    same = matrix.same[:, scored]
    liveness = np.array([live[p.path] for p, known in zip(matrix.probes, scored, strict=True) if known])
    pairs = np.stack([llrs, np.broadcast_to(liveness, llrs.shape)], axis=-1)
    clone = float(np.median(llrs[same]))
    return evaluate_tandem(
        TandemScores(
            targets=pairs[same],
            nontargets=pairs[~same],
            spoofs=np.column_stack([np.full(len(attacks), clone), attacks]),
        ),
        thresholds.voice_llr,
        thresholds.live_llr,
    )
