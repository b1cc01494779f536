"""A person enrolled at one unit is known at another whose processor multiplies otherwise.

The second unit builds its own models and runs every network in another form than the first: float products
and the other runtime, as another class of processor would have picked them. What joins the two is the vault's
backup and the models' bytes.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from device.access.decision import Outcome
from device.access.voices import voiceprint
from device.audio import FileSource
from device.audio.recording import read_recording
from device.audio.settings import FileLimits
from device.model_store import pick as picks
from device.model_store.answers import ROLE, Answers
from device.model_store.bundle import Bundle
from device.model_store.pick import Pick
from device.model_store.sessions import Runtime
from device.secure_store import StoreSettings, backup, open_store
from device.secure_store.hardware.sealing_policy import sign_policy
from device.secure_store.hardware.swtpm import SwTpm
from device.secure_store.hardware.tpm_keystore import TpmKeystore
from device.settings import Settings
from device.unit.assembly import Tools, Unit, open_unit
from device.unit.enrolment import enrol, named
from quantize.release.build import build
from tests.device.test_app import UID, saying, serve
from tests.speech import Reading

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

OTHER_FORMS = {"speaker": Runtime.XNNPACK, "spoof": Runtime.FLOAT, "words": Runtime.FLOAT}


def voice_llr(unit: Unit, recording: Path) -> float:
    """Of a recording against the voiceprint that the unit's vault holds."""
    wave = read_recording(recording, FileLimits()).astype(np.float32) / np.float32(32768.0)
    with voiceprint(unit.store.vault, UID, unit.judge.speaker.version) as template:
        assert template is not None
        return float(unit.judge.speaker.llr(unit.judge.speaker.embed(wave), template))


def test_a_person_enrolled_on_one_processor_is_granted_on_another(
    tmp_path: Path, reader: list[Reading], monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = ec.generate_private_key(ec.SECP256R1())
    public = tmp_path / "authority.pub"
    form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(authority.public_key().public_bytes(*form))
    with ExitStack() as parts:
        stores: dict[str, StoreSettings] = {}
        for name in ("first", "second"):
            tpm = parts.enter_context(SwTpm(tmp_path / f"{name}-tpm"))
            stores[name] = tpm.settings(policy_authority=public)
            keystore = TpmKeystore(tmp_path / name / "store/tpm", stores[name])
            keystore.reseal(sign_policy(authority, keystore.measure(), "release 1"))

        # The first unit enrols, and its operator moves its people.
        monkeypatch.setenv("OSTIARY_MODELS_DIR", str(tmp_path / "first-models"))
        build(tmp_path / "first-models")
        first = Bundle.open(tmp_path / "first-models")
        settings = replace(Settings(), store=stores["first"])
        with open_unit(settings, tmp_path / "first", first.directory) as unit:
            tools = Tools(unit.judge, unit.store, settings, tmp_path / "first")
            enrol(tools, UID, named([reader[n].path for n in (0, 2, 3)]), reason="operator")
            here_llr = voice_llr(unit, reader[4].path)
        with (
            open_store(tmp_path / "first", stores["first"]) as old,
            open_store(tmp_path / "second", stores["second"]) as new,
        ):
            passport = backup.passport(new, new.folder)
            approval = backup.approve(authority, backup.audit_key_pem(old), passport)
            moved = backup.export(old, approval, datetime.now(UTC))
            assert backup.restore(new, new.folder, moved, datetime.now(UTC)).people == 1

        # The second builds the same bytes, and multiplies in its own way.
        monkeypatch.setenv("OSTIARY_MODELS_DIR", str(tmp_path / "second-models"))
        build(tmp_path / "second-models")
        second = Bundle.open(tmp_path / "second-models")
        assert second.manifest_bytes == first.manifest_bytes
        picks.write(second.directory, Pick(picks.machine(), picks.identity(second), OTHER_FORMS))
        settings = replace(Settings(), store=stores["second"])
        with open_unit(settings, tmp_path / "second", second.directory) as unit:
            tolerance = Answers.from_bytes(second.path(ROLE).read_bytes()).tolerance["voice"]
            assert voice_llr(unit, reader[4].path) == pytest.approx(here_llr, abs=tolerance)
            decision, door, _ = serve(saying(unit, reader[4].text), FileSource(reader[4].path))
        assert decision.outcome is Outcome.GRANTED
        assert not door.is_locked
