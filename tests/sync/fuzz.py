"""Every decoder of bytes from outside, what it may raise, and a mutator that knows CBOR and JSON.

`python -m tests.sync.fuzz decoder seconds` hunts for longer than CI does and prints what it finds in hex; put
a find into tests/data/fuzz/<decoder>/. Payloads that are signed when they travel are signed here after the
change: a hostile unit, and a stolen key, sign whatever they like.
"""

from __future__ import annotations

import functools
import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from device.api import bodies
from device.api.errors import ProblemError
from sync import cose
from sync.errors import SyncError
from sync.events import Record, unit_id
from sync.keys import FileSigner
from sync.orders import commands
from sync.proofs import chain, heads
from sync.proofs.bundle import parse
from sync.proofs.heads import Head
from sync.proofs.merkle import Frontier
from sync.proofs.verify import verify
from sync.registry.verification import CheckedBatch, Position, check_events, check_head, place
from sync.threats.listed import Threat, ThreatList
from sync.threats.prints import (
    KEPT_TYPE,
    MODEL,
    PRINT_TYPE,
    VALUES,
    Print,
    SealedPrint,
    open_kept,
    open_print,
    signed_kept,
)
from sync.transport import messages
from sync.transport.health import open_health, read_health, signed_health
from sync.transport.messages import BatchMessage
from sync.transport.topics import EVENTS, HEALTH, RESULTS, unit_of
from tests.sync.parts import START_MS, UNIT, event

CORPUS = Path(__file__).parents[1] / "data" / "fuzz"
NAME = unit_id(UNIT)
SIGNER = FileSigner(ec.derive_private_key(0x0571A217, ec.SECP256R1()))
KEY = SIGNER.public_key()

