"""Run as a process: libosdp's own controller at a port. Takes orders, tells events, a JSON line each.

`python libosdp_panel.py PORT KEY_HEX|none secure|clear`
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

import osdp_sys

sys.path.insert(0, str(Path(__file__).parents[4]))
from device.door.osdp.port import SerialPort


def tell(kind: str, **facts: object) -> None:
    print(json.dumps({"kind": kind, "at_s": time.monotonic(), **facts}), flush=True)


def main(port: str, key: str, flags: str) -> None:
    osdp_sys.set_loglevel(osdp_sys.LOG_EMERG)
    panel = osdp_sys.ControlPanel(
        [
            {
                "name": "unit",
                "address": 1,
                "flags": osdp_sys.FLAG_ENFORCE_SECURE if flags == "secure" else 0,
                "scbk": None if key == "none" else bytes.fromhex(key),
                "channel": SerialPort(Path(port), 9_600),
            }
        ]
    )

    def event(_pd: int, what: dict[str, object]) -> int:
        tell("event", **{k: v.hex() if isinstance(v, bytes) else v for k, v in what.items()})
        return 0

    panel.set_event_callback(event)
    orders: list[dict[str, object]] = []

    def listen() -> None:
        for line in sys.stdin:
            orders.append(json.loads(line))
        orders.append({"command": None})

    threading.Thread(target=listen, daemon=True).start()
    was = (False, False)
    while True:
        panel.refresh()
        now = (bool(panel.status() & 1), bool(panel.sc_status() & 1))
        if now != was:
            tell("status", online=now[0], secure=now[1])
            was = now
        while orders:
            order = orders.pop(0)
            if order["command"] is None:
                return
            if isinstance(order.get("data"), str) and order["command"] != osdp_sys.CMD_TEXT:
                order["data"] = bytes.fromhex(str(order["data"]))
            tell("submitted", accepted=bool(panel.submit_command(0, order)))
        time.sleep(0.01)


if __name__ == "__main__":
    main(*sys.argv[1:])
