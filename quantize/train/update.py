"""A new attack in the field: in one command from a folder of samples to a signed bundle and what it changes.

    python -m quantize.train update --samples NEW --data SPEECH --attacks ATTACKS --work WORK \\
        --bundle BUNDLE --key RELEASE.pem --out CANDIDATE

`NEW/<system>/*.wav` holds recordings of one attack each. A tenth of them, by content, is never trained on and
judges the candidate beside the network in use. CANDIDATE gets the weights, `comparison.json` and a copy of
BUNDLE with the new detector in it, signed, for `ostiary models use CANDIDATE/bundle` or a fleet to roll out.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import soundfile
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from rich.console import Console
from rich.table import Table

from device.model_store.answers import ROLE
from device.model_store.bundle import Bundle
from device.model_store.sessions import OnnxSession
from device.models.self_test import answers_of, recordings_of
from device.models.spoof.detector import SpoofCard, SpoofDetector, checked_head, checked_network
from quantize.errors import QuantizeError
from quantize.networks.spoof import ENVELOPES
from quantize.networks.tflite_variants import prove_spoof_variant
from quantize.recipe import Artefact, BuildContext, Recipe, ports, shipped
from quantize.release.answers import answer, reference
from quantize.release.build import CALIBRATION_FILE, build
from quantize.release.catalogue import RECIPES
from quantize.release.proven import Proven, read_proven
from quantize.release.signing import private_key, sign_bundle
from quantize.train.speech import corpus
from quantize.train.speech.attacks import Row, listed, store, write_list
from quantize.train.speech.corpus import Item
from quantize.train.speech.scoring import eer, render
from sync.plain_file import LARGE_BYTES, plain_bytes, plain_path, plain_text
from sync.plain_words import what_and_why

LEAST_SAMPLES = 20
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")
SOUNDS = {".wav", ".flac", ".ogg"}
WORSE_FOR_PEOPLE = 0.01
"""The candidate is refused when it turns away this much more of the people kept out of training."""
CARD = "spoof.json"
Comparison = dict[str, dict[str, Any]]
"""Figures of the detectors `current` and `candidate`, as `comparison.json` has them."""


def take(samples: Path, attacks: Path) -> list[str]:
    """Add the samples to ATTACKS, named for their folders; returns the systems.

    Raises QuantizeError where a folder's name, their number or a file will not do; then ATTACKS' list stays.
    """
    rows = listed(attacks)
    systems = sorted(p.name for p in samples.iterdir() if p.is_dir())
    if not systems:
        raise QuantizeError(f"{samples} holds no folder; put each attack's samples in a folder named for it")
    for system in systems:
        if not NAME.fullmatch(system):
            raise QuantizeError(f"{system!r} is no name for an attack; use small letters, digits and dashes")
        files = sorted(p for p in (samples / system).iterdir() if p.suffix.lower() in SOUNDS)
        usable = [row for path in files if (row := _stored(attacks, system, path)) is not None]
        if len(usable) < LEAST_SAMPLES:
            raise QuantizeError(
                f"{system} has {len(usable)} usable samples; at least {LEAST_SAMPLES} are needed"
            )
        fresh = {row["path"] for row in usable}
        rows = [row for row in rows if row["path"] not in fresh] + usable
    write_list(attacks, rows)
    return systems


def _stored(attacks: Path, system: str, path: Path) -> Row | None:
    """The row of one sample; None where it is too short or silent. Raises QuantizeError if it is no sound."""
    try:
        wave, rate_hz = soundfile.read(plain_path(path), dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as err:
        raise QuantizeError(f"{path.name} cannot be read as sound ({what_and_why(err)}); remove it") from err
    name = hashlib.sha256(plain_bytes(path, LARGE_BYTES)).hexdigest()[:16]
    about = {"system": system, "voice": "field", "source": "made here", "licence": "the operator's own"}
    return store(attacks, wave[:, 0], rate_hz, name, {**about, "speaker": "", "text": ""})


def detector_in(folder: Path) -> SpoofDetector:
    """The detector as a door has it, from the files that `release` writes. Raises OSError, DeviceError."""
    card = SpoofCard.from_bytes(plain_bytes(folder / CARD))
    session = OnnxSession(checked_network(folder / "spoof.int8.onnx", card))
    return SpoofDetector(session, card, checked_head(folder / ENVELOPES, card))


def llrs(folder: Path, items: Sequence[Item]) -> dict[str, float]:
    """By path: the LLR that a door with the detector in `folder` gives each item."""
    detector = detector_in(folder)
    return {item.path: detector.llr(render(item, "plain", (), ())) for item in items}


def compare(current: Path, candidate: Path, items: Sequence[Item], systems: Sequence[str]) -> Comparison:
    """Both detectors on what neither trained on: people, known attacks and each new one of `systems`."""
    kept = corpus.calibration(items)
    groups = {"people": [i for i in kept if not i.spoof]}
    groups["known attacks"] = [i for i in kept if i.spoof and i.system not in systems]
    groups |= {s: [i for i in kept if i.system == s] for s in systems}
    found: Comparison = {}
    for name, folder in (("current", current), ("candidate", candidate)):
        card = json.loads(plain_bytes(folder / CARD))
        scored = llrs(folder, kept)
        sides = {g: np.array([scored[i.path] for i in members]) for g, members in groups.items()}
        found[name] = {
            "version": card["version"],
            "people refused": float((sides["people"] <= 0).mean()),
            "accepted": {g: float((s > 0).mean()) for g, s in sides.items() if g != "people" and len(s)},
            "eer": {g: eer(sides["people"], s) for g, s in sides.items() if g != "people" and len(s)},
            "files": {g: len(s) for g, s in sides.items()},
        }
    return found


def show(console: Console, found: Comparison) -> None:
    """Print the comparison as a table."""
    table = Table("kept out of training", "files", "current", "candidate", "EER current", "EER candidate")
    old, new = found["current"], found["candidate"]
    refused = (f"{one['people refused']:.1%}" for one in (old, new))
    table.add_row("people refused", str(old["files"]["people"]), *refused, "", "")
    for group, share in old["accepted"].items():
        cells = (f"{share:.1%}", f"{new['accepted'][group]:.1%}")
        rates = (f"{old['eer'][group]:.1%}", f"{new['eer'][group]:.1%}")
        table.add_row(f"{group} accepted", str(old["files"][group]), *cells, *rates)
    console.print(table)


def update(
    samples: Path,
    data: Path,
    attacks: Path,
    work: Path,
    out: Path,
    *,
    current: Path,
    bundle: Path,
    key: Path,
    passes: int,
) -> None:
    """The whole command; `passes` renderings of each file are trained on.

    Raises QuantizeError, and makes no bundle, where the candidate refuses more people; DeviceError where
    BUNDLE or the self-test's recordings are not in order; OSError.
    """
    # Torch takes seconds to load, and nothing before `update` needs it.
    from quantize.train.fitting.fit import FitSettings
    from quantize.train.networks.moments import Moments
    from quantize.train.release import MOMENTS, load_weights, release
    from quantize.train.speech.bank import PATCHES, fill

    release_key = private_key(key)
    ready(bundle, out)
    systems = take(samples, attacks)
    work.mkdir(parents=True, exist_ok=True)
    if not (work / PATCHES).exists():
        _keep_patches(current, work / PATCHES)
    items = corpus.load(data, attacks, work)
    fill(items, data, work, passes)
    weights = out / "weights"
    release(items, load_weights(Moments(), current / MOMENTS), data, work, weights, FitSettings())
    found = compare(current, weights, items, systems)
    (out / "comparison.json").write_text(json.dumps(found, indent=1) + "\n")
    show(Console(width=110), found)
    if found["candidate"]["people refused"] > found["current"]["people refused"] + WORSE_FOR_PEOPLE:
        raise QuantizeError("the candidate refuses more people than the network in use; no bundle was made")
    replace_detector(bundle, weights, out / "bundle", release_key)


def ready(bundle: Path, out: Path) -> None:
    """Say what is missing before the long work, not after it. Raises QuantizeError, DeviceError."""
    if (out / "bundle").exists():
        raise QuantizeError(f"{out / 'bundle'} is there already; name another folder")
    current = Bundle.open(bundle)
    roles = {entry.role for entry in current.manifest.files}
    if ROLE in roles:
        recordings_of(answers_of(current).recordings)
    needed = ("flatbuffers", "tflite") if "spoof-tflite" in roles else ()
    missing = [tool for tool in needed if not _installed(tool)]
    if missing:
        raise QuantizeError(f"{', '.join(missing)} must be installed; use the product with its train extra")


def _installed(tool: str) -> bool:
    try:
        return bool(version(tool))
    except PackageNotFoundError:
        return False


def _keep_patches(current: Path, kept: Path) -> None:
    """Keep the patch layer of the network in use: only the heads are learned anew."""
    import torch

    from quantize.train.networks.network import Texture
    from quantize.train.release import TEXTURE, load_weights

    torch.save(load_weights(Texture(), current / TEXTURE).patches.state_dict(), kept)


def replace_detector(current: Path, weights: Path, out: Path, key: Ed25519PrivateKey) -> None:
    """Write to OUT the bundle `current` with the detector of `weights`, of the next version, signed.

    The self-test's answers are asked of the new bundle, for a unit refuses those of another detector. Raises
    QuantizeError where OUT is there, DeviceError where the self-test's recordings are not installed.
    """
    if out.exists():
        raise QuantizeError(f"{out} is there already; name another folder")
    shutil.copytree(current, out)
    before = Bundle.open(current).manifest
    settings = out.with_suffix(".toml")
    text = plain_text(CALIBRATION_FILE)
    settings.write_text(re.sub(r"(?m)^version = \d+$", f"version = {before.version + 1}", text, count=1))
    there = {entry.role for entry in before.files}
    recipes = [_from(weights, recipe) for recipe in RECIPES if recipe.role in there]
    roles = tuple(r.role for r in recipes if r.role.startswith("spoof"))
    # The detector is proven where it is trained; everything else is what the last release proved.
    card = json.loads(plain_bytes(weights / CARD))
    figures = {f"parity_{name}": float(value) for name, value in card["parity"].items()}
    proven = read_proven() | dict.fromkeys(roles, Proven()) | {"spoof": Proven(metrics=figures)}
    made = build(out, only=roles, recipes=recipes, calibration_file=settings, proven=proven)
    if ROLE in there:
        asked = answer(Bundle.open(out), reference()).to_bytes()
        recipes = [replace(r, make=_writes(asked)) if r.role == ROLE else r for r in recipes]
        proven |= {ROLE: Proven(sha256=hashlib.sha256(asked).hexdigest())}
        made = build(out, only=(ROLE,), recipes=recipes, calibration_file=settings, proven=proven)
    settings.unlink()
    if "spoof-tflite" in roles:
        paths = {role: out / made.entry(role).name for role in roles}
        prove_spoof_variant(
            paths["spoof"], paths["spoof-tflite"], SpoofCard.from_bytes(plain_bytes(paths["spoof-card"]))
        )
    sign_bundle(out, key)


def _writes(content: bytes) -> Callable[[Path, BuildContext], Artefact]:
    def make(out: Path, context: BuildContext) -> Artefact:
        out.write_bytes(content)
        return Artefact()

    return make


def _from(weights: Path, recipe: Recipe) -> Recipe:
    """The recipe with the detector's three files taken from `weights`; every other one as it is."""
    card = json.loads(plain_bytes(weights / CARD))

    def network(out: Path, context: BuildContext) -> Artefact:
        shutil.copyfile(weights / card["file"], out)
        graph = onnx.load(out).graph
        return Artefact(ports(graph.input), ports(graph.output), card["version"])

    makers: Mapping[str, Callable[[Path, BuildContext], Artefact]] = {
        "spoof": network,
        "spoof-card": shipped(weights / CARD, card["version"]),
        "spoof-envelopes": shipped(weights / ENVELOPES, card["version"]),
    }
    return replace(recipe, make=makers[recipe.role]) if recipe.role in makers else recipe
