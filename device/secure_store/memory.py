"""Secrets in memory: locked against swap, left out of dumps, overwritten when done, never printed.

Nobody can overwrite the copies that Python and OpenSSL make. This module keeps long-lived secrets in one
place that is wiped, lets the process leave no core file, and has the allocator overwrite what it takes back.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
from typing import NoReturn

import numpy as np
import numpy.typing as npt
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from device.secure_store.errors import StoreError

_NONCE_BYTES = 12
_PR_SET_DUMPABLE = 4
_M_PERTURB = -6
_FILLER = 0x5F
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mlock.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.munlock.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


_OF_THE_PARENT: list[mmap.mmap] = []
"""A forked process has no page there and may have put one of its own: letting go would release that."""


class SecretBytes:
    """`size` bytes on pages of their own: mlocked, not inherited by a fork, not dumped, wiped on exit.

    `view` is the only way to the content. Raises StoreError once wiped.
    """

    __slots__ = ("_map", "_owner", "_size", "locked")

    def __init__(self, size: int) -> None:
        if not 0 < size <= mmap.PAGESIZE:
            raise ValueError(f"a secret has 1 to {mmap.PAGESIZE} bytes")
        self._map: mmap.mmap | None = mmap.mmap(-1, mmap.PAGESIZE)
        self._size = size
        self._owner = os.getpid()
        self._map.madvise(mmap.MADV_DONTDUMP)
        self._map.madvise(mmap.MADV_DONTFORK)
        # RLIMIT_MEMLOCK may be zero for a plain user: `ostiary store status` shows it, the unit raises it.
        self.locked = _libc.mlock(_address(self._map), mmap.PAGESIZE) == 0

    @classmethod
    def copy_of(cls, data: bytes | bytearray | memoryview) -> SecretBytes:
        """A locked copy. A bytearray given here is wiped; bytes cannot be."""
        secret = cls(len(data))
        secret.view()[:] = data
        if isinstance(data, bytearray):
            data[:] = bytes(len(data))
        return secret

    @classmethod
    def random(cls, size: int) -> SecretBytes:
        """`size` bytes from the kernel, read straight into locked memory."""
        secret = cls(size)
        if os.readv(_urandom(), [secret.view()]) != size:
            raise ValueError("the kernel gave too few random bytes")
        return secret

    def view(self) -> memoryview:
        if self._map is None or self._owner != os.getpid():
            raise StoreError("the store is closed")
        return memoryview(self._map)[: self._size]

    def derive(self, label: str, size: int = 32) -> SecretBytes:
        """An independent key for one purpose (HKDF-Expand with SHA-256, RFC 5869 2.3)."""
        with self.view() as key:
            info = b"ostiary store v1\0" + label.encode()
            return SecretBytes.copy_of(bytearray(HKDFExpand(hashes.SHA256(), size, info).derive(key)))

    def encrypt(self, plain: bytes | memoryview, bound: bytes) -> bytes:
        """A nonce, and `plain` under this key (AES-256-GCM); it opens with the same `bound` only."""
        nonce = os.urandom(_NONCE_BYTES)
        with self.view() as key:
            return nonce + AESGCM(key).encrypt(nonce, plain, bound)

    def decrypt(self, sealed: bytes, bound: bytes) -> bytes:
        """The inverse. Raises ValueError for what was changed, or enciphered under another key."""
        try:
            with self.view() as key:
                return AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], bound)
        except InvalidTag as err:
            raise ValueError("it was changed, or is enciphered under another key") from err

    def wipe(self) -> None:
        """Overwrite and release. Safe to call twice, and in a forked process, which has no page of it."""
        if self._map is None:
            return
        if self._owner != os.getpid():
            _OF_THE_PARENT.append(self._map)
            self._map = None
            return
        self._map[:] = bytes(mmap.PAGESIZE)
        _libc.munlock(_address(self._map), mmap.PAGESIZE)
        self._map = None

    def __len__(self) -> int:
        return self._size

    def __enter__(self) -> SecretBytes:
        return self

    def __exit__(self, *_: object) -> None:
        self.wipe()

    def __del__(self) -> None:
        if getattr(self, "_map", None) is not None:
            self.wipe()

    def __repr__(self) -> str:
        return f"<{self._size} secret bytes>" if self._map is not None else "<wiped secret>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is never pickled")


def wipe_array(array: npt.NDArray[np.float32] | npt.NDArray[np.float64]) -> None:
    """Overwrite an embedding."""
    if array.flags.writeable:
        array[...] = 0.0


def guard_memory() -> None:
    """Forbid core files and reading by other processes of this user; overwrite freed memory. For good.

    Overwriting is glibc's. It leaves out blocks below about 1 KiB unless the process was started as the
    services are, with `PYTHONMALLOC=malloc` and `GLIBC_TUNABLES=glibc.malloc.tcache_count=0`.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if hasattr(_libc, "mallopt"):
        _libc.mallopt(_M_PERTURB, _FILLER)


def _address(pages: mmap.mmap) -> int:
    pin = ctypes.c_char.from_buffer(pages)
    try:
        return ctypes.addressof(pin)
    finally:
        del pin


_urandom_fd: int | None = None


def _urandom() -> int:
    global _urandom_fd
    if _urandom_fd is None:
        _urandom_fd = os.open("/dev/urandom", os.O_RDONLY | os.O_CLOEXEC)
    return _urandom_fd
