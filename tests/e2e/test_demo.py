"""`ostiary demo`, what `scripts/demo` runs: rows as they must be, each shown as soon as it is known."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.speech import require_tools

pytestmark = pytest.mark.e2e


def test_every_row_comes_out_as_it_must_and_is_shown_before_the_next_attempt_is_over() -> None:
    tools = ("swtpm", "espeak-ng", "flite", "sox", "mosquitto")
    require_tools(tools, " ".join(tools))
    demo = subprocess.Popen(
        [sys.executable, "-c", "from device.cli import main; main()", "demo", "--headless"],
        env={**os.environ, "COLUMNS": "80"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert demo.stdout is not None
    lines = [demo.stdout.readline(), demo.stdout.readline()]
    assert lines[0].startswith("at the door")
    assert lines[1].startswith("the reader, the right words")
    assert demo.poll() is None, "the first row came with the last"
    rest, _ = demo.communicate(timeout=240)
    rows = [line for line in [*lines, *rest.splitlines()] if line.rstrip().endswith("as it must")]
    assert demo.returncode == 0, rest
    assert len(rows) == 9
    assert max(len(row.rstrip("\n")) for row in rows) <= 80
    assert "All 9 attempts came out as they must." in rest
    assert "All 9 are on the dashboard" in rest
