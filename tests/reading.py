"""Finds where the product opens a file to read it by other means than `sync.plain_file`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

TOPS = ("device", "sync", "quantize")
OPENS_A_PATH = {
    "os.open",
    "open",
    "io.open",
    "zipfile.ZipFile",
    "tarfile.open",
    "onnx.load",
    "np.load",
    "soundfile.read",
    "soundfile.SoundFile",
    "ssl.create_default_context",
}
METHODS = {"read_text", "read_bytes", "load_cert_chain", "load_verify_locations"}
SHIPPED = ("files(", "resources.", "STATIC", "/proc/", "os.devnull", "/dev/urandom")
"""Parts of our own package, and what the kernel itself answers."""


def openings(root: Path) -> Iterator[tuple[str, str]]:
    """(module's path, call) of every call that may read a file and does not go through the one reader."""
    for top in TOPS:
        for path in sorted((root / top).rglob("*.py")):
            inside = path.relative_to(root)
            if inside == Path("sync", "plain_file.py"):
                continue
            for call in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(call, ast.Call) and _reads(call):
                    yield str(inside), ast.unparse(call)


def _reads(call: ast.Call) -> bool:
    name, text = ast.unparse(call.func), ast.unparse(call)
    if any(mark in text for mark in (*SHIPPED, "plain_path(")) or "io.BytesIO(" in text:
        return False
    if name == "os.open":
        return "O_WRONLY" not in text and "O_DIRECTORY" not in text
    if name == "ssl.create_default_context":
        return "cafile" in text
    if name in OPENS_A_PATH:
        return not _writes(call)
    if not isinstance(call.func, ast.Attribute):
        return False
    if call.func.attr == "open" and not _of_a_class(call.func.value):
        return not _writes(call) and (not call.args or _mode(call) != "")
    return call.func.attr in METHODS


def _of_a_class(value: ast.expr) -> bool:
    """`Bundle.open(...)` and the like: our own, and theirs to read by."""
    return ast.unparse(value).rpartition(".")[2][:1].isupper() and isinstance(value, ast.Name | ast.Attribute)


def _mode(call: ast.Call) -> str:
    given = [*call.args, *(word.value for word in call.keywords if word.arg == "mode")]
    texts = [one.value for one in given if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    return next((text for text in texts if set(text) <= set("rwaxbt+:gz")), "")


def _writes(call: ast.Call) -> bool:
    return _mode(call)[:1] in ("w", "a", "x")
