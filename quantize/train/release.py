"""The shipped model: trained on all but the calibration part, calibrated, quantised, checked, written."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
import torch
from rich.console import Console

from device.models._spoof_features import spoof_features
from device.models.calibration import LLR_LIMIT
from device.models.spoof import against_either
from quantize.errors import QuantizeError
from quantize.train import corpus, export, splits
from quantize.train.bank import Bank, patch_layer
from quantize.train.calibrate import calibrate
from quantize.train.fit import assemble, fit
from quantize.train.folds import Judge, second
from quantize.train.moments import Moments, loudspeaker_scores
from quantize.train.network import Texture, texture_scores
from quantize.train.scoring import render, write_rows

MAX_MEAN_DIFFERENCE = 0.05
MAX_FLIPS = 0.001
"""Of the door's decisions, at LLR 0."""
CALIBRATION_FILES = 300
TEXTURE, MOMENTS = "texture.pt", "moments.pt"
"""The float weights, kept beside the eight bits made from them."""


def release(args, settings) -> None:
    """Train what is not to be kept, calibrate and export it; `args.moments` may name a second network."""
    items = corpus.load(args.data, args.attacks, args.work)
    heard = splits.training(None, items)
    known = _sources(heard)
    if args.keep or args.requantise:
        texture, moments = _load(Texture(), args.out / TEXTURE), _load(Moments(), args.out / MOMENTS)
        known = json.loads((args.out / "spoof.json").read_bytes())["trained_on"]
    else:
        texture = assemble(patch_layer(args.work), fit(heard, Bank.load(args.work), settings))
        given = getattr(args, "moments", None)
        moments = _load(Moments(), given) if given else second(args.work, "final", heard)
    if args.requantise:
        requantise(texture, moments, args, items, heard)
    else:
        publish(texture, moments, args, items, heard, known)


def _load(net, path: Path):
    net.load_state_dict(torch.load(path, weights_only=True))
    return net.eval()


def publish(texture, moments, args, items, heard, known) -> None:
    """Calibrate, export, quantise, check parity on the calibration part, and write networks and card.

    Calibrated is on what *texture* knows (`known`, as the card lists it): sources that it never heard would
    lower what an LLR says of those that it did, and its thresholds with it.
    """
    kept = splits.calibration(None, items)
    familiar = [i for i in kept if _source(i) in known]
    rows = Judge.open(args.data).rows(texture, moments, familiar, "final", "calibration")
    heads, points = calibrate(rows)
    write_rows(args.work / "scores-final.tsv", rows)
    network, parity = quantised(texture, moments, heard, kept, heads)
    card = {
        **_identity(network),
        "input": export.INPUT,
        "output": export.OUTPUT,
        "scores": "the negated outputs: [0] against synthesis, [1] against a loudspeaker",
        "calibration": heads,
        "operating_points": points,
        "parity": parity,
        "parameters": sum(p.numel() for net in (texture, moments) for p in net.parameters()),
        "trained_on": known,
    }
    _write(args.out, network, card)
    for net, name in ((texture, TEXTURE), (moments, MOMENTS)):
        torch.save(net.state_dict(), args.out / name)


def _source(item) -> str:
    page = item.page if item.page != "made" else f"made:{item.system}"
    return f"{page} {'spoof' if item.spoof else 'bonafide'}"


def _sources(items) -> dict[str, int]:
    return dict(sorted(Counter(_source(i) for i in items).items()))


def requantise(texture, moments, args, items, heard) -> None:
    """Only the eight bits anew: the card keeps its calibration, which was fitted on float scores."""
    card = json.loads((args.out / "spoof.json").read_text())
    kept = splits.calibration(None, items)
    network, parity = quantised(texture, moments, heard, kept, card["calibration"])
    _write(args.out, network, {**card, **_identity(network), "parity": parity})


def quantised(texture, moments, heard, kept, heads):
    """(the INT8 network's bytes, its parity with float on `kept`, the calibration part)."""
    rng = np.random.default_rng(0)
    examples = [heard[i] for i in rng.permutation(len(heard))[:CALIBRATION_FILES]]
    features = [spoof_features(render(i, str(rng.choice(["plain", "coded"])), (), ())) for i in examples]
    with tempfile.TemporaryDirectory() as folder:
        float_path, int8_path = Path(folder, "float.onnx"), Path(folder, "spoof.int8.onnx")
        onnx.save(export.build(texture, moments, heads["loudspeaker"]["shares"]), str(float_path))
        export.quantise(float_path, int8_path, features)
        opened = export.session(float_path), export.session(int8_path)
        parity = check(texture, moments, *opened, kept, heads)
        return int8_path.read_bytes(), parity


def _identity(network: bytes) -> dict[str, str]:
    digest = hashlib.sha256(network).hexdigest()
    version = f"spoof-{datetime.now(UTC):%Y.%m.%d}-{digest[:8]}"
    return {"version": version, "file": "spoof.int8.onnx", "sha256": digest}


def _write(out: Path, network: bytes, card: dict[str, object]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    _replace(out / "spoof.int8.onnx", network)
    _replace(out / "spoof.json", (json.dumps(card, indent=1) + "\n").encode())
    shown = {k: card[k] for k in ("version", "calibration", "operating_points", "parity")}
    Console().print_json(json.dumps(shown))


def check(texture, moments, reference, opened, items, heads):
    """INT8 against float, and float against torch; raises QuantizeError beyond the budget."""
    features = [spoof_features(render(i, "plain", (), ())) for i in items]
    shares = heads["loudspeaker"]["shares"]
    trained = texture_scores(texture, features)
    trained[:, 1] *= shares["loudspeaker"]
    trained[:, 1] += shares["moments"] * loudspeaker_scores(moments, features)
    exact = export.session_scores(reference, features)
    small = export.session_scores(opened, features)
    if float(np.abs(trained - exact).max()) > 1e-2:
        raise QuantizeError("the exported graph does not compute what was trained")
    before, after = (_llrs(scores, heads) for scores in (exact, small))
    flips = float(np.mean([(door(a) > 0.0) != (door(b) > 0.0) for a, b in zip(before, after, strict=True)]))
    difference = float(np.abs(before - after).mean())
    if difference > MAX_MEAN_DIFFERENCE or flips > MAX_FLIPS:
        raise QuantizeError(
            f"INT8 strays from float: {difference:.3f} LLR on average, {flips:.2%} decisions flip"
        )
    return {"files": len(items), "mean_llr_difference": difference, "decision_flips": flips}


def door(llrs) -> float:
    """What the door compares with its threshold."""
    return against_either(*(float(llr) for llr in llrs))


def _llrs(scores, heads):
    """LLRs of both heads, shape (n, 2)."""
    gain, offset = (
        np.array([heads[head][part] for head in ("synthetic", "loudspeaker")]) for part in ("scale", "offset")
    )
    return np.clip(scores * gain + offset, -LLR_LIMIT, LLR_LIMIT)


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_suffix(path.suffix + ".tmp")
    temporary.write_bytes(data)
    temporary.replace(path)
