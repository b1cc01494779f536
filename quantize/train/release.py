"""From what training may hear to the released files: trained, calibrated, quantised, checked, written."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from rich.console import Console
from rich.progress import track

from device.model_store.calibration import LLR_LIMIT
from device.models.spoof.detector import against_any
from device.models.spoof.envelopes import EnvelopeHead, envelopes
from device.models.spoof.features import spoof_features
from device.models.spoof.frame_rates import FORM
from device.models.spoof.norms import BonaFideNorms
from quantize.errors import QuantizeError
from quantize.evaluate.figures.intervals import Share
from quantize.networks.spoof import ENVELOPES
from quantize.train import export
from quantize.train.fitting.envelopes import fit_envelopes
from quantize.train.fitting.fit import FitSettings, assemble, fit
from quantize.train.fitting.norms import frame_rate_score, norms_of
from quantize.train.fitting.unfamiliar import zeros
from quantize.train.judge import Detectors, Judge
from quantize.train.judging.calibrate import LIVE, Head, calibrate
from quantize.train.networks.moments import Moments, loudspeaker_scores
from quantize.train.networks.network import texture_scores
from quantize.train.speech import corpus
from quantize.train.speech.bank import Bank, Held, patch_layer
from quantize.train.speech.corpus import Item, Wave
from quantize.train.speech.scoring import render, write_rows
from sync.durable import replace_file
from sync.plain_file import NETWORK_BYTES, plain_bytes

MAX_MEAN_DIFFERENCE = 0.05
MAX_FLIPS = 0.001
"""Of the door's decisions, at LLR 0; the lower end of the 95 % interval of what is seen may not exceed it."""
CALIBRATION_FILES = 300
NETWORK, CARD = "spoof.int8.onnx", "spoof.json"
TEXTURE, MOMENTS = "texture.pt", "moments.pt"
"""The float weights, kept beside the eight bits made from them."""


def release(
    items: Sequence[Item], moments: Moments, data: Path, work: Path, out: Path, settings: FitSettings
) -> None:
    """Train the first network and the envelopes' head on WORK's bank; publish them with the second network.

    Raises QuantizeError where `items` are too few, or INT8 strays from float.
    """
    heard, bank = corpus.training(items), Bank.load(work)
    texture = assemble(patch_layer(work), fit(heard, bank, settings))
    head = fit_envelopes(heard, bank, settings)
    zero = zeros(heard, bank, Held.load(work, "plain"), settings)
    detectors = Detectors(texture, moments, head, norms_of(heard))
    publish(detectors, zero, items, sources(heard), data, work, out)


def publish(
    detectors: Detectors,
    zero: Mapping[str, float],
    items: Sequence[Item],
    known: Mapping[str, int],
    data: Path,
    work: Path,
    out: Path,
) -> None:
    """Calibrate, export, quantise, check parity on the calibration part, and write networks and card to OUT.

    Only sources that the first network was taught (`known`, as the card lists them) calibrate: others would
    lower the LLRs, and the thresholds with them. Raises QuantizeError, and writes nothing to OUT, where INT8
    strays from float.
    """
    kept = corpus.calibration(items)
    familiar = [i for i in kept if _source(i) in known]
    rows = Judge.open(data).rows(detectors, familiar, "final", "calibration")
    heads, points = calibrate(rows, zero)
    write_rows(work / "scores-final.tsv", rows)
    network, parity = quantised(detectors, corpus.training(items), rendered(kept, data), heads)
    people = {name: getattr(detectors.norms, name).tolist() for name in BonaFideNorms.__slots__}
    head = detectors.envelopes.to_bytes()
    card = {
        **identity(network, head, heads, people),
        "input": export.INPUT,
        "output": export.OUTPUT,
        "scores": "the negated outputs: [0] against synthesis, [1] against a loudspeaker",
        "calibration": heads,
        "zeros": zero,
        "null": people,
        "operating_points": points,
        "parity": parity,
        "parameters": _parameters(detectors),
        "trained_on": known,
    }
    write(out, network, head, card)
    for net, name in ((detectors.texture, TEXTURE), (detectors.moments, MOMENTS)):
        torch.save(net.state_dict(), out / name)


def load_weights(net: Any, path: Path) -> Any:
    """`net` with the float weights in `path`, ready to judge. Raises OSError."""
    net.load_state_dict(torch.load(path, weights_only=True))
    return net.eval()


def _parameters(detectors: Detectors) -> int:
    learned = sum(p.numel() for net in (detectors.texture, detectors.moments) for p in net.parameters())
    return int(learned + sum(getattr(detectors.envelopes, name).size for name in EnvelopeHead.__slots__))


def _source(item: Item) -> str:
    page = item.page if item.page != "made" else f"made:{item.system}"
    return f"{page} {'spoof' if item.spoof else 'bonafide'}"


def sources(items: Sequence[Item]) -> dict[str, int]:
    """How many files of each source, as the card lists what a network was trained on."""
    return dict(sorted(Counter(_source(i) for i in items).items()))