NASTY: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 23, 24, 2**31, 2**53, 2**53 + 1, 2**63, 2**64 - 1, -(2**63), 1.5, -0.0,
    float("nan"), float("inf"), b"", b"\x00" * 16, b"\x00" * 32, b"\xff" * 64, "", "x" * 70,
    "0123456789abcdef",
    "a/b", "A/B", "\u0000", "é" * 30, [], [1] * 16, [None], [[]], {}, {"a": 1}, {1: 2}, {b"a": b"b"},
    cbor2.CBORTag(35, "("), cbor2.CBORTag(2, b"\x01" * 9), cbor2.CBORTag(18, []), cbor2.CBORSimpleValue(99),
    cbor2.undefined,
)  # fmt: skip
NASTY_JSON: tuple[Any, ...] = (
    *(value for value in NASTY if value is None or isinstance(value, bool | int | float | str)),
    *([], [1] * 16, [None], {}, {"a": []}, {"state": {}}),
)
TOKENS = (
    b"\xd8\x23", b"\xc2\x49", b"\x9f", b"\xff", b"\xbf", b"\x9a\xff\xff\xff\xff", b"\xfb\x7f\xf8\0\0\0\0\0\0",
    b"\xf7", b"\x5b\x7f\xff\xff\xff\xff\xff\xff\xff", b"\xa1\x01\x02", b"[" * 50, b'{"a":', b"1e999", b"NaN",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Decoder:
    """`feed` takes bytes as they would come; only `errors` may come out of it. `seeds` are honest."""

    feed: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    errors: tuple[type[Exception], ...] = (SyncError,)
    text: bool = False


def signed(content_type: str, open_: Callable[..., object], honest: bytes, *more: object) -> Decoder:
    """A decoder of what is signed: the payload is changed and signed again, or the envelope is changed."""

    def feed(payload: bytes) -> object:
        if payload.startswith(b"\xd2"):  # the envelope itself is what is hostile
            return open_(payload, KEY, NAME, *more)
        return open_(cose.sign1(payload[:60_000], SIGNER, content_type), KEY, NAME, *more)

    return Decoder(feed, (cose.peek1(honest), honest))


def checked(payload: bytes) -> CheckedBatch:
    """A batch as the registry checks it, of the unit whose key is `KEY`."""
    message = BatchMessage.from_bytes(payload)
    return check_events(message, check_head(message, KEY))


def _batch(payload: bytes) -> object:
    batch = checked(payload)
    return place(batch, Position.start(NAME), None, START_MS)


def _event(payload: bytes) -> object:
    """An event as such, and in a batch that its unit has signed."""
    Record.from_bytes(payload)
    return payload


def _event_in_batch(payload: bytes) -> object:
    return _batch(_in_batch(payload))


def _in_batch(payload: bytes) -> bytes:
    """A batch of one event, whatever it is, as its unit would sign it."""
    tree, link = Frontier().extended([chain.leaf_hash(payload)]), chain.extend(chain.genesis(NAME), [payload])
    head = Head(NAME, 1, link, tree.root(), START_MS, 3, 1).signed(SIGNER)
    return BatchMessage(NAME, 1, chain.genesis(NAME), 1, (payload,), head).to_bytes()


def _bundle(payload: bytes) -> object:
    verify(payload, KEY, unit=NAME, checkpoints=[payload[:500]])  # reports, and never raises
    return parse(payload)


def _health(payload: bytes) -> object:
    """The report under its unit's signature, or a message as it comes."""
    if not payload.startswith(b"\xd2"):
        payload = signed_health(NAME, payload[:60_000], SIGNER)
    return open_health(payload, KEY, NAME)


def _facade(payload: bytes) -> object:
    table = bodies.json_object(payload)
    for read in (bodies.otp_request, bodies.register_request, bodies.verify_request):
        try:
            read(table)
        except ProblemError:
            continue
    return table


def _topic(payload: bytes) -> object:
    return unit_of(payload.decode("utf-8", "replace"))


def _threats() -> ThreatList:
    point = KEY.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    threats = (Threat(7, bytes(range(1, VALUES + 1)), 800), Threat(9, bytes([5]) * VALUES, 700))
    return ThreatList(3, START_MS, MODEL, point, threats)


@functools.cache
def decoders() -> dict[str, Decoder]:
    from tests.sync.fuzz_fleet import fleet_decoders
    from tests.sync.proofs.test_verify import make_log  # a log needs seeds of its own

    body = Record(NAME, 1, event(1, silent_alarm=True, more_scores=(("replay_llr", 1.5),))).to_bytes()
    log = make_log([2, 1], SIGNER)  # type: ignore[arg-type]
    first = log.events[:2]
    batch = BatchMessage(NAME, 1, chain.genesis(NAME), 1, first, log.heads[0])
    head = Head(NAME, 5, bytes(32), bytes(32), START_MS, 3, 1)
    receipt = messages.Receipt(NAME, 7, bytes(32), "stored", START_MS)
    order = commands.Command(NAME, 3, START_MS, START_MS + 9000, "resend", {"after": 3, "door": "x"})
    answer = commands.Result(NAME, 3, "failed", "not_held", START_MS)
    told = b'{"state": "online", "pending": 1, "counter": 3, "time_ms": 5, "facts": {"policy": "rules-1"}}'
    audio = '"UklGRgAAAABXQVZF"'
    facade = (
        '{"tid": "t-1", "uid": "17", "text": "a", "style": "code", "door": "icu"}',
        f'{{"tid": "t-1", "uid": "17", "audio": [{audio}, {audio}, {audio}], "consent_to": "2030"}}',
        f'{{"tid": "t-1", "uid": "17", "audio": {audio}, "code": "1D3A"}}',
    )
    return fleet_decoders() | {
        "topic": Decoder(_topic, (f"ostiary/v1/{UNIT}/events".encode(),), text=True),
        "health": Decoder(read_health, (told,), text=True),
        "health-signed": Decoder(_health, (told, signed_health(NAME, told, SIGNER)), text=True),
        "event": Decoder(_event, (body,)),
        "event-in-batch": Decoder(_event_in_batch, (body,)),
        "batch": Decoder(_batch, (batch.to_bytes(),)),
        "head": signed(heads.HEAD_TYPE, heads.open_head, head.signed(SIGNER)),
        "receipt": signed(messages.RECEIPT_TYPE, messages.open_receipt, receipt.signed(SIGNER)),
        "command": signed(
            commands.COMMAND_TYPE, commands.open_command, order.signed(SIGNER), START_MS + 1000
        ),
        "result": signed(commands.RESULT_TYPE, commands.open_result, answer.signed(SIGNER)),
        "bundle": Decoder(_bundle, (log.to_bytes(),)),
        "print": Decoder(Print.from_bytes, (Print(MODEL, bytes(range(1, VALUES + 1))).to_bytes(),)),
        "print-sealed": signed(PRINT_TYPE, open_print, SealedPrint(NAME, 7, bytes(300)).signed(SIGNER)),
        "print-kept": signed(KEPT_TYPE, open_kept, signed_kept(NAME, [bytes(32)], SIGNER)),
        "threat-list": Decoder(ThreatList.from_bytes, (_threats().to_bytes(),)),
        "facade": Decoder(_facade, tuple(text.encode() for text in facade), (ProblemError,), text=True),
    }


def on_the_wire(dice: random.Random) -> tuple[str, bytes]:
    """A channel that a unit may write to, and what a hostile one writes there: signed where that helps it."""
    name = dice.choice(
        ("event-in-batch", "batch", "batch", "head", "health", "health-signed", "result", "receipt")
    )
    payload = next(hostile(name, dice))
    match name:
        case "event-in-batch":
            return EVENTS, _in_batch(payload)
        case "health-signed":
            return HEALTH, signed_health(NAME, payload, SIGNER)
        case "result":
            return RESULTS, cose.sign1(payload, SIGNER, commands.RESULT_TYPE)
    return dice.choice((EVENTS, HEALTH, RESULTS)), payload


def corpus(name: str) -> list[bytes]:
    """What was found, or thought of, before."""
    folder = CORPUS / name
    return [path.read_bytes() for path in sorted(folder.iterdir())] if folder.is_dir() else []


def hostile(name: str, dice: random.Random) -> Iterator[bytes]:
    """Mutations of the seeds and the corpus, without end."""
    decoder = decoders()[name]
    pool = [*decoder.seeds, *corpus(name)]
    while True:
        data = dice.choice(decoder.seeds if dice.random() < 0.7 else pool)
        for _ in range(dice.choice((1, 1, 1, 2, 4))):
            data = dice.choice((_bytes, _nodes, _nodes))(data, decoder.text, dice)
        yield data


def _bytes(data: bytes, text: bool, dice: random.Random) -> bytes:
    at, raw = dice.randrange(len(data) + 1), bytearray(data)
    match dice.randrange(5):
        case 0 if at < len(raw):
            raw[at] ^= 1 << dice.randrange(8)
        case 1:
            del raw[at : at + dice.randint(1, 40)]
        case 2:
            raw[at:at] = dice.choice(TOKENS)
        case 3:
            raw[at:at] = raw[: dice.randint(0, 60)]
        case _:
            raw[at:at] = dice.randbytes(dice.randint(1, 9))
    return bytes(raw)


def _nodes(data: bytes, text: bool, dice: random.Random) -> bytes:
    """Another value, or type, somewhere inside; what cannot be read or written is changed as bytes."""
    try:
        tree = json.loads(data) if text else cbor2.loads(data)
        changed = _replaced(tree, NASTY_JSON if text else NASTY, dice)
        return json.dumps(changed).encode() if text else cbor2.dumps(changed, canonical=dice.random() < 0.8)
    except Exception:  # noqa: BLE001 - the library's errors on what is hostile are many
        return _bytes(data, text, dice)


def _replaced(node: Any, nasty: tuple[Any, ...], dice: random.Random) -> Any:
    if isinstance(node, dict) and node and dice.random() < 0.9:
        key = dice.choice(list(node))
        if dice.random() < 0.15:
            return {**{k: v for k, v in node.items() if k != key}, dice.choice(("x", 99, key)): node[key]}
        return {**node, key: _replaced(node[key], nasty, dice)}
    if isinstance(node, list) and node and dice.random() < 0.9:
        at = dice.randrange(len(node))
        return [*node[:at], _replaced(node[at], nasty, dice), *node[at + 1 :]]
    return dice.choice(nasty)


def hunt(name: str, rounds: int, seed: int, until_s: float = float("inf")) -> list[tuple[bytes, Exception]]:
    """What came out of a decoder that should not have, for up to `rounds` hostile messages."""
    decoder, found = decoders()[name], []
    for number, data in enumerate(hostile(name, random.Random(seed))):
        if number >= rounds or time.monotonic() > until_s:
            return found
        try:
            decoder.feed(data)
        except decoder.errors:
            continue
        except Exception as err:  # noqa: BLE001 - this is what is looked for
            found.append((data, err))
    return found


if __name__ == "__main__":
    for data, err in hunt(sys.argv[1], 10**9, time.time_ns(), time.monotonic() + float(sys.argv[2])):
        print(type(err).__name__, err, data.hex())
