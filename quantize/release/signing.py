"""Signs bundles. The private key belongs to the people who release models and never goes onto a unit."""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from device.model_store.bundle import MANIFEST_NAME, SIGNATURE_CONTEXT, SIGNATURE_NAME, Bundle
from quantize.errors import QuantizeError
from sync.durable import replace_file
from sync.plain_file import open_plain, plain_bytes
from sync.plain_words import why

MAX_KEY_BYTES = 16 * 1024


def sign_bundle(directory: Path, key: Ed25519PrivateKey) -> Bundle:
    """Verify the bundle, then put its signature beside it. Raises BundleError when it does not hold."""
    bundle = Bundle.open(directory)
    raw = plain_bytes(directory / MANIFEST_NAME)
    if raw != bundle.manifest_bytes:
        raise QuantizeError("the manifest changed while it was being signed; sign again")
    signature = key.sign(SIGNATURE_CONTEXT + bundle.manifest_bytes)
    replace_file(directory / SIGNATURE_NAME, signature, 0o644)
    return bundle


def private_key(path: Path) -> Ed25519PrivateKey:
    """The Ed25519 private key in a PEM file; $OSTIARY_KEY_PASSWORD opens an encrypted one."""
    password = os.environ.get("OSTIARY_KEY_PASSWORD")
    try:
        key = load_pem_private_key(_pem(path), password.encode() if password else None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as err:
        raise QuantizeError(f"{path.name} holds no private key that can be opened ({err})") from err
    if not isinstance(key, Ed25519PrivateKey):
        raise QuantizeError(
            f"{path.name} holds a key of another kind; make one: openssl genpkey -algorithm ed25519"
        )
    return key


def public_key(path: Path) -> Ed25519PublicKey:
    """The Ed25519 public key in a PEM file."""
    try:
        key = load_pem_public_key(_pem(path))
    except (ValueError, UnsupportedAlgorithm) as err:
        raise QuantizeError(f"{path.name} holds no public key ({err})") from err
    if not isinstance(key, Ed25519PublicKey):
        raise QuantizeError(f"{path.name} holds a key of another kind than Ed25519")
    return key


def _pem(path: Path) -> bytes:
    try:
        with open_plain(path) as stream:
            return stream.read(MAX_KEY_BYTES)
    except OSError as err:
        raise QuantizeError(f"{path.name} cannot be read ({why(err)})") from err
