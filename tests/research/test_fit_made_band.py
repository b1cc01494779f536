"""The table of weights that the fit of made bands writes."""

from __future__ import annotations

import numpy as np

from device.audio.spoiled.made_band import Weights, shipped
from research.fits.made_band import table


def test_weights_come_back_from_the_table_that_is_written() -> None:
    text = table(shipped(), {"what": "How it was made", "on": "Fitted on 3 people."})
    assert text.startswith("# How it was made\n# Fitted on 3 people.\noffset = ")
    read = Weights.from_text(text)
    assert (read.offset, read.least) == (shipped().offset, shipped().least)
    for part in ("mean", "spread", "linear", "squared"):
        assert np.array_equal(getattr(read, part), getattr(shipped(), part)), part
