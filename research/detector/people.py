"""Fits anew what people alone fit: norms and slope of frame rates, where LLR 0 lies, and operating points.

Networks, and what attacks taught them, stay as they are. For a change in how frame rates are measured
(`device.models.spoof.frame_rates.FORM`), which no attack is needed for.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import onnx

from device.models.spoof.envelopes import EnvelopeHead
from device.models.spoof.norms import BonaFideNorms
from quantize.networks.spoof import ENVELOPES
from quantize.train import export
from quantize.train.fitting.norms import norms_of
from quantize.train.judge import Detectors, Judge
from quantize.train.judging.calibrate import LIVE, certain, settled
from quantize.train.networks.moments import Moments
from quantize.train.networks.network import Texture
from quantize.train.release import (
    CARD,
    MOMENTS,
    NETWORK,
    TEXTURE,
    check,
    identity,
    load_weights,
    rendered,
    write,
)
from quantize.train.speech import corpus
from quantize.train.speech.scoring import write_rows
from sync.plain_file import NETWORK_BYTES, plain_bytes


def refit(data: Path, work: Path, out: Path, packaged=corpus.PACKAGED) -> None:
    """Fit anew what stands in the card of OUT; read are people of corpora in DATA and in packages.

    Raises QuantizeError where there are too few, or where eight bits now stray from float.
    """
    card = json.loads(plain_bytes(out / CARD))
    items = corpus.load(
        data,
        None,
        work,
        packaged,
        wanted=lambda row: row["label"] == "bonafide" and certain(row["page"]),
    )
    network, head = plain_bytes(out / NETWORK, NETWORK_BYTES), plain_bytes(out / ENVELOPES)
    detectors = Detectors(
        load_weights(Texture(), out / TEXTURE),
        load_weights(Moments(), out / MOMENTS),
        EnvelopeHead.from_bytes(head),
        norms_of(corpus.training(items)),
    )
    kept = corpus.calibration(items)
    rows = Judge.open(data).rows(detectors, kept, "final", "calibration", LIVE)
    write_rows(work / "scores-people.tsv", rows)
    heads, points = settled(card["calibration"], rows, card["zeros"])
    with tempfile.TemporaryDirectory() as folder:
        exact = Path(folder, "float.onnx")
        graph = export.build(detectors.texture, detectors.moments, heads["loudspeaker"]["shares"])
        onnx.save(graph, str(exact))
        opened = export.session(exact), export.session(out / NETWORK)
        parity = check(detectors, *opened, rendered(kept, data), heads)
    people = {name: getattr(detectors.norms, name).tolist() for name in BonaFideNorms.__slots__}
    named = identity(network, head, heads, people)
    fitted = {"calibration": heads, "null": people, "operating_points": points, "parity": parity}
    write(out, network, head, {**card, **named, **fitted})
