"""The decoders of the fleet's messages, of records and of shared campaigns, for `tests.sync.fuzz`."""

from __future__ import annotations

import hashlib

from sync import cose
from sync.cbor import dump_fields
from sync.events import unit_id
from sync.fleet.provisioning import messages as provisioning
from sync.fleet.provisioning.claim import PIN_BYTES, SECRET_BYTES, Claim, Parcel
from sync.fleet.provisioning.tpm.proof import Statement as Attested
from sync.fleet.provisioning.tpm.proof import read_key
from sync.orders import desired
from sync.orders.parts import Chunk, Want
from sync.proofs.retention import RETENTION_TYPE, RetentionRecord, open_record
from sync.registry.campaigns.sharing import SHARED_TYPE, open_shared
from sync.threats.prints import MODEL, VALUES
from tests.sync.fuzz import KEY, NAME, SIGNER, Decoder, signed
from tests.sync.parts import START_MS

OTHER = unit_id("st-mary/pharmacy")
PUBLIC_AREA = bytes.fromhex(
    "00560023000b00040072000000100010000300100020"
    "52aa05a80d5d5264635025a0fc03ff240713c20f73b2c507003af8b89e88974d"
    "0020792c50d4c41b47d5d4e91c4dcaf340a6b9b0e354a3861f281a299fb2a8a52efc"
)
"""Of `KEY` as a TPM would write it: made there, for signing."""


def _documents() -> dict[str, Decoder]:
    part = desired.Part.of(b"rules")
    wanted = desired.WantedBundle(part, bytes(64), bytes(32))
    contents = desired.Contents(part, part, wanted, {"voice_llr": 1.5}, "0.2.0")
    document = desired.Desired(NAME, 3, START_MS, START_MS + 9000, contents)
    roster = desired.Roster(
        (desired.Held("17", 1, part), desired.Held("18", 2, None, 4)),
        (desired.Share("17", 1, OTHER, b"card"),),
        (desired.Gone("19", 3),),
    )
    statement = desired.Statement(
        NAME,
        START_MS,
        (
            desired.Enrolled("17", 1, "campp-1", "text-1", "access", START_MS, START_MS + 9),
            desired.Holding("18", 2, 1, "campp-1", "text-1", "access", START_MS, START_MS + 9),
            desired.Sealed("17", 1, OTHER, b"envelope"),
            desired.Receipt("19", 3, b"proof"),
        ),
    )
    piece = Chunk(part, 0, b"rules")

    def stated(payload: bytes) -> object:
        """The message as it comes, and its body under the unit's signature."""
        if payload.startswith(b"\xa2\x00"):
            return desired.open_statement(payload, KEY, NAME)
        inner = dump_fields(1, NAME, START_MS, hashlib.sha256(payload).digest())
        message = dump_fields(cose.sign1(inner, SIGNER, desired.STATEMENT_TYPE), payload)
        return desired.open_statement(message, KEY, NAME)

    return {
        "desired": signed(
            desired.DESIRED_TYPE, desired.open_desired, document.signed(SIGNER), START_MS + 1000
        ),
        "roster": Decoder(desired.Roster.from_bytes, (roster.to_bytes(),)),
        "statement": Decoder(stated, (statement.body(), statement.signed(SIGNER))),
        "want": Decoder(Want.from_bytes, (Want(part.sha256, 0).to_bytes(),)),
        "chunk": Decoder(Chunk.from_bytes, (piece.to_bytes(),)),
    }


def _provisioning() -> dict[str, Decoder]:
    attested = Attested(b"attest", bytes(64))
    claim = Claim("site.example", 8884, NAME, "icu-2", bytes(PIN_BYTES), bytes(SECRET_BYTES))
    begin = provisioning.Begin(b"proof", PUBLIC_AREA, b"cert", (b"ca",), PUBLIC_AREA, (b"a", b"b"))
    finish = provisioning.Finish(
        b"s", b"opened", (attested, attested), attested, {0: bytes(32), 7: bytes(32)}
    )
    place = provisioning.Place(NAME, "icu-2", "mqtt:8883", b"pem", b"key", b"key", b"parcel", b"signature")
    parcel = Parcel(b"rules", bytes(32), (b"policy",))
    plain = {
        "site": (provisioning.Site, provisioning.Site(b"root", b"")),
        "begin": (provisioning.Begin, begin),
        "renew": (provisioning.Renew, provisioning.Renew(NAME, "ab" * 32)),
        "challenge": (provisioning.Challenge, provisioning.Challenge(b"s", b"c", b"e", b"n")),
        "finish": (provisioning.Finish, finish),
        "place": (provisioning.Place, place),
        "refusal": (provisioning.Refusal, provisioning.Refusal("used", "this claim was used")),
        "parcel": (Parcel, parcel),
    }
    found = {name: Decoder(kind.from_bytes, (made.to_bytes(),)) for name, (kind, made) in plain.items()}
    found["claim"] = Decoder(
        lambda data: Claim.parse(data.decode("utf-8", "replace")), (str(claim).encode(),)
    )
    found["public-area"] = Decoder(lambda data: read_key(data, "signing"), (PUBLIC_AREA,))
    return found


def fleet_decoders() -> dict[str, Decoder]:
    record = RetentionRecord(NAME, 1, 20, bytes(32), "m.desk", START_MS)
    shared = dump_fields(1, "st-mary", MODEL, START_MS, bytes(range(2 * VALUES)))

    def told(message: bytes, *_: object) -> object:
        return open_shared(message, KEY)

    return {
        **_documents(),
        **_provisioning(),
        "retention": signed(RETENTION_TYPE, open_record, record.signed(SIGNER)),
        "shared-campaigns": signed(SHARED_TYPE, told, cose.sign1(shared, SIGNER, SHARED_TYPE)),
    }
