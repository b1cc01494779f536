"""report.html: one file, no script, nothing fetched; every figure with its interval and its rule."""

from __future__ import annotations

from html import escape

from quantize.evaluate.campaigns.chapter import campaigns_chapter
from quantize.evaluate.conversation.chapter import changes_chapter, diarization_chapter
from quantize.evaluate.door.chapter import attempts_chapter
from quantize.evaluate.figures.markup import CSS, percent, span
from quantize.evaluate.figures.named import POOLED, PRODUCT_MODEL
from quantize.evaluate.inspection.chapter import inspection_chapter
from quantize.evaluate.report.chapters import (
    corpora,
    phrase_chapter,
    speaker_chapter,
    splices_chapter,
    spoof_chapter,
    tandem_chapter,
)
from quantize.evaluate.report.result import Report
from quantize.evaluate.succession.chapter import succession_chapter


def render(report: Report) -> str:
    """The page as HTML text. Raises QuantizeError when matplotlib is missing."""
    parts = [_head(report), _cards(report)]
    if report.attempts:
        parts.append(attempts_chapter(report.attempts))
    if report.speaker:
        parts.append(speaker_chapter(report.speaker, report.comparisons))
    if report.spoof:
        parts.append(spoof_chapter(report.spoof))
    if report.tandem:
        parts.append(tandem_chapter(report.tandem))
    if report.phrase:
        parts.append(phrase_chapter(report.phrase))
    if report.diarization:
        parts.append(diarization_chapter(report.diarization))
    if report.changes:
        parts.append(changes_chapter(report.changes))
    if report.campaigns:
        parts.append(campaigns_chapter(report.campaigns))
    if report.splices:
        parts.append(splices_chapter(report.splices))
    if report.inspection:
        parts.append(inspection_chapter(report.inspection))
    if report.succession:
        parts.append(succession_chapter(report.succession))
    parts.append(_method(report))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>Ostiary evaluation</title><style>{CSS}</style></head><body><main>"
        + "\n".join(parts)
        + "</main></body></html>\n"
    )


def _head(report: Report) -> str:
    source = report.provenance
    return (
        "<h1>How often is the door wrong?</h1>"
        f'<p class="soft">{source.files:,} recordings of {escape(source.manifest)}, '
        f"{source.speakers} named speakers, {source.spoofs:,} synthetic or converted; "
        f"measured {escape(source.made_at)}."
        " Intervals in small print are 95 % bootstrap intervals over speakers.</p>"
    )


def _cards(report: Report) -> str:
    cards = []
    product = next((r for r in report.speaker if r.model == PRODUCT_MODEL), None)
    for view in corpora(product) if product else ():
        found = product.views[view] if product else None
        if found:
            cards.append(
                (
                    percent(found.figures["eer"].value),
                    f"voice, equal error rate, {view}",
                    span(found.figures["eer"]),
                )
            )
    if report.spoof:
        pooled = report.spoof.pooled.figures["eer"]
        cards.append((percent(pooled.value), "spoof check, equal error rate, all attacks", span(pooled)))
        worst = report.spoof.worst_attack_by_apcer
        figure = report.spoof.attacks[worst].figures["far"]
        cards.append((percent(figure.value), f"of the worst attack accepted ({worst})", span(figure)))
    if report.phrase and POOLED in report.phrase.views:
        figures = report.phrase.views[POOLED].figures
        cards.append((percent(figures["frr"].value), "right phrases refused", span(figures["frr"])))
        cards.append((percent(figures["far"].value), "wrong phrases accepted", span(figures["far"])))
    body = "".join(
        f'<div class="card"><b>{value}</b><span>{escape(label)}</span><span>{span}</span></div>'
        for value, label, span in cards
    )
    return f'<div class="cards">{body}</div>'


def _method(report: Report) -> str:
    source = report.provenance
    versions = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in source.versions.items())
    turned_away = "".join(
        f"<tr><th>{escape(path)}</th><td>{escape(why)}</td></tr>"
        for path, why in list(report.refused.items())[:40]
    )
    lost = "".join(
        f"<tr><th>{escape(path)}</th><td>{escape(why)}</td></tr>" for path, why in report.unreadable.items()
    )
    return (
        "<h2>How this was made</h2>"
        f"<dl><dt>manifest</dt><dd>{escape(source.manifest)}, SHA-256 {source.manifest_sha256}</dd>"
        f"<dt>machine</dt><dd>{escape(source.machine)}</dd>{versions}</dl>"
        "<p>EER: linear between the points of the empirical curve; report.json also has the convex-hull "
        "value. FRR at a FAR is never interpolated. Cllr in bits. Every score comes from the door's own "
        "code.</p>"
        + (f"<h3>Could not be scored ({len(report.unreadable)})</h3><table>{lost}</table>" if lost else "")
        + (
            f'<h3>The door would ask again ({len(report.refused)})</h3><p class="soft">Its audio checks turn '
            "these recordings away; they are scored above all the same.</p>"
            f'<div class="scroll"><table>{turned_away}</table></div>'
            if turned_away
            else ""
        )
    )
