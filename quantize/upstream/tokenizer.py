"""Whisper's tokens as its `tokenizer.json` lists them."""

from __future__ import annotations

import json
from pathlib import Path

from quantize.errors import QuantizeError
from sync.plain_file import LARGE_BYTES, plain_text
from sync.plain_words import why


def read_vocabulary(path: Path) -> list[bytes]:
    """The byte string of every ordinary token, in id order, from a Hugging Face `tokenizer.json`.

    Raises QuantizeError.
    """
    try:
        table = json.loads(plain_text(path, LARGE_BYTES))["model"]["vocab"]
        byte_of = {symbol: byte for byte, symbol in enumerate(_byte_symbols())}
        by_id = sorted((index, token) for token, index in table.items())
        if [index for index, _ in by_id] != list(range(len(by_id))):
            raise ValueError("token ids have gaps")
        return [
            token.encode() if token.startswith("<|") else bytes(byte_of[symbol] for symbol in token)
            for _, token in by_id
        ]
    except OSError as err:
        raise QuantizeError(f"{path.name} cannot be read ({why(err)})") from err
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise QuantizeError(f"{path.name} is not a byte-level BPE tokenizer ({err})") from err


def read_specials(path: Path) -> dict[str, int]:
    """The number of every token that stands for no text, by name. Raises QuantizeError."""
    try:
        added = json.loads(plain_text(path, LARGE_BYTES))["added_tokens"]
        return {str(token["content"]): int(token["id"]) for token in added}
    except OSError as err:
        raise QuantizeError(f"{path.name} cannot be read ({why(err)})") from err
    except (ValueError, KeyError, TypeError) as err:
        raise QuantizeError(f"{path.name} lists no special tokens ({err})") from err


def _byte_symbols() -> list[str]:
    """GPT-2's printable stand-in for each byte value, in byte order."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    symbols = {byte: chr(byte) for byte in plain}
    for byte in range(256):
        symbols.setdefault(byte, chr(256 + len(symbols) - len(plain)))
    return [symbols[byte] for byte in range(256)]
