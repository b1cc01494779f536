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
from rich.progress import track

from device.models._cadence import Null
from device.models._spoof_features import spoof_features
from device.models.calibration import LLR_LIMIT
from device.models.spoof import against_any
from quantize.errors import QuantizeError
from quantize.train import corpus, export, splits
from quantize.train.bank import Bank, patch_layer
from quantize.train.calibrate import LIVE, calibrate
from quantize.train.fit import assemble, fit
from quantize.train.folds import Judge, second
from quantize.train.moments import Moments, loudspeaker_scores
from quantize.train.network import Texture, texture_scores
from quantize.train.null import cadence_of, null_of
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
    null = null_of(heard)
    rows = Judge.open(args.data).rows(texture, moments, null, familiar, "final", "calibration")
    heads, points = calibrate(rows)
    write_rows(args.work / "scores-final.tsv", rows)
    network, parity = quantised(texture, moments, null, heard, rendered(kept, args.data), heads)
    people = {name: getattr(null, name).tolist() for name in Null.__slots__}
    card = {
        **_identity(network, heads, people),
        "input": export.INPUT,
        "output": export.OUTPUT,
        "scores": "the negated outputs: [0] against synthesis, [1] against a loudspeaker",
        "calibration": heads,
        "null": people,
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
    null = Null(**{name: np.array(part) for name, part in card["null"].items()})
    network, parity = quantised(texture, moments, null, heard, rendered(kept, args.data), card["calibration"])
    named = _identity(network, card["calibration"], card["null"])
    _write(args.out, network, {**card, **named, "parity": parity})


def rendered(kept, data: Path) -> list[np.ndarray]:
    """The calibration part as a door may hear it: every file in each of the live conditions."""
    judge = Judge.open(data)
    return [render(item, condition, judge.rooms, judge.noises) for condition in LIVE for item in kept]


def quantised(texture, moments, null, heard, kept, heads):
    """(the INT8 network's bytes, its parity with float on the waves `kept`)."""
    rng = np.random.default_rng(0)
    examples = [heard[i] for i in rng.permutation(len(heard))[:CALIBRATION_FILES]]
    features = [spoof_features(render(i, str(rng.choice(["plain", "coded"])), (), ())) for i in examples]
    with tempfile.TemporaryDirectory() as folder:
        float_path, int8_path = Path(folder, "float.onnx"), Path(folder, "spoof.int8.onnx")
        onnx.save(export.build(texture, moments, heads["loudspeaker"]["shares"]), str(float_path))
        export.quantise(float_path, int8_path, features)
        opened = export.session(float_path), export.session(int8_path)
        parity = check(texture, moments, null, *opened, kept, heads)
        return int8_path.read_bytes(), parity


def _identity(network: bytes, heads, people) -> dict[str, str]:
    """The version names all that decides: the network, its calibration and the null of frame rates."""
    decides = network + json.dumps([heads, people], sort_keys=True).encode()
    version = f"spoof-{datetime.now(UTC):%Y.%m.%d}-{hashlib.sha256(decides).hexdigest()[:8]}"
    return {"version": version, "file": "spoof.int8.onnx", "sha256": hashlib.sha256(network).hexdigest()}


def _write(out: Path, network: bytes, card: dict[str, object]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    _replace(out / "spoof.int8.onnx", network)
    _replace(out / "spoof.json", (json.dumps(card, indent=1) + "\n").encode())
    shown = {k: card[k] for k in ("version", "calibration", "operating_points", "parity")}
    Console().print_json(json.dumps(shown))


def check(texture, moments, null, reference, opened, waves, heads):
    """INT8 against float, and float against torch; raises QuantizeError beyond the budget."""
    shares, beat = heads["loudspeaker"]["shares"], heads["cadence"]
    found = []
    for wave in track(waves, description="parity"):
        features = [spoof_features(wave)]
        synthesis, first = texture_scores(texture, features)[0]
        mixed = shares["loudspeaker"] * first + shares["moments"] * loudspeaker_scores(moments, features)[0]
        ours = export.session_scores(reference, features)[0], export.session_scores(opened, features)[0]
        found.append(((synthesis, mixed), *ours, cadence_of(null, wave)))
    trained, exact, small, beats = (np.array(one) for one in zip(*found, strict=True))
    beats = beat["scale"] * beats + beat["offset"]
    if float(np.abs(trained - exact).max()) > 1e-2:
        raise QuantizeError("the exported graph does not compute what was trained")
    before, after = (_llrs(scores, heads) for scores in (exact, small))
    opens = [
        [against_any(*one, beat) > 0.0 for one, beat in zip(x, beats, strict=True)] for x in (before, after)
    ]
    flips = float(np.mean(np.not_equal(*opens)))
    difference = float(np.abs(before - after).mean())
    if difference > MAX_MEAN_DIFFERENCE or flips > MAX_FLIPS:
        raise QuantizeError(
            f"INT8 strays from float: {difference:.3f} LLR on average, {flips:.2%} decisions flip"
        )
    return {"files": len(waves), "mean_llr_difference": difference, "decision_flips": flips}


def _llrs(scores, heads):
    """LLRs of both heads of the networks, shape (n, 2)."""
    gain, offset = (
        np.array([heads[head][part] for head in ("synthetic", "loudspeaker")]) for part in ("scale", "offset")
    )
    return np.clip(scores * gain + offset, -LLR_LIMIT, LLR_LIMIT)


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_suffix(path.suffix + ".tmp")
    temporary.write_bytes(data)
    temporary.replace(path)
