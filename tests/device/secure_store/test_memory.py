"""Secrets in memory: locked, wiped, never printed, never dumped."""

from __future__ import annotations

import faulthandler
import gc
import os
import pickle
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from device.secure_store import StoreError
from device.secure_store.memory import SecretBytes, guard_memory


def test_a_wiped_secret_is_gone_and_says_so() -> None:
    secret = SecretBytes.copy_of(b"0123456789abcdef")
    pages = secret.view()
    secret.wipe()
    assert bytes(pages) == bytes(16)
    with pytest.raises(StoreError):
        secret.view()
    secret.wipe()


def test_what_a_secret_is_copied_from_is_wiped() -> None:
    source = bytearray(b"0123456789abcdef")
    with SecretBytes.copy_of(source) as secret:
        assert bytes(secret.view()) == b"0123456789abcdef"
    assert source == bytes(16)


def test_a_secret_is_neither_printed_nor_pickled() -> None:
    with SecretBytes.copy_of(b"0123456789abcdef") as secret:
        assert "0123" not in f"{secret!r} {secret}"
        with pytest.raises(TypeError):
            pickle.dumps(secret)


def test_a_secret_is_on_locked_pages() -> None:
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if 0 <= limit < 1 << 20:
        pytest.skip(f"this user may lock only {limit} bytes")
    before = _locked_kib()
    secrets = [SecretBytes(32) for _ in range(8)]
    assert all(s.locked for s in secrets)
    assert _locked_kib() >= before + 8 * 4
    for s in secrets:
        s.wipe()


def test_a_child_process_does_not_inherit_a_secret() -> None:
    with SecretBytes.copy_of(b"0123456789abcdef") as secret:
        view = secret.view()
        child = os.fork()
        if child == 0:
            faulthandler.disable()  # the crash is wanted, its report is not
            try:
                bytes(view)  # the page is not there: SIGSEGV ends the child
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status)


def test_keys_for_two_purposes_have_nothing_in_common() -> None:
    with SecretBytes.random(32) as root, root.derive("one") as one, root.derive("two") as two:
        assert bytes(one.view()) != bytes(two.view()) != bytes(root.view())
        with root.derive("one") as again:
            assert bytes(again.view()) == bytes(one.view())


@pytest.mark.parametrize("size", [0, -1, 1 << 20])
def test_a_secret_of_no_size_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="secret has"):
        SecretBytes(size)


def test_a_crash_of_the_unit_leaves_no_core_file(tmp_path: Path) -> None:
    code = (
        "from device.secure_store.memory import guard_memory; guard_memory()\n"
        "import ctypes, os; print(open('/proc/self/limits').read().split('core file size')[1].split()[0],"
        "ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)); os.abort()"
    )
    crashed = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, check=False)
    assert crashed.returncode < 0
    assert list(tmp_path.iterdir()) == []
    limits = subprocess.run(
        [sys.executable, "-c", code.replace("os.abort()", "0")], capture_output=True, text=True, check=True
    )
    assert limits.stdout.split() == ["0", "0"]


def test_forbidding_dumps_twice_is_fine() -> None:
    guard_memory()
    guard_memory()
    assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)


def _locked_kib() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmLck:")[1].split()[0])


def test_a_child_process_that_lets_go_of_an_inherited_secret_keeps_its_own() -> None:
    inherited = [SecretBytes.copy_of(b"the parent's") for _ in range(8)]
    child = os.fork()
    if child == 0:
        kept = 1
        try:
            own = [SecretBytes.copy_of(b"the child's") for _ in range(16)]  # some lie where the others lay
            with pytest.raises(StoreError):
                inherited[0].view()
            inherited.clear()
            gc.collect()
            kept = int(any(bytes(one.view()) != b"the child's" for one in own))
        finally:
            os._exit(kept)
    _, status = os.waitpid(child, 0)
    assert status == 0
    assert all(bytes(one.view()) == b"the parent's" for one in inherited)
