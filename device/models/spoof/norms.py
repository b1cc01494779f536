"""Frame-rate evidence of one wave, as z-scores against bona fide speech.

All that is fitted is people's mean and spread, which stand in the spoof detector's card; no attack is needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from device.models.spoof.frame_rates import (
    ANY_RATE_HZ,
    FRAME_RATES_HZ,
    SEARCHED,
    STATISTICS,
    FrameRates,
    searched_lines,
)

Floats = npt.NDArray[np.float64]

MAINS_RATES_HZ = (50.0, 100.0)
"""Rectifiers put lines at multiples of these into rooms, up to 7 kHz: their lines do not count."""
MOST_DEVIATIONS = 4.0
"""Of one statistic: no single kind of evidence decides."""
MOST_SEARCHED_DEVIATIONS = 8.0
MOST_STANDING_OUT = 20.0
PRODUCTS = tuple(n for n, name in enumerate(SEARCHED) if name.startswith("product"))
PRODUCTS_WEIGHT, MOST_OF_PRODUCTS = 0.25, 1.0
"""How much the best rate by products alone, which another speed does not hide, counts beside the sum; and how
many deviations at most, since hum gives them to people."""

NORM_SECONDS = (0.5, 1.0, 2.0, 4.0)
"""Lengths at which people were measured: the shorter the speech, the more a line stands out by chance."""
COUNTED = np.array(
    [
        [hz not in MAINS_RATES_HZ or not name.startswith("line") for name in STATISTICS]
        for hz in FRAME_RATES_HZ
    ]
)


def mean_deviation(listed: Floats, mean: Floats, spread: Floats) -> Floats:
    """Of `FrameRates.listed` (..., rates, STATISTICS) against people's, mean of what counts: (..., rates)."""
    each = ((listed - mean) / spread).clip(-MOST_DEVIATIONS, MOST_DEVIATIONS)
    averaged: Floats = (each * COUNTED).sum(axis=-1) / COUNTED.sum(axis=-1)
    return averaged


def searched_deviation(searched: Floats, mean: Floats, spread: Floats) -> tuple[Floats, Floats]:
    """Of `FrameRates.searched` (any rates, SEARCHED) against people's of one line: by all, by products alone.

    Both (any rates,).
    """
    each = ((searched - mean) / (spread / np.sqrt(searched_lines()))).clip(
        -MOST_SEARCHED_DEVIATIONS, MOST_SEARCHED_DEVIATIONS
    )
    return each.mean(axis=1), each[:, PRODUCTS].mean(axis=1)


@dataclass(frozen=True, slots=True)
class BonaFideNorms:
    """What people give, so that rates can be told in people's standard deviations. Rows as NORM_SECONDS."""

    mean: Floats
    """(lengths, rates, STATISTICS)"""
    spread: Floats
    rate_mean: Floats
    """(lengths, rates), of `mean_deviation`."""
    rate_spread: Floats
    searched_mean: Floats
    """(lengths, SEARCHED)"""
    searched_spread: Floats
    """Of one line: a mean of n lines has the n-th part of its variance."""
    top_mean: Floats
    """(lengths, 1), of the greatest of `searched_deviation`."""
    top_spread: Floats
    products_mean: Floats
    """(lengths, 1), of the greatest by products alone."""
    products_spread: Floats

    def __post_init__(self) -> None:
        rates = len(FRAME_RATES_HZ)
        tails = ((rates, len(STATISTICS)), (rates,), (len(SEARCHED),), (1,), (1,))
        for n, name in enumerate(self.__slots__):
            part, shape = getattr(self, name), (len(NORM_SECONDS), *tails[n // 2])
            if part.shape != shape:
                raise ValueError(f"the norms of frame rates have the wrong shape: {name} is not {shape}")
            if not np.isfinite(part).all():
                raise ValueError(f"the norms of frame rates hold something that is not a number in {name}")
            if "spread" in name and part.min() <= 0:
                raise ValueError(f"the norms of frame rates hold a {name} that is not above zero")

    def compare(self, found: FrameRates, seconds: float) -> FrameRateEvidence:
        """What stands out of a wave so long."""
        among = np.interp(np.log(seconds), np.log(NORM_SECONDS), range(len(NORM_SECONDS)))
        below = min(int(among), len(NORM_SECONDS) - 2)
        parts = (getattr(self, name) for name in self.__slots__)
        at = (part[below] + (among - below) * (part[below + 1] - part[below]) for part in parts)
        mean, spread, rate_mean, rate_spread, any_mean, any_spread, *tops = at
        top_mean, top_spread, products_mean, products_spread = (float(top[0]) for top in tops)
        each = (mean_deviation(found.listed, mean, spread) - rate_mean) / rate_spread
        searched, by_products = searched_deviation(found.searched, any_mean, any_spread)
        top = (float(searched.max()) - top_mean) / top_spread
        products = (float(by_products.max()) - products_mean) / products_spread
        listed = int(each.argmax())
        hz = FRAME_RATES_HZ[listed] if each[listed] >= top else float(ANY_RATE_HZ[searched.argmax()])
        return FrameRateEvidence(np.append(each, top), found.clear * products, hz)


@dataclass(frozen=True, slots=True)
class FrameRateEvidence:
    """What stands out of people, in their standard deviations."""

    deviations: Floats
    """(rates + 1,): each listed rate, and the best of any."""
    products: float
    """The best of any by products alone, as far as the place lets it be heard."""
    rate_hz: float
    """The rate that stands out most, or one that shares many of its multiples."""

    @property
    def score(self) -> float:
        """How little of any beat there is: higher is more human."""
        total = np.exp(np.minimum(self.deviations, MOST_STANDING_OUT)).sum()
        beside = PRODUCTS_WEIGHT * min(MOST_OF_PRODUCTS, max(0.0, self.products))
        return -(float(np.log(total)) + beside)
