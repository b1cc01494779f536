"""This unit as a reader at two independent controllers, in other processes, over a wire."""

from __future__ import annotations

import osdp_sys
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from device.access.badges import CardBits
from device.door.osdp.keys import new_key
from device.door.osdp.peripheral import VENDOR, Asked, Beep, Light, Text
from tests.device.door.osdp.panels import PanelProcess, wait_for
from tests.device.door.osdp.wire import CARD, Recorder, Wire, unit

pytestmark = pytest.mark.e2e

CARDS = ["26:2AB3C440", "34:8AB3C44040", "35:2AB3C44060", "48:2AB3C4405566", "37:0000000008", "8:01"]


def derived(master: bytes, serial: int = 0x1234) -> bytes:
    """The key that a controller with one master key expects of the unit of these tests."""
    identity = bytes((VENDOR & 0xFF, VENDOR >> 8 & 0xFF, 1, 0)) + serial.to_bytes(4, "little")
    block = identity + bytes(~byte & 0xFF for byte in identity)
    encryptor = Cipher(algorithms.AES(master), modes.ECB()).encryptor()  # noqa: S305 - the standard's own
    return encryptor.update(block) + encryptor.finalize()


def test_a_card_of_any_length_reaches_libosdps_controller_untouched_and_never_in_the_clear() -> None:
    key, panel = new_key(), Recorder()
    with (
        Wire() as wire,
        unit(wire, key, panel) as reader,
        PanelProcess.libosdp(wire.panel, key) as controller,
    ):
        wait_for(lambda: reader.secure and any(told["secure"] for told in controller.of("status")))
        for number, written in enumerate(CARDS, start=1):
            card = CardBits.parse(written)
            assert reader.send_card(card)
            wait_for(lambda number=number: len(controller.of("event")) == number)  # type: ignore[misc]
            told = controller.of("event")[-1]
            assert (told["length"], told["data"]) == (card.count, card.data.hex())
        assert CardBits.parse(CARDS[0]).data not in wire.seen
        assert reader.send_status(tampered=True)
        assert reader.send_reply(b"\x81\x01GRANTED")
        wait_for(lambda: len(controller.of("event")) == len(CARDS) + 2)
        tamper, reply = controller.of("event")[-2:]
    assert tamper["report"] == "0100"
    assert (reply["vendor_code"], bytes.fromhex(reply["data"])) == (VENDOR, b"\x81\x01GRANTED")


def test_light_buzzer_text_and_questions_of_the_controller_arrive() -> None:
    key, panel = new_key(), Recorder()
    light = {"reader": 0, "led_number": 0, "control_code": 1, "on_count": 10, "off_count": 10, "on_color": 2}
    with Wire() as wire, unit(wire, key, panel), PanelProcess.libosdp(wire.panel, key) as controller:
        wait_for(lambda: any(told["secure"] for told in controller.of("status")))
        controller.order(command=osdp_sys.CMD_LED, off_color=0, timer_count=10, temporary=True, **light)
        controller.order(
            command=osdp_sys.CMD_BUZZER, reader=0, control_code=1, on_count=1, off_count=1, rep_count=1
        )
        controller.order(
            command=osdp_sys.CMD_TEXT,
            reader=0,
            control_code=1,
            temp_time=5,
            offset_row=1,
            offset_col=1,
            data="WAIT FOR THE GUARD",
        )
        controller.order(command=osdp_sys.CMD_MFG, vendor_code=VENDOR, data=b"\x014712".hex())
        wait_for(lambda: len(panel.commands) == 4)
    assert panel.commands == [Light("green"), Beep(), Text("WAIT FOR THE GUARD"), Asked(b"\x014712")]


def test_a_read_is_dropped_while_the_controller_is_away_and_does_not_arrive_later() -> None:
    key, panel = new_key(), Recorder()
    with Wire() as wire, unit(wire, key, panel) as reader:
        assert not reader.send_card(CARD), "nobody was there yet"
        with PanelProcess.libosdp(wire.panel, key):
            wait_for(lambda: reader.secure)
        reader.send_card(CARD)  # the controller is still taken for connected: this waits until it is stale
        wait_for(lambda: not reader.secure)
        assert not reader.send_card(CARD)
        with PanelProcess.libosdp(wire.panel, key) as controller:  # it has been started again
            wait_for(lambda: reader.secure)
            later = CardBits.parse("8:01")
            assert reader.send_card(later)
            wait_for(lambda: controller.of("event"))
    assert [told["data"] for told in controller.of("event")] == [later.data.hex()]
    assert panel.secure[:3] == [True, False, True]


def test_the_pure_python_controller_reads_the_cards_too() -> None:
    master, panel = new_key(), Recorder()
    with (
        Wire() as wire,
        unit(wire, derived(master), panel) as reader,
        PanelProcess.pure(wire.panel, master) as controller,
    ):
        wait_for(lambda: reader.secure)
        for number, written in enumerate(CARDS[:4], start=1):
            card = CardBits.parse(written)
            assert reader.send_card(card)
            wait_for(lambda number=number: len(controller.of("card")) == number)  # type: ignore[misc]
            told = controller.of("card")[-1]
            assert (told["bits"], told["data"]) == (card.count, card.data.hex())
        assert CardBits.parse(CARDS[0]).data not in wire.seen
