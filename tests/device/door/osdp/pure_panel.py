"""Run by the interpreter of an environment of its own, in which `osdp` is the pure-Python controller: an
independent reading of the standard. `python pure_panel.py PORT SECONDS MASTER_KEY_HEX secure|clear`
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def tell(kind: str, **facts: object) -> None:
    print(json.dumps({"kind": kind, "at_s": time.monotonic(), **facts}), flush=True)


def main(port: str, seconds: str, master_key: str, channel: str) -> None:
    from osdp import ControlPanel, SerialPortOsdpConnection

    class Panel(ControlPanel):
        def on_raw_card_data_reply_received(self, address: int, raw_card_data: Any) -> None:
            tell("card", bits=raw_card_data.bit_count, data=bytes(raw_card_data.data).hex())

        def on_nak_reply_received(self, address: int, nak: Any) -> None:
            tell("nak", code=str(nak))

    panel: Any = Panel(bytes.fromhex(master_key))
    bus = panel.start_connection(SerialPortOsdpConnection(port=port, baud_rate=9600))
    panel.add_device(bus, 1, True, channel == "secure")
    tell("begun")
    until_s, online = time.monotonic() + float(seconds), False
    while time.monotonic() < until_s:
        now = bool(panel.is_online(bus, 1))
        if now != online:
            tell("status", online=now)
            online = now
        time.sleep(0.01)
    panel.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
