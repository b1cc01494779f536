"""The whole command on voices that packages carry: two readers of five sentences, and a synthesiser."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from device.model_store.manifest import BundleError
from device.settings import models_dir
from quantize.errors import QuantizeError
from quantize.evaluate.cli import evaluate
from tests.conftest import SyntheticVoice
from tests.device.model_store.bundles import make_bundle
from tests.speech import Reading

COLUMNS = ("path", "label", "speaker", "system", "text")


@pytest.fixture
def corpus(
    tmp_path: Path, reader: list[Reading], other_reader: list[Reading], synthetic_voice: SyntheticVoice
) -> Path:
    """A folder with a manifest of ten real recordings and two synthetic ones."""
    rows = ["\t".join(COLUMNS)]
    for speaker, readings in (("austen", reader), ("cards", other_reader)):
        for reading in readings:
            path = f"{speaker}/{reading.path.name}"
            rows.append("\t".join((path, "bonafide", speaker, "-", reading.text.upper())))
            _link(reading.path, tmp_path / path)
    for number, reading in enumerate(reader[1:3]):
        path = f"fake/{number}.wav"
        rows.append("\t".join((path, "spoof", "-", "espeak-ng", "")))
        _link(synthetic_voice(reading.text), tmp_path / path)
    (tmp_path / "manifest.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return tmp_path


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    target.symlink_to(source)


def run(corpus: Path, *options: str) -> dict[str, object]:
    if not (models_dir() / "manifest.json").is_file():
        pytest.skip("no models; run `ostiary models build`")
    where = ["--manifest", str(corpus / "manifest.tsv"), "--root", str(corpus), "--out", str(corpus / "out")]
    result = CliRunner().invoke(evaluate, [*where, "--replicates", "10", *options], catch_exceptions=False)
    assert result.exit_code == 0
    found: dict[str, object] = json.loads((corpus / "out" / "report.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.slow
def test_two_readers_are_told_apart_and_both_files_are_written(corpus: Path) -> None:
    found = run(corpus)
    summary = found["summary"]
    assert isinstance(summary, dict)
    assert summary["speaker_eer"]["int8"]["all"] == 0.0
    assert set(summary["spoof_eer"]["by_system"]) == {"espeak-ng"}
    # Sentences of a novel are longer than any challenge, so not every right one passes; no wrong one may.
    assert summary["right_phrase_accepted"]["austen"] >= 0.4
    assert summary["wrong_phrase_accepted"]["austen"] == 0.0
    assert "How often is the door wrong?" in (corpus / "out" / "report.html").read_text(encoding="utf-8")
    assert not list((corpus / "out").glob("*.part"))


@pytest.mark.slow
def test_one_part_alone_leaves_the_others_out(corpus: Path) -> None:
    found = run(corpus, "--only", "speaker")
    assert found["spoof"] is None
    assert found["phrase"] is None
    assert found["tandem"] is None


def test_splices_of_a_reader_are_measured_when_they_are_named(corpus: Path) -> None:
    found = run(corpus, "--only", "splices")
    assert found["spoof"] is None
    summary, splices = found["summary"], found["splices"]
    assert isinstance(summary, dict)
    assert isinstance(splices, dict)
    accepted, trials = summary["splices"]["energy, words"]["one_accepted"]
    assert trials == 7, "seven renditions of the one reader on whom nothing was fitted"
    words = {name: counted[0] for name, counted in summary["splices"]["energy, words"].items()}
    assert words["at_once_accepted"] <= accepted <= words["without_a_second_phrase_accepted"]
    assert words["without_a_second_phrase_accepted"] <= words["live_alone_accepted"]
    for what in ("asked", "refused", "without_a_second_phrase_refused"):
        assert set(summary[f"splices_people_{what}"]) >= {"as recorded", "with pauses", "room, 0.8 s"}
    assert splices["cells"]["energy, words"]["people"] == 1
    assert "Is it pasted together?" in (corpus / "out" / "report.html").read_text(encoding="utf-8")


def test_findings_about_recordings_are_measured_when_they_are_named(corpus: Path) -> None:
    found = run(corpus, "--only", "evidence")
    assert found["spoof"] is None
    summary, inspection = found["summary"], found["inspection"]
    assert isinstance(summary, dict)
    assert isinstance(inspection, dict)
    hits, joins = summary["evidence"]["joins_found"]
    assert 0 < hits <= joins
    assert inspection["files"]["edited"] == 50
    assert "May findings about a recording be believed?" in (corpus / "out" / "report.html").read_text(
        "utf-8"
    )


def test_a_manifest_without_trials_is_refused(tmp_path: Path, reader: list[Reading]) -> None:
    (tmp_path / "manifest.tsv").write_text("path\tlabel\tspeaker\tsystem\na.wav\tbonafide\tann\t-\n")
    _link(reader[0].path, tmp_path / "a.wav")
    where = [
        "--manifest",
        str(tmp_path / "manifest.tsv"),
        "--root",
        str(tmp_path),
        "--out",
        str(tmp_path / "o"),
    ]
    with pytest.raises(QuantizeError, match="no trial of that kind"):
        CliRunner().invoke(evaluate, where, catch_exceptions=False)
    assert not (tmp_path / "o").exists()


def test_a_words_model_that_was_not_built_is_refused_with_the_command_that_builds_it(
    corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    models = make_bundle(tmp_path_factory.mktemp("bundle") / "models")
    given = ["--manifest", str(corpus / "manifest.tsv"), "--root", str(corpus), "--out", str(corpus / "out")]
    chosen = ["--only", "phrase", "--words-model", "whisper.cpp-base-q5_1", "--models", str(models)]
    with pytest.raises(BundleError, match="models build --only words-ggml-base-q5-1`"):
        CliRunner().invoke(evaluate, [*given, *chosen], catch_exceptions=False)
    assert not (corpus / "out").exists()
