"""Fits the speaker check's calibration on half of the speakers, judges it and its rivals on the other half.

    python -m research.fits.speaker --manifest M.tsv --root DIR [--write]

`--write` puts the affine map into quantize/calibration.toml, from where the next build takes it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt

from device.audio import QualityError, load_utterance
from device.settings import models_dir
from quantize.errors import QuantizeError
from quantize.evaluate.checks.opened import open_speaker
from quantize.evaluate.checks.scoring import Bars, Reader, embed_all
from quantize.evaluate.checks.speaker import COSTS, Embedding, Matrix, score_matrix, template
from quantize.evaluate.figures.calibrate import Linear, fit, fits
from quantize.evaluate.figures.metrics import Array, Ranked, act_dcf, cllr, eer, frr_at_far, min_dcf
from quantize.evaluate.figures.named import PRODUCT_MODEL
from quantize.evaluate.figures.pav import min_cllr
from quantize.evaluate.recordings.manifest import Recording, read_manifest
from quantize.evaluate.recordings.trials import SpeakerPlan, speaker_plan

CALIBRATION_FILE = Path(__file__).parents[2] / "quantize" / "calibration.toml"
FIT_PRIOR = 0.1
"""Of a target: most of the effort goes where thresholds lie, at LLRs of about 2."""
VOICE_THRESHOLD_LLR = 3.0
COHORT_FOLDER = "libri"
COHORT_TOP = (50, 200)

Mask = npt.NDArray[np.bool_]


def as_norm(scores: Array, enrol_cohort: Array, probe_cohort: Array, top: int = 100) -> Array:
    """Adaptive symmetric score normalisation (Matějka et al. 2017).

    `scores` is (enrolments, probes); the cohort scores are (enrolments, cohort) and (probes, cohort).
    """
    enrol_mean, enrol_spread = _top_statistics(enrol_cohort, top)
    probe_mean, probe_spread = _top_statistics(probe_cohort, top)
    by_enrolment = (scores - enrol_mean[:, None]) / enrol_spread[:, None]
    by_probe = (scores - probe_mean[None, :]) / probe_spread[None, :]
    return np.asarray((by_enrolment + by_probe) / 2, dtype=np.float64)


def _top_statistics(cohort: Array, top: int) -> tuple[Array, Array]:
    nearest = np.sort(cohort, axis=1)[:, -top:]
    return nearest.mean(axis=1), np.maximum(nearest.std(axis=1), 1e-6)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One way of turning scores into LLRs, on speakers it was not fitted on."""

    name: str
    eer: float
    min_dcf: float
    act_dcf: float
    cllr: float
    min_cllr: float
    frr: float
    far: float
    frr_at_far_1e3: float

    def line(self) -> str:
        """As a row of a Markdown table."""
        return (
            f"| {self.name} | {100 * self.eer:.2f} % | {self.min_dcf:.3f} | {self.act_dcf:.3f} "
            f"| {self.cllr:.4f} | {self.min_cllr:.4f} | {100 * self.frr:.2f} % | {100 * self.far:.3f} % "
            f"| {100 * self.frr_at_far_1e3:.2f} % |"
        )


