"""The report's chapters, each from one part of the result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from quantize.evaluate.checks.attempts import STEP_UP_MARGIN_LLR
from quantize.evaluate.checks.phrase import COSTS as PHRASE_COSTS
from quantize.evaluate.checks.phrase import PhraseResult, Rate
from quantize.evaluate.checks.speaker import COSTS as SPEAKER_COSTS
from quantize.evaluate.checks.speaker import SpeakerResult
from quantize.evaluate.checks.spoof import COSTS as SPOOF_COSTS
from quantize.evaluate.checks.spoof import SpoofResult, TandemResult
from quantize.evaluate.figures import plots
from quantize.evaluate.figures.detection import Detection
from quantize.evaluate.figures.intervals import Estimate
from quantize.evaluate.figures.markup import FEW_TRIALS, figure, label, percent, row, table
from quantize.evaluate.figures.named import POOLED
from quantize.evaluate.report.result import Comparison
from quantize.evaluate.splices.measure import RENDITIONS, SplicesResult

COST_PAIRS = (("act_dcf", "min_dcf"), ("cllr", "min_cllr"))


def corpora(result: SpeakerResult) -> list[str]:
    """The views of a result that are corpora, neither groups nor everybody."""
    return [name for name in result.views if name not in (POOLED, "native", "accented", "female", "male")]


def speaker_chapter(results: Sequence[SpeakerResult], comparisons: Sequence[Comparison]) -> str:
    """The voice check; `results` begin with the door's own model."""
    product = results[0]
    views = [name for name in (POOLED, *corpora(product)) if name in product.views]
    rows = [
        row(
            f"{label(result.model)}, {label(view)}",
            found,
            ("eer", "frr_at_far_1e-2", "frr_at_far_1e-3", "frr_at_far_1e-4"),
            COST_PAIRS,
        )
        for view in views
        for result in results
        if (found := result.views.get(view))
    ]
    text = (
        "<h2>Is it the right voice?</h2>"
        "<p>Three utterances enrol a speaker; each other one is a genuine attempt as that speaker and an "
        "impostor's as everybody else. EER is where both errors are equal; FRR at FAR 1e-3 is how "
        "many genuine attempts fail when one impostor in a thousand gets in.</p>"
        + table(
            (
                "model, speakers",
                "EER",
                "FRR at FAR 1e-2",
                "at 1e-3",
                "at 1e-4",
                "actDCF",
                "Cllr",
                "trials",
            ),
            rows,
            f"DCF at a target prior of {SPEAKER_COSTS.target_prior}, both errors priced alike. "
            "Both costs need calibrated scores; a dash marks a model that has none. "
            "Trials: genuine / impostor.",
        )
    )
    if comparisons:
        text += _comparisons(comparisons)
    pooled = {label(r.model): r.views[POOLED] for r in results if POOLED in r.views}
    text += '<div class="pair">'
    text += figure(plots.det_plot(pooled, "impostors accepted", "genuine refused"), "All speakers, by model.")
    by_corpus = {name: product.views[name] for name in corpora(product)}
    if product.llrs:
        text += figure(
            plots.calibration_plot(by_corpus or {POOLED: product.views[POOLED]}),
            "On the dashed line a score means exactly what it says; below it, the system is overconfident.",
        )
        text += figure(
            plots.histogram_plot(
                product.views[POOLED], "genuine", "impostor", product.threshold_llr, "log-likelihood ratio"
            ),
            f"{label(product.model)}: scores at every door.",
        )
    return text + "</div>" + _groups(product)


