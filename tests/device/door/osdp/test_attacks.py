"""Seven attacks on an OSDP line, through somebody in the middle or by a controller that is not ours."""

from __future__ import annotations

import time

import osdp_sys
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from device.door.lines import DoorError
from device.door.osdp import channel
from device.door.osdp.frames import SOM, Framer, sequence
from device.door.osdp.install import Installing
from device.door.osdp.keys import DEFAULT_KEY, keep_key, kept_key, new_key, weakness
from device.door.osdp.peripheral import VENDOR, Peripheral
from device.door.osdp.port import SerialPort
from device.secure_store.memory import SecretBytes
from tests.device.door.osdp.panels import PanelProcess, wait_for
from tests.device.door.osdp.test_panels import derived
from tests.device.door.osdp.wire import CARD, Recorder, Wire, unit

pytestmark = pytest.mark.e2e

WATCHED_S = 4.0
"""So long an attack goes on before its failure counts; a handshake takes half a second."""
KEYSET, TEXT, MFG, CAPABILITIES, NAK, SECURITY = 0x75, 0x6A, 0x80, 0x46, 0x41, 9
SECURED = 0x08
"""In a frame's control byte: a security block follows."""
A_KEY = b"\x01\x10" + bytes.fromhex("c2e8153f9a047bd1664098ab3dfe0275")
A_TEXT = bytes((0, 1, 0, 1, 1, 4)) + b"OPEN"
A_CLAIM = VENDOR.to_bytes(3, "little") + b"\x014711"


def crc(data: bytes) -> int:
    """CRC-16 of the standard (AUG-CCITT)."""
    found = 0x1D0F
    for byte in data:
        found ^= byte << 8
        for _ in range(8):
            found = (found << 1 ^ 0x1021 if found & 0x8000 else found << 1) & 0xFFFF
    return found


def clear_frame(command: int, data: bytes, sequence: int = 0) -> bytes:
    """A command to address 1 outside any secure channel."""
    length = 8 + len(data)
    frame = bytes((0x53, 1, length & 0xFF, length >> 8, 0x04 | sequence, command)) + data
    return frame + crc(frame).to_bytes(2, "little")


def nothing_happens(reader: Peripheral) -> None:
    until_s = time.monotonic() + WATCHED_S
    while time.monotonic() < until_s:
        assert not reader.secure
        assert not reader.send_card(CARD)
        time.sleep(0.02)


DEFENCES = pytest.mark.parametrize("left", ["both", "ours", "library"])
"""Of the two that keep the clear out, our own screen and the library's flag, what is left standing."""


