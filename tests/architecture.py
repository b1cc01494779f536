"""Reads the import statements of the project and says which of them break the rules of its layout."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

MAY_IMPORT = {
    "sync": frozenset[str](),
    "device": frozenset({"sync"}),
    "quantize": frozenset({"device", "sync"}),
    "bench": frozenset({"quantize", "device", "sync", "tests"}),
}
"""Arrows between the top folders: bench > quantize > device > sync. `bench` is no part of the product and
starts the services that the tests start."""
COMPOSER = "device.cli"
"""The one module that may know everything."""
NEVER_IMPORTED = frozenset({"tests", "research", "bench"})
MOST_MODULES = 12
PRODUCT = ("device", "sync", "quantize")
MOST_APP_LINES = 120
MOST_LINES = 400

_NAMED = re.compile(r"(?P<module>[a-z_]\w*(\.\w+)+)(:\w+)?")


@dataclass(frozen=True, slots=True)
class Import:
    """One module named by another: in an import statement, or in a string that is a module's name."""

    by: str
    module: str
    line: int
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.by}:{self.line} imports {self.module}"


def modules(root: Path) -> dict[str, Path]:
    """Every Python module of the four folders, by dotted name; a package is named without `__init__`."""
    found = {}
    for top in MAY_IMPORT:
        for path in sorted((root / top).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name: str, path: Path, known: Mapping[str, Path]) -> Iterator[Import]:
    """What the module `name` imports of the project, wherever in it, also inside functions."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(name, alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *filter(None, [node.module])])
            inside = [alias.name for alias in node.names if f"{base}.{alias.name}" in known]
            rest = tuple(alias.name for alias in node.names if alias.name not in inside)
            for leaf in inside:
                yield Import(name, f"{base}.{leaf}", node.lineno)
            if rest or not inside:
                yield Import(name, base, node.lineno, rest)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            named = _NAMED.fullmatch(node.value)
            if named is not None and named["module"] in known:
                yield Import(name, named["module"], node.lineno)


def complaints(root: Path) -> list[str]:
    """Every rule that the tree in `root` breaks, one sentence each."""
    known = modules(root)
    every = [found for name, path in known.items() for found in imports(name, path, known)]
    ours = [found for found in every if found.module.split(".")[0] in {*MAY_IMPORT, *NEVER_IMPORTED}]
    return [
        *_wrong_arrows(ours),
        *_private(ours),
        *(f"a circle of modules: {circle}" for circle in circles(_graph(ours, known))),
        *(f"a circle of folders: {circle}" for circle in _folder_circles(ours, known)),
        *_crowded(root),
        *_long(root),
        *_idle_errors(known),
    ]


def _folder_circles(every: list[Import], known: Mapping[str, Path]) -> list[str]:
    """Circles among what lies side by side in one folder, at any depth: sub-folders, and loose modules,
    each by itself. A circle of modules alone is told as such.
    """
    levels: dict[str, dict[str, set[str]]] = {}
    for found in every:
        if found.module not in known or found.by == COMPOSER:
            continue
        by, other = _steps(found.by, known), _steps(found.module, known)
        shared = next((at for at, pair in enumerate(zip(by, other, strict=False)) if pair[0] != pair[1]), 0)
        if shared:
            graph = levels.setdefault(".".join(by[:shared]), {})
            graph.setdefault(".".join(by[: shared + 1]), set()).add(".".join(other[: shared + 1]))
    found_circles = [
        circle
        for graph in levels.values()
        for circle in circles({node: frozenset(others) for node, others in graph.items()})
    ]
    loose = {".".join(_steps(name, known)) for name in known}
    return sorted(line for line in found_circles if not loose.issuperset(line.split(" <-> ")))


def _steps(name: str, known: Mapping[str, Path]) -> list[str]:
    """The folders that lead to a module, and it; a package's own `__init__` is a module in its folder."""
    package = name in known and known[name].name == "__init__.py"
    return [*name.split("."), "__init__"] if package else name.split(".")


def circles(graph: Mapping[str, frozenset[str]]) -> list[str]:
    """Each strongly connected group of two or more nodes, as one line."""
    reach = {node: _reached(graph, node) for node in graph}
    groups = {
        frozenset({node, *(other for other in reach[node] if node in reach.get(other, ()))}) for node in graph
    }
    return sorted(" <-> ".join(sorted(group)) for group in groups if len(group) > 1)


