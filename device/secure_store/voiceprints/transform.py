"""Protected templates: a secret rotation per person, so that a stored voiceprint matches nothing elsewhere.

The rotation is drawn from the Haar measure on O(n) by Stewart's method (SIAM J. Numer. Anal. 17(3), 1980):
a product of Householder reflections with Gaussian vectors of falling length, and a diagonal of signs.
For a Haar rotation Q and any unit vector x, Qx is uniform on the sphere whatever x was, so one stored
template says nothing about the person and two under independent secrets are independent (ISO/IEC 24745
irreversibility and unlinkability). Angles are kept: every cosine score is the same as without it.

Cheaper choices do not have that: permuted and sign-flipped coordinates keep the set of magnitudes, which
links templates, and a single random reflection moves a 192-d vector by hardly one per cent.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from device.secure_store.memory import SecretBytes

DIMENSIONS = 192
"""Of the embeddings of the model in use; another model's may be more or fewer."""
LEAST_DIMENSIONS, MOST_DIMENSIONS = 64, 1024

Vector = npt.NDArray[np.float32]


class Rotation:
    """A secret orthogonal map of R^n. Use it in a `with` block: its tables are wiped at the end."""

    def __init__(self, secret: SecretBytes, dimensions: int = DIMENSIONS) -> None:
        """`secret` is 32 bytes; the same secret gives the same rotation on every machine (to rounding)."""
        lengths = np.arange(dimensions, 0, -1)
        starts = np.concatenate([[0], np.cumsum(lengths)])  # the reflectors lie one behind the other
        packed = _normals(secret, int(starts[-1]))
        squares = packed * packed
        norms = np.add.reduceat(squares, starts[:-1])
        squares[:] = 0.0
        heads = packed[starts[:-1]]
        signs = np.where(heads < 0.0, -1.0, 1.0)
        # v = g + sign(g1)|g| e1, scaled so that H = I - v v^T; the last row, of one number, is only a sign.
        tips = heads + signs * np.sqrt(norms)
        packed[starts[:-1]] = tips
        packed *= np.repeat(np.sqrt(2.0 / (norms - heads * heads + tips * tips)), lengths)
        self._packed = packed
        self._reflectors = [packed[a:b] for a, b in pairwise(starts[:-1])]
        # H g = -sign(g1)|g| e1; the diagonal below makes R's diagonal positive, which makes Q Haar.
        self._signs = -signs
        self._signs[-1] = signs[-1]

    def protect(self, vector: Vector) -> Vector:
        """What is stored: Qx for a unit vector x, float32 of shape (n,)."""
        work = vector.astype(np.float64) * self._signs
        for reflector in reversed(self._reflectors):
            tail = work[-len(reflector) :]
            tail -= (reflector @ tail) * reflector
        return _narrow(work)

    def recover(self, vector: Vector) -> Vector:
        """The inverse, Q^T y."""
        work = vector.astype(np.float64)
        for reflector in self._reflectors:
            tail = work[-len(reflector) :]
            tail -= (reflector @ tail) * reflector
        work *= self._signs
        return _narrow(work)

    def __enter__(self) -> Rotation:
        return self

    def __exit__(self, *_: object) -> None:
        self._packed[:] = 0.0
        self._signs[:] = 0.0

    def __repr__(self) -> str:
        return "<secret rotation>"


def _narrow(work: npt.NDArray[np.float64]) -> Vector:
    result = work.astype(np.float32)
    work[:] = 0.0
    return result


def _normals(secret: SecretBytes, count: int) -> npt.NDArray[np.float64]:
    """`count` standard normals from a ChaCha20 key stream (RFC 8439) through Box-Muller.

    NumPy's own generators are not secret-keyed, and their streams may change between releases.
    """
    pairs = (count + 1) // 2
    with secret.view() as key:
        stream = Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor().update(bytes(16 * pairs))
    words = np.frombuffer(stream, dtype="<u8")
    uniform = ((words >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    radius = np.sqrt(-2.0 * np.log(uniform[:pairs]))
    angle = 2.0 * np.pi * uniform[pairs:]
    normals: npt.NDArray[np.float64] = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[
        :count
    ]
    uniform[:] = 0.0
    return normals
