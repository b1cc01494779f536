"""What is kept of a run names the code that made it."""

from __future__ import annotations

import shutil
from pathlib import Path

from quantize.evaluate.checks.opened import SPOOF_CODE, spoof_code


def test_other_code_that_measures_liveness_has_another_name(tmp_path: Path) -> None:
    copy = tmp_path / "spoof"
    shutil.copytree(SPOOF_CODE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    assert spoof_code(copy) == spoof_code()
    (copy / "__pycache__").mkdir()
    (copy / "__pycache__" / "norms.pyc").write_bytes(b"compiled")
    assert spoof_code(copy) == spoof_code()
    code = copy / "frame_rates.py"
    code.write_text(code.read_text().replace("NOISE_MARGIN = 1.5", "NOISE_MARGIN = 1.6"))
    assert spoof_code(copy) != spoof_code()