def _reached(graph: Mapping[str, frozenset[str]], start: str) -> frozenset[str]:
    seen: set[str] = set()
    ahead = [start]
    while ahead:
        for node in graph.get(ahead.pop(), frozenset()) - seen:
            seen.add(node)
            ahead.append(node)
    return frozenset(seen)


def _graph(every: list[Import], known: Mapping[str, Path]) -> dict[str, frozenset[str]]:
    graph: dict[str, set[str]] = {name: set() for name in known}
    for found in every:
        if found.module in known and COMPOSER != found.by != found.module:
            graph[found.by].add(found.module)
    return {name: frozenset(others) for name, others in graph.items()}


def _wrong_arrows(every: list[Import]) -> Iterator[str]:
    for found in every:
        by, top = found.by.split(".")[0], found.module.split(".")[0]
        if by == top:
            continue
        composes = found.by == COMPOSER and top not in NEVER_IMPORTED
        if not composes and top not in MAY_IMPORT[by]:
            yield f"{found}; {by} may not know {top}"


def _private(every: list[Import]) -> Iterator[str]:
    """Names and modules with a leading underscore belong to the top folder, and in `device` to the room."""
    for found in every:
        if _owner(found.by) == _owner(found.module):
            continue
        for name in (*found.module.split("."), *found.names):
            if name.startswith("_") and not name.startswith("__"):
                yield f"{found}; {name} is private to {_owner(found.module)}"


def _owner(name: str) -> str:
    return ".".join(name.split(".")[: 2 if name.startswith("device.") else 1])


def _crowded(root: Path) -> Iterator[str]:
    for folder in sorted(path for top in PRODUCT for path in (root / top, *(root / top).rglob("*"))):
        if folder.is_dir():
            loose = [path for path in folder.glob("*.py") if path.name not in ("__init__.py", "__main__.py")]
            if len(loose) > MOST_MODULES:
                yield f"{folder.relative_to(root)} has {len(loose)} modules; the most is {MOST_MODULES}"
    app = root / "device" / "app.py"
    lines = len(app.read_text("utf-8").splitlines()) if app.exists() else 0
    if lines > MOST_APP_LINES:
        yield f"device/app.py has {lines} lines; the loop fits in {MOST_APP_LINES}"


def _long(root: Path) -> Iterator[str]:
    for path in sorted(path for top in PRODUCT for path in (root / top).rglob("*.py")):
        lines = len(path.read_text("utf-8").splitlines())
        if lines > MOST_LINES:
            yield f"{path.relative_to(root)} has {lines} lines; one sitting takes {MOST_LINES}"


def _idle_errors(known: Mapping[str, Path]) -> Iterator[str]:
    """Leaves among the errors that nobody tells from their parent: no `except`, `isinstance` or `suppress`
    names them, they stand in no table, and they carry nothing of their own, like a code or a status.
    """
    trees = {name: ast.parse(path.read_text("utf-8")) for name, path in known.items()}
    parents: dict[str, list[str]] = {}
    plain: dict[str, str] = {}
    acted: set[str] = set()
    for module, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                parents[node.name] = [_last_name(base) for base in node.bases]
                if all(isinstance(line, ast.Expr | ast.Pass) for line in node.body):
                    plain[node.name] = module
            elif isinstance(node, ast.ExceptHandler) and node.type is not None:
                acted |= _names(node.type)
            elif isinstance(node, ast.Call) and _last_name(node.func) in _ASKING:
                acted |= _names(*node.args)
            elif isinstance(node, ast.Tuple | ast.Dict | ast.Set | ast.List):
                acted |= _names(*(node.keys if isinstance(node, ast.Dict) else node.elts))
    bases = {parent for names in parents.values() for parent in names}
    for name in sorted(plain.keys() - acted - bases):
        if _is_error(name, parents):
            yield f"{plain[name]}.{name} is told from {parents[name][0]} by nobody: act on it or fold it"


_ASKING = frozenset({"isinstance", "issubclass", "suppress"})


def _names(*nodes: ast.AST | None) -> set[str]:
    """The names of classes that are asked for: alone, in a tuple, or between `|`."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Name | ast.Attribute):
            found.add(_last_name(node))
        elif isinstance(node, ast.Tuple | ast.BinOp):
            found |= _names(*ast.iter_child_nodes(node))
    return found


def _last_name(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _is_error(name: str, parents: Mapping[str, list[str]]) -> bool:
    if name in parents:
        return any(_is_error(parent, parents) for parent in parents[name])
    return name == "Exception" or name.endswith("Error")
