"""The three ways to serve a controller: decisions in, frames out, over a line to libosdp's controller."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import osdp_sys
import pytest

from device.access.badges import CardBits, CardError
from device.access.decision import OPENING, Decision, Notice, Outcome, Reason
from device.door.lines import DoorError
from device.door.opening import osdp_door
from device.door.osdp.door import OsdpDoor
from device.door.osdp.keys import keep_key, kept_key, new_key
from device.door.osdp.peripheral import VENDOR
from device.door.osdp.settings import OsdpMode, OsdpSettings
from device.door.settings import DoorKind, DoorSettings, GpioSettings, SimulatedSettings
from device.secure_store import StoreSettings, open_store
from tests.device.door.osdp.panels import PanelProcess, wait_for
from tests.device.door.osdp.wire import CARD, Wire

pytestmark = pytest.mark.e2e


def decision(outcome: Outcome, person: str = "anna") -> Decision:
    return Decision(outcome, Reason.ALL_FACTORS_PASSED, "because", Notice.REFUSED, person=person)


@dataclass
class Scene:
    door: OsdpDoor
    controller: PanelProcess
    lines: Path
    again: Callable[[], PanelProcess]
    """The same controller, with the same key, after a restart."""
    events: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)
    displayed: list[tuple[str, str]] = field(default_factory=list)

    def replies(self) -> list[bytes]:
        return [bytes.fromhex(told["data"]) for told in self.controller.of("event") if "vendor_code" in told]


@contextmanager
def scene(folder: Path, mode: OsdpMode) -> Iterator[Scene]:
    key = new_key()
    with Wire() as wire, PanelProcess.libosdp(wire.panel, key) as controller:
        events: list[str] = []
        shown: list[str] = []
        displayed: list[tuple[str, str]] = []
        settings = DoorSettings(
            kind=DoorKind.OSDP,
            osdp=OsdpSettings(mode=mode, port=wire.reader),
            simulated=SimulatedSettings(folder),
        )
        with osdp_door(
            settings,
            key=lambda: key,
            card_of=lambda uid: CARD if uid == "anna" else None,
            display=lambda colour, text: displayed.append((colour, text)),
            now_s=time.monotonic,
            note=lambda kind, reason: events.append(f"{kind} {reason}"),
            warn=lambda _: None,
            show=shown.append,
        ) as door:
            wait_for(lambda: not door.trouble())
            wait_for(lambda: any(told["secure"] for told in controller.of("status")))
            again = partial(PanelProcess.libosdp, wire.panel, key)
            yield Scene(door, controller, folder, again, events, shown, displayed)


def test_gate_sends_the_persons_own_card_after_a_grant_and_nothing_after_any_refusal(tmp_path: Path) -> None:
    with scene(tmp_path, OsdpMode.GATE) as at:
        for outcome in sorted(set(Outcome) - OPENING):
            at.door.obey(decision(outcome))
        at.door.obey(decision(Outcome.GRANTED, "somebody without a card"))
        at.door.obey(decision(Outcome.GRANTED))
        wait_for(lambda: at.controller.of("event"))
        at.door.obey(decision(Outcome.DURESS))
        wait_for(lambda: len(at.controller.of("event")) == 2)
        cards = [(told["length"], told["data"]) for told in at.controller.of("event")]
        assert cards == [(CARD.count, CARD.data.hex())] * 2
        assert any("no `card`" in shown for shown in at.shown)
        assert (at.lines / "strike").read_text() == "0", "the strike is the controller's"


def test_report_moves_its_own_strike_and_tells_the_verdict(tmp_path: Path) -> None:
    with scene(tmp_path, OsdpMode.REPORT) as at:
        at.door.obey(decision(Outcome.DENIED_VOICE))
        assert (at.lines / "strike").read_text() == "0"
        at.door.obey(decision(Outcome.GRANTED))
        assert (at.lines / "strike").read_text() == "1"
        wait_for(lambda: len(at.replies()) == 2)
        assert at.replies() == [b"\x81\x00DENIED_VOICE", b"\x81\x01GRANTED"]


def test_the_controller_asks_and_is_answered_and_duress_does_not_show(tmp_path: Path) -> None:
    with scene(tmp_path, OsdpMode.CLAIM_FROM_PANEL) as at:
        at.controller.order(command=osdp_sys.CMD_MFG, vendor_code=VENDOR, data=b"\x0100-4712".hex())
        assert next(at.door.claims(lambda: None, 60.0)) == "00-4712"
        at.door.obey(decision(Outcome.STEP_UP))
        at.door.obey(decision(Outcome.DURESS))
        wait_for(lambda: len(at.replies()) == 2)
        assert at.replies() == [b"\x81\x02STEP_UP", b"\x81\x01GRANTED"]


def test_an_opened_case_is_an_event_and_is_told_to_the_controller_and_its_light_is_shown(
    tmp_path: Path,
) -> None:
    with scene(tmp_path, OsdpMode.GATE) as at:
        (tmp_path / "tamper").write_text("1")
        wait_for(lambda: at.controller.of("event"))
        assert at.controller.of("event")[0]["report"] == "0100"
        wait_for(lambda: "TAMPER case_opened" in at.events)
        assert at.events[0] == "COMMAND_APPLIED panel_back"
        text = {"reader": 0, "control_code": 1, "temp_time": 5, "offset_row": 1, "offset_col": 1}
        at.controller.order(command=osdp_sys.CMD_TEXT, data="CALL THE GUARD", **text)
        wait_for(lambda: at.displayed == [("none", "CALL THE GUARD")])


def test_a_new_key_in_a_good_channel_is_refused_and_the_old_one_still_serves(tmp_path: Path) -> None:
    with scene(tmp_path, OsdpMode.GATE) as at:
        at.controller.order(command=osdp_sys.CMD_KEYSET, type=1, data=new_key().hex())
        wait_for(lambda: "FAULT key_refused" in at.events)
        with at.controller:  # its end
            pass
        wait_for(at.door.trouble)
        with at.again():
            wait_for(lambda: not at.door.trouble())


def test_a_port_that_is_not_there_is_trouble_and_not_an_end(tmp_path: Path) -> None:
    settings = DoorSettings(kind=DoorKind.OSDP, osdp=OsdpSettings(port=tmp_path / "ttyUSB7"))
    shown: list[str] = []
    with osdp_door(
        settings,
        key=new_key,
        card_of=lambda _: CARD,
        display=lambda colour, text: None,
        now_s=time.monotonic,
        note=lambda kind, reason: None,
        warn=lambda _: None,
        show=shown.append,
    ) as door:
        assert "ttyUSB7" in door.trouble()
        door.obey(decision(Outcome.GRANTED))
        assert shown == ["the controller is away; nothing is sent"]


def test_a_line_whose_opening_fails_in_a_strange_way_is_opened_again(tmp_path: Path) -> None:
    tries, third = [DoorError("no key yet"), RuntimeError("never thought of")], threading.Event()

    def key() -> bytes:
        if tries:
            raise tries.pop(0)
        third.set()
        return new_key()

    settings = DoorSettings(
        kind=DoorKind.OSDP,
        osdp=OsdpSettings(mode=OsdpMode.GATE, port=tmp_path / "none"),
        simulated=SimulatedSettings(tmp_path),
    )
    with osdp_door(
        settings, key=key, card_of=lambda _: CARD, display=lambda colour, text: None, now_s=time.monotonic,
        note=lambda kind, reason: None, warn=lambda _: None, show=lambda text: None,
    ):  # fmt: skip
        assert third.wait(60.0)


def test_the_key_is_kept_sealed_and_is_another_units_nothing(tmp_path: Path) -> None:
    laptop = StoreSettings(profile="laptop", keystore="software")
    key = new_key()
    with open_store(tmp_path / "a", laptop, warn=lambda _: None) as store:
        keep_key(store.folder, store.vault.derive, key)
        assert kept_key(store.folder, store.vault.derive) == key
        file = store.folder / "panel-key.bin"
        assert key not in file.read_bytes()
        assert file.stat().st_mode & 0o077 == 0
        sealed = file.read_bytes()
    with open_store(tmp_path / "b", laptop, warn=lambda _: None) as other:
        (other.folder / "panel-key.bin").write_bytes(sealed)
        with pytest.raises(DoorError, match="another unit's"):
            kept_key(other.folder, other.vault.derive)
        (other.folder / "panel-key.bin").unlink()
        (other.folder / "panel-key.bin").mkdir()  # what cannot be read
        with pytest.raises(DoorError, match="cannot be read"):
            kept_key(other.folder, other.vault.derive)


@pytest.mark.parametrize(
    "written", ["", "26", "26:", "26:2AB3C4", "26:2AB3C441", "0:00", "513:" + "00" * 65, "26:xx"]
)
def test_what_is_no_card_is_refused(written: str) -> None:
    with pytest.raises(CardError):
        CardBits.parse(written)


def test_every_mistake_about_the_controller_is_said_at_once() -> None:
    with pytest.raises(ValueError, match=r"osdp.port.*leaves strike and contact to the controller"):
        DoorSettings(kind=DoorKind.OSDP, gpio=GpioSettings(chip="pinctrl-rp1", strike="GPIO17"))
    with pytest.raises(ValueError, match="needs a strike of the unit"):
        DoorSettings(kind=DoorKind.OSDP, osdp=OsdpSettings(mode=OsdpMode.REPORT, port=Path("/dev/ttyS0")))
