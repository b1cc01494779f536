"""Lets Python's TLS sign with a key in the TPM.

Python's `ssl` takes keys from files only. OpenSSL also takes a key with a signing function of its owner's
(`EC_KEY_METHOD`), as for smart cards; this module gives it one. No other calls OpenSSL directly, and it
refuses any Python or OpenSSL that it was not made for.
"""

from __future__ import annotations

import _ssl
import ctypes
import logging
import os
import platform
import ssl
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from device.secure_store.errors import StoreError
from sync.cose import der_signature
from sync.plain_words import told

log = logging.getLogger(__name__)

DIGEST_BYTES = 32
_MAX_DER = 72  # of an ECDSA signature on P-256
_Pointer, _Text = ctypes.c_void_p, ctypes.c_char_p
_SIGN = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_int,
    _Pointer,
    ctypes.c_int,
    _Pointer,
    ctypes.POINTER(ctypes.c_uint),
    _Pointer,
    _Pointer,
    _Pointer,
)

Sign = Callable[[bytes], bytes]
"""A SHA-256 digest to an ES256 signature, raw r || s."""


class TpmTlsKey:
    """Keep it for as long as a context uses it: OpenSSL calls into it at every handshake."""

    def __init__(self, public: ec.EllipticCurvePublicKey, sign: Sign) -> None:
        """Raises StoreError for a Python or OpenSSL that this was not made for."""
        version = ssl.OPENSSL_VERSION_INFO[0]
        if platform.python_implementation() != "CPython" or version != 3:
            raise StoreError(
                f"a TLS key in the TPM needs CPython with OpenSSL 3, not {platform.python_implementation()} "
                f"with {ssl.OPENSSL_VERSION}"
            )
        self._sign = sign
        self._openssl = ctypes.CDLL(_ssl.__file__)  # the very OpenSSL that this Python's TLS is linked to
        self._callback = _SIGN(self._answer)
        self._key = self._made(public)

    def load_into(self, context: ssl.SSLContext, certificates_pem: bytes) -> None:
        """Show this key and its certificate chain in handshakes from now on; may be called again.

        Raises StoreError when they do not fit each other.
        """
        # PySSLContext begins with the object's head and then SSL_CTX *ctx, in CPython 3.11 to 3.13.
        raw = _Pointer.from_address(id(context) + object.__basicsize__)
        options = self._function("SSL_CTX_get_options", ctypes.c_uint64, _Pointer)(raw)
        if options != int(context.options) & 0xFFFF_FFFF_FFFF_FFFF:
            raise StoreError("this Python keeps its TLS contexts in another place; use one from 3.11 to 3.13")
        handle = os.memfd_create("certificates", os.MFD_CLOEXEC)
        try:
            os.write(handle, certificates_pem)
            use = self._function("SSL_CTX_use_certificate_chain_file", ctypes.c_int, _Pointer, _Text)
            if use(raw, f"/proc/self/fd/{handle}".encode()) != 1:
                self._function("ERR_clear_error", None)()
                raise StoreError("the unit's certificate cannot be read; provision the unit again")
        finally:
            os.close(handle)
        taken = self._function("SSL_CTX_use_PrivateKey", ctypes.c_int, _Pointer, _Pointer)(raw, self._key)
        fits = self._function("SSL_CTX_check_private_key", ctypes.c_int, _Pointer)(raw)
        if taken != 1 or fits != 1:
            self._function("ERR_clear_error", None)()
            raise StoreError("the certificate is not of the key in this TPM; provision the unit again")

    def _made(self, public: ec.EllipticCurvePublicKey) -> ctypes.c_void_p:
        """An EVP_PKEY with the public half, and our signing function."""
        der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        held = ctypes.create_string_buffer(der, len(der))
        at = _Pointer(ctypes.addressof(held))
        read = self._function("d2i_EC_PUBKEY", _Pointer, _Pointer, ctypes.POINTER(_Pointer), ctypes.c_long)
        key = read(None, ctypes.byref(at), len(der))
        usual = self._function("EC_KEY_OpenSSL", _Pointer)()
        method = self._function("EC_KEY_METHOD_new", _Pointer, _Pointer)(usual)
        made = self._function("EVP_PKEY_new", _Pointer)()
        if not (key and method and made):
            raise StoreError("OpenSSL has no memory for the unit's key")
        set_sign = self._function("EC_KEY_METHOD_set_sign", None, _Pointer, _Pointer, _Pointer, _Pointer)
        set_sign(method, ctypes.cast(self._callback, _Pointer), None, None)
        done = self._function("EC_KEY_set_method", ctypes.c_int, _Pointer, _Pointer)(key, method)
        done &= self._function("EVP_PKEY_set1_EC_KEY", ctypes.c_int, _Pointer, _Pointer)(made, key)
        if done != 1:
            raise StoreError("OpenSSL does not take a key that signs elsewhere")
        return _Pointer(made)

    def _answer(
        self, _kind: int, digest: int, size: int, into: int, length: Any, _k: int, _r: int, _key: int
    ) -> int:
        """Called by OpenSSL within a handshake; returns 1 when it wrote a signature. Raises nothing."""
        try:
            if size != DIGEST_BYTES:
                return 0
            der = der_signature(self._sign(ctypes.string_at(digest, size)))
            if len(der) > _MAX_DER:
                return 0
            ctypes.memmove(into, der, len(der))
            length[0] = len(der)
        except Exception as err:  # noqa: BLE001 - the edge to C: the handshake fails, and is tried again
            log.warning("the TPM does not sign for TLS: %s", told(err, "it refused"))
            return 0
        return 1

    def _function(self, name: str, result: Any, *arguments: Any) -> Any:
        function = getattr(self._openssl, name)
        function.restype, function.argtypes = result, arguments
        return function
