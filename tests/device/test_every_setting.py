"""Every setting that `ostiary config show` shows is read by some part of the product: one that nothing reads
would let an operator believe in it.

Found in the source by following types: names that are annotated with a class of settings, or given a value of
one, and attributes of those.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from device.settings import Settings

ROOT = Path(__file__).parents[2]
BY_NAME = {"contact", "request_to_exit", "tamper", "fire"}
"""Of `door.gpio`: `GpioSettings.inputs` reads them by the names of `Line`."""

Tables = dict[str, dict[str, str]]
"""Class of settings -> its field -> the class of that field, or an empty text for a leaf."""
Homes = dict[str, str]
"""Class of settings -> the module that has it."""


def tables(node: Any) -> tuple[Tables, Homes]:
    held = {item.name: getattr(node, item.name) for item in fields(node)}
    own = {name: type(value).__name__ if is_dataclass(value) else "" for name, value in held.items()}
    found, homes = {type(node).__name__: own}, {type(node).__name__: type(node).__module__}
    for value in held.values():
        if is_dataclass(value):
            its, where = tables(value)
            found, homes = found | its, homes | where
    return found, homes


Held = dict[str, set[str]]
"""A name -> the classes of settings that it may hold."""


class Module:
    """What one module's names, and the attributes of its classes, may hold of settings."""

    def __init__(
        self, name: str, tree: ast.Module, known: Tables, homes: Homes, made: Held, held: Held
    ) -> None:
        self._known, self._made, self._held = known, made, held
        self._names: Held = defaultdict(set)
        self._own: Held = defaultdict(set)
        nodes = list(ast.walk(tree))
        brought = {
            (alias.name, node.module)
            for node in nodes
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        self._visible = {what for what, home in homes.items() if home == name or (what, home) in brought}
        self._sayings = [
            node
            for node in nodes
            if isinstance(
                node, ast.ClassDef | ast.FunctionDef | ast.arg | ast.AnnAssign | ast.Assign | ast.NamedExpr
            )
        ]
        self._attributes = [
            node for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
        ]

    def learn(self) -> None:
        for node in self._sayings:
            match node:
                case ast.ClassDef(name=name, body=body):
                    for part in body:
                        if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
                            self._attribute(part.target.id, self._annotated(part.annotation))
                    if name in self._visible:
                        self._names["self"].add(name)
                case ast.FunctionDef(name=name, returns=returns):
                    self._made[name] |= self._annotated(returns)
                case ast.arg(arg=name, annotation=annotation):
                    self._names[name] |= self._annotated(annotation)
                case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation):
                    self._names[name] |= self._annotated(annotation)
                case ast.Assign(targets=targets, value=value):
                    for target in targets:
                        self._assigned(target, value)
                case ast.NamedExpr(target=ast.Name(id=name), value=value):
                    self._names[name] |= self._types(value)

    def reads(self) -> Iterator[tuple[str, str]]:
        """(class, field) of every attribute that is read."""
        for node in self._attributes:
            for what in self._types(node.value):
                yield what, node.attr

    def _assigned(self, target: ast.expr, value: ast.expr) -> None:
        match target, value:
            case ast.Tuple(elts=names), ast.Tuple(elts=values) if len(names) == len(values):
                for one, its in zip(names, values, strict=True):
                    self._assigned(one, its)
            case ast.Name(id=name), _:
                self._names[name] |= self._types(value)
            case ast.Attribute(attr=name), _:
                self._attribute(name, self._types(value))

    def _attribute(self, name: str, found: set[str]) -> None:
        self._own[name] |= found
        self._held[name] |= found

    def _annotated(self, annotation: ast.expr | None) -> set[str]:
        if annotation is None:
            return set()
        return {node.id for node in ast.walk(annotation) if isinstance(node, ast.Name)} & self._visible

    def _types(self, value: ast.expr) -> set[str]:
        """The classes of settings that an expression may have."""
        match value:
            case ast.Name(id=name):
                return self._names.get(name, set())
            case ast.Attribute(value=inner, attr=name):
                of = {self._known[what].get(name, "") for what in self._types(inner)} - {""}
                return of or self._own.get(name) or self._held.get(name, set())
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
                return {name} & self._visible | self._made.get(name, set())
            case ast.IfExp(body=body, orelse=other):
                return self._types(body) | self._types(other)
            case ast.BoolOp(values=values):
                return set().union(*map(self._types, values))
        return set()


def without_checks(tree: ast.Module) -> ast.Module:
    """The tree without what only holds a value to its limits: that is no use of it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            node.body = [p for p in node.body if getattr(p, "name", "") != "__post_init__"] or [ast.Pass()]
    return tree


def read_somewhere(known: Tables, homes: Homes, sources: dict[str, str]) -> set[tuple[str, str]]:
    """(class, field) of everything that the modules of `sources` read of settings."""
    made: Held = defaultdict(set)
    held: Held = defaultdict(set)
    modules = [
        Module(name, without_checks(ast.parse(text)), known, homes, made, held)
        for name, text in sources.items()
    ]
    for _ in range(3):  # what one module says of a name may be what another needs
        for module in modules:
            module.learn()
    return {read for module in modules for read in module.reads()}


def test_every_setting_is_read_by_the_product() -> None:
    files = sorted((ROOT / "device").rglob("*.py"))
    sources = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path.read_text("utf-8") for path in files
    }
    known, homes = tables(Settings())
    read = read_somewhere(known, homes, sources)
    unread = {
        f"{owner}.{name}" for owner, table in known.items() for name in table if (owner, name) not in read
    }
    assert unread - {f"GpioSettings.{name}" for name in BY_NAME} == set()


def test_a_setting_that_only_its_own_limits_look_at_counts_as_unread() -> None:
    known = {"Settings": {"own": "Own", "idle": "Own"}, "Own": {"used": "", "unused": ""}}
    source = """
class Own:
    used: int = 1
    unused: int = 1
    def __post_init__(self):
        assert self.unused
class Part:
    def __init__(self, settings: Settings | None) -> None:
        self._own = settings.own
    def work(self):
        return self._own.used + other.unused
"""
    read = read_somewhere(known, {"Settings": "one", "Own": "one"}, {"one": source})
    assert {("Settings", "own"), ("Own", "used")} <= read
    assert not {("Settings", "idle"), ("Own", "unused")} & read
