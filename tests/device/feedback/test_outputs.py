"""LEDs as the kernel has them, and a loudspeaker that may not be there."""

from __future__ import annotations

from pathlib import Path

import pytest

from device.feedback import Cue, KernelLeds, LightSink, Stage


@pytest.fixture
def leds(tmp_path: Path) -> Path:
    """A folder laid out like /sys/class/leds."""
    for colour in ("red", "green", "blue"):
        led = tmp_path / f"ostiary:{colour}"
        led.mkdir()
        for name, content in (("brightness", "0"), ("max_brightness", "255\n"), ("trigger", "none")):
            (led / name).write_text(content)
        (led / "delay_on").write_text("")
        (led / "delay_off").write_text("")
    return tmp_path


def lit(leds: Path) -> dict[str, str]:
    """The colours that are on: steady, or the milliseconds of half a blink."""
    found = {}
    for colour in ("red", "green", "blue"):
        led = leds / f"ostiary:{colour}"
        if (led / "trigger").read_text() == "timer":
            found[colour] = (led / "delay_on").read_text()
        elif (led / "brightness").read_text() != "0":
            found[colour] = "steady"
    return found


def test_lights_are_mixed_from_three_leds_and_blink_by_themselves(leds: Path) -> None:
    sink = LightSink(KernelLeds(leds))
    sink.show(Cue(Stage.READY, ""))
    assert lit(leds) == {"red": "steady", "green": "steady", "blue": "steady"}
    sink.show(Cue(Stage.SPEAK, ""))
    assert lit(leds) == {"blue": "500"}
    sink.show(Cue(Stage.RETRY, ""))
    assert lit(leds) == {"red": "500", "green": "500"}
    sink.show(Cue(Stage.OPEN, ""))
    assert lit(leds) == {"green": "steady"}
    sink.show(Cue(Stage.REFUSED, ""))
    assert lit(leds) == {"red": "steady"}


def test_leds_that_are_not_there_are_an_error_of_that_sink_alone(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        KernelLeds(tmp_path)("green", 0.0)
