"""Which pairs of different people a door for two persons takes for one voice."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from research.fits.enrolled_by import Person, one_voice


class Cosine:
    def llr(self, probe: npt.NDArray[np.float32], template: npt.NDArray[np.float32]) -> float:
        return 10.0 * float(probe @ template) - 5.0


class Sick:
    def llr(self, probe: npt.NDArray[np.float32], template: npt.NDArray[np.float32]) -> float:
        return float("nan")


def person(corpus: str, first: tuple[float, float], later: tuple[float, float], phrases: int = 5) -> Person:
    vectors = [np.array(first, np.float32)] * 3 + [np.array(later, np.float32)] * (phrases - 3)
    return Person(corpus, vectors, [], {})


def test_pairs_of_one_corpus_count_by_the_phrases_that_enrol() -> None:
    people = {
        "a": person("one", (1.0, 0.0), (1.0, 0.0)),
        "b": person("one", (0.0, 1.0), (1.0, 0.0)),
        "c": person("other", (1.0, 0.0), (1.0, 0.0)),
        "d": person("one", (1.0, 0.0), (1.0, 0.0), phrases=3),  # enrols by three, and is nobody's pair
    }
    assert one_voice(people, 3, Cosine()) == (0, 1)
    assert one_voice(people, 5, Cosine()) == (1, 1)


def test_what_is_no_number_counts_as_one_voice_as_at_the_door() -> None:
    people = {who: person("one", (1.0, 0.0), (1.0, 0.0)) for who in ("a", "b")}
    assert one_voice(people, 5, Sick()) == (1, 1)