def rendered(kept: Sequence[Item], data: Path) -> list[Wave]:
    """The calibration part as a door may hear it: every file in each of the live conditions."""
    judge = Judge.open(data)
    return [render(item, condition, judge.rooms, judge.noises) for condition in LIVE for item in kept]


def quantised(
    detectors: Detectors, heard: Sequence[Item], kept: Sequence[Wave], heads: Mapping[str, Head]
) -> tuple[bytes, dict[str, float]]:
    """(the INT8 network, its parity with float on the waves `kept`); some of `heard` give the ranges.

    Raises QuantizeError where INT8 strays from float.
    """
    rng = np.random.default_rng(1)
    examples = [heard[i] for i in rng.permutation(len(heard))[:CALIBRATION_FILES]]
    features = [spoof_features(render(i, str(rng.choice(["plain", "coded"])), (), ())) for i in examples]
    with tempfile.TemporaryDirectory() as folder:
        float_path, int8_path = Path(folder, "float.onnx"), Path(folder, NETWORK)
        onnx.save(
            export.build(detectors.texture, detectors.moments, heads["loudspeaker"]["shares"]),
            str(float_path),
        )
        export.quantise(float_path, int8_path, features)
        parity = check(detectors, export.session(float_path), export.session(int8_path), kept, heads)
        return plain_bytes(int8_path, NETWORK_BYTES), parity


def identity(
    network: bytes, head: bytes, heads: Mapping[str, Head], people: Mapping[str, Any]
) -> dict[str, str | int]:
    """The version names all that decides: networks, calibration, norms of frame rates, and their form."""
    decides = network + head + json.dumps([heads, people, FORM], sort_keys=True).encode()
    return {
        "version": f"spoof-{datetime.now(UTC):%Y.%m.%d}-{hashlib.sha256(decides).hexdigest()[:8]}",
        "file": NETWORK,
        "sha256": hashlib.sha256(network).hexdigest(),
        "envelopes_sha256": hashlib.sha256(head).hexdigest(),
        "form": FORM,
    }


def write(out: Path, network: bytes, head: bytes, card: Mapping[str, Any]) -> None:
    """Replace the released files in OUT, and show what changed. Raises OSError."""
    out.mkdir(parents=True, exist_ok=True)
    told = (json.dumps(card, indent=1) + "\n").encode()
    for name, content in ((NETWORK, network), (ENVELOPES, head), (CARD, told)):
        replace_file(out / name, content, 0o644)
    shown = {k: card[k] for k in ("version", "calibration", "operating_points", "parity")}
    Console().print_json(json.dumps(shown))


def check(
    detectors: Detectors,
    reference: onnxruntime.InferenceSession,
    opened: onnxruntime.InferenceSession,
    waves: Sequence[Wave],
    heads: Mapping[str, Head],
) -> dict[str, float]:
    """INT8 against float, and float against torch; raises QuantizeError beyond the budget."""
    shares = heads["loudspeaker"]["shares"]
    found = []
    for wave in track(waves, description="parity"):
        features = [spoof_features(wave)]
        synthesis, first = texture_scores(detectors.texture, features)[0]
        second = loudspeaker_scores(detectors.moments, features)[0]
        mixed = shares["loudspeaker"] * first + shares["moments"] * second
        ours = export.session_scores(reference, features)[0], export.session_scores(opened, features)[0]
        others = detectors.envelopes.score(envelopes(wave)), frame_rate_score(detectors.norms, wave)
        found.append(((synthesis, mixed), *ours, others))
    trained, exact, small, measured = (np.array(one) for one in zip(*found, strict=True))
    measured = _llrs(measured, heads, ("envelopes", "cadence"))
    if float(np.abs(trained - exact).max()) > 1e-2:
        raise QuantizeError("the exported graph does not compute what was trained")
    before, after = (_llrs(scores, heads, ("synthetic", "loudspeaker")) for scores in (exact, small))
    opens, still_opens = (
        np.array([against_any(*one, *others) > 0.0 for one, others in zip(x, measured, strict=True)])
        for x in (before, after)
    )
    flips = Share(int(np.sum(opens != still_opens)), len(waves))
    difference = float(np.abs(before - after).mean())
    if difference > MAX_MEAN_DIFFERENCE or flips.interval()[0] > MAX_FLIPS:
        raise QuantizeError(
            f"INT8 strays from float: {difference:.3f} LLR on average, {flips} of decisions flip"
        )
    return {"files": len(waves), "mean_llr_difference": difference, "decision_flips": flips.hits / flips.of}


def _llrs(
    scores: npt.NDArray[np.float64], heads: Mapping[str, Head], names: Sequence[str]
) -> npt.NDArray[np.float64]:
    """LLRs of the kinds `names`, of their scores (n, kinds)."""
    gain, offset = (np.array([heads[name][part] for name in names]) for part in ("scale", "offset"))
    found: npt.NDArray[np.float64] = np.clip(scores * gain + offset, -LLR_LIMIT, LLR_LIMIT)
    return found
