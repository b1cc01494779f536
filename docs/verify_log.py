"""Verify an exported Ostiary log from docs/format.md alone: Python, cbor2 and cryptography, nothing of ours.

    python docs/verify_log.py icu-2.bundle icu-2.pem [receipts.pem]

Exit code 0 when the log is sound, 1 when something is wrong; each finding is one line.
"""

import hashlib
import sys
from pathlib import Path

import cbor2
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def sha256(data):
    return hashlib.sha256(data).digest()


def der(key):
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def opened(message, key, content_type):
    """The fields of a signed message (format.md, section 2)."""
    tag = cbor2.loads(message)
    protected, unprotected, payload, signature = tag.value
    s = int.from_bytes(signature[32:], "big")
    if tag.tag != 18 or protected != cbor2.dumps({1: -7, 3: content_type}, canonical=True) or s > ORDER // 2:
        raise ValueError("not a signed message of this kind")
    if dict(unprotected) != {4: sha256(der(key))[:8]}:
        raise ValueError("signed by another key")
    signed = cbor2.dumps(["Signature1", protected, b"", payload], canonical=True)
    raw = utils.encode_dss_signature(int.from_bytes(signature[:32], "big"), s)
    key.verify(raw, signed, ec.ECDSA(hashes.SHA256()))
    return list(cbor2.loads(payload).values())


def root(nodes):
    """The Merkle root over the perfect subtrees of a frontier, largest first (section 4)."""
    result = nodes[-1]
    for node in reversed(nodes[:-1]):
        result = sha256(b"\x01" + node + result)
    return result


def grown(size, nodes, leaf):
    while size & 1:
        leaf, size = sha256(b"\x01" + nodes.pop() + leaf), size >> 1
    nodes.append(leaf)


def findings(data, key, registry_key=None):
    bundle = cbor2.loads(data)
    form, kind, fields = bundle[0], bundle[1], bundle[2]
    if cbor2.dumps(bundle, canonical=True) != data:
        yield "the file is not in the one encoding"
    unit, named_key, first, chain, frontier, events, heads, gaps, records = fields
    if (form, kind, named_key) != ("ostiary-bundle-1", "log", der(key)):
        yield "this is no log under that key"
        return
    # The heads: each signed by the unit, each naming the hash of the one before it (section 5).
    known, before = {}, bytes(32) if first == 1 else None
    for number, message in enumerate(heads, 1):
        try:
            _, who, size, link, tree, _, _, _, previous = opened(
                message, key, "application/ostiary-head+cbor"
            )
        except (InvalidSignature, ValueError) as err:
            yield f"head {number}: {err or 'the signature does not hold'}"
            before = None
            continue
        behind_gap = any(max(known, default=0) < gap[1] <= size for gap in gaps)
        if who != unit or (before is not None and previous != before and not behind_gap):
            yield f"head {number} does not follow the one before it"
        known[size], before = (link, tree), sha256(message)
    # The beginning: event 1, or a signed head and records of who deleted what came before (section 7).
    nodes, size = [frontier[at : at + 32] for at in range(8, len(frontier), 32)], first - 1
    if first == 1:
        if chain != sha256(b"ostiary chain v1\x00" + unit.encode()) or frontier != bytes(8):
            yield "the log does not begin as a new log does"
    else:
        expected, last_chain = 1, b""
        for record in records if registry_key else ():
            _, who, begin, end, last_chain, _, _ = opened(
                record, registry_key, "application/ostiary-retention+cbor"
            )
            expected = end + 1 if (who, begin) == (unit, expected) else 0
        if (expected, last_chain) != (first, chain):
            yield f"events 1 to {first - 1} are missing, and no record that you can check says why"
        if frontier and (
            known.get(size) != (chain, root(nodes)) or int.from_bytes(frontier[:8], "big") != size
        ):
            yield "the log does not begin at the signed head before it"
    # The events: hashed into chain and tree, and held against the head that covers them (sections 3, 4).
    tree_known = first == 1 or bool(frontier)
    holes = {gap[0]: gap for gap in gaps}
    for body in events:
        if size + 1 in holes:
            yield f"events {size + 1} to {holes[size + 1][1] - 1} are missing"
            _, after, chain = holes[size + 1]
            size, tree_known = after - 1, False
            chain = known[size][0] if size in known else chain
        event = cbor2.loads(body)
        if (event[1], event[2]) != (unit, size + 1) or cbor2.dumps(event, canonical=True) != body:
            yield f"event {size + 1} is not what its place says"
        leaf = sha256(b"\x00" + body)
        chain = sha256(chain + leaf)
        if tree_known:
            grown(size, nodes, leaf)
        size += 1
        if size in known:
            if known[size] != (chain, root(nodes) if tree_known else known[size][1]):
                yield f"events up to {size} are not what the unit signed"
            chain = known[size][0]
    if (events or heads) and max(known, default=0) != size:
        yield f"the last signed head covers {max(known, default=0)} events, the file holds them up to {size}"


if __name__ == "__main__":
    keys = [serialization.load_pem_public_key(Path(name).read_bytes()) for name in sys.argv[2:4]]
    found = list(findings(Path(sys.argv[1]).read_bytes(), *keys))
    print("\n".join(found) or "sound")  # noqa: T201
    sys.exit(bool(found))
