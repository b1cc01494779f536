"""docs/format.md is enough: its CDDL fits every message; a verifier made from it judges real exports."""

from __future__ import annotations

import dataclasses
import importlib.util
import random
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sync import cose
from sync.events import Record, unit_id
from sync.orders.commands import Command, Result
from sync.proofs.bundle import prove_event, prove_growth
from sync.proofs.retention import RetentionRecord
from sync.proofs.verify import verify
from sync.registry.reports import export
from sync.transport.messages import Receipt
from tests.sync.fuzz import decoders
from tests.sync.parts import START_MS, UNIT, event
from tests.sync.proofs.test_verify import LOG, MUTATIONS, SIGNER, Mutation
from tests.sync.registry.ingest.test_ingest import Registry, Unit, cluster, registry, some
from tests.sync.registry.retention.test_retention import REGISTRY_KEY, filled, forget, with_a_gap

__all__ = ["cluster", "registry"]
DOCS = Path(__file__).parents[2] / "docs"
NAME = unit_id(UNIT)


def pycddl() -> Any:
    return pytest.importorskip("pycddl", reason="pycddl has wheels for x86-64 only")


def cddl(rule: str) -> Any:
    """The page's types, with one of them as what a message must be."""
    (text,) = re.findall(r"```cddl\n(.*?)```", (DOCS / "format.md").read_text(encoding="utf-8"), re.S)
    return pycddl().Schema(text.replace("any-of-ours = ", f"wanted = {rule}\nany-of-ours = ", 1))


@pytest.fixture(scope="module")
def written_from_the_page() -> ModuleType:
    spec = importlib.util.spec_from_file_location("verify_log", DOCS / "verify_log.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def messages() -> list[tuple[str, bytes]]:
    unit = Unit()
    batch = unit.batch(some(1, 3))
    full = Record(NAME, 1, event(1, count=3, silent_alarm=True, more_scores=(("replay_llr", 1.5),)))
    receipt = Receipt(NAME, 7, bytes(32), "stored", START_MS).signed(SIGNER)
    order = Command(NAME, 3, START_MS, START_MS + 9000, "resend", {"after": 3, "door": "x"}).signed(SIGNER)
    answer = Result(NAME, 3, "failed", "not_held", START_MS).signed(SIGNER)
    kept = RetentionRecord(NAME, 1, 8, bytes(32), "m.desk", START_MS).signed(SIGNER)
    return [
        ("event", full.to_bytes()),
        ("event", batch.bodies[0]),
        ("batch", batch.to_bytes()),
        ("sign1", batch.head),
        ("head", cose.peek1(batch.head)),
        ("receipt", cose.peek1(receipt)),
        ("command", cose.peek1(order)),
        ("result", cose.peek1(answer)),
        ("retention", cose.peek1(kept)),
        ("print", cose.peek1(decoders()["print-sealed"].seeds[1])),
        ("print-inside", decoders()["print"].seeds[0]),
        ("print-kept", cose.peek1(decoders()["print-kept"].seeds[1])),
        ("threat-list", decoders()["threat-list"].seeds[0]),
        ("bundle", LOG.to_bytes()),
        ("bundle", prove_event(LOG, 3).to_bytes()),
        ("bundle", prove_growth(LOG, LOG.heads[0]).to_bytes()),
    ]


@pytest.mark.parametrize(
    ("kind", "data"), messages(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_message_is_what_the_page_says_and_another_version_of_it_is_not(kind: str, data: bytes) -> None:
    cddl(kind).validate_cbor(data)
    plain = cbor2.loads(data)
    if isinstance(plain, dict):
        other = {**plain, 0: "ostiary-bundle-9" if kind == "bundle" else 9}
        with pytest.raises(pycddl().ValidationError):
            cddl(kind).validate_cbor(cbor2.dumps(other, canonical=True))
        with pytest.raises(pycddl().ValidationError):
            cddl(kind).validate_cbor(cbor2.dumps({**plain, 99: 1}, canonical=True))


def test_the_verifier_of_the_page_finds_real_exports_sound(
    registry: Registry, written_from_the_page: ModuleType
) -> None:
    unit, other = filled(registry, "st-mary/icu-2", "st-mary/icu-3")
    for made in (unit, other):
        log = export.bundle(registry.store, made.unit)
        assert list(written_from_the_page.findings(log.to_bytes(), made.signer.public_key())) == []
    forget(registry)
    log, key = export.bundle(registry.store, unit.unit), unit.signer.public_key()
    assert list(written_from_the_page.findings(log.to_bytes(), key, REGISTRY_KEY.public_key())) == []
    (missing,) = written_from_the_page.findings(log.to_bytes(), key)
    assert missing.startswith("events 1 to 8 are missing")
    silent = dataclasses.replace(log, records=())
    assert list(written_from_the_page.findings(silent.to_bytes(), key, REGISTRY_KEY.public_key()))


def test_the_verifier_of_the_page_and_ours_name_the_same_gap(
    registry: Registry, written_from_the_page: ModuleType
) -> None:
    unit = with_a_gap(registry)
    data, key = export.bundle(registry.store, unit.unit).to_bytes(), unit.signer.public_key()
    assert list(written_from_the_page.findings(data, key)) == ["events 61 to 80 are missing"]
    assert [finding.where for finding in verify(data, key).findings] == ["events 61 to 80"]


@pytest.mark.parametrize("mutate", MUTATIONS)
def test_the_verifier_of_the_page_misses_no_mutation(
    written_from_the_page: ModuleType, mutate: Mutation
) -> None:
    dice = random.Random(11)
    for _ in range(30):
        data = mutate(LOG, dice)
        if data == LOG.to_bytes() or (mutate.__name__ == "drop_the_end"):
            continue  # a log that ends early is an older export; only a checkpoint tells
        assert refused(written_from_the_page, data), mutate.__name__


def refused(verifier: ModuleType, data: bytes) -> bool:
    """Whether it finds something, or stumbles: a page's example may, as long as it accepts nothing."""
    try:
        return bool(list(verifier.findings(data, SIGNER.public_key())))
    except Exception:  # noqa: BLE001
        return True


def test_it_runs_as_the_page_says(tmp_path: Path) -> None:
    key = SIGNER.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "unit.pem").write_bytes(key)
    (tmp_path / "log").write_bytes(LOG.to_bytes())
    command = [sys.executable, str(DOCS / "verify_log.py"), str(tmp_path / "log"), str(tmp_path / "unit.pem")]
    assert subprocess.check_output(command, text=True).strip() == "sound"
    (tmp_path / "log").write_bytes(dataclasses.replace(LOG, heads=LOG.heads[1:]).to_bytes())
    assert subprocess.run(command, capture_output=True, check=False).returncode == 1