def _groups(product: SpeakerResult) -> str:
    names = [n for n in ("native", "accented", "female", "male") if n in product.views]
    if not names:
        return ""
    rows = [
        row(
            name,
            product.views[name],
            ("eer", *(("frr", "far") if product.llrs else ()), "frr_at_far_1e-3"),
            (),
        )
        for name in names
    ]
    heads = [
        "speakers",
        "EER",
        *(("refused at the threshold", "impostors accepted") if product.llrs else ()),
        "FRR at FAR 1e-3",
        "trials",
    ]
    finding = ""
    refused: dict[str, Estimate | None] = {n: product.views[n].figures.get("frr") for n in names}
    for one, other in (("native", "accented"), ("female", "male")):
        first, second = refused.get(one), refused.get(other)
        if first and second:
            finding += f"<p>{gap(one, first, other, second)}</p>"
    return (
        "<h3>Who bears the errors?</h3>"
        + finding
        + table(heads, rows, "Impostors of the same group only. Trials: genuine / impostor.")
    )


def gap(one: str, first: Estimate, other: str, second: Estimate) -> str:
    """Whether one group is refused more often than another, in a sentence of HTML."""
    low, high = sorted((first.value, second.value))
    if high == 0.0:
        return f"At the deployed threshold nobody is refused, {one} or {other}."
    if low > 0.0 and high / low <= 1.5:
        return f"Refusals of {one} and {other} speakers differ by a factor of {high / low:.2f}, within 1.5."
    more = one if first.value > second.value else other
    overlap = first.low <= second.high and second.low <= first.high
    hedge = " The intervals overlap: this set cannot tell the difference from chance." if overlap else ""
    factor = f"by a factor of {high / low:.1f}" if low > 0 else "while the others never are"
    return f'<span class="bad">Finding:</span> {more} speakers are refused more often, {factor}.{hedge}'


def _comparisons(comparisons: Sequence[Comparison]) -> str:
    rows = []
    for c in comparisons:
        ratio = f"{c.eer / c.other_eer:.2f}" if c.other_eer > 0 else "-"
        flips = "-" if c.decision_flips is None else f"{c.decision_flips:.3%}"
        rows.append(
            f"<tr><th>{escape(label(c.view))}</th><td>{label(c.other)}</td><td>{percent(c.eer)}</td>"
            f"<td>{percent(c.other_eer)}</td><td>{c.difference_points:+.2f}</td><td>{ratio}</td><td>{flips}</td></tr>"
        )
    heads = ("speakers", "beside", "EER INT8", "EER other", "points", "ratio", "decisions that differ")
    return "<h3>What quantisation costs, and how the peer does</h3>" + table(
        heads,
        rows,
        "Same trials. Decisions are compared at the deployed threshold, where both have that scale.",
    )


def spoof_chapter(result: SpoofResult) -> str:
    """The live check: pooled, by attack, by folder."""
    hardest = sorted(result.attacks, key=lambda name: -result.attacks[name].figures["eer"].value)

    def rows(group: Mapping[str, Detection], names: Iterable[str], mark: str = "") -> list[str]:
        return [
            row(name, group[name], ("eer", "far", "frr"), COST_PAIRS, name == mark, False) for name in names
        ]

    heads = ("attack", "EER", "APCER", "BPCER", "actDCF", "Cllr", "files")
    text = (
        "<h2>Is it a live human?</h2>"
        "<p>APCER is the share of an attack's files that pass as live at the deployed threshold "
        f"({result.threshold_llr:g}); BPCER the share of bona fide speech refused there (ISO/IEC 30107-3). "
        "The worst attack counts, not the mean: an attacker picks it.</p>"
        + table(
            heads,
            [
                row(
                    "all attacks, pooled",
                    result.pooled,
                    ("eer", "far", "frr"),
                    COST_PAIRS,
                    False,
                    False,
                )
            ],
            f"Costs of ASVspoof 5, track 1: spoof prior {1 - SPOOF_COSTS.target_prior:.2f}, accepting one "
            f"costs {SPOOF_COSTS.false_accept:g} refusals. Pooled intervals resample people and systems.",
        )
        + '<div class="pair">'
        + figure(
            plots.det_plot(
                {"pooled": result.pooled, **result.folders}, "attacks accepted", "bona fide refused"
            ),
            "Each folder's attacks against all bona fide speech.",
        )
        + figure(plots.calibration_plot({"pooled": result.pooled}), "Claimed against supported LLR.")
        + figure(
            plots.histogram_plot(
                result.pooled, "bona fide", "attack", result.threshold_llr, "log-likelihood ratio"
            ),
            "Scores of the spoof check.",
        )
        + "</div><h3>By attack</h3>"
        + figure(
            plots.attack_plot(result.attacks, result.pooled.figures["eer"].value),
            "Hardest at the top; the number of files stands in brackets.",
        )
        + table(
            heads,
            rows(result.attacks, hardest, result.worst_attack_by_apcer),
            f"Hardest first. Shaded: worst APCER. Grey: fewer than {FEW_TRIALS} files.",
        )
        + "<h3>By folder</h3>"
        + table(heads, rows(result.folders, result.folders), "Against all bona fide speech.")
    )
    if result.within_folders:
        text += table(
            heads,
            rows(result.within_folders, result.within_folders),
            "Against bona fide speech of the same folder only: one channel, so only the voice differs.",
        )
    rejected = [
        f"<tr><th>{escape(name)}</th><td>{percent(rate)}</td></tr>"
        for name, rate in result.bona_fide_rejected.items()
    ]
    return text + table(("bona fide folder", "refused (BPCER)"), rejected, "At the deployed threshold.")


