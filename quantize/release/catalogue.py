"""Every file that a bundle may hold, in the order in which a build makes them."""

from __future__ import annotations

from pathlib import Path

from quantize.networks import (
    resemblyzer,
    segmentation,
    speaker,
    spoof,
    tflite_variants,
    words,
    words_base,
    words_ggml,
)
from quantize.recipe import Recipe, shipped

SELF_TEST = Path(__file__).parents[1] / "self-test.json"

RECIPES: tuple[Recipe, ...] = (
    *speaker.RECIPES,
    *words.RECIPES,
    *words_base.RECIPES,
    *words_ggml.RECIPES,
    *spoof.RECIPES,
    *tflite_variants.RECIPES,
    Recipe(
        role="self-test",
        file=SELF_TEST.name,
        network="self-test",
        task="what the models above must answer to known recordings, on any processor",
        licence="Apache-2.0",
        make=shipped(SELF_TEST),
    ),
    *resemblyzer.RECIPES,
    *segmentation.RECIPES,
)
