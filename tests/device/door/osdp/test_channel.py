"""What a wire does to frames: noise, halves, other readers' answers, and a controller that asks again."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from itertools import count

import pytest

from device.door.osdp.channel import Channel
from device.door.osdp.frames import GAP_S, REFUSED, Framer, screened, sequence
from device.door.osdp.keys import new_key
from tests.device.door.osdp.panels import PanelProcess, wait_for
from tests.device.door.osdp.test_attacks import clear_frame, crc
from tests.device.door.osdp.wire import CARD, Recorder, Wire, unit

IDENTITY, CAPABILITIES = 0x61, 0x62  # identity and capabilities: what passes in clear
OTHERS_ANSWER = b"\x53\x82\x08\x00\x05\x40"
"""Of the reader at address 2, whose check value does not matter here."""


class FakePort:
    """A SerialPort on which a test says what came, and reads what went."""

    id, lost = 1, ""

    def __init__(self) -> None:
        self.came = b""
        self.went: list[bytes] = []

    def read(self, max_bytes: int) -> bytes:
        data, self.came = self.came[:max_bytes], self.came[max_bytes:]
        return data

    def write(self, data: bytes) -> int:
        self.went.append(data)
        return len(data)


def refreshed(channel: Channel) -> bytes:
    """What the library reads in one round: chunks of 64 bytes until one is shorter."""
    found = b""
    while chunk := channel.read(64):
        found += chunk
        if len(chunk) < 64:
            break
    return found


def a_channel() -> tuple[FakePort, Channel]:
    """Each look at the clock is a second after the last one."""
    port = FakePort()
    return port, Channel(port, 1, now_s=partial(next, count(1.0)))  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [0, 1, 46, 56, 57, 120, 248])
def test_a_frame_of_any_size_in_any_pieces_is_given_whole(size: int) -> None:
    frame = clear_frame(CAPABILITIES, bytes(range(size)), 1)
    framer = Framer(1)
    found = [whole for byte in frame for whole in framer.feed(bytes((byte,)), 0.0)]
    assert found == [frame]
    port, channel = a_channel()
    port.came = b"\xff" + frame + clear_frame(IDENTITY, b"", 2)
    assert refreshed(channel) == b"\xff" + frame, "one frame at a time, with its mark"
    assert refreshed(channel) == clear_frame(IDENTITY, b"", 2)
    assert refreshed(channel) == b""


def test_noise_halves_and_what_is_meant_for_others_never_reach_the_library() -> None:
    frame = clear_frame(IDENTITY, b"", 1)
    damaged = bytearray(clear_frame(CAPABILITIES, b"S\x53\x01\x08 text", 3))
    damaged[9] ^= 0x10
    for before in (b"\x53\xff\x00", b"\x53\x53\x53\x53", frame[:5], bytes(damaged), OTHERS_ANSWER + b"\0\0"):
        framer = Framer(1)
        found = framer.feed(before + frame, 0.0) or framer.feed(b"", GAP_S + 0.01)
        assert (found, framer.damaged > 0) == ([frame], True), before
    other = bytearray(frame)
    other[1] = 2
    assert Framer(1).feed(bytes(other), 0.0) == []


def test_random_bytes_between_frames_cost_no_frame() -> None:
    rng = random.Random(1)
    framer, now_s, missed = Framer(1), 0.0, 0
    for number in range(300):
        frame = clear_frame(CAPABILITIES, rng.randbytes(rng.randrange(60)), 1 + number % 3)
        found = framer.feed(rng.randbytes(rng.randrange(40)), now_s)
        for _ in range(45):  # each pause gives up one beginning that was none
            now_s += 2 * GAP_S
            found += framer.feed(b"", now_s)
        missed += framer.feed(frame, now_s) != [frame] or found != []
    assert missed == 0


def test_a_command_that_comes_again_gets_the_same_answer_and_is_not_obeyed_again() -> None:
    port, channel = a_channel()
    port.came = first = clear_frame(IDENTITY, b"", 1)
    assert refreshed(channel) == first
    channel.write(b"answer 1")
    port.came = first
    assert refreshed(channel) == b""
    assert (port.went, channel.repeated) == ([b"answer 1"] * 2, 1)
    port.came = clear_frame(IDENTITY, b"", 2)
    assert refreshed(channel) == clear_frame(IDENTITY, b"", 2)


def test_a_command_that_came_twice_before_it_could_be_answered_is_answered_once() -> None:
    port, channel = a_channel()
    port.came = (first := clear_frame(IDENTITY, b"", 1)) * 2
    assert refreshed(channel) == first
    channel.write(b"answer 1")
    assert refreshed(channel) == b""
    assert port.went == [b"answer 1"]


def test_an_answer_that_crossed_the_repeated_command_is_not_followed_by_another() -> None:
    port = FakePort()
    channel = Channel(port, 1, now_s=lambda: 7.0)  # type: ignore[arg-type]
    port.came = first = clear_frame(IDENTITY, b"", 1)
    assert refreshed(channel) == first
    channel.write(b"answer 1")
    port.came = first
    assert refreshed(channel) == b""
    assert (port.went, channel.repeated) == ([b"answer 1"], 0)


def test_a_controller_that_begins_anew_is_never_given_an_old_answer() -> None:
    port, channel = a_channel()
    for _ in range(2):
        port.came = begin = clear_frame(IDENTITY, b"", 0)
        assert refreshed(channel) == begin
        channel.write(b"answer 0")
    assert channel.repeated == 0


@pytest.mark.e2e
@pytest.mark.timeout(240)
def test_the_secure_channel_outlives_lost_answers_damaged_commands_and_noise() -> None:
    """Every kind of trouble once; libosdp's controller asks again a second after each. An answer that is
    damaged stays out: what a controller then does is its own affair, and this one begins anew.
    """
    key, panel = new_key(), Recorder()
    troubles: dict[str, Callable[[bytes], bytes]] = {
        "answer lost": lambda data: b"",
        "command lost": lambda data: b"",
        "command damaged": lambda data: data[:-1] + bytes((data[-1] ^ 1,)),
        "noise": lambda data: b"\x53\x00" + OTHERS_ANSWER + data,
    }
    due: list[str] = []

    def troubled(side: str, data: bytes) -> bytes:
        return troubles[due.pop()](data) if due and (side == "answer") == ("answer" in due[0]) else data

    with (
        Wire() as wire,
        unit(wire, key, panel) as reader,
        PanelProcess.libosdp(wire.panel, key) as controller,
    ):
        wait_for(lambda: reader.secure and any(told["secure"] for told in controller.of("status")))
        wire.from_reader, wire.from_panel = partial(troubled, "answer"), partial(troubled, "command")
        for number, trouble in enumerate(troubles, start=1):
            due.append(trouble)
            wait_for(lambda: not due)
            assert reader.send_card(CARD), trouble
            wait_for(lambda number=number: len(controller.of("event")) == number)  # type: ignore[misc]
    assert panel.secure[:1] == [True]
    assert False not in panel.secure[:-1], "it was lost only at the end, if at all"


def block_frame(block: bytes, command: int, data: bytes = b"", number: int = 2) -> bytes:
    """A command behind a security block; with a signature of zeros where it says that it has one."""
    rest = block + bytes((command,)) + data + bytes(4) * (block[1:2] > b"\x14")
    frame = bytes((0x53, 1, 7 + len(rest), 0, 0x04 | 0x08 | number)) + rest
    return frame + crc(frame).to_bytes(2, "little")


CHALLENGE, CRYPTOGRAM, ASK, KEY, LIGHT = 0x76, 0x77, 0x60, 0x75, 0x69


@pytest.mark.parametrize(
    ("frame", "passes"),
    [
        (clear_frame(IDENTITY, b"\0"), True),
        (clear_frame(CAPABILITIES, b"\0"), True),
        *((clear_frame(command, bytes(18)), False) for command in (ASK, KEY, LIGHT, CHALLENGE, CRYPTOGRAM)),
        (block_frame(b"\3\x11\1", CHALLENGE, bytes(8)), True),
        (block_frame(b"\3\x13\1", CRYPTOGRAM, bytes(16)), True),
        (block_frame(b"\3\x11\0", CHALLENGE, bytes(8)), True),
        (block_frame(b"\3\x11\1", CRYPTOGRAM, bytes(16)), False),
        (block_frame(b"\3\x13\1", CHALLENGE, bytes(8)), False),
        (block_frame(b"\3\x11\1", KEY, bytes(18)), False),
        (block_frame(b"\3\x13\1", LIGHT, bytes(14)), False),
        (block_frame(b"\2\x15", ASK), True),
        (block_frame(b"\2\x15", LIGHT, bytes(14)), True),
        (block_frame(b"\2\x15", KEY, bytes(18)), False),
        (block_frame(b"\2\x17", KEY, bytes(32)), True),
        *((block_frame(bytes((3, kind, 1)), ASK), False) for kind in (0, 0x10, 0x12, 0x14, 0x16, 0x18, 0xFF)),
        *((block_frame(bytes((size, 0x17)), KEY, bytes(18)), False) for size in (0, 1, 200)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("mark", [b"", b"\xff"])
def test_in_clear_only_identity_capabilities_and_the_handshake_pass(
    frame: bytes, passes: bool, mark: bytes
) -> None:
    given = screened(mark + frame)
    assert (given == mark + frame) == passes
    if not passes:
        assert Framer(1).feed(given, 0.0) == [given], "the library must be able to answer it"
        assert sequence(given) == sequence(frame), "or controller and reader fall out of step"
        assert given[len(mark) + 4 :][1] == REFUSED


def test_whatever_comes_as_a_whole_frame_is_screened_without_a_stumble() -> None:
    rng = random.Random(7)
    for _ in range(5_000):
        body = rng.randbytes(rng.randrange(2, 40))
        frame = bytes((0x53, 1, 7 + len(body), 0, rng.randrange(256) | 0x04)) + body
        whole = frame + crc(frame).to_bytes(2, "little")
        assert Framer(1).feed(screened(whole), 0.0), whole.hex()


def test_what_may_not_pass_reaches_the_library_as_a_command_that_none_knows() -> None:
    port, channel = a_channel()
    port.came = clear_frame(KEY, bytes(18), 2)
    assert refreshed(channel) == clear_frame(REFUSED, b"", 2)
