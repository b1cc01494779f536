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
from quantize.train.bank import judging
from quantize.train.calibrate import calibrate
from quantize.train.fit import assemble, fit, load_bank
from quantize.train.folds import judged_vectors, scores_of
from quantize.train.network import Patches, SpoofNet
from quantize.train.scoring import render, write_rows

MAX_MEAN_DIFFERENCE = 0.05
MAX_FLIPS = 0.001
"""Of the door's decisions, at LLR 0."""
CALIBRATION_FILES = 800


def release(args, settings) -> None:
    items = corpus.load(args.data, args.attacks, args.work)
    heard = splits.training(None, items)
    if args.keep or args.requantise:
        net = SpoofNet()
        net.load_state_dict(torch.load(args.work / "final.pt", weights_only=True))
        (requantise if args.requantise else publish)(net.eval(), args, items, heard)
        return
    layer = Patches()
    layer.load_state_dict(torch.load(args.work / "patches.pt", weights_only=True))
    net = assemble(layer, fit(items, heard, load_bank(args.work), settings))
    torch.save(net.state_dict(), args.work / "final.pt")
    publish(net, args, items, heard)


def publish(net, args, items, heard) -> None:
    """Calibrate, export, quantise, check parity on the calibration part, and write the two files."""
    kept = splits.calibration(None, items)
    rows = scores_of(net.heads, kept, judging(items), judged_vectors(args.work), "final", "calibration")
    heads, points = calibrate(rows)
    network, parity = quantised(net, heard, kept, heads)
    write_rows(args.work / "scores-final.tsv", rows)
    sources = Counter(
        (i.page if i.page != "made" else f"made:{i.system}", "spoof" if i.spoof else "bonafide")
        for i in heard
    )
    card = {
        **_identity(network),
        "input": export.INPUT,
        "output": export.OUTPUT,
        "scores": "the negated outputs: [0] against synthesis, [1] against a loudspeaker",
        "calibration": heads,
        "operating_points": points,
        "parity": parity,
        "parameters": sum(p.numel() for p in net.parameters()),
        "trained_on": {f"{page} {label}": count for (page, label), count in sorted(sources.items())},
    }
    _write(args.out, network, card)


def requantise(net, args, items, heard) -> None:
    """Only the eight bits anew: the card keeps its calibration, which was fitted on float scores."""
    card = json.loads((args.out / "spoof.json").read_text())
    network, parity = quantised(net, heard, splits.calibration(None, items), card["calibration"])
    _write(args.out, network, {**card, **_identity(network), "parity": parity})


def quantised(net, heard, kept, heads):
    """(the INT8 network's bytes, its parity with float on `kept`, the calibration part)."""
    rng = np.random.default_rng(0)
    examples = [heard[i] for i in rng.permutation(len(heard))[:CALIBRATION_FILES]]
    features = [spoof_features(render(i, str(rng.choice(["plain", "coded"])), (), ())) for i in examples]
    with tempfile.TemporaryDirectory() as folder:
        float_path, int8_path = Path(folder, "float.onnx"), Path(folder, "spoof.int8.onnx")
        onnx.save(export.build(net), str(float_path))
        export.quantise(float_path, int8_path, features)
        parity = check(net, export.session(float_path), export.session(int8_path), kept, heads)
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


def check(net, reference, opened, items, heads):
    """INT8 against float, and float against torch; raises QuantizeError beyond the budget."""
    features = [spoof_features(render(i, "plain", (), ())) for i in items]
    with torch.inference_mode():
        trained = np.array([-net(torch.from_numpy(f)[None, None])[0].numpy() for f in features])
    exact = export.session_scores(reference, features)
    small = export.session_scores(opened, features)
    if float(np.abs(trained - exact).max()) > 1e-2:
        raise QuantizeError("the exported graph does not compute what was trained")
    before, after = (_llrs(scores, heads) for scores in (exact, small))
    flips = float(np.mean([(door(a) > 0.0) != (door(b) > 0.0) for a, b in zip(before, after, strict=True)]))
    difference = float(np.abs(before - after).mean())
    if difference > MAX_MEAN_DIFFERENCE or flips > MAX_FLIPS:
        raise QuantizeError(
            f"INT8 strays from float: {difference:.3f} LLR on average, {flips:.1%} decisions flip"
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
