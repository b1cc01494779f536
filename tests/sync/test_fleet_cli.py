"""`ostiary fleet`: identities that are not overwritten, and a broker that starts as it says."""

from __future__ import annotations

import subprocess
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sync.errors import SyncError
from sync.events import unit_id
from sync.fleet.cli import fleet
from sync.proofs.bundle import key_to_der
from sync.registry.database.alarm_rows import access
from sync.registry.database.store import Store
from sync.registry.fleet.wanted import want, wishes
from tests.sync.services import free_port, wait_for_port


def types(*words: str) -> Result:
    return CliRunner().invoke(fleet, list(words))


def test_a_certificate_and_its_key_are_replaced_only_when_that_is_said(tmp_path: Path) -> None:
    command = ["certificate", "st-mary/icu-2", "--authority", str(tmp_path)]
    assert types(*command).exit_code == 0
    key = (tmp_path / "st-mary_icu-2.key").read_bytes()
    again = types(*command)
    assert isinstance(again.exception, SyncError)
    assert "--renew" in str(again.exception)
    assert (tmp_path / "st-mary_icu-2.key").read_bytes() == key
    assert types(*command, "--renew").exit_code == 0
    assert (tmp_path / "st-mary_icu-2.key").read_bytes() != key


@pytest.mark.parametrize("name", ["registry", "worker", "worker-0", "worker-1000", "Worker-1", "+/#"])
def test_a_name_that_is_neither_unit_nor_worker_gets_no_certificate(tmp_path: Path, name: str) -> None:
    assert types("certificate", name, "--authority", str(tmp_path)).exit_code != 0


@pytest.mark.e2e
def test_the_broker_starts_as_the_command_says_and_listens_where_it_was_told() -> None:
    with tempfile.TemporaryDirectory(prefix="ostiary-fleet-") as name:
        folder, port = Path(name), free_port()
        folder.chmod(0o755)
        pki = folder / "pki"
        assert types("certificate", "broker", "--host", "localhost", "--authority", str(pki)).exit_code == 0
        tls = [
            "--ca",
            str(pki / "ca.pem"),
            "--cert",
            str(pki / "broker.pem"),
            "--key",
            str(pki / "broker.key"),
        ]
        made = types("broker", str(folder / "broker"), "--port", str(port), *tls)
        assert made.exit_code == 0
        command = made.output.strip().removeprefix("start it with: ").split()
        assert command[:2] == ["mosquitto", "-c"]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            wait_for_port(port, folder / "log", 30.0)
            listening = Path("/proc/net/tcp").read_text()
            assert f"0100007F:{port:04X}" in listening, "127.0.0.1 and nowhere else"
            assert f"00000000:{port:04X}" not in listening
        finally:
            process.kill()
            process.wait()
        assert (folder / "broker" / "broker.key").stat().st_mode & 0o077 == 0


def test_the_end_of_a_recovery_names_units_one_by_one(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/registry.db"
    with closing(Store.open(url)) as store:
        for name in ("st-mary/icu-1", "st-mary/icu-2"):
            key = ec.generate_private_key(ec.SECP256R1()).public_key()
            store.register(unit_id(name), key_to_der(key), 1)
        want(store, "all", "recovering", True, "desk", 1)
    at = ["--database", url, "--site", str(tmp_path)]
    assert "--without and --anyway" in types("recover", "begin", "--without", "st-mary/icu-1", *at).output
    told = types("recover", "end", "--anyway", "st-mary/icu-1", *at).exception
    assert isinstance(told, SyncError)
    assert "st-mary/icu-2 has not been heard since" in str(told)
    assert "icu-1" not in str(told)
    for name in ("ICU 1", "", "st-mary/icu-3", "st-mary/icu-1~1"):
        refused = types("recover", "end", "--without", name, *at)
        assert isinstance(refused.exception, SyncError), name
        assert "\n" not in str(refused.exception)
    done = types("recover", "end", "--anyway", "st-mary/icu-1", "--without", "st-mary/icu-2", *at)
    assert done.exit_code == 0, done.exception
    assert "these units are still asked, and erase nobody: st-mary/icu-2" in done.output
    with closing(Store.open(url)) as store, store.reading() as db:
        assert {layer.scope for layer in wishes(db).layers["recovering"]} == {"unit:st-mary/icu-2"}
        said = db.execute(sa.select(access.c.subject).order_by(access.c.id.desc())).scalars().first()
        assert said == "recovering ended; without st-mary/icu-2; anyway st-mary/icu-1"


def test_a_roll_out_takes_networks_larger_than_any_other_file(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/r.db"
    with closing(Store.open(database)) as store:
        store.register(
            unit_id("st-mary/icu-2"), key_to_der(ec.generate_private_key(ec.SECP256R1()).public_key()), 1
        )
    (tmp_path / "manifest.json").write_text('{"files": [{"name": "words.onnx"}]}')
    (tmp_path / "manifest.sig").write_bytes(b"s" * 64)
    (tmp_path / "words.onnx").write_bytes(b"\1" * 5_000_000)
    key = tmp_path / "release.pem"
    key.write_bytes(
        Ed25519PrivateKey.generate()
        .public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    words = ("--key", str(key), "--canary", "unit:st-mary/icu-2", "--database", database)
    done = types("roll-out", str(tmp_path), *words)
    assert done.exit_code == 0, done.output or done.exception
