"""Reads the tests and says which of them reach past the public names of the product, or patch it.

A private name is one with a leading underscore that the product gives to something of its own: an attribute,
a method, a function, a constant, a module. A test that takes one holds the inside still, and one that patches
our own module tests a program that nobody runs. `monkeypatch` is for what is not ours: the environment, the
system's calls, other people's libraries.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Set
from pathlib import Path

TOPS = ("sync", "device", "quantize", "bench", "research")
ALLOWED: Mapping[tuple[str, str], str] = {
    ("tests/device/door/osdp/test_attacks.py", "channel.screened"): (
        "takes one of two defences away, to show that the other stands alone: a switch for that in the"
        " product would be a hole in it"
    ),
    ("tests/device/models/test_second_words.py", "Transcriber.score"): (
        "makes a model slow for exactly as long as the test wants, which no sound does on every machine; an"
        " argument that opens another model would pass by the checks of its hash and its answers"
    ),
    ("tests/device/model_store/test_minimum_versions.py", "VaultFile.commit"): (
        "kills a process before a commit of SQLite, which passes through none of the system's calls that"
        " Python makes, as the other instants of the same test do"
    ),
}
"""(file, what is patched): why there is no other way."""
_PATCHES = frozenset({"setattr", "delattr", "setitem", "delitem"})


def pokes(root: Path) -> list[str]:
    """One sentence for each place where a test takes a private name of the product or patches the product."""
    product = [ast.parse(path.read_text("utf-8")) for top in TOPS for path in _modules(root / top)]
    private = frozenset(name for tree in product for name in _private_names(tree))
    methods = {
        (node.name, line.name)
        for tree in product
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for line in node.body
        if isinstance(line, ast.FunctionDef | ast.AsyncFunctionDef) and _is_private(line.name)
    }
    found: list[str] = []
    for path in _modules(root / "tests"):
        here = path.relative_to(root).as_posix()
        tree = ast.parse(path.read_text("utf-8"))
        ours = _names_of_ours(tree)
        others = _imported(tree) - ours
        for node in ast.walk(tree):
            found += [f"{here}:{line}: {what}" for line, what in _taken(node, private, others)]
        found += [f"{here}:{line}: {what}" for line, what in _overridden(tree, methods)]
        for line, target in _patched(tree, ours, others):
            if (here, target) not in ALLOWED:
                found.append(f"{here}:{line}: patches {target}, which is ours: give it an argument")
    return found


def _modules(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_"


def _private_names(tree: ast.AST) -> Iterator[str]:
    """What the module gives a private name to."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names = [node.attr]
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names = [node.id]
        else:
            continue
        yield from filter(_is_private, names)


def _taken(node: ast.AST, private: frozenset[str], others: frozenset[str]) -> Iterator[tuple[int, str]]:
    """(line, what is wrong) of a private name that is taken or imported."""
    if isinstance(node, ast.Attribute) and node.attr in private:
        if _root(node) not in others | {"self", "cls"}:
            yield node.lineno, f"{ast.unparse(node)} is private: test what its owner does"
    elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in TOPS:
        for name in (*(node.module or "").split("."), *(alias.name for alias in node.names)):
            if _is_private(name):
                yield node.lineno, f"imports {name} of {node.module}, which is private"


def _overridden(tree: ast.AST, methods: Set[tuple[str, str]]) -> Iterator[tuple[int, str]]:
    """(line, what) of a private method of the product that a class of the test puts its own in place of."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            bases = [ast.unparse(base).rpartition(".")[2] for base in node.bases]
            for line in node.body:
                name = getattr(line, "name", "")
                if any((base, name) in methods for base in bases):
                    yield line.lineno, f"{node.name}.{name} overrides what is private: take an argument"


def _names_of_ours(tree: ast.AST) -> frozenset[str]:
    """Names in a test that are modules, classes or functions of the product."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in TOPS:
            found |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {
                (alias.asname or alias.name).split(".")[0]
                for alias in node.names
                if alias.name.split(".")[0] in TOPS
            }
    return frozenset(found)


def _imported(tree: ast.AST) -> frozenset[str]:
    """Every name that an import brings."""
    return frozenset(
        (alias.asname or alias.name).split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    )


def _patched(tree: ast.AST, ours: frozenset[str], others: frozenset[str]) -> Iterator[tuple[int, str]]:
    """(line, what is patched) of everything patched that is the product's, or may be."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            patcher = ast.unparse(node.func.value)
            if node.func.attr not in _PATCHES or not any(w in patcher for w in ("patch", "context", "cut")):
                continue
            first = node.args[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                if first.value.split(".")[0] in TOPS:
                    yield node.lineno, first.value
            elif _root(first) not in others:
                named = node.args[1] if len(node.args) > 1 else first
                what = named.value if isinstance(named, ast.Constant) else ast.unparse(named)
                yield node.lineno, f"{ast.unparse(first)}.{what}"
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if (
                    isinstance(target, ast.Attribute)
                    and _root(target) in ours
                    and not _is_private(target.attr)
                ):
                    yield node.lineno, ast.unparse(target)


def _root(node: ast.AST) -> str:
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""
