"""A support bundle helps from afar and tells of nobody."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from device.access.challenge import CARRIERS
from device.commands.installed.support_bundle import PERSON, PHRASE, without_people
from device.evidence.wordlists import challenge_words
from tests.device.commands.conftest import Ostiary
from tests.speech import Reading

RULES = """
version = 1
[risks.normal]
factors = ["claim", "phrase", "voice", "live"]
[zones.ward]
[doors.door-1]
zone = "ward"
risk = "normal"
[[allow]]
roles = ["nurse"]
[people."k.mueller"]
roles = ["nurse"]
badges = ["0004512345"]
spoken = "four five one two"
card = "26:2AB3C440"
"""


def journal(folder: Path, *lines: str) -> str:
    """A journal that holds these lines, as a program of this name before the system's."""
    program = folder / "bin" / "journalctl"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\ncat <<'END'\n" + "\n".join(lines) + "\nEND\n")
    program.chmod(0o755)
    return str(program.parent)


def unpacked(path: Path) -> dict[str, str]:
    with tarfile.open(path) as archive:
        return {
            member.name.partition("/")[2]: (archive.extractfile(member) or pytest.fail(member.name))
            .read()
            .decode()
            for member in archive
        }


@pytest.fixture
def unit(
    ostiary: Ostiary, reader: list[Reading], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """A unit that knows people and has been talked to; everything that must not leave it."""
    assert ostiary("enroll", "4711", *(reader[n].path for n in (0, 2, 3))).code == 0
    rules = tmp_path / "rules.toml"
    rules.write_text(RULES)
    phrases = [
        " ".join(challenge_words()[7:11]),
        ", ".join(challenge_words()[50:53]).upper(),
        "I approve the transaction 1234 with the code 1D3A",
        "seven three nine one",
        *(carrier.format(*challenge_words()[20:24]) for carrier in CARRIERS),
    ]
    secrets = ["4711", "k.mueller", "0004512345", "four five one two", "26:2AB3C440", "2AB3C440", *phrases]
    lines = [f"2026-11-29T04:00:00 door ostiary[7]: saw {secret}, then went on" for secret in secrets]
    monkeypatch.setenv("PATH", journal(tmp_path, *lines, "the door is ready"), prepend=":")
    assert ostiary("policy", "adopt", rules).code == 0
    return secrets


def test_what_helps_is_in_the_bundle_and_no_name_number_or_phrase(
    ostiary: Ostiary, unit: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "bundle.tar.gz"
    ran = ostiary("support-bundle", "-o", out)
    assert ran.code == 0, ran.err
    files = unpacked(out)
    for name, text in files.items():
        for secret in unit:
            assert secret.lower() not in text.lower(), f"{secret} is in {name}"
    assert "the door is ready" in files["journal.txt"]
    assert PERSON in files["journal.txt"]
    assert PHRASE in files["journal.txt"]
    assert json.loads(files["about.json"])["packages"]["onnxruntime"]
    assert {item["what"] for item in json.loads(files["doctor.json"])} >= {"disk", "store", "microphone"}
    assert json.loads(files["audit-log.json"])["sequence"] >= 1
    assert any(item["key"] == "door.name" for item in json.loads(files["settings.json"]))


def test_where_nobody_can_say_who_is_enrolled_the_journal_stays_out(
    ostiary: Ostiary, unit: list[str], tmp_path: Path
) -> None:
    (tmp_path / "state" / "rules.toml").write_text("not a table [")
    out = tmp_path / "bundle.tar.gz"
    assert ostiary("support-bundle", "-o", out).code == 0
    files = unpacked(out)
    assert "journal.txt" not in files
    assert "left-out.txt" in files
    assert "detail" not in json.loads(files["doctor.json"])[0]
    assert not any(secret.lower() in text.lower() for secret in unit for text in files.values())


def test_a_number_inside_another_word_is_not_a_person() -> None:
    assert without_people("build 47110 of 4711x", {"4711"}) == "build 47110 of 4711x"
    assert without_people("badge 4711: refused", {"4711"}) == f"badge {PERSON}: refused"
