"""The shipped model: trained on all but the calibration part, calibrated, quantised, checked, written."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
import torch
from rich.console import Console
from rich.progress import track

from device.model_store.calibration import LLR_LIMIT
from device.models.spoof.detector import against_any
from device.models.spoof.envelopes import EnvelopeHead, envelopes
from device.models.spoof.features import spoof_features
from device.models.spoof.norms import BonaFideNorms
from quantize.errors import QuantizeError
from quantize.networks.spoof import ENVELOPES
from quantize.train import export
from quantize.train.fitting.envelopes import fit_envelopes
from quantize.train.fitting.fit import assemble, fit
from quantize.train.fitting.norms import frame_rate_score, norms_of
from quantize.train.fitting.unfamiliar import zeros
from quantize.train.folds import Detectors, Judge, second
from quantize.train.judging.calibrate import LIVE, calibrate
from quantize.train.judging.operating import Share
from quantize.train.networks.moments import Moments, loudspeaker_scores
from quantize.train.networks.network import Texture, texture_scores
from quantize.train.speech import corpus, splits
from quantize.train.speech.bank import Bank, Held, patch_layer
from quantize.train.speech.scoring import render, write_rows
from sync.plain_file import NETWORK_BYTES, plain_bytes

MAX_MEAN_DIFFERENCE = 0.05
MAX_FLIPS = 0.001
"""Of the door's decisions, at LLR 0; the lower end of the 95 % interval of what is seen may not exceed it."""
CALIBRATION_FILES = 300
TEXTURE, MOMENTS = "texture.pt", "moments.pt"
"""The float weights, kept beside the eight bits made from them."""


def release(args, settings) -> None:
    """Train what is not to be kept, calibrate and export it; `args.moments` may name a second network."""
    items = corpus.load(args.data, args.attacks, args.work)
    heard = splits.training(None, items)
    known, zero = _sources(heard), None
    if args.keep or args.requantise:
        texture, moments = _load(Texture(), args.out / TEXTURE), _load(Moments(), args.out / MOMENTS)
        card = json.loads(plain_bytes(args.out / "spoof.json"))
        known, zero = card["trained_on"], card["zeros"]
        head = EnvelopeHead.from_bytes(plain_bytes(args.out / ENVELOPES))
    else:
        bank = Bank.load(args.work)
        texture, head = (
            assemble(patch_layer(args.work), fit(heard, bank, settings)),
            fit_envelopes(heard, bank, settings),
        )
        moments = _load(Moments(), args.moments) if args.moments else second(args.work, "final", heard)
        zero = zeros(heard, bank, Held.load(args.work, "plain"), settings)
    detectors = Detectors(texture, moments, head, norms_of(heard))
    if args.requantise:
        requantise(detectors, args, items, heard)
    else:
        publish(detectors, zero, args, items, heard, known)


def _load(net, path: Path):
    net.load_state_dict(torch.load(path, weights_only=True))
    return net.eval()


