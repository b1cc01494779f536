"""What a voiceprint follows: kept beside it, erased with it, and whole after a power cut."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from device.secure_store import Growing, NotEnrolledError, open_store
from tests.device.commands.dying import lives_until
from tests.device.secure_store.conftest import LAPTOP, Opener
from tests.device.secure_store.people import MODEL, same_voice, voiceprint, with_door
from tests.device.secure_store.test_growing import growing


def followed(*days: int) -> Growing:
    size = voiceprint(1).vector.shape[0]
    rows = np.random.default_rng(days[0]).standard_normal((len(days), size)).astype(np.float32)
    return Growing(MODEL, days, rows / np.linalg.norm(rows, axis=1, keepdims=True))


def test_it_comes_back_whatever_the_vault_does_in_between_and_ends_with_the_enrolment(laptop: Opener) -> None:
    with laptop() as store:
        store.vault.enrol("4711", with_door(1))
        store.vault.enrol("4712", voiceprint(2))
        versions = store.vault.versions()
        store.vault.grow("4711", growing((3, 5)))
        store.vault.follow("4711", followed(7, 9, 12))
    with laptop() as store:
        store.vault.rotate()
        store.vault.renew("4711")
        store.vault.grow("4711", growing((3, 5, 6)))
        template, grown, found = store.vault.voiceprints("4711")
        assert same_voice(template, with_door(1))
        assert grown is not None
        assert grown.days == (3, 5, 6)
        assert found is not None
        assert found.days == (7, 9, 12)
        assert np.allclose(found.vectors, followed(7, 9, 12).vectors, atol=1e-6)
        assert store.vault.versions() == versions, "nobody was enrolled anew"
        assert store.vault.followed() == {"4711": (7, 9, 12)}
        assert same_voice(store.vault.template("4711"), with_door(1)), "never in its place"
        store.vault.follow("4711", None)
        assert (store.vault.followed(), store.vault.follows("4711")) == ({}, None)
        store.vault.follow("4711", followed(7))
        store.vault.enrol("4711", voiceprint(3))
        assert store.vault.followed() == {}, "who enrols anew begins anew"
        store.vault.follow("4711", followed(7))
        store.vault.forget("4711")
        assert store.vault.followed() == {}
        with pytest.raises(NotEnrolledError):
            store.vault.follow("4711", followed(7))


def test_nothing_of_it_lies_readable_on_the_disk(laptop: Opener, tmp_path: Path) -> None:
    with laptop() as store:
        store.vault.enrol("4711", voiceprint(1))
        store.vault.follow("4711", followed(7, 9, 12))
    stored = b"".join(p.read_bytes() for p in sorted((tmp_path / "store").glob("vault*")))
    for row in followed(7, 9, 12).vectors:
        assert not any(row[at : at + 2].tobytes() in stored for at in range(len(row) - 1))


def test_a_power_cut_at_any_write_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    folder, before = tmp_path / "unit", tmp_path / "before"
    with open_store(folder, LAPTOP, warn=lambda _: None) as store:
        store.vault.enrol("4711", voiceprint(1))
        store.vault.follow("4711", followed(7))
    shutil.copytree(folder, before)

    def work() -> None:
        with open_store(folder, LAPTOP, warn=lambda _: None) as store:
            store.vault.follow("4711", followed(7, 9))
            store.vault.enrol("4711", replace(voiceprint(2), utterances=5))

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
            found = store.vault.followed().get("4711", ())
            seen.add((store.vault.template("4711").utterances, found))
    old = voiceprint(1).utterances
    assert seen <= {(old, (7,)), (old, (7, 9)), (5, ())}
    assert len(seen) >= 2, "it was cut before and after"
