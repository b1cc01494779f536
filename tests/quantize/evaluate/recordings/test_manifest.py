from __future__ import annotations

from pathlib import Path

import pytest

from quantize.errors import QuantizeError
from quantize.evaluate.recordings.manifest import read_manifest

HEADER = "path\tlabel\tspeaker\tsystem\tseconds\ttext\tsource\tlicence\n"


def written(folder: Path, lines: list[str], header: str = HEADER, exist: bool = True) -> Path:
    manifest = folder / "manifest.tsv"
    manifest.write_text(header + "".join(line + "\n" for line in lines), encoding="utf-8")
    for line in lines:
        path = folder / line.split("\t")[0]
        if exist and ".." not in line and not line.startswith("/"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
    return manifest


def test_dashes_and_blanks_mean_unknown(tmp_path: Path) -> None:
    manifest = written(
        tmp_path, ["demo/a.flac\tbonafide\t-\t-\t1\t\tx\ty", "demo/b.flac\tspoof\t\ttts\t1\t\tx\ty"]
    )
    bona_fide, spoof = read_manifest(manifest, tmp_path)
    assert (bona_fide.speaker, bona_fide.system, bona_fide.text) == ("", "", "")
    assert (spoof.system, spoof.folder, spoof.unit) == ("tts", "demo", "demo/b.flac")


def test_noise_and_impulse_responses_are_left_out(tmp_path: Path) -> None:
    manifest = written(
        tmp_path, ["n/a.flac\tnoise\t-\t-", "n/b.flac\tbonafide\tann\t-"], "path\tlabel\tspeaker\tsystem\n"
    )
    assert [r.path for r in read_manifest(manifest, tmp_path)] == ["n/b.flac"]


def test_quotes_in_a_text_are_only_characters(tmp_path: Path) -> None:
    manifest = written(
        tmp_path, ['n/a.flac\tbonafide\tann\t-\t1\t"HE SAID\tx\ty', "n/b.flac\tbonafide\tann\t-\t1\tGO\tx\ty"]
    )
    assert [r.text for r in read_manifest(manifest, tmp_path)] == ['"HE SAID', "GO"]


def test_gender_is_known_from_the_names_of_an4_only(tmp_path: Path) -> None:
    manifest = written(
        tmp_path,
        [
            f"{s}/{n}/1.flac\tbonafide\t{s}-{n}\t-\t1\t\tx\ty"
            for s, n in (("an4", "fash"), ("an4", "mblb"), ("so762", "fake"))
        ],
    )
    assert [(r.gender, r.group) for r in read_manifest(manifest, tmp_path)] == [
        ("female", "native"),
        ("male", "native"),
        ("", "accented"),
    ]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["../secret.flac\tbonafide\tann\t-"], "not a path below the root"),
        (["/etc/passwd\tbonafide\tann\t-"], "not a path below the root"),
        (["a/1.flac\tbonafide\tann\t-", "a/1.flac\tbonafide\tann\t-"], "listed twice"),
        (["a/1.flac\tspoof\tann\t-"], "without a system"),
        (["a/1.flac\tnoise\tann\t-"], "lists no bonafide"),
    ],
)
def test_a_bad_line_is_refused_before_anything_runs(tmp_path: Path, lines: list[str], message: str) -> None:
    manifest = written(tmp_path, lines, "path\tlabel\tspeaker\tsystem\n")
    with pytest.raises(QuantizeError, match=message):
        read_manifest(manifest, tmp_path)


def test_a_missing_file_a_missing_column_and_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    lines = ["a/1.flac\tbonafide\tann\t-"]
    with pytest.raises(QuantizeError, match="is not under"):
        read_manifest(written(tmp_path, lines, "path\tlabel\tspeaker\tsystem\n", exist=False), tmp_path)
    with pytest.raises(QuantizeError, match="no column system"):
        read_manifest(written(tmp_path, lines, "path\tlabel\tspeaker\n"), tmp_path)
    (tmp_path / "manifest.tsv").write_bytes(b"\xff\xfe\x00path")
    with pytest.raises(QuantizeError, match="cannot read"):
        read_manifest(tmp_path / "manifest.tsv", tmp_path)


def test_many_problems_are_summed_up_in_one_line(tmp_path: Path) -> None:
    lines = [f"a/{i}.flac\tbonafide\tann\t-" for i in range(9)]
    with pytest.raises(QuantizeError, match="and 4 more") as caught:
        read_manifest(written(tmp_path, lines, "path\tlabel\tspeaker\tsystem\n", exist=False), tmp_path)
    assert "\n" not in str(caught.value)
