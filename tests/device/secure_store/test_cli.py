"""`ostiary store`, as an administrator types it."""

from __future__ import annotations

import json
import subprocess
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from device.commands.store import store
from device.secure_store import Consent, NotEnrolledError, open_store
from device.secure_store.hardware.swtpm import SwTpm
from device.secure_store.settings import StoreSettings
from device.state_folder import StateFolder
from device.unit.assembly import open_history
from device.uplink.orders import done, waiting
from tests.device.secure_store.people import same_voice, voiceprint


def run(*arguments: object) -> Result:
    return CliRunner().invoke(store, [str(a) for a in arguments])


def config(folder: Path, name: str, **fields: object) -> Path:
    path = folder / f"{name}.toml"
    lines = (f"{key} = {json.dumps(value)}" for key, value in fields.items())
    path.write_text("[store]\n" + "\n".join(lines) + "\n")
    return path


def authority(folder: Path) -> tuple[Path, Path]:
    """As the operator guide says: openssl makes it, at a desk."""
    private, public = folder / "authority.pem", folder / "authority.pub"
    make = ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(private)]
    subprocess.run(make, check=True, capture_output=True)
    export = ["openssl", "ec", "-in", str(private), "-pubout", "-out", str(public)]
    subprocess.run(export, check=True, capture_output=True)
    return private, public


def test_status_speaks_to_people_and_to_programs(tmp_path: Path) -> None:
    where = ("--state", tmp_path / "unit", "--config", config(tmp_path, "laptop"))
    plain = run("status", *where)
    assert plain.exit_code == 0, plain.output
    assert "software" in plain.output
    report = json.loads(run("status", "--json", *where).stdout)
    assert report["ok"] is True
    assert report["people"] == 0
    assert "NOT protected" in report["warning"]


def test_rotate_and_purge_keep_everybody_whose_consent_holds(tmp_path: Path) -> None:
    where = ("--state", tmp_path / "unit", "--config", config(tmp_path, "laptop"))
    run("status", *where)
    assert "epoch 2" in run("rotate", *where).output
    assert json.loads(run("purge", "--json", *where).stdout) == []


def test_a_voiceprint_is_renewed_and_nobody_else_is(tmp_path: Path) -> None:
    unit, laptop = tmp_path / "unit", StoreSettings(profile="laptop", keystore="software")
    with open_store(unit, laptop, warn=lambda _: None) as opened:
        opened.vault.enrol("4711", voiceprint(1))
    where = ("--state", unit, "--config", config(tmp_path, "laptop"))
    assert "new key" in run("renew", "4711", *where).output
    assert isinstance(run("renew", "4712", *where).exception, NotEnrolledError)
    with open_store(unit, laptop, warn=lambda _: None) as opened:
        assert same_voice(opened.vault.template("4711"), voiceprint(1))


def test_purge_also_forgets_the_attempts_of_whom_it_forgets(tmp_path: Path) -> None:
    unit, laptop = tmp_path / "unit", StoreSettings(profile="laptop", keystore="software")
    given = datetime.now(UTC) - timedelta(days=40)
    with open_store(unit, laptop, clock=lambda: given, warn=lambda _: None) as opened:
        consent = Consent("admin 7", given, "2026-01", given + timedelta(days=30))
        opened.vault.enrol("4711", voiceprint(1), consent)
        opened.vault.enrol("4712", voiceprint(2))
        with closing(open_history(opened, unit)) as history:
            history.charge("person:4711", 0.0)
            history.charge("person:4712", 0.0)
    purged = run("purge", "--state", unit, "--config", config(tmp_path, "laptop"))
    assert "1 people forgotten" in purged.output, purged.exception
    with open_store(unit, laptop, warn=lambda _: None) as opened:
        assert opened.vault.uids() == ("4712",)
        with closing(open_history(opened, unit)) as history:
            assert set(history.failing()) == {"person:4712"}


