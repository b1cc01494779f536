"""`ostiary store`, as an administrator types it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from device.commands.store import store
from device.secure_store import open_store
from device.secure_store.hardware.swtpm import SwTpm
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
