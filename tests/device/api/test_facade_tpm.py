"""The facade on a store whose keys a TPM holds, as on a unit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from device.api.app import make_app
from device.api.server import service_with
from device.evidence.judge import Judge
from device.secure_store import open_store
from device.secure_store.hardware.swtpm import SwTpm
from device.settings import Settings
from tests.device.api.conftest import Facade, MovedClock, encoded, enrolment, slug
from tests.speech import Reading, require_tools


@pytest.fixture
def tpm(tmp_path: Path) -> Iterator[SwTpm]:
    require_tools(["swtpm"], "swtpm")
    with SwTpm(tmp_path / "tpm") as running:
        yield running


@contextlib.contextmanager
def facade_on(tpm: SwTpm, judge: Judge, state: Path) -> Iterator[Facade]:
    settings = replace(Settings(), store=tpm.settings())
    clock = MovedClock()
    with (
        service_with(judge, settings, state, clock) as service,
        TestClient(make_app(service)) as client,
        open_store(state, settings.store) as store,
    ):
        yield Facade(client, service, clock, state, store)


def test_people_results_codes_and_tokens_live_through_a_power_cut_of_unit_and_tpm(
    tpm: SwTpm, judge: Judge, tmp_path: Path, reader: list[Reading]
) -> None:
    state = tmp_path / "state"
    check = {"tid": "2", "uid": "4711", "code": "1D3A", "audio": encoded(reader[1].path)}
    with facade_on(tpm, judge, state) as facade:
        person = {"tid": "1", "uid": "4711", "audio": enrolment(reader)}
        assert facade.post("/register", person).json()["outcome"] == "registered"
        first = facade.post("/verify", check)
        assert first.json()["evidence"]["speaker_llr"] > 3.0
        code = facade.post("/otp", {"tid": "3", "uid": "4711", "style": "code"}).json()["code"]
        token = facade.token()
    tpm.reboot()
    with facade_on(tpm, judge, state) as facade:
        headers = {"Authorization": f"Bearer {token}"}
        assert facade.client.get("/results/2", headers=headers).content == first.content
        answer = {**check, "tid": "3", "code": code, "door": "door-1"}
        assert slug(facade.post("/verify", answer)) == "no-code"
        again = facade.post("/verify", {**check, "tid": "4"}).json()
        assert again["evidence"]["speaker_llr"] == first.json()["evidence"]["speaker_llr"]


def test_a_hundred_codes_cost_the_tpm_one_write(tpm: SwTpm, judge: Judge, tmp_path: Path) -> None:
    with facade_on(tpm, judge, tmp_path / "state") as facade:
        counter = facade.store.keystore.counter("challenge")
        before = counter.value()
        for number in range(100):
            assert facade.post("/otp", {"tid": f"t{number}", "uid": "4711"}).status_code == 200
        assert counter.value() - before <= 1


def test_without_its_tpm_the_facade_does_not_open(judge: Judge, tmp_path: Path) -> None:
    require_tools(["swtpm"], "swtpm")
    with SwTpm(tmp_path / "tpm") as tpm, facade_on(tpm, judge, tmp_path / "state"):
        pass
    with (
        SwTpm(tmp_path / "another") as other,
        pytest.raises(Exception, match=r"TPM|store|counter"),
        facade_on(other, judge, tmp_path / "state"),
    ):
        pass