def without(left: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if left in ("ours", "none"):
        monkeypatch.setattr(osdp_sys, "FLAG_ENFORCE_SECURE", 0)
    if left in ("library", "none"):
        monkeypatch.setattr(channel, "screened", lambda frame: frame)


@DEFENCES
def test_1_a_controller_that_speaks_in_the_clear_gets_no_card(
    monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    without(left, monkeypatch)
    with (
        Wire() as wire,
        unit(wire, new_key(), Recorder()) as reader,
        PanelProcess.pure(wire.panel, new_key(), "clear") as controller,
    ):
        wait_for(lambda: controller.of("begun"))
        wait_for(lambda: controller.of("nak"))
        nothing_happens(reader)
        assert CARD.data not in wire.seen
        assert controller.of("card") == []


def test_1_with_neither_defence_the_same_controller_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the attack is one: a text of the attacker is shown."""
    without("none", monkeypatch)
    panel = Recorder()
    with Wire() as wire, unit(wire, new_key(), panel):
        attacker = SerialPort(wire.panel, 9_600)
        wait_for(lambda: _shown(attacker, panel))
        attacker.close()


@DEFENCES
def test_1_a_text_in_the_clear_is_not_shown(monkeypatch: pytest.MonkeyPatch, left: str) -> None:
    without(left, monkeypatch)
    panel = Recorder()
    with Wire() as wire, unit(wire, new_key(), panel):
        attacker, answers = SerialPort(wire.panel, 9_600), Framer(0x81)
        refused: list[bytes] = []
        for _ in range(5):
            attacker.write(clear_frame(TEXT, A_TEXT, 0))
            time.sleep(0.1)
            refused += answers.feed(attacker.read(4096), time.monotonic())
        attacker.close()
    assert {frame[frame.index(SOM) + 5] for frame in refused} == {NAK}
    assert panel.commands == []


def _shown(attacker: SerialPort, panel: Recorder) -> bool:
    attacker.write(clear_frame(TEXT, A_TEXT, 0))
    attacker.read(4096)
    return panel.commands != []


def test_2_capabilities_rewritten_to_no_security_open_no_clear_channel() -> None:
    """The reply is changed on its way, checksum and all, for a controller that would believe it."""
    changed = []

    def downgrade(data: bytes) -> bytes:
        at = data.find(b"\x53")
        if at < 0 or len(data) < at + 8 or data[at + 5] != CAPABILITIES:
            return data
        frame = bytearray(data[at:-2])
        for entry in range(6, len(frame) - 2, 3):
            if frame[entry] == SECURITY:
                frame[entry + 1 : entry + 3] = b"\0\0"
                changed.append(entry)
        return data[:at] + bytes(frame) + crc(bytes(frame)).to_bytes(2, "little")

    with Wire() as wire, unit(wire, key := new_key(), Recorder()) as reader:
        wire.from_reader = downgrade
        with PanelProcess.libosdp(wire.panel, key, "clear") as controller:
            wait_for(lambda: changed)
            until_s = time.monotonic() + WATCHED_S
            while time.monotonic() < until_s:
                assert reader.send_card(CARD) == reader.secure
                time.sleep(0.02)
            assert CARD.data not in wire.seen
            assert reader.secure or controller.of("event") == []


ASKS_FOR_THE_DEFAULT_KEY = bytes((3, 0x11, 0))
CHALLENGE, CRYPTOGRAM = 0x76, 0x76
"""A controller's command and the reader's answer have the same number."""


def aes(key: bytes, data: bytes) -> bytes:
    cipher = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305 - single blocks, as the standard has it
    return cipher.update(data) + cipher.finalize()


def served_with_the_default_key(wire: Wire) -> bool:
    """Whether the reader answers a challenge under the published key: what a controller left in install mode,
    or an attacker in its place, asks for.
    """
    random = bytes(range(8))
    rest = ASKS_FOR_THE_DEFAULT_KEY + bytes((CHALLENGE,)) + random
    attacker, answers = SerialPort(wire.panel, 9_600), Framer(0x81)
    heard: list[bytes] = []

    def asked() -> list[bytes]:
        frame = bytes((SOM, 1, 7 + len(rest), 0, 0x04 | 0x08)) + rest
        attacker.write(frame + crc(frame).to_bytes(2, "little"))
        time.sleep(0.1)
        heard.extend(answers.feed(attacker.read(4096), time.monotonic()))
        return heard

    wait_for(asked)
    attacker.close()
    answer = heard[0][heard[0].index(SOM) :]
    if not answer[4] & 0x08 or answer[8] != CRYPTOGRAM:
        return False
    theirs, proof = answer[17:25], answer[25:41]
    session = aes(DEFAULT_KEY, bytes((0x01, 0x82)) + random[:6] + bytes(8))
    return aes(session, random + theirs) == proof


def test_3_a_controller_that_stays_in_install_mode_is_not_served_with_the_default_key() -> None:
    with Wire() as wire, unit(wire, new_key(), Recorder()):
        assert not served_with_the_default_key(wire)


@pytest.mark.parametrize("planted", [False, True], ids=["installation", "flag"])
def test_3_installation_serves_it_and_so_would_the_librarys_flag(
    monkeypatch: pytest.MonkeyPatch, planted: bool
) -> None:
    """So that the attack is one, and the flag the only thing that keeps it out."""
    if planted:
        monkeypatch.setattr(osdp_sys, "FLAG_ENFORCE_SECURE", osdp_sys.FLAG_INSTALL_MODE)
    with Wire() as wire, unit(wire, new_key() if planted else None, Recorder(), install=not planted):
        assert served_with_the_default_key(wire)


def test_3_a_controller_without_a_key_gets_no_channel() -> None:
    panel = Recorder()
    with (
        Wire() as wire,
        unit(wire, new_key(), panel) as reader,
        PanelProcess.libosdp(wire.panel, None, "clear"),
    ):
        nothing_happens(reader)
    assert panel.keys == []


def test_3_a_reader_without_a_key_does_not_serve_the_default_one(tmp_path) -> None:
    with pytest.raises(DoorError, match="osdp-key"):
        kept_key(tmp_path, lambda label: SecretBytes(32))
    with Wire() as wire, pytest.raises(DoorError, match="without a key"):
        Peripheral(SerialPort(wire.reader, 9_600), 1, None, 1, Recorder())


@pytest.mark.parametrize(
    "key",
    [
        DEFAULT_KEY,
        bytes(16),
        b"\xff" * 16,
        bytes(range(16)),
        bytes(range(15, -1, -1)),
        bytes(range(0, 32, 2)),
        b"\x01\x02" * 8,
        bytes.fromhex("0123456789abcdef") * 2,
        b"ThisIsASecretKey",
        b"short",
    ],
)
def test_4_weak_and_published_keys_are_refused(tmp_path, key: bytes) -> None:
    assert weakness(key)
    with pytest.raises(DoorError, match="refused"):
        keep_key(tmp_path, lambda label: SecretBytes(32), key)
    assert list(tmp_path.iterdir()) == []
    with Wire() as wire, pytest.raises(DoorError, match="refused"):
        Peripheral(SerialPort(wire.reader, 9_600), 1, key, 1, Recorder())
    kept: list[bytes] = []
    installing = Installing(lambda given: kept.append(given) if not weakness(given) else _refuse())
    assert not installing.key_offered(key)
    assert kept == []


def answered_in_clear(frames: list[bytes]) -> set[int]:
    """What the reader answered to somebody who has no key. On a busy machine its last answer to the panel may
    come now as well; that is enciphered."""
    clear = [frame for frame in frames if not frame[frame.index(SOM) + 4] & SECURED]
    assert clear, "the attacker was not even heard"
    return {frame[frame.index(SOM) + 5] for frame in clear}


def _refuse() -> None:
    raise DoorError("the key is refused")


@DEFENCES
def test_5_a_key_set_in_the_clear_is_refused(monkeypatch: pytest.MonkeyPatch, left: str) -> None:
    without(left, monkeypatch)
    panel, key = Recorder(takes_keys=True), new_key()
    with Wire() as wire, unit(wire, key, panel) as reader:
        with PanelProcess.libosdp(wire.panel, key):
            wait_for(lambda: reader.secure)
        attacker, answers = SerialPort(wire.panel, 9_600), Framer(0x81)
        refused: list[bytes] = []
        for sequence in (0, 1, 2, 3) * 5:
            attacker.write(clear_frame(KEYSET, b"\x01\x10" + new_key(), sequence))
            time.sleep(0.1)
            refused += answers.feed(attacker.read(4096), time.monotonic())
        attacker.close()
        assert answered_in_clear(refused) == {NAK}
        assert panel.keys == []
        with PanelProcess.libosdp(wire.panel, key):  # the old key still serves
            wait_for(lambda: not reader.secure)
            wait_for(lambda: reader.secure)


class Injecting:
    """In the middle of a channel that is up: the next frame of the controller becomes one of ours, with its
    number, behind the security block that a handshake has. Holds what the reader answers to it.
    """

    def __init__(self, wire: Wire, command: int, data: bytes) -> None:
        self._rest = HANDSHAKE + bytes((command,)) + data
        self._asks, self._answers = Framer(1), Framer(0x81)
        self._sent = False
        self.answers: list[bytes] = []
        wire.from_panel, wire.from_reader = self._from_panel, self._from_reader

    def _from_panel(self, data: bytes) -> bytes:
        frames = self._asks.feed(data, time.monotonic())
        if self._sent or not frames:
            return data
        self._sent = True
        frame = bytes((SOM, 1, 7 + len(self._rest), 0, 0x04 | 0x08 | sequence(frames[0]))) + self._rest
        return frame + crc(frame).to_bytes(2, "little")

    def _from_reader(self, data: bytes) -> bytes:
        if self._sent:
            self.answers += self._answers.feed(data, time.monotonic())
        return data


HANDSHAKE = bytes((3, 0x11, 1))
"""Size, type and key of a security block: a handshake that asks for the channel's own key."""


def injected(command: int, data: bytes) -> Recorder:
    """What the reader obeyed of a command that somebody put into the channel of a controller."""
    panel, key = Recorder(takes_keys=True), new_key()
    with Wire() as wire, unit(wire, key, panel) as reader, PanelProcess.libosdp(wire.panel, key):
        wait_for(lambda: reader.secure)
        middle = Injecting(wire, command, data)
        wait_for(lambda: middle.answers)
    return panel


@pytest.mark.parametrize(
    ("command", "data"),
    [(KEYSET, A_KEY), (TEXT, A_TEXT), (MFG, A_CLAIM)],
    ids=["key", "text", "claim"],
)
def test_5_a_command_behind_a_handshakes_block_is_refused_within_a_channel(command: int, data: bytes) -> None:
    panel = injected(command, data)
    assert panel.keys == []
    assert panel.commands == []


def test_5_and_the_library_alone_would_have_obeyed_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither signed nor enciphered. When this fails, the library was mended and our screen is a spare."""
    without("library", monkeypatch)
    assert injected(KEYSET, A_KEY).keys != []


def test_6_a_controller_cannot_set_a_new_key_outside_installation_even_in_its_own_channel() -> None:
    panel, key = Recorder(takes_keys=False), new_key()
    with Wire() as wire, unit(wire, key, panel) as reader:
        with PanelProcess.libosdp(wire.panel, key) as controller:
            wait_for(lambda: reader.secure)
            wait_for(lambda: any(told["secure"] for told in controller.of("status")))
            controller.order(command=osdp_sys.CMD_KEYSET, type=1, data=new_key().hex())
            wait_for(lambda: panel.keys)
        wait_for(lambda: not reader.secure)
        with PanelProcess.libosdp(wire.panel, key):
            wait_for(lambda: reader.secure)


def test_6_a_cleared_reader_is_not_keyed_anew_by_the_controller() -> None:
    """It lost its key: the library is never started in install mode by itself, so nothing answers at all."""
    with Wire() as wire, PanelProcess.pure(wire.panel, new_key(), seconds=WATCHED_S + 2) as controller:
        wait_for(lambda: controller.of("begun"))
        with pytest.raises(DoorError):
            unit(wire, None, Recorder())
        time.sleep(WATCHED_S)
        assert not any(told["online"] for told in controller.of("status"))


def test_7_a_key_derived_from_a_shared_master_and_the_readers_identity_opens_nothing() -> None:
    master = new_key()
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    with (
        Wire() as wire,
        unit(wire, new_key(), Recorder()) as reader,
        PanelProcess.libosdp(wire.panel, derived(master)),
    ):
        nothing_happens(reader)


def test_installation_takes_one_good_key_in_a_channel_and_is_over() -> None:
    kept: list[bytes] = []
    installing = Installing(kept.append)
    with Wire() as wire:
        port = SerialPort(wire.reader, 9_600)
        master = new_key()
        with (
            Peripheral(port, 1, None, 0x1234, installing, install=True),
            PanelProcess.pure(wire.panel, master),
        ):
            assert installing.done.wait(180)
    assert kept == [derived(master)]
    assert not installing.key_offered(new_key())