def test_a_running_unit_that_refuses_to_forget_costs_no_receipt_and_nobody_elses_forgetting(
    tmp_path: Path,
) -> None:
    unit, laptop = tmp_path / "unit", StoreSettings(profile="laptop", keystore="software")
    given = datetime.now(UTC) - timedelta(days=40)
    asked: list[str] = []
    stop = threading.Event()

    def refuse_the_first() -> None:
        while not stop.wait(0.02):
            for path, order in waiting(StateFolder(unit).orders):
                asked.append(order.subject)
                done(path, "its disk is full" if len(asked) == 1 else "")

    with open_store(unit, laptop, clock=lambda: given, warn=lambda _: None) as opened:
        for uid in ("4711", "4712"):
            consent = Consent("admin 7", given, "2026-01", given + timedelta(days=30))
            opened.vault.enrol(uid, voiceprint(int(uid)), consent)
    with open_store(unit, laptop, warn=lambda _: None) as opened, closing(open_history(opened, unit)):
        running = threading.Thread(target=refuse_the_first)
        running.start()
        where = ("--state", unit, "--config", config(tmp_path, "laptop"))
        purged = run("purge", "--json", "--clock-is-right", *where)
        stop.set()
        running.join()
    assert len(json.loads(purged.stdout)) == 2, "receipts of what is erased"
    assert asked == ["4711", "4712"]
    assert "did not forget the attempts" in str(purged.exception)
    assert "4711" in str(purged.exception)


def test_a_store_with_a_folder_on_another_disk_is_replaced(tmp_path: Path) -> None:
    where = ("--state", tmp_path / "unit", "--config", config(tmp_path, "laptop"))
    assert run("init", "--yes", *where).exit_code == 0
    kept, other = tmp_path / "unit" / "store" / "software", tmp_path / "disk"
    kept.rename(other)
    kept.symlink_to(other)
    replaced = run("init", "--replace", "--yes", *where)
    assert (replaced.exit_code, kept.is_symlink()) == (0, False), replaced.exception
    assert other.is_dir(), "what lies on another disk is its owner's to erase"


def test_init_does_not_destroy_unless_told_to(tmp_path: Path) -> None:
    where = ("--state", tmp_path / "unit", "--config", config(tmp_path, "laptop"))
    assert run("init", "--yes", *where).exit_code == 0
    again = run("init", "--yes", *where)
    assert again.exit_code != 0
    assert "everybody has to enrol again" in str(again.exception)
    assert run("init", "--replace", "--yes", *where).exit_code == 0


@pytest.mark.e2e
def test_a_production_unit_from_the_first_measurement_to_a_backup(tmp_path: Path, swtpm: SwTpm) -> None:
    private, public = authority(tmp_path)
    second = SwTpm(tmp_path / "second").start()
    where = {}
    try:
        for name, tpm in (("old", swtpm), ("new", second)):
            production = {"profile": "production", "keystore": "tpm", "policy_authority": str(public)}
            settings = config(tmp_path, name, tcti=tpm.tcti, **production)
            where[name] = ("--state", tmp_path / name, "--config", settings)
            assert "no signed policy" in str(run("status", *where[name]).exception)
            measured, policy = tmp_path / f"{name}.state", tmp_path / f"{name}.policy"
            measured.write_text(run("measure", *where[name]).stdout)
            signed = run("sign-policy", "--key", private, "--note", "1.0", "--out", policy, measured)
            assert signed.exit_code == 0, signed.output
            assert run("reseal", *where[name], policy).exit_code == 0
            assert json.loads(run("status", "--json", *where[name]).stdout)["ok"] is True
        laptop = swtpm.settings(policy_authority=public)
        with open_store(tmp_path / "old", laptop) as unit:
            unit.vault.enrol("4711", voiceprint(1))
        paper, approval, bundle = (tmp_path / n for n in ("passport", "approval", "bundle"))
        shown = run("passport", "--out", paper, *where["new"]).output
        (tmp_path / "old.pem").write_text(run("audit-key", *where["old"]).stdout)
        approved = run(
            *("approve-backup", "--key", private, "--from", tmp_path / "old.pem", "--to", paper),
            *("--out", approval),
        )
        assert shown.split("fingerprint ")[1].strip() in approved.output
        assert run("backup", "--approval", approval, "--out", bundle, *where["old"]).exit_code == 0
        assert "1 people enrolled" in run("restore", *where["new"], bundle).output
        with open_store(tmp_path / "new", second.settings(policy_authority=public)) as unit:
            assert same_voice(unit.vault.template("4711"), voiceprint(1))
    finally:
        second.power_cut()


def test_a_key_or_a_file_that_is_something_else_is_said_to_be(tmp_path: Path) -> None:
    junk = tmp_path / "junk"
    junk.write_text("junk")
    private, _ = authority(tmp_path)
    out = tmp_path / "out"
    state = tmp_path / "state"
    state.write_text(json.dumps({"pcrs": {"4": "00" * 32}}))
    assert "not a private key" in str(run("sign-policy", "--key", junk, "--out", out, state).exception)
    assert "not the output of" in str(run("sign-policy", "--key", private, "--out", out, junk).exception)
    assert "sealed to nothing" in str(run("reseal", "--config", config(tmp_path, "laptop"), junk).exception)
    assert not out.exists()
