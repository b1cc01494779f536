"""A door that must have no network looks whether it has one."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from device.errors import DeviceError
from device.isolation import Isolation, of_running_door, own, required

ASK = "from device.isolation import own; found = own(); print(found.complete, found.reaches)"


def process(folder: Path, *interfaces: str, service: str = "ostiary-door.service") -> Path:
    (folder / "net").mkdir(parents=True)
    lines = [f"{name:>6}:  3193 29 0" for name in ("lo", *interfaces)]
    (folder / "net" / "dev").write_text("\n".join(("Inter-| Receive", " face |bytes", *lines, "")))
    (folder / "cgroup").write_text(f"1:name=systemd:/system.slice/{service}\n0::/\n")
    return folder


def refused(family: int, kind: int) -> None:
    raise OSError(97, "Address family not supported by protocol")


def test_a_namespace_with_nothing_in_it_is_no_network_whatever_the_kernels_tunnels_put_there(
    tmp_path: Path,
) -> None:
    assert required(own(process(tmp_path / "1"), make=lambda *_: None))
    assert required(own(process(tmp_path / "2", "sit0", "tunl0"), make=lambda *_: None))


def test_a_door_that_can_reach_a_network_does_not_start_and_says_so_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"must have no network.*eth0.*does not start") as told:
        required(own(process(tmp_path / "1", "eth0"), make=lambda *_: None))
    assert "\n" not in str(told.value)


def test_a_door_that_only_lost_its_namespace_serves_and_says_so_loudly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        assert not required(own(process(tmp_path / "1", "eth0"), make=refused))
    assert "must have no network" in caplog.text


def test_a_process_that_nobody_can_look_at_is_not_taken_for_isolated(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="nobody knows"):
        own(tmp_path / "gone")


def test_the_running_door_is_found_among_processes_and_looked_at(tmp_path: Path) -> None:
    process(tmp_path / "17", "eth0", service="ostiary-uplink.service")
    assert of_running_door(tmp_path) is None
    process(tmp_path / "21", "eth0")
    assert of_running_door(tmp_path) == Isolation(("eth0",), sockets=True)


@pytest.mark.skipif(shutil.which("unshare") is None, reason="util-linux is missing")
def test_a_real_process_in_a_real_empty_namespace_finds_none() -> None:
    unshare = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--net", "--map-root-user"]
    if subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine lets nobody make a network namespace")
    alone = subprocess.run([*unshare, sys.executable, "-c", ASK], check=True, capture_output=True, text=True)
    assert alone.stdout.split() == ["True", "False"]
