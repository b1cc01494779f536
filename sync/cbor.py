"""Reads CBOR from outside: sizes first, then types, and MalformedError for everything else.

Bytes and depth are bounded before anything is decoded. Tags (some run code of the decoder: regular
expressions, dates, big numbers), indefinite lengths and map keys that could be chosen to collide are refused.
What is left is text, bytes, whole numbers, floats, booleans, null, lists and maps.
"""

from __future__ import annotations

import functools
from typing import Any, NoReturn

import cbor2

from sync.errors import MalformedError

MAX_FIELDS = 23
"""Of one map of ours: its header is then one byte, which says how many."""

_WHOLE = frozenset((int,))
_FORMS: dict[str, type] = {"i": int, "s": str, "b": bytes, "l": list, "m": dict}


class _NoTags(dict[int, Any]):
    """Refuses every tag."""

    def __getitem__(self, tag: int) -> Any:
        return _refuse


def _refuse(*_: object) -> NoReturn:
    raise ValueError("a tag")


_NO_TAGS = _NoTags()


def decode(data: bytes, max_bytes: int, max_depth: int = 4) -> Any:
    """The value in plain CBOR; keys of maps are text or bytes. Raises MalformedError."""
    if type(data) is not bytes or len(data) > max_bytes:
        raise MalformedError(f"oversized: at most {max_bytes} bytes")
    try:
        return cbor2.loads(
            data,
            semantic_decoders=_NO_TAGS,
            max_depth=max_depth,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            strict_hashable_types=True,
        )
    except Exception as err:
        # The decoder's errors on hostile bytes are many: overflow, recursion, memory, encoding.
        raise MalformedError("not CBOR of the plain kind") from err


def decode_map(data: bytes, max_bytes: int) -> dict[int, Any]:
    """A map whose keys are rising whole numbers. Raises MalformedError.

    It is decoded as the list of its keys and values, and becomes a dictionary once the keys are checked.
    """
    if type(data) is not bytes or not data or not 0 <= data[0] - 0xA0 <= MAX_FIELDS:
        raise MalformedError("not a CBOR map of a few fields")
    if len(data) > max_bytes:
        raise MalformedError(f"oversized: at most {max_bytes} bytes")
    items = 2 * (data[0] - 0xA0)
    header = bytes((0x80 | items,)) if items < 24 else bytes((0x98, items))
    listed = decode(header + data[1:], max_bytes + 1)
    keys = listed[::2]
    if not {*map(type, keys)} <= _WHOLE or keys != sorted({*keys}):
        raise MalformedError("the fields of a map are not numbered and in order")
    return dict(zip(keys, listed[1::2], strict=True))


def fields(data: bytes, form: str, max_bytes: int) -> list[Any]:
    """The values of a map with the keys 0, 1, 2 ..., whose types `form` spells, a letter each.

    i whole number, s text, b bytes, l list, m map. Raises MalformedError.
    """
    found = decode_map(data, max_bytes)
    values = list(found.values())
    if list(found) != list(range(len(form))) or not typed(values, form):
        raise MalformedError("a message has other fields than it should")
    return values


def typed(values: list[Any], form: str) -> bool:
    """Whether each value is exactly of its type; a boolean is no whole number."""
    return [*map(type, values)] == _types(form)


@functools.lru_cache(maxsize=64)
def _types(form: str) -> list[type]:
    return [_FORMS[letter] for letter in form]


def dump_fields(*values: Any) -> bytes:
    """The map of `values` under the keys 0, 1, 2 ..., in the deterministic encoding (RFC 8949 4.2.1)."""
    return cbor2.dumps(dict(enumerate(values)), canonical=True)