def tandem_chapter(result: TandemResult) -> str:
    """Voice and liveness together, as a door uses them."""
    facts = (
        ("a-DCF of the door's rule (both checks pass)", f"{result.door_a_dcf:.3f}"),
        ("a-DCF of the fused LLR, Bayes threshold", f"{result.act_a_dcf:.3f}"),
        ("a-DCF of the fused LLR, best threshold", f"{result.min_a_dcf:.3f}"),
        ("a-DCF of the voice check alone, best threshold", f"{result.speaker_only_min_a_dcf:.3f}"),
        ("genuine refused", percent(result.refused_genuine)),
        ("impostors accepted", percent(result.accepted_impostors)),
        ("perfect clones accepted", percent(result.accepted_clones)),
    )
    rows = [f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in facts]
    return (
        "<h2>Voice and liveness together</h2>"
        "<p>Spoof-aware verification cost (a-DCF): 0 is perfect, 1 is a door that ignores both. No attack "
        "here targets an enrolled person, so every attack is taken as a perfect clone: it gets "
        "the median voice score of a genuine attempt. "
        "The fresh phrase, which an attacker must also say, is not counted.</p>"
        + table(
            ("figure", "value"),
            rows,
            f"{result.targets:,} genuine, {result.nontargets:,} impostor, {result.spoofs:,} attacks. Priors "
            "0.9405 / 0.0095 / 0.05, costs 1 / 10 / 10 (ASVspoof 5, track 2).",
        )
    )


def phrase_chapter(result: PhraseResult) -> str:
    """The words check: right and wrong phrases, near misses, attempts of two phrases."""
    rows = [
        row(label(name), found, ("frr", "far", "eer"), COST_PAIRS[1:]) for name, found in result.views.items()
    ]
    return (
        "<h2>Were the right words said?</h2>"
        "<p>Each recording is held against what it says and against what another one of its folder says, "
        "as near as possible in number of words.</p>"
        + table(
            ("speakers", "right refused", "wrong accepted", "EER", "Cllr", "right / wrong"),
            rows,
            f"At the deployed threshold of {result.threshold_llr:g}. Wrong phrases have a prior of "
            f"{1 - PHRASE_COSTS.target_prior:.2f}.",
        )
        + _counted(
            result.counts(),
            "accepted",
            "One word wrong: replaced by another of its class. Another phrase: texts of other recordings. No "
            "phrase at all: noise, babble, music, tones and silence. Intervals by speaker; when nothing was "
            "accepted, the rule of three.",
        )
        + _counted(
            result.attempts,
            "attempts",
            "Pairs of recordings of one speaker, at a door that asks for one more phrase when the words are "
            f"weak (margin {STEP_UP_MARGIN_LLR:g}); voice and liveness are taken as passed.",
        )
        + '<div class="pair">'
        + figure(
            plots.det_plot(
                {label(n): f for n, f in result.views.items()},
                "wrong phrases accepted",
                "right phrases refused",
            ),
            "By corpus and group.",
        )
        + figure(
            plots.histogram_plot(
                result.views[POOLED],
                "right phrase",
                "wrong phrase",
                result.threshold_llr,
                "log-likelihood ratio",
            ),
            "Scores of the words check.",
        )
        + "</div>"
    )


