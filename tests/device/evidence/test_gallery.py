"""Who somebody is who claims nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from device.errors import DeviceError
from device.evidence.gallery import Gallery
from tests.kept import is_overwritten


def cosine(probe: np.ndarray, template: np.ndarray) -> float:
    """A comparison whose LLR is ten times the cosine, less three."""
    return 10.0 * float(probe @ template) - 3.0


def unit(seed: int, count: int = 1) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((count, 192)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_the_right_person_is_found_among_a_thousand():
    people = unit(1, 1000)
    gallery = Gallery({f"uid-{at}": row for at, row in enumerate(people)})
    probe = people[617] + 0.4 * unit(2)[0]
    probe /= np.linalg.norm(probe)
    found = gallery.identify(probe.astype(np.float32), cosine)
    assert found is not None
    assert found.uid == "uid-617"
    assert found.llr > found.threshold_llr(3.0) - 7.0
    assert found.runner_up_llr < found.llr


def test_the_more_people_there_are_the_stricter_the_threshold():
    probe = unit(1)[0]
    thresholds = []
    for count in (1, 10, 1000):
        found = Gallery({str(at): row for at, row in enumerate(unit(3, count))}).identify(probe, cosine)
        assert found is not None
        thresholds.append(found.threshold_llr(3.0))
    assert thresholds == pytest.approx([3.0, 3.0 + math.log(10), 3.0 + math.log(1000)])


def test_in_an_empty_gallery_nobody_is_found():
    assert Gallery({}).identify(unit(1)[0], cosine) is None


@pytest.mark.parametrize("probe", [np.full(192, np.nan, np.float32), np.zeros(3, np.float32)])
def test_a_probe_that_is_no_voiceprint_finds_nobody(probe):
    assert Gallery({"a": unit(1)[0]}).identify(probe, cosine) is None


def test_voiceprints_of_two_models_are_not_searched_together():
    with pytest.raises(DeviceError, match="different models"):
        Gallery({"a": unit(1)[0], "b": np.ones(4, np.float32) / 2})


@pytest.mark.parametrize("spoilt", [np.zeros(192, np.float32), np.full(192, np.nan, np.float32)])
def test_a_damaged_voiceprint_is_refused(spoilt):
    with pytest.raises(DeviceError, match="unit length"):
        Gallery({"a": spoilt})


def test_a_wiped_gallery_holds_no_voiceprint():
    gallery = Gallery({"a": unit(1)[0]})
    assert not is_overwritten(gallery)
    gallery.wipe()
    assert is_overwritten(gallery)


def test_a_search_by_either_vector_leaves_no_copy_of_a_voiceprint_behind():
    looked_at = []

    def compare(probe, template):
        looked_at.append(template)
        return cosine(probe, template)

    people, doors = unit(1, 4), unit(2, 4)
    gallery = Gallery(dict(zip("abcd", people, strict=True)), {"a": doors[0], "c": doors[2]})
    found = gallery.identify(people[3], compare, compare)
    assert found is not None
    assert (found.uid, found.among, len(looked_at)) == ("d", 4, 4)
    gallery.wipe()
    assert not any(one.any() for one in looked_at)
