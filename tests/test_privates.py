"""The tests themselves: nothing of the inside is held still, and nothing of ours is patched."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.privates import ALLOWED, pokes

ROOT = Path(__file__).parents[1]
PRODUCT = """
_SECRET = 5
def _hidden(): ...
class Door:
    def __init__(self):
        self._open = False
    def _pull(self): ...
"""


def test_no_test_reaches_past_public_names_or_patches_the_product() -> None:
    assert pokes(ROOT) == []


def test_every_exception_is_used_and_has_its_reason() -> None:
    for (file, target), reason in ALLOWED.items():
        assert target.rpartition(".")[2] in (ROOT / file).read_text("utf-8")
        assert len(reason) > 60


@pytest.mark.parametrize(
    "line",
    [
        "print(door._open)",
        "door._open = True",
        "door._book._hidden()",
        "from device.door import _hidden",
        "from device._door import Door",
        "class Fake(Door):\n    def _pull(self): ...",
        "class Fake(Door):\n    def pull(self):\n        super()._pull()",
        "class Fake(door.Door):\n    async def _pull(self): ...",
        "monkeypatch.setattr(door, 'LIMIT', 5)",
        "monkeypatch.setattr(Door, 'pull', None)",
        "monkeypatch.setattr('device.door.LIMIT', 5)",
        "monkeypatch.setattr(unit.door, 'pull', None)",
        "monkeypatch.delattr(door, 'LIMIT')",
        "with monkeypatch.context() as patched:\n    patched.setattr(door, 'LIMIT', 5)",
        "Door.pull = None",
        "door.LIMIT = 5",
    ],
)
def test_each_way_of_reaching_inside_is_found(tmp_path: Path, line: str) -> None:
    found = written(tmp_path, f"from device import door\nfrom device.door import Door\n{line}\n")
    assert len(found) == 1, found
    assert found[0].startswith("tests/test_door.py:")


@pytest.mark.parametrize(
    "line",
    [
        "monkeypatch.setattr(os, 'fsync', None)",
        "monkeypatch.setattr('os.fsync', None)",
        "monkeypatch.setenv('OSTIARY_STATE_DIR', 'x')",
        "os._exit(0)",
        "print(row._mapping)",
        "class Own:\n    def _open(self):\n        return self._open",
        "door = Door()\ndoor.opened = lambda: None",
    ],
)
def test_what_is_not_ours_may_be_patched_and_a_test_may_have_privates(tmp_path: Path, line: str) -> None:
    assert written(tmp_path, f"import os\nfrom device.door import Door\n{line}\n") == []


def written(root: Path, test: str) -> list[str]:
    for name, text in (("device/door.py", PRODUCT), ("tests/test_door.py", test)):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text, "utf-8")
    return pokes(root)
