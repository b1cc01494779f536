"""From a TPM to an auditor: heads signed by swtpm, carried by a broker, believed by strangers."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from pycose.keys import EC2Key
from pycose.messages import Sign1Message

from device.secure_store import open_store
from device.secure_store.hardware.swtpm import SwTpm
from sync.fleet.certificates import Authority
from sync.outbox import Outbox
from sync.proofs.bundle import LogBundle, parse
from sync.proofs.heads import Head
from tests.e2e.test_sync_simulate import OSTIARY, registry
from tests.sync.parts import DOORS, Clock, event
from tests.sync.services import NOW

__all__ = ["registry"]
pytestmark = [pytest.mark.e2e, pytest.mark.slow]
UNIT = "site-1/unit-1"


def test_heads_that_a_tpm_signed_reach_the_registry_and_verify_without_our_code(
    registry: tuple[Path, int], tmp_path: Path
) -> None:
    folder, port = registry
    state, config, key, bundle = (tmp_path / name for name in ("state", "ostiary.toml", "unit.pem", "bundle"))
    database = ["--database", f"sqlite:///{folder}/r.db"]
    with SwTpm(tmp_path / "swtpm") as tpm:
        config.write_text(
            f'[door]\nunit = "{UNIT}"\nname = "{DOORS[0]}"\n'
            f'[store]\nprofile = "laptop"\nkeystore = "tpm"\ntcti = "{tpm.tcti}"\n'
        )
        surroundings = {**os.environ, "OSTIARY_STATE_DIR": str(state), "OSTIARY_CONFIG": str(config)}

        def ostiary(*arguments: str) -> str:
            command = [*OSTIARY, *arguments]
            return subprocess.run(
                command, check=True, env=surroundings, stdout=subprocess.PIPE, text=True, timeout=180
            ).stdout

        def one_start_of_the_unit(first: int, last: int) -> None:
            """The door process decides and writes; then the sync process has the TPM, seals and sends."""
            with open_store(state, tpm.settings()) as store:
                counter, never_used = store.keystore.counter("audit"), store.never_used("audit")
                path, said = state / "audit" / "outbox.db", {"counter": counter, "never_used": never_used}
                with Outbox(path, unit=UNIT, doors=DOORS, now_ms=Clock(), **said) as outbox:
                    boot = outbox.next_boot()
                    for number in range(first, last + 1):
                        outbox.append(event(number, boot=boot, keystore="tpm"))
            if first == 1:
                key.write_text(ostiary("store", "audit-key"))
                ostiary("registry", "register", UNIT, "--key", str(key), *database)
            files = Authority.open(folder / "pki", NOW).issue(UNIT, NOW)
            tls = ["--ca", str(files.ca), "--cert", str(files.certificate), "--key", str(files.key)]
            broker = ["--broker", f"127.0.0.1:{port}", "--registry-key", str(folder / "receipts.pem")]
            ostiary("sync", "--once", *broker, *tls)

        one_start_of_the_unit(1, 7)
        tpm.reboot()
        one_start_of_the_unit(8, 12)
        ostiary("registry", "export", "--form", "bundle", "--unit", UNIT, "-o", str(bundle), *database)
        verified = ostiary("audit", "verify", str(bundle), "--key", str(key), "--unit", UNIT, "--json")
    report = json.loads(verified)
    assert (report["sound"], report["events"]) == (True, 12)
    log = parse(bundle.read_bytes())
    assert isinstance(log, LogBundle)
    heads = [verified_by_pycose(message, key) for message in log.heads]
    assert [head.counter for head in heads] == sorted(head.counter for head in heads)
    assert heads[0].counter < heads[-1].counter, "the TPM's counter went up with the start"
    found = [path.read_bytes() for path in state.rglob("*") if path.is_file()]
    private = [load_pem_private_key(data, None) for data in found if data.startswith(b"-----BEGIN PRIVATE")]
    ours = public_key(key).public_numbers()
    assert ours not in [kept.public_key().public_numbers() for kept in private], "only the TPM has the key"


def public_key(path: Path) -> ec.EllipticCurvePublicKey:
    key = load_pem_public_key(path.read_bytes())
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return key


def verified_by_pycose(message: bytes, key_file: Path) -> Head:
    """The head in `message`, by a library that knows nothing of us (its `decode` stumbles over cbor2 6)."""
    numbers = public_key(key_file).public_numbers()
    protected, unprotected, payload, signature = cbor2.loads(message).value
    signed = Sign1Message.from_cose_obj([protected, dict(unprotected), payload, signature], True)
    signed.key = EC2Key(crv="P_256", x=numbers.x.to_bytes(32, "big"), y=numbers.y.to_bytes(32, "big"))
    assert signed.verify_signature()
    return Head.from_bytes(signed.payload)
