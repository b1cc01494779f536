"""The page's small parts: rows, cells, names and the style sheet."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from quantize.evaluate.figures.detection import Detection
from quantize.evaluate.figures.intervals import Estimate
from quantize.evaluate.figures.named import FLOAT_MODEL, PEER_MODEL, POOLED, PRODUCT_MODEL, TFLITE_MODEL

FEW_TRIALS = 20

_NAMES = {
    PRODUCT_MODEL: "CAM++ INT8 (ours)",
    TFLITE_MODEL: "CAM++ INT8 in TFLite (ours)",
    FLOAT_MODEL: "CAM++ float",
    PEER_MODEL: "Resemblyzer",
    POOLED: "everyone",
}

CSS = """
:root{--ink:#1b2733;--soft:#5b6875;--line:#dde2e8;--wash:#f5f7f9;--good:#00734f;--bad:#b34700}
*{box-sizing:border-box}
body{margin:0;color:var(--ink);background:#fff;font:16px/1.55 system-ui,"DejaVu Sans",sans-serif}
main{max-width:1120px;margin:0 auto;padding:40px 28px 80px}
h1{font-size:30px;line-height:1.2;margin:0 0 6px}
h2{font-size:22px;margin:56px 0 6px;padding-top:20px;border-top:2px solid var(--ink)}
h3{font-size:16.5px;margin:30px 0 6px}
p{max-width:74ch;margin:8px 0}
.soft,figcaption,caption{color:var(--soft);font-size:14px}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(225px,1fr));gap:14px;margin:26px 0}
.card{border:1px solid var(--line);border-top:4px solid #0072b2;border-radius:4px;padding:14px 16px}
.card b{display:block;font-size:27px;line-height:1.2;font-variant-numeric:tabular-nums}
.card span{display:block;font-size:14px;color:var(--soft)}
.scroll{overflow-x:auto}
table{border-collapse:collapse;margin:14px 0;font-size:14.5px;font-variant-numeric:tabular-nums;min-width:60%}
caption{text-align:left;padding-bottom:6px}
th,td{padding:6px 11px 6px 0;text-align:right;border-bottom:1px solid var(--line);vertical-align:top;
white-space:nowrap}
th:first-child,td:first-child{text-align:left}
thead th{border-bottom:1.5px solid var(--ink);vertical-align:bottom}
tbody th{font-weight:600}
td small{display:block;color:var(--soft);font-size:12px}
tr.worst td,tr.worst th{background:#fdf3ea}
tr.few th,tr.few td{color:var(--soft)}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(430px,1fr));gap:26px;align-items:start}
figure{margin:18px 0}
svg{max-width:100%;height:auto}
.good{color:var(--good);font-weight:600}.bad{color:var(--bad);font-weight:600}
dl{display:grid;grid-template-columns:max-content 1fr;gap:4px 22px;font-size:14.5px}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
@media print{main{padding:0}h2{break-after:avoid}figure,table{break-inside:avoid}}
@media(max-width:560px){.pair{grid-template-columns:1fr}}
"""


def row(
    name: str,
    found: Detection,
    rates: Sequence[str],
    costs: Sequence[tuple[str, str]],
    worst: bool = False,
    both: bool = True,
) -> str:
    """One line of figures. `rates` show their interval; `costs` are (figure, its least value) pairs."""
    cells = [_rate_cell(found.figures.get(rate)) for rate in rates]
    cells += [_cost_cell(found.figures.get(actual), found.figures.get(least)) for actual, least in costs]
    trials = f"{found.targets:,} / {found.nontargets:,}" if both else f"{found.nontargets:,}"
    kind = ' class="worst"' if worst else ' class="few"' if found.nontargets < FEW_TRIALS else ""
    return f"<tr{kind}><th>{escape(name)}</th>{''.join(cells)}<td>{trials}</td></tr>"


def _cost_cell(actual: Estimate | None, least: Estimate | None) -> str:
    value = "-" if actual is None else f"{actual.value:.3f}"
    return f"<td>{value}<small>least {least.value:.3f}</small></td>" if least else f"<td>{value}</td>"


def _rate_cell(figure: Estimate | None) -> str:
    return (
        "<td>-</td>" if figure is None else f"<td>{percent(figure.value)}<small>{span(figure)}</small></td>"
    )


def span(figure: Estimate) -> str:
    """Its interval, in percent."""
    return f"{100 * figure.low:.1f} to {percent(figure.high, 1)}"


def percent(rate: float, digits: int = 2) -> str:
    """A fraction in percent."""
    return f"{100 * rate:.{digits}f} %"


def label(key: str) -> str:
    """How a reader knows a model or a group."""
    return _NAMES.get(key, key)


def table(heads: Sequence[str], rows: Sequence[str], caption: str) -> str:
    """A table of finished `rows`; heads and caption are escaped here."""
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    return (
        f'<div class="scroll"><table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def figure(svg: str, caption: str) -> str:
    """A picture with its caption."""
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"
