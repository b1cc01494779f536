"""Fits the frame-rate evidence: the bona fide norms, on people alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from rich.progress import track

from device.audio.utterance import SAMPLE_RATE_HZ
from device.models.spoof.frame_rates import FrameRates, frame_rates, searched_lines
from device.models.spoof.norms import NORM_SECONDS, BonaFideNorms, mean_deviation, searched_deviation
from quantize.errors import QuantizeError
from quantize.train.judging.calibrate import certain
from quantize.train.speech.corpus import Item, Wave
from quantize.train.speech.scoring import render

LEAST_PEOPLE = 50
MOST_PEOPLE = 900


def fit_norms(found: list[list[FrameRates]]) -> BonaFideNorms:
    """The norms of the `frame_rates` of people, listed for each of NORM_SECONDS.

    Raises QuantizeError when a length has fewer than LEAST_PEOPLE.
    """
    if min(len(one) for one in found) < LEAST_PEOPLE:
        raise QuantizeError(
            f"the frame rates need {LEAST_PEOPLE} recordings of people of {NORM_SECONDS[-1]:g} s"
        )
    parts: dict[str, list[npt.NDArray[np.float64]]] = {name: [] for name in BonaFideNorms.__slots__}
    for people in found:
        listed = np.array([one.listed for one in people])
        mean, spread = listed.mean(axis=0), listed.std(axis=0)
        each = mean_deviation(listed, mean, spread)
        searched = np.array([one.searched for one in people])
        any_mean = searched.mean(axis=(0, 1), dtype=np.float64)
        any_spread = np.sqrt((((searched - any_mean) ** 2) * searched_lines()).mean(axis=(0, 1)))
        both = (searched_deviation(one, any_mean, any_spread) for one in searched)
        tops = np.array([[by_all.max(), by_products.max()] for by_all, by_products in both]).T
        fitted = [mean, spread, each.mean(axis=0), each.std(axis=0), any_mean, any_spread]
        fitted += [np.array([value]) for top in tops for value in (top.mean(), top.std())]
        for name, part in zip(parts, fitted, strict=True):
            parts[name].append(np.asarray(part))
    return BonaFideNorms(**{name: np.array(part).round(5) for name, part in parts.items()})


def measure(items: Sequence[Item]) -> list[list[tuple[str, FrameRates]]]:
    """For each of NORM_SECONDS: path and `frame_rates` of the middle of those people who speak so long.

    Of `items` at most MOST_PEOPLE people are measured, as recorded.
    """
    people = [i for i in items if not i.spoof and certain(i.page)]
    people = [people[n] for n in np.random.default_rng(0).permutation(len(people))[:MOST_PEOPLE]]
    found: list[list[tuple[str, FrameRates]]] = [[] for _ in NORM_SECONDS]
    for item in track(people, description="frame rates of people"):
        wave = render(item, "plain", (), ())
        for measured, seconds in zip(found, NORM_SECONDS, strict=True):
            samples = int(seconds * SAMPLE_RATE_HZ)
            start = (len(wave) - samples) // 2
            if start >= 0:
                heard = frame_rates(wave[start : start + samples])
                small = replace(heard, searched=heard.searched.astype(np.float32))
                measured.append((item.path, small))
    return found


def norms_of(items: Sequence[Item]) -> BonaFideNorms:
    """The norms of the people among `items`."""
    return fit_norms([[heard for _, heard in one] for one in measure(items)])


def frame_rate_score(norms: BonaFideNorms, wave: Wave) -> float:
    """The score of one wave (n,), as a door has it."""
    return norms.compare(frame_rates(wave), len(wave) / SAMPLE_RATE_HZ).score
