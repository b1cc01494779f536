"""`ostiary enroll` is killed in the middle: the person is enrolled whole or not at all, nobody else is lost.

OSTIARY_ENROL_EVERY=1 pytest tests/device/commands/test_enroll_killed.py     dies at each write there is
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from device.evidence.judge import Judge, SpoofCheck, WordsCheck
from device.models.spoof.detector import SpoofEvidence
from device.secure_store import NotEnrolledError, Store, StoreSettings, Template, open_store
from device.secure_store.hardware.swtpm import SwTpm
from device.settings import Settings
from device.state_folder import StateFolder
from device.unit.assembly import Tools
from device.unit.enrolment import enrol, forget, named
from sync.events import Record, pseudonym
from sync.outbox import Outbox
from tests.device.commands.dying import lives_until
from tests.device.secure_store.people import same_voice, voiceprint
from tests.speech import Reading
from tests.sync.parts import SoftwareSigner

LAPTOP = StoreSettings(profile="laptop", keystore="software")
OTHERS = {"BRUNO": voiceprint(2), "CLARA": voiceprint(3)}
BEFORE = voiceprint(1)
EVERY = int(os.environ.get("OSTIARY_ENROL_EVERY", "17"))
"""Of the points before and after each write, how many apart it dies: each run begins at another place."""
KILLS = int(os.environ.get("OSTIARY_ENROL_KILLS", "5"))


class OneVoice:
    """A speaker model that knows one voice: the writes are what is tried here, not the network."""

    version = BEFORE.model

    def embed(self, wave: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return voiceprint(77).vector

    def template(self, embeddings: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
        return embeddings[0].copy()

    def llr(self, probe: npt.NDArray[np.float32], template: npt.NDArray[np.float32]) -> float:
        return 8.0


class AlwaysLive:
    version = "live"

    def evidence(self, wave: npt.NDArray[np.float32]) -> SpoofEvidence:
        return SpoofEvidence(4.0, 4.0, 4.0, 4.0, 4.0, 50.0)


NEW = Template(OneVoice.version, voiceprint(77).vector, 3)


class Unit:
    """One state folder, what may be in it, and what a thief would look for."""

    def __init__(
        self, folder: Path, settings: StoreSettings, recordings: list[Path], patch: pytest.MonkeyPatch
    ):
        self.folder = folder
        self.settings = settings
        self.recordings = recordings
        patch.setenv("OSTIARY_STATE_DIR", str(folder))
        (folder / "tmp").mkdir(parents=True, exist_ok=True)
        patch.setenv("TMPDIR", str(folder / "tmp"))
        self.judge = Judge(cast(WordsCheck, None), OneVoice(), cast(SpoofCheck, AlwaysLive()))

    def open(self) -> Store:
        return open_store(self.folder, self.settings, warn=lambda _: None)

    def prepare(self, **people: Template) -> None:
        with self.open() as store:
            for uid, template in people.items():
                store.vault.enrol(uid, template)

    def enrol(self) -> None:
        with self.open() as store:
            tools = Tools(self.judge, store, Settings(store=self.settings), self.folder)
            enrol(tools, "ANNA", named(self.recordings), reason="operator")

    def forget(self) -> None:
        with self.open() as store:
            forget(store, Settings(store=self.settings), self.folder, "ANNA")

    def anna(self, store: Store) -> Template | None:
        try:
            return store.vault.template("ANNA")
        except NotEnrolledError:
            return None

    def check(self, before: Template | None) -> None:
        """After a kill: whole or not at all, logged if at all, nobody lost, no audio left, and it goes on."""
        assert not self.audio_on_disk()
        with self.open() as store:
            status = store.vault.status()
            assert not status.damaged, status.notes
            assert set(store.vault.uids()) >= set(OTHERS)
            for uid, template in OTHERS.items():
                assert same_voice(store.vault.template(uid), template)
            found, logged = self.anna(store), self.logged(store)
            if found is None or before is None or not same_voice(found, before):
                assert found is before or (found is not None and same_voice(found, NEW))
            if found is not None and same_voice(found, NEW):
                assert "ENROLMENT_BEGUN" in logged, "somebody was enrolled of whom the log knows nothing"
        self.enrol()
        with self.open() as store:
            assert same_voice(store.vault.template("ANNA"), NEW)
            assert self.logged(store)[-2:] == ["ENROLMENT_BEGUN", "ENROLLED"]

    def logged(self, store: Store) -> list[str]:
        """What the unit's log says about anna."""
        who = pseudonym(store.pseudonym_key(), "ANNA")
        settings = Settings().door
        log = Outbox(
            StateFolder(self.folder).audit_log,
            unit=settings.unit,
            doors={settings.name},
            now_ms=lambda: 1_800_000_000_000,
        )
        found, position = [], 0
        with log:
            log.seal(SoftwareSigner())
            while batch := log.batch_after(position):
                events = [Record.from_bytes(body).event for body in batch.bodies]
                found += [event.kind for event in events if event.person == who]
                position = batch.size
        return found

    def audio_on_disk(self) -> list[Path]:
        """Files below the state folder that hold any half second's worth of a recording's loudest part."""
        marks = [mark for path in self.recordings for mark in _marks(path)]
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        return [path for path in files if any(mark in path.read_bytes() for mark in marks)]