def publish(detectors: Detectors, zero, args, items, heard, known) -> None:
    """Calibrate, export, quantise, check parity on the calibration part, and write networks and card.

    Calibrated is on what *texture* knows (`known`, as the card lists it): sources that it never heard would
    lower what an LLR says of those that it did, and its thresholds with it.
    """
    kept = splits.calibration(None, items)
    familiar = [i for i in kept if _source(i) in known]
    rows = Judge.open(args.data).rows(detectors, familiar, "final", "calibration")
    heads, points = calibrate(rows, zero)
    write_rows(args.work / "scores-final.tsv", rows)
    network, parity = quantised(detectors, heard, rendered(kept, args.data), heads)
    people = {name: getattr(detectors.norms, name).tolist() for name in BonaFideNorms.__slots__}
    head = detectors.envelopes.to_bytes()
    card = {
        **_identity(network, head, heads, people),
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
    _write(args.out, network, head, card)
    for net, name in ((detectors.texture, TEXTURE), (detectors.moments, MOMENTS)):
        torch.save(net.state_dict(), args.out / name)


def _parameters(detectors: Detectors) -> int:
    learned = sum(p.numel() for net in (detectors.texture, detectors.moments) for p in net.parameters())
    return learned + sum(getattr(detectors.envelopes, name).size for name in EnvelopeHead.__slots__)


def _source(item) -> str:
    page = item.page if item.page != "made" else f"made:{item.system}"
    return f"{page} {'spoof' if item.spoof else 'bonafide'}"


def _sources(items) -> dict[str, int]:
    return dict(sorted(Counter(_source(i) for i in items).items()))


def requantise(detectors: Detectors, args, items, heard) -> None:
    """Only the eight bits anew: the card keeps its calibration, which was fitted on float scores."""
    card = json.loads(plain_bytes(args.out / "spoof.json"))
    kept = splits.calibration(None, items)
    norms = BonaFideNorms(**{name: np.array(part) for name, part in card["null"].items()})
    network, parity = quantised(
        replace(detectors, norms=norms), heard, rendered(kept, args.data), card["calibration"]
    )
    head = detectors.envelopes.to_bytes()
    named = _identity(network, head, card["calibration"], card["null"])
    _write(args.out, network, head, {**card, **named, "parity": parity})


def rendered(kept, data: Path) -> list[np.ndarray]:
    """The calibration part as a door may hear it: every file in each of the live conditions."""
    judge = Judge.open(data)
    return [render(item, condition, judge.rooms, judge.noises) for condition in LIVE for item in kept]


def quantised(detectors: Detectors, heard, kept, heads):
    """(the INT8 network's bytes, its parity with float on the waves `kept`)."""
    rng = np.random.default_rng(1)
    examples = [heard[i] for i in rng.permutation(len(heard))[:CALIBRATION_FILES]]
    features = [spoof_features(render(i, str(rng.choice(["plain", "coded"])), (), ())) for i in examples]
    with tempfile.TemporaryDirectory() as folder:
        float_path, int8_path = Path(folder, "float.onnx"), Path(folder, "spoof.int8.onnx")
        onnx.save(
            export.build(detectors.texture, detectors.moments, heads["loudspeaker"]["shares"]),
            str(float_path),
        )
        export.quantise(float_path, int8_path, features)
        opened = export.session(float_path), export.session(int8_path)
        parity = check(detectors, *opened, kept, heads)
        return plain_bytes(int8_path, NETWORK_BYTES), parity


def _identity(network: bytes, head: bytes, heads, people) -> dict[str, str]:
    """The version names all that decides: network, envelopes' head, calibration, and norms of frame rates."""
    decides = network + head + json.dumps([heads, people], sort_keys=True).encode()
    return {
        "version": f"spoof-{datetime.now(UTC):%Y.%m.%d}-{hashlib.sha256(decides).hexdigest()[:8]}",
        "file": "spoof.int8.onnx",
        "sha256": hashlib.sha256(network).hexdigest(),
        "envelopes_sha256": hashlib.sha256(head).hexdigest(),
    }


def _write(out: Path, network: bytes, head: bytes, card: dict[str, object]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    _replace(out / "spoof.int8.onnx", network)
    _replace(out / ENVELOPES, head)
    _replace(out / "spoof.json", (json.dumps(card, indent=1) + "\n").encode())
    shown = {k: card[k] for k in ("version", "calibration", "operating_points", "parity")}
    Console().print_json(json.dumps(shown))


def check(detectors: Detectors, reference, opened, waves, heads):
    """INT8 against float, and float against torch; raises QuantizeError beyond the budget."""
    shares = heads["loudspeaker"]["shares"]
    found = []
    for wave in track(waves, description="parity"):
        features = [spoof_features(wave)]
        synthesis, first = texture_scores(detectors.texture, features)[0]
        second = loudspeaker_scores(detectors.moments, features)[0]
        mixed = shares["loudspeaker"] * first + shares["moments"] * second
        ours = export.session_scores(reference, features)[0], export.session_scores(opened, features)[0]
        beside = detectors.envelopes.score(envelopes(wave)), frame_rate_score(detectors.norms, wave)
        found.append(((synthesis, mixed), *ours, beside))
    trained, exact, small, measured = (np.array(one) for one in zip(*found, strict=True))
    measured = _llrs(measured, heads, ("envelopes", "cadence"))
    if float(np.abs(trained - exact).max()) > 1e-2:
        raise QuantizeError("the exported graph does not compute what was trained")
    before, after = (_llrs(scores, heads, ("synthetic", "loudspeaker")) for scores in (exact, small))
    opens = [
        [against_any(*one, *beside) > 0.0 for one, beside in zip(x, measured, strict=True)]
        for x in (before, after)
    ]
    flips = Share(int(np.sum(np.not_equal(*opens))), len(waves))
    difference = float(np.abs(before - after).mean())
    if difference > MAX_MEAN_DIFFERENCE or flips.interval()[0] > MAX_FLIPS:
        raise QuantizeError(
            f"INT8 strays from float: {difference:.3f} LLR on average, {flips} of decisions flip"
        )
    return {"files": len(waves), "mean_llr_difference": difference, "decision_flips": flips.hits / flips.of}


def _llrs(scores, heads, names):
    """LLRs of the heads `names`, of their scores (n, heads)."""
    gain, offset = (np.array([heads[head][part] for head in names]) for part in ("scale", "offset"))
    return np.clip(scores * gain + offset, -LLR_LIMIT, LLR_LIMIT)


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_suffix(path.suffix + ".tmp")
    temporary.write_bytes(data)
    temporary.replace(path)
