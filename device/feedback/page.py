"""A web page for a screen at the door: a file that reloads itself, since the door process opens no socket.

It is written again every few seconds. An older one was left by a process that is gone, and then says that the
door is out of service.
"""

from __future__ import annotations

import html
import threading
import time
from collections.abc import Callable
from pathlib import Path

from device.access.decision import Notice
from device.feedback.messages import Language
from device.feedback.sinks import LIGHTS, Cue
from sync.durable import replace_file

COLOURS = {
    "white": ("#f4f5f7", "#1b1f24"),
    "blue": ("#0b4f9e", "#ffffff"),
    "green": ("#0f6131", "#ffffff"),
    "amber": ("#ffb81c", "#1b1f24"),
    "red": ("#a51c24", "#ffffff"),
}
"""Ground and letters of each light, at a contrast of at least 7 to 1 (WCAG 2.2, 1.4.6)."""
_SIGNS = {
    "ready": "○", "speak": "●", "listening": "●", "thinking": "…", "open": "✓", "retry": "↻",
    "refused": "✕", "fault": "!",
}  # fmt: skip
_PAGE = """\
<!doctype html>
<html lang="{language}">
<head>
<meta charset="utf-8">
<meta http-equiv="refresh" content="0.4">
<title>{stage}</title>
<style>
html, body {{ height: 100%; margin: 0; }}
body {{ display: grid; place-content: center; gap: 4vh; padding: 0 5vw; text-align: center;
  background: {ground}; color: {letters}; font-family: system-ui, "DejaVu Sans", sans-serif; }}
.sign {{ font-size: 12vh; line-height: 1; }}
.told {{ font-size: 6vh; margin: 0; }}
.alone {{ font-size: 9vh; line-height: 1.2; }}
.phrase {{ font-size: 13vh; line-height: 1.15; font-weight: 700; margin: 0; }}
.stale {{ background: {stale_ground}; color: {stale_letters}; }}
.stale > *, .left {{ display: none; }}
.stale > .left {{ display: block; }}
</style>
</head>
<body>
<div class="sign" aria-hidden="true">{sign}</div>
{lines}
<p class="told alone left">{out_of_service}</p>
<script>
if (Math.abs(Date.now() - {written_ms}) > {stale_ms}) document.body.className = "stale";
</script>
</body>
</html>
"""


REWRITTEN_EVERY_S = 3.0
STALE_AFTER_S = 15.0


class PageSink:
    """Keeps `path` showing the last cue; a browser in kiosk mode on `file://` reads it again by itself."""

    def __init__(
        self,
        path: Path,
        language: Language,
        *,
        every_s: float = REWRITTEN_EVERY_S,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._language = language
        self._every_s = every_s
        self._wall_s = wall_s
        self._cue: Cue | None = None
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def show(self, cue: Cue) -> None:
        with self._lock:
            self._cue = cue
            self._write(cue)
            if self._thread is None:
                self._thread = threading.Thread(target=self._go_on, name="page", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Stop writing: `STALE_AFTER_S` later the page says that the door is out of service."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _go_on(self) -> None:
        while not self._stop.wait(self._every_s):
            with self._lock:
                if self._cue is not None:
                    try:
                        self._write(self._cue)
                    except OSError:  # the next cue says so
                        continue

    def _write(self, cue: Cue) -> None:
        page = render(cue, self._language, self._wall_s()).encode()
        replace_file(
            self._path, page, 0o644, durable=False
        )  # readable for the screen's browser, another user


def render(cue: Cue, language: Language, written_s: float) -> str:
    """The page of one cue: the phrase in letters to be read from two metres, everything else smaller."""
    stale_ground, stale_letters = COLOURS["red"]
    ground, letters = COLOURS[LIGHTS[cue.stage].colour]
    told, phrase = cue.text, ""
    if cue.phrase and cue.text.endswith(cue.phrase):
        told, phrase = cue.text.removesuffix(cue.phrase), cue.phrase
    lines = f'<p class="told{"" if phrase else " alone"}">{html.escape(told)}</p>'
    if phrase:
        # Phrases are English whatever the door speaks.
        lines += f'\n<p class="phrase" lang="en">{html.escape(phrase)}</p>'
    return _PAGE.format(
        language=language.code,
        stage=html.escape(cue.stage.upper()),
        ground=ground,
        letters=letters,
        sign=_SIGNS[cue.stage],
        lines=lines,
        stale_ground=stale_ground,
        stale_letters=stale_letters,
        out_of_service=html.escape(language.notice(Notice.OUT_OF_SERVICE)),
        written_ms=round(written_s * 1_000),
        stale_ms=round(STALE_AFTER_S * 1_000),
    )