def _counted(counts: Mapping[str, Mapping[str, Rate]], what: str, note: str) -> str:
    rows = [
        f"<tr><td>{title}</td><td>{label(name)}</td><td>{rate.accepted:,} of {rate.trials:,}</td>"
        f"<td>{percent(rate.value, 4)} [{percent(rate.low, 4)}, {percent(rate.high, 4)}]</td></tr>"
        for title, counted in counts.items()
        for name, rate in counted.items()
    ]
    return table(("what was tried", "where", what, "rate"), rows, note) if rows else ""


def splices_chapter(result: SplicesResult) -> str:
    """Pasted answers, and people whom the evidence for joins refuses."""
    rows = [
        f"<tr><th>{escape(name)}</th><td>{cell.people}</td>"
        + "".join(_rate(one) for one in (cell.live_alone, cell.first, cell.at_once, cell.one, cell.best))
        + "</tr>"
        for name, cell in result.cells.items()
    ]
    heard = [
        f"<tr><th>{escape(name)}</th>{_rate(refused)}{_rate(result.people_asked[name])}"
        f"{_rate(result.people_refused[name])}</tr>"
        for name, refused in result.people.items()
    ]
    pooled = result.joins["all"]
    missing = "No aligner was installed, so words were cut by energy only. " if result.without_borders else ""
    return (
        "<h2>Is it pasted together?</h2>"
        "<p>Pieces of a person's own recordings in a new order; words and voice are taken as passed. Only "
        f"speakers on whom nothing was fitted. {missing}Through a loudspeaker or a codec: "
        "any of the first three.</p>"
        + table(
            (
                "way, style",
                "people",
                "accepted by the live check alone",
                "with the evidence for joins, no second phrase",
                "at once, where one is asked in doubt",
                "at once or with the second phrase",
                f"best of {RENDITIONS}",
            ),
            rows,
            f"Thresholds: live {result.live_threshold_llr:g}, joins {result.threshold_llr:g}.",
        )
        + table(
            ("what was at hand", "one rendition opens, second phrases in doubt"),
            [f"<tr><th>{escape(name)}</th>{_rate(passed)}</tr>" for name, passed in result.pieces.items()],
            "A word that is asked twice needs two recordings of it, or one is pasted twice.",
        )
        + table(
            (
                "people",
                "refused for joins that are none, no second phrase",
                "asked once more in doubt",
                "refused, with a second phrase in doubt",
            ),
            heard,
            "Recordings in which nothing was pasted; pauses are drawn out with the room's own tone.",
        )
        + '<div class="pair">'
        + figure(
            plots.det_plot(result.joins, "splices accepted", "people refused"),
            "The evidence for joins alone, people in every condition.",
        )
        + figure(plots.calibration_plot({"all": pooled}), "Claimed against supported LLR.")
        + figure(
            plots.histogram_plot(pooled, "people", "splices", result.threshold_llr, "log-likelihood ratio"),
            "Scores of the evidence for joins.",
        )
        + "</div>"
    )


def _rate(found: Rate) -> str:
    low, high = (percent(bound, 1) for bound in (found.low, found.high))
    return f"<td>{percent(found.value, 1)} of {found.trials:,}<small>{low} to {high}</small></td>"
