from __future__ import annotations

from pathlib import Path

import pytest

from tests.architecture import MOST_APP_LINES, MOST_LINES, MOST_MODULES, complaints

ROOT = Path(__file__).parents[1]


def tree(folder: Path, **files: str) -> Path:
    """A project in which each keyword is a module, `__` for a folder's edge."""
    for name, text in files.items():
        path = folder / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return folder


def test_the_project_keeps_to_its_layout() -> None:
    assert complaints(ROOT) == []


@pytest.mark.parametrize(
    ("by", "line"),
    [
        ("sync__agent", "from device.settings import load"),
        ("sync__agent", "import quantize.release.build"),
        ("device__watch", "from quantize.errors import QuantizeError"),
        ("device__watch", "import bench.vault"),
        ("device__watch", "from tests.speech import readings"),
        ("device__watch", "import research"),
        ("quantize__build", "from bench import vault"),
        ("quantize__build", "def late():\n    from tests import speech"),
        ("device__cli", "from tests import speech"),
        ("bench__vault", "import research"),
        ("sync__agent", 'NAME = "device.settings"'),
        ("device__watch", "from ..quantize import errors"),
    ],
)
def test_an_arrow_that_points_back_is_found(tmp_path: Path, by: str, line: str) -> None:
    assert complaints(tree(tmp_path, device__settings="", quantize__errors="")) == []
    found = complaints(tree(tmp_path, **{by: line}))
    assert len(found) == 1
    assert found[0].startswith(by.replace("__", "."))


def test_the_command_line_may_name_everything(tmp_path: Path) -> None:
    line = 'COMMANDS = ["quantize.cli:models"]\nfrom quantize.errors import QuantizeError\n'
    root = tree(tmp_path, device__cli=line, quantize__cli="from device import cli", quantize__errors="")
    assert complaints(root) == []


def test_two_rooms_that_know_each_other_are_found(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        device__audio__gate="from device.access import rules",
        device__access__rules="",
        device__access__limits="from device.audio.quality import check",
        device__audio__quality="",
    )
    assert complaints(root) == ["a circle of folders: device.access <-> device.audio"]


def test_a_circle_over_three_rooms_and_a_loose_module_is_found(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        device__settings="from device.audio import gate",
        device__audio__gate="from device.unit import clock",
        device__unit__clock="def late():\n    from device import settings",
    )
    assert "a circle of folders: device.audio <-> device.settings <-> device.unit" in complaints(root)


def test_two_folders_of_sync_that_know_each_other_are_found(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        sync__events="",
        sync__outbox__queue="from sync import events\nfrom sync.proofs import chain",
        sync__proofs__chain="from sync import events",
    )
    (root / "sync" / "outbox" / "__init__.py").write_text("from sync.outbox.queue import Outbox", "utf-8")
    assert complaints(root) == []
    tree(root, sync__proofs__chain="from sync.outbox import Outbox")
    assert "a circle of folders: sync.outbox <-> sync.proofs" in complaints(root)


def test_two_modules_of_one_room_that_know_each_other_are_found(tmp_path: Path) -> None:
    root = tree(tmp_path, sync__a="from sync import b", sync__b="from sync.a import x")
    assert complaints(root) == ["a circle of modules: sync.a <-> sync.b"]


@pytest.mark.parametrize(
    ("by", "line"),
    [
        ("quantize__words", "from device.models import _secret"),
        ("quantize__words", "from device.models._secret import text"),
        ("bench__live", "from device.models.tokens import _text"),
        ("device__unit__watch", "from device.models.tokens import _text"),
    ],
)
def test_what_is_private_is_not_imported_from_elsewhere(tmp_path: Path, by: str, line: str) -> None:
    root = tree(tmp_path, device__models___secret="", device__models__tokens="", **{by: line})
    found = complaints(root)
    assert len(found) == 1
    assert "is private to" in found[0]


@pytest.mark.parametrize(
    ("by", "line"),
    [
        ("device__watch", "try:\n    pass\nexcept (OSError, LostError):\n    pass"),
        ("device__watch", "def told(error):\n    return isinstance(error, LostError | OSError)"),
        ("sync__agent", "with contextlib.suppress(LostError):\n    pass"),
        ("device__watch", "FIXES = {errors.LostError: 'plug it in'}"),
        ("device__watch", "class VeryLostError(LostError):\n    exit_code = 1"),
    ],
)
def test_an_error_that_nobody_tells_from_its_parent_is_found(tmp_path: Path, by: str, line: str) -> None:
    root = tree(
        tmp_path,
        device__errors="class BaseError(Exception): ...\nclass LostError(BaseError):\n    'Gone.'",
        device__door="raise LostError\ndef lost(error: LostError) -> LostError: ...",
    )
    assert complaints(root) == [
        "device.errors.LostError is told from BaseError by nobody: act on it or fold it"
    ]
    assert complaints(tree(root, **{by: line})) == []


def test_an_error_with_a_code_of_its_own_may_be_raised_and_never_caught(tmp_path: Path) -> None:
    errors = "class BaseError(Exception): ...\nclass CutError(BaseError):\n    code = 'CUT'"
    assert complaints(tree(tmp_path, device__errors=errors)) == []


@pytest.mark.parametrize("folder", ["device__unit", "sync", "sync__registry__watch", "quantize__evaluate"])
def test_a_crowded_folder_is_found(tmp_path: Path, folder: str) -> None:
    root = tree(tmp_path, **{f"{folder}__part_{number}": "" for number in range(MOST_MODULES)})
    assert complaints(root) == []
    tree(root, **{f"{folder}__one_more": ""})
    assert complaints(root) == [f"{folder.replace('__', '/')} has 13 modules; the most is 12"]


def test_a_long_loop_is_found(tmp_path: Path) -> None:
    assert complaints(tree(tmp_path, device__app="\n" * MOST_APP_LINES)) == []
    root = tree(tmp_path, device__app="\n" * (MOST_APP_LINES + 1))
    assert complaints(root) == ["device/app.py has 121 lines; the loop fits in 120"]


@pytest.mark.parametrize("module", ["device__unit__watch", "sync__events", "quantize__train__update"])
def test_a_module_too_long_for_one_sitting_is_found(tmp_path: Path, module: str) -> None:
    assert complaints(tree(tmp_path, **{module: "\n" * MOST_LINES})) == []
    path = module.replace("__", "/") + ".py"
    root = tree(tmp_path, **{module: "\n" * (MOST_LINES + 1)})
    assert complaints(root) == [f"{path} has 401 lines; one sitting takes 400"]


@pytest.mark.parametrize(
    "folder", ["sync__dashboard", "sync__registry", "quantize__evaluate", "device__access__rules"]
)
def test_two_folders_deep_in_a_package_that_know_each_other_are_found(tmp_path: Path, folder: str) -> None:
    dotted = folder.replace("__", ".")
    first, second = f"{folder}__first__part", f"{folder}__second__part"
    root = tree(
        tmp_path, **{first: f"from {dotted}.second import other", f"{folder}__second__other": "", second: ""}
    )
    assert complaints(root) == []
    tree(root, **{second: f"from {dotted}.first import part"})
    assert complaints(root) == [f"a circle of folders: {dotted}.first <-> {dotted}.second"]


def test_a_loose_module_and_the_folder_beside_it_that_know_each_other_are_found(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        device__access__policy="from device.access.rules import model",
        device__access__rules__model="",
        device__access__rules__summary="from device.access import policy",
    )
    assert complaints(root) == ["a circle of folders: device.access.policy <-> device.access.rules"]
