"""A voiceprint that grows beside the one in use: kept, shown, and whole after a power cut."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from device.secure_store import Growing, ModelChangedError, open_store
from tests.device.commands.dying import lives_until
from tests.device.secure_store.conftest import LAPTOP, Opener
from tests.device.secure_store.people import MODEL, same_voice, voiceprint

NEXT = "next-256@1"


def growing(days: tuple[int, ...], *, ready: bool = False, size: int = 256) -> Growing:
    rows = np.random.default_rng(days[0]).standard_normal((len(days), size)).astype(np.float32)
    return Growing(NEXT, days, rows / np.linalg.norm(rows, axis=1, keepdims=True), ready)


def test_what_grows_comes_back_and_changes_neither_voiceprint_nor_enrolment(laptop: Opener) -> None:
    with laptop() as store:
        store.vault.enrol("4711", voiceprint(1))
        before = store.vault.versions()
        store.vault.grow("4711", growing((3, 5)))
    with laptop() as store:
        found = store.vault.growing("4711")
        assert found is not None
        assert (found.model, found.days, found.ready) == (NEXT, (3, 5), False)
        assert np.allclose(found.vectors, growing((3, 5)).vectors, atol=1e-6)
        assert same_voice(store.vault.template("4711"), voiceprint(1))
        assert store.vault.versions() == before, "nobody was enrolled anew"
        assert store.vault.growth(NEXT) == {"4711": 2}
        with pytest.raises(ModelChangedError):
            store.vault.template("4711", model=NEXT)
        store.vault.rotate()
        store.vault.grow("4711", None)
        assert store.vault.growing("4711") is None


def test_who_is_ready_has_both_voiceprints_and_what_grew_never_stands_for_the_enrolled_one(
    laptop: Opener,
) -> None:
    with laptop() as store:
        store.vault.enrol("4711", voiceprint(1))
        store.vault.grow("4711", growing((3, 5, 6), ready=True))
        expected = growing((3, 5, 6), ready=True).template()
        enrolled, grown, _ = store.vault.voiceprints("4711")
        assert grown is not None
        assert same_voice(enrolled, voiceprint(1))
        assert same_voice(grown.template(), expected)
        assert store.vault.growth(NEXT) == {"4711": None}
        assert store.vault.enrolment("4711").model == MODEL
        with pytest.raises(ModelChangedError):
            store.vault.template("4711", model=NEXT)
        store.vault.enrol("4711", voiceprint(2))
        assert store.vault.growing("4711") is None, "who enrols anew begins anew"


def test_nothing_that_grows_lies_readable_on_the_disk(laptop: Opener, tmp_path: Path) -> None:
    with laptop() as store:
        store.vault.enrol("4711", voiceprint(1))
        store.vault.grow("4711", growing((3, 5)))
    stored = b"".join(p.read_bytes() for p in sorted((tmp_path / "store").glob("vault*")))
    assert NEXT.encode() not in stored
    row = growing((3, 5)).vectors[0]
    assert not any(row[i : i + 2].tobytes() in stored for i in range(255))


ROWS = growing((1, 2)).vectors


@pytest.mark.parametrize(
    ("days", "rows"),
    [
        ((1, 1), ROWS),
        ((2, 1), ROWS),
        ((), ROWS[:0]),
        (tuple(range(9)), np.repeat(ROWS[:1], 9, axis=0)),
        ((1, 2), ROWS * 2),
        ((1, 2), ROWS[:, :10]),
        ((1,), ROWS),
    ],
)
def test_what_is_no_growing_voiceprint_is_refused(days: tuple[int, ...], rows: np.ndarray) -> None:
    with pytest.raises(ValueError, match="voiceprint"):
        Growing(NEXT, days, rows)


def test_a_power_cut_at_any_write_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    folder, before = tmp_path / "unit", tmp_path / "before"
    with open_store(folder, LAPTOP, warn=lambda _: None) as store:
        store.vault.enrol("4711", voiceprint(1))
        store.vault.grow("4711", growing((3, 5)))
    shutil.copytree(folder, before)

    def work() -> None:
        with open_store(folder, LAPTOP, warn=lambda _: None) as store:
            store.vault.grow("4711", growing((3, 5, 6), ready=True))
            store.vault.enrol("4711", replace(voiceprint(2), model=NEXT))

    writes = lives_until(None, work)
    assert writes is not None
    seen = set()
    for point in range(1, writes + 1):
        shutil.rmtree(folder)
        shutil.copytree(before, folder)
        if lives_until(point, work) is not None:
            continue
        with open_store(folder, LAPTOP, warn=lambda _: None) as store:
            assert store.vault.status().damaged == ()
            found = store.vault.growing("4711")
            days = None if found is None else found.days
            seen.add((store.vault.template("4711").model, days))
    assert seen <= {(MODEL, (3, 5)), (MODEL, (3, 5, 6)), (NEXT, None)}
    assert len(seen) >= 2, "it was cut before and after"
