"""The live check's files, which the repository holds as they were trained (quantize/train/MODEL_CARD.md)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx

from quantize.errors import QuantizeError
from quantize.recipe import Artefact, BuildContext, Recipe, ports, shipped
from sync.plain_file import plain_bytes
from sync.plain_words import what_and_why

WEIGHTS = Path(__file__).parents[1] / "train" / "weights"
ENVELOPES = "spoof-envelopes.npz"
LICENCE = "Apache-2.0"


def _card() -> dict[str, Any]:
    try:
        card: dict[str, Any] = json.loads(plain_bytes(WEIGHTS / "spoof.json"))
        return {"version": card["version"], **card}
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise QuantizeError(
            f"the spoof detector's card cannot be read ({what_and_why(err)}); restore it"
        ) from err


def _network(out: Path, context: BuildContext) -> Artefact:
    context.progress("copying the spoof detector", 0.5)
    _beside("spoof.int8.onnx")(out, context)
    graph = onnx.load(out).graph
    return Artefact(ports(graph.input), ports(graph.output), str(_card()["version"]))


def _beside(name: str) -> Any:
    """Copies a file of the detector, under the detector's version."""
    return lambda out, context: shipped(WEIGHTS / name, str(_card()["version"]))(out, context)


def _figures(network: Path, context: BuildContext) -> dict[str, float]:
    """As its trainer measured them."""
    return {
        f"parity_{name}": round(float(value), 6)
        for name, value in _card()["parity"].items()
        if isinstance(value, int | float)
    }


RECIPES = (
    Recipe(
        role="spoof",
        file="spoof.int8.onnx",
        network="spoof",
        task="presentation attack detection",
        licence=LICENCE,
        make=_network,
        prove=_figures,
    ),
    Recipe(
        role="spoof-card",
        file="spoof.json",
        network="spoof",
        task="calibration and card of the presentation attack detector",
        licence=LICENCE,
        make=_beside("spoof.json"),
    ),
    Recipe(
        role="spoof-envelopes",
        file=ENVELOPES,
        network="spoof",
        task="the presentation attack detector's head on band envelopes",
        licence=LICENCE,
        make=_beside(ENVELOPES),
    ),
)
