"""Recordings of real people through the real networks."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import soundfile

from device.audio.errors import QualityError
from device.audio.utterance import Samples
from device.cli import main
from device.conversation.files import diarize_file
from device.conversation.naming import Known
from device.conversation.opening import ConversationModels
from device.conversation.turns import Turn, from_rttm
from device.errors import DeviceError
from device.model_store.bundle import Bundle
from device.model_store.manifest import BundleError
from device.models.segmentation import ROLE
from device.models.segmentation_answers import ANSWERS_ROLE, SegmentationAnswers, open_segmentation
from device.models.self_test import SelfTestError
from quantize.evaluate.conversation.der import errors
from tests.device.conversation.conftest import read
from tests.device.conversation.test_band import by_telephone
from tests.speech import Reading


def test_two_people_are_told_apart_and_a_sentence_across_another_is_overlap(
    conversation_models: ConversationModels, talk: tuple[Samples, list[Turn]], talk_file: Path
) -> None:
    done: list[float] = []
    found = diarize_file(talk_file, conversation_models, longest_s=600.0, progress=done.append)
    assert len(found.speakers) == 2
    assert errors(talk[1], found.turns, found.seconds, 0.25).der < 0.15
    assert any(begin > talk[1][-1].start_s - 1.0 for begin, _ in found.overlaps)
    assert done[-1] == 1.0
    assert done == sorted(done)


def test_an_enrolled_voice_is_named_and_the_other_one_stays_a_stranger(
    conversation_models: ConversationModels, reader: list[Reading], talk_file: Path
) -> None:
    waves = [read(reading).astype(np.float32) / np.float32(32768.0) for reading in reader[2:5]]
    template = conversation_models.speaker.template(
        [conversation_models.speaker.embed(wave) for wave in waves]
    )
    found = diarize_file(
        talk_file,
        conversation_models,
        longest_s=600.0,
        known=Known({"4711": template}, conversation_models.calibration.llr),
    )
    assert [one.name for one in found.speakers] == ["4711", "speaker-1"]
    assert (found.speakers[0].llr or 0.0) > 3.0


def test_a_telephone_is_refused_until_somebody_says_how_many_people_there_are(
    conversation_models: ConversationModels, talk: tuple[Samples, list[Turn]], tmp_path: Path
) -> None:
    path = tmp_path / "call.wav"
    soundfile.write(path, by_telephone(talk[0]), 16_000, subtype="PCM_16")
    with pytest.raises(QualityError, match="telephone"):
        diarize_file(path, conversation_models, longest_s=600.0)
    known = Known({"a": np.eye(192, dtype=np.float32)[0]}, float)
    with pytest.raises(QualityError, match="telephone"):
        diarize_file(path, conversation_models, longest_s=600.0, speakers=2, known=known)
    assert len(diarize_file(path, conversation_models, longest_s=600.0, speakers=2).speakers) == 2


def test_what_is_no_recording_too_long_or_too_short_is_refused(
    conversation_models: ConversationModels, talk_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(DeviceError, match="longest_min"):
        diarize_file(talk_file, conversation_models, longest_s=5.0)
    soundfile.write(tmp_path / "click.wav", np.ones(800, np.int16), 16_000)
    with pytest.raises(DeviceError, match="shorter than"):
        diarize_file(tmp_path / "click.wav", conversation_models, longest_s=600.0)
    (tmp_path / "lie.wav").write_bytes(b"RIFF" + bytes(100))
    with pytest.raises(QualityError):
        diarize_file(tmp_path / "lie.wav", conversation_models, longest_s=600.0)
    soundfile.write(tmp_path / "silence.wav", np.zeros(32_000, np.int16), 16_000)
    assert diarize_file(tmp_path / "silence.wav", conversation_models, longest_s=600.0).turns == ()


@pytest.mark.parametrize(
    "wave",
    [
        np.zeros(100, np.float32),
        np.zeros(160_001, np.float32),
        np.full(16_000, np.nan, np.float32),
        np.zeros(16_000, np.float64),
        np.zeros((1, 16_000), np.float32),
    ],
)
def test_the_segmentation_takes_only_a_window_of_sound(
    conversation_models: ConversationModels, wave: Samples
) -> None:
    with pytest.raises(DeviceError, match=r"must be|samples"):
        conversation_models.segmentation.sets(wave)  # type: ignore[arg-type]


def test_a_processor_on_which_the_segmentation_strays_tells_nobody_apart(talking_models: Path) -> None:
    bundle = Bundle.open(talking_models)
    answers = SegmentationAnswers.from_bytes(bundle.path(ANSWERS_ROLE).read_bytes())
    told: list[str] = []
    assert open_segmentation(bundle, notify=told.append).version
    assert told == []
    with pytest.raises(BundleError, match="damaged"):
        SegmentationAnswers.from_bytes(b"{}")
    wrong = replace(answers, means=tuple(reversed(answers.means)))
    path = bundle.path(ANSWERS_ROLE)
    original = path.read_bytes()
    path.unlink()
    try:
        path.write_bytes(wrong.to_bytes())
        with pytest.raises(SelfTestError, match="cannot be trusted"):
            open_segmentation(bundle, notify=told.append)
        path.write_bytes(replace(answers, file="0" * 64).to_bytes())
        with pytest.raises(BundleError, match="another network's"):
            open_segmentation(bundle)
    finally:
        path.write_bytes(original)
    assert len(told) == 2


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["ostiary", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    told = capsys.readouterr()
    return int(stopped.value.code or 0), told.out, told.err


def test_the_command_prints_turns_json_and_a_picture(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    talking_models: Path,
    talk_file: Path,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("OSTIARY_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("OSTIARY_MODELS_DIR", str(talking_models))
    code, out, _ = run(
        monkeypatch, capsys, "diarize", talk_file, "--rttm", "--picture", tmp_path / "talk.svg"
    )
    assert code == 0
    assert {turn.speaker for turn in from_rttm(out)} == {"speaker-1", "speaker-2"}
    drawn = ElementTree.fromstring((tmp_path / "talk.svg").read_text("utf-8"))  # noqa: S314
    assert drawn.tag.endswith("svg")
    code, out, _ = run(monkeypatch, capsys, "diarize", talk_file, "--json")
    found = json.loads(out)
    assert code == 0
    assert found["count"] == {"people": 2, "fewest": 2, "most": 2, "given": None}
    assert {one["name"] for one in found["speakers"]} == {"speaker-1", "speaker-2"}
    assert len(found["model_versions"]) == 2
    code, out, err = run(monkeypatch, capsys, "diarize", talk_file, "--json", "--known")
    assert code == 3
    assert "nobody is enrolled whose consent" in json.loads(out)["error"]
    assert "Traceback" not in err


def test_a_bundle_without_the_segmentation_names_the_one_model_that_brings_both(models: Path) -> None:
    bundle = Bundle.open(models)
    others = tuple(one for one in bundle.manifest.files if one.role not in (ROLE, ANSWERS_ROLE))
    bare = replace(bundle, manifest=replace(bundle.manifest, files=others))
    with pytest.raises(BundleError, match=r"run `ostiary models build --only segmentation`$"):
        open_segmentation(bare)


def test_a_bundle_without_the_segmentation_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    models: Path,
    talk_file: Path,
    tmp_path: Path,
) -> None:
    if any(entry.role == ANSWERS_ROLE for entry in Bundle.open(models).manifest.files):
        pytest.skip("this machine's bundle has the segmentation")
    monkeypatch.setenv("OSTIARY_MODELS_DIR", str(models))
    monkeypatch.setenv("OSTIARY_STATE_DIR", str(tmp_path / "state"))
    code, _, err = run(monkeypatch, capsys, "diarize", talk_file)
    assert code == 3
    assert "`ostiary models build --only segmentation`" in err