def _marks(recording: Path) -> list[bytes]:
    """A few milliseconds of the loudest part, as any of the forms in which samples could be written."""
    samples, _ = soundfile.read(recording, dtype="int16")
    at = int(np.abs(samples[: len(samples) - 64].astype(np.int32)).argmax())
    cut = samples[at : at + 64]
    wave = cut.astype(np.float32) / np.float32(32768.0)
    return [cut.astype("<i2").tobytes(), wave.tobytes(), wave.astype(np.float64).tobytes()]


@pytest.fixture
def recordings(reader: list[Reading]) -> list[Path]:
    return [reader[n].path for n in (0, 2, 3)]


def test_the_search_for_audio_finds_audio(tmp_path, recordings, monkeypatch):
    unit = Unit(tmp_path / "unit", LAPTOP, recordings, monkeypatch)
    assert not unit.audio_on_disk()
    shutil.copy(recordings[0], unit.folder / "kept.bin")
    assert unit.audio_on_disk() == [unit.folder / "kept.bin"]


def at_sampled_points(one: Callable[[int | None], int | None]) -> None:
    """`one(None)` counts the points at which `one` may die; then it dies at every EVERYth of them."""
    points = one(None) or 0
    assert points > 20, "the marks no longer see the writes"
    for die_at in range(1 + random.randrange(EVERY), points + 1, EVERY):
        assert one(die_at) is None, f"point {die_at} of {points} was not reached"


@pytest.mark.parametrize("before", [None, BEFORE], ids=["new", "again"])
def test_an_enrolment_killed_at_any_write_is_whole_or_not_at_all(
    tmp_path: Path,
    recordings: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    before: Template | None,
) -> None:
    people = OTHERS if before is None else {**OTHERS, "ANNA": before}
    Unit(tmp_path / "before", LAPTOP, recordings, monkeypatch).prepare(**people)

    def one(die_at: int | None) -> int | None:
        shutil.copytree(tmp_path / "before", tmp_path / "unit")
        unit = Unit(tmp_path / "unit", LAPTOP, recordings, monkeypatch)
        passed = lives_until(die_at, unit.enrol)
        unit.check(before)
        shutil.rmtree(unit.folder)
        return passed

    at_sampled_points(one)


def test_a_person_is_forgotten_wholly_or_can_be_forgotten_again_wherever_it_is_killed(
    tmp_path: Path, recordings: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    Unit(tmp_path / "before", LAPTOP, recordings, monkeypatch).prepare(**OTHERS, ANNA=BEFORE)

    def one(die_at: int | None) -> int | None:
        shutil.copytree(tmp_path / "before", tmp_path / "unit")
        unit = Unit(tmp_path / "unit", LAPTOP, recordings, monkeypatch)
        passed = lives_until(die_at, unit.forget)
        with unit.open() as store:
            assert not store.vault.status().damaged
            assert set(store.vault.uids()) - {"ANNA"} == set(OTHERS)
            if (found := unit.anna(store)) is None:
                assert "ERASURE_BEGUN" in unit.logged(store), "somebody was erased and nobody knows"
            else:
                assert same_voice(found, BEFORE)
        if found is not None:
            unit.forget()
            with unit.open() as store:
                assert unit.anna(store) is None
                assert unit.logged(store)[-2:] == ["ERASURE_BEGUN", "FORGOTTEN"]
        shutil.rmtree(unit.folder)
        return passed

    at_sampled_points(one)


def test_an_enrolment_on_a_tpm_killed_at_writes_is_whole_or_not_at_all(
    tmp_path: Path, recordings: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    tpm = SwTpm(tmp_path / "swtpm").start()
    try:
        unit = Unit(tmp_path / "unit", tpm.settings(), recordings, monkeypatch)
        unit.prepare(**OTHERS)
        points = lives_until(None, unit.enrol)
        assert points
        for die_at in range(1 + random.randrange(EVERY), points, 2 * EVERY):
            with unit.open() as store:
                store.vault.forget("ANNA")
            assert lives_until(die_at, unit.enrol) is None
            unit.check(None)
    finally:
        tpm.power_cut()


@pytest.mark.slow
@pytest.mark.e2e
def test_the_real_command_killed_at_random_moments_leaves_nothing_half(
    tmp_path: Path, models: Path, recordings: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OSTIARY_MODELS_DIR", str(models))
    monkeypatch.delenv("OSTIARY_CONFIG", raising=False)
    dice, folder = random.Random(11), tmp_path / "unit"
    ostiary = [sys.executable, "-c", "from device.cli import main; main()"]
    command = [*ostiary, "enroll", "--replace", "ANNA", *map(str, recordings)]
    unit = Unit(folder, Settings().store, recordings, monkeypatch)
    began = time.monotonic()
    subprocess.run(command, check=True, capture_output=True, timeout=180)
    takes_s = time.monotonic() - began
    for _ in range(KILLS):
        with unit.open() as store:
            for uid, template in OTHERS.items():
                store.vault.enrol(uid, template)
            if "ANNA" in store.vault.uids():
                store.vault.forget("ANNA")
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(takes_s * dice.uniform(0.4, 1.1))
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not unit.audio_on_disk()
        with unit.open() as store:
            assert not store.vault.status().damaged
            for uid, template in OTHERS.items():
                assert same_voice(store.vault.template(uid), template)
            found: Any = unit.anna(store)
            assert found is None or (abs(float(np.linalg.norm(found.vector)) - 1.0) < 1e-3)
            assert found is None or "ENROLMENT_BEGUN" in unit.logged(store)
    subprocess.run(command, check=True, capture_output=True, timeout=180)
    with unit.open() as store:
        assert unit.anna(store) is not None
        assert unit.logged(store)[-2:] == ["ENROLMENT_BEGUN", "ENROLLED"]