HEADING = (
    "| method | EER | minDCF | actDCF | Cllr | min Cllr | FRR at LLR 3 | FAR at LLR 3 | FRR at FAR 1e-3 |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Trials within one corpus, between speakers of one half only: masks over a score matrix."""

    same: Mask
    fitting: Mask
    judging: Mask


def split(matrix: Matrix, plan: SpeakerPlan) -> Split:
    """Fitting speakers meet fitting speakers, judging ones meet judging ones, each within a corpus.

    Across corpora microphone and room tell people apart, and a calibration would learn to trust that.
    """
    folder = {speaker: files[0].folder for speaker, files in plan.enrolments.items()}
    rows = np.array([fits(speaker) for speaker in matrix.speakers])
    columns = np.array([fits(probe.speaker) for probe in matrix.probes])
    corpus_rows = np.array([folder[speaker] for speaker in matrix.speakers])
    corpus_columns = np.array([folder[probe.speaker] for probe in matrix.probes])
    together = corpus_rows[:, None] == corpus_columns[None, :]
    return Split(
        same=matrix.same,
        fitting=together & rows[:, None] & columns[None, :],
        judging=together & ~rows[:, None] & ~columns[None, :],
    )


def judge(name: str, features: Array, halves: Split, prior: float = FIT_PRIOR) -> tuple[Verdict, Linear]:
    """Fit on the one half, judge on the other. `features` has shape (speakers, probes) or (..., k)."""
    fitted = fit(features[halves.fitting & halves.same], features[halves.fitting & ~halves.same], prior=prior)
    targets = fitted.llr(features[halves.judging & halves.same])
    nontargets = fitted.llr(features[halves.judging & ~halves.same])
    ranked = Ranked(targets, nontargets)
    curve = ranked.curve()
    frr, far = curve.at(VOICE_THRESHOLD_LLR)
    verdict = Verdict(
        name=name,
        eer=eer(curve),
        min_dcf=min_dcf(curve, COSTS),
        act_dcf=act_dcf(curve, COSTS),
        cllr=cllr(targets, nontargets),
        min_cllr=min_cllr(ranked),
        frr=frr,
        far=far,
        frr_at_far_1e3=frr_at_far(curve, 1e-3),
    )
    return verdict, fitted


def rivals(
    matrix: Matrix,
    plan: SpeakerPlan,
    embeddings: Mapping[str, Embedding],
    conditions: Mapping[str, tuple[float, float]],
    cohort: list[Embedding],
) -> list[Verdict]:
    """The plain map, then every richer one that a door could use, on the same split.

    `conditions` holds (seconds of speech, SNR in dB) by path.
    """
    halves = split(matrix, plan)
    scores = matrix.scores
    seconds = np.array([np.log(max(0.3, conditions[p.path][0])) for p in matrix.probes])
    snr = np.array([conditions[p.path][1] for p in matrix.probes]) / 20
    enrolled = np.array(
        [np.log(sum(max(0.3, conditions[r.path][0]) for r in plan.enrolments[s])) for s in matrix.speakers]
    )
    by_probe = np.broadcast_to(seconds, scores.shape)
    features = {
        "affine (kept)": scores,
        "with seconds of the probe": np.stack([scores, by_probe], axis=-1),
        "with seconds of probe and enrolment": np.stack(
            [scores, by_probe, np.broadcast_to(enrolled[:, None], scores.shape)], axis=-1
        ),
        "with SNR of the probe": np.stack([scores, np.broadcast_to(snr, scores.shape)], axis=-1),
        "enrolment weighted by seconds": _weighted(matrix, plan, embeddings, conditions),
    }
    if cohort:
        references = np.stack(cohort).T
        voices = np.stack(
            [template([embeddings[r.path] for r in plan.enrolments[s]]) for s in matrix.speakers]
        )
        probes = np.stack([embeddings[p.path] for p in matrix.probes])
        for top in COHORT_TOP:
            normed = as_norm(
                scores, (voices @ references).astype(float), (probes @ references).astype(float), top
            )
            features[f"AS-norm, nearest {top} of {len(cohort)}"] = normed
    return [judge(name, columns, halves)[0] for name, columns in features.items()]


def _weighted(
    matrix: Matrix,
    plan: SpeakerPlan,
    embeddings: Mapping[str, Embedding],
    conditions: Mapping[str, tuple[float, float]],
) -> Array:
    voices = []
    for speaker in matrix.speakers:
        files = plan.enrolments[speaker]
        weights = np.array([max(0.3, conditions[r.path][0]) for r in files])
        mean = (weights[:, None] * np.stack([embeddings[r.path] for r in files])).sum(axis=0)
        voices.append(mean / np.linalg.norm(mean))
    probes = np.stack([embeddings[p.path] for p in matrix.probes])
    return np.asarray(np.stack(voices) @ probes.T, dtype=np.float64)


def write_calibration(path: Path, fitted: Linear, origin: str) -> None:
    """Replace the [speaker] section of a calibration file; every other line stays as it is."""
    text = path.read_text(encoding="utf-8")
    section = (
        f"[speaker]\nscale = {float(fitted.weights[0]):.4f}\noffset = {fitted.offset:.4f}\n"
        f'origin = "{origin}"\n'
    )
    changed, count = re.subn(r"(?ms)^\[speaker\]\n(?:[^\[\n][^\n]*\n)*", lambda _: section, text)
    if count != 1:
        raise QuantizeError(f"{path.name} has no [speaker] section to replace")
    path.write_text(changed, encoding="utf-8")


@click.command()
@click.option("--manifest", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--root", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--models", type=click.Path(file_okay=False, path_type=Path))
@click.option("--write", is_flag=True, help="Put the map into quantize/calibration.toml.")
def main(manifest: Path, root: Path, models: Path | None, write: bool) -> None:
    """Fit the speaker calibration and print how it does beside richer ones."""
    recordings = read_manifest(manifest, root)
    plan = speaker_plan(recordings)
    cohort = [r for r in recordings if r.folder == COHORT_FOLDER and r.label == "bonafide"]
    voice = open_speaker(PRODUCT_MODEL, models or models_dir(), Path())
    files = plan.recordings() + cohort
    reader = Reader(root)
    with Bars() as bars:
        embeddings = embed_all(voice, files, reader, bars.bar("voices", len(files)))
    matrix = score_matrix(plan, embeddings)
    conditions = {recording.path: _condition(root, recording) for recording in plan.recordings()}
    click.echo(HEADING)
    for verdict in rivals(
        matrix, plan, embeddings, conditions, [embeddings[r.path] for r in cohort if r.path in embeddings]
    ):
        click.echo(verdict.line())
    _, fitted = judge("affine", matrix.scores, split(matrix, plan))
    click.echo(f"scale {float(fitted.weights[0]):.4f}, offset {fitted.offset:.4f}")
    if write:
        speakers = sum(fits(speaker) for speaker in matrix.speakers)
        corpora = sorted({files[0].folder for files in plan.enrolments.values()})
        origin = (
            f"logistic regression, target prior {FIT_PRIOR}, {speakers} speakers (even SHA-256) of "
            f"{' and '.join(corpora)}, three enrolment utterances, {voice.version}, "
            f"{datetime.now(UTC):%Y-%m-%d}"
        )
        write_calibration(CALIBRATION_FILE, fitted, origin)


def _condition(root: Path, recording: Recording) -> tuple[float, float]:
    """(seconds of speech, SNR in dB); a recording the door would refuse counts as short and noisy."""
    try:
        quality = load_utterance(root / recording.path).quality
    except QualityError:
        return 0.3, 0.0
    return quality.speech_s, quality.snr_db


if __name__ == "__main__":
    main()
