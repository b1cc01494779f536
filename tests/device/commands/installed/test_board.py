"""`ostiary doctor` says when a board is too hot, ill supplied, short of memory, or keeps its strike open."""

from __future__ import annotations

from pathlib import Path

import pytest

from device.commands.installed.board import RASPBERRY, board, strike_let_go
from device.door.settings import GpioSettings
from device.errors import DeviceError


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """What the kernel of a board that is well has to say."""
    put(tmp_path, "sys/class/thermal/thermal_zone0/temp", "48300\n")
    put(tmp_path, "sys/class/thermal/thermal_zone1/temp", "79900\n")
    # Had been slowed down once, and is not now.
    put(tmp_path, RASPBERRY, "50000\n")
    put(tmp_path, "proc/meminfo", "MemTotal:  4000000 kB\nMemAvailable:  102400 kB\n")
    return tmp_path


def put(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_board_that_is_well_tells_its_temperature_and_free_memory(files: Path) -> None:
    assert board(files) == "80 °C, 100 MiB of memory free"


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("sys/class/thermal/thermal_zone1/temp", "80000\n", "80 °C hot"),
        (RASPBERRY, "1\n", "voltage is too low"),
        (RASPBERRY, "50004\n", "slowed down because of heat"),
        (RASPBERRY, "8\n", "slowed down because of heat"),
        ("proc/meminfo", "MemAvailable: 102399 kB\n", "only 99 MiB of memory"),
    ],
)
def test_each_trouble_of_the_board_is_named(files: Path, name: str, text: str, told: str) -> None:
    put(files, name, text)
    with pytest.raises(DeviceError, match=told):
        board(files)


def test_a_board_whose_kernel_says_nothing_is_not_called_ill(tmp_path: Path) -> None:
    put(tmp_path, "sys/class/thermal/thermal_zone0/temp", "no number")
    assert board(tmp_path) == "the kernel says nothing about it"


WIRED = GpioSettings(chip="pinctrl-rp1", strike="GPIO17")


@pytest.mark.parametrize("module", ["pinctrl_bcm2835", "pinctrl_rp1"])
def test_a_kernel_that_leaves_the_strike_released_when_the_unit_dies_is_named(
    tmp_path: Path, module: str
) -> None:
    put(tmp_path, f"sys/module/{module}/parameters/persist_gpio_outputs", "Y\n")
    with pytest.raises(DeviceError, match=f"{module} leaves it released when the unit dies"):
        strike_let_go(WIRED, tmp_path)
    assert strike_let_go(GpioSettings(), tmp_path) == "not on GPIO"


def test_a_kernel_that_takes_the_strikes_line_back_is_well(tmp_path: Path) -> None:
    assert "no driver says" in strike_let_go(WIRED, tmp_path)
    put(tmp_path, "sys/module/pinctrl_rp1/parameters/persist_gpio_outputs", "N\n")
    assert "no driver says" in strike_let_go(WIRED, tmp_path)
