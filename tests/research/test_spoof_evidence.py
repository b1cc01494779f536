from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy", reason="pip install '.[train]'")

from quantize.errors import QuantizeError
from quantize.train.fitting.norms import LEAST_PEOPLE
from research.spoof import inverse, rates
from research.spoof.inverse import RATES_HZ, SAMPLES, beats, copied
from research.spoof.rates import Norms, Places, measured


def noise(seed: int) -> np.ndarray:
    return (0.05 * np.random.default_rng(seed).standard_normal(SAMPLES)).astype(np.float32)


def test_a_copy_is_as_long_as_its_source_and_keeps_what_lies_low() -> None:
    wave = noise(0)
    copy = copied(wave, 256, 1.5, np.random.default_rng(0))
    assert copy.shape == wave.shape
    hz = np.fft.rfftfreq(SAMPLES, 1 / 16_000)
    kept, lost = (
        np.corrcoef(*(np.fft.irfft(np.fft.rfft(one) * inside) for one in (wave, copy)))[0, 1]
        for inside in ((hz > 200) & (hz < 1_400), (hz > 4_500) & (hz < 7_500))
    )
    assert kept > 0.98
    assert lost < 0.7


def test_spectra_put_together_every_half_window_beat_and_those_every_quarter_do_not() -> None:
    def found(hop: int) -> float:
        copy = copied(noise(1), hop, 1.5, np.random.default_rng(1))
        return float(beats(copy)[RATES_HZ.index(24_000 / hop)])

    assert found(512) > beats(noise(1))[RATES_HZ.index(46.875)] + 1.0
    assert found(256) < found(512) - 1.0


def test_a_finer_search_finds_lines_at_a_rate_that_nobody_listed() -> None:
    places = Places.of(4_096)
    seconds = np.arange(SAMPLES) / 16_000
    comb = np.sum([np.sin(2 * np.pi * (k * 75.53 * seconds + k * k * 0.37)) for k in range(33, 95)], axis=0)
    beating, plain = (noise(99) + 2e-3 * comb).astype(np.float32), noise(98)

    def told(variant: str) -> float:
        norms = Norms([measured(noise(n), places, variant) for n in range(LEAST_PEOPLE)], places, variant)
        first, second = (norms.score(measured(wave, places, variant)) for wave in (plain, beating))
        return first - second

    assert told("fine") > 3.0
    assert told("fine") > told("before") + 1.0


@pytest.mark.parametrize("command", [inverse, rates])
def test_at_least_one_file_of_each_system_is_asked_for(command: object, tmp_path: Path) -> None:
    with pytest.raises(QuantizeError, match="--each"):
        command.run(tmp_path, 0)
