"""Who is let in as which unit: every refusal with a real TPM, every way a certificate of a TPM looks."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st
from tpm2_pytss import ESAPI, TPM2B_NV_PUBLIC, TPM2B_PUBLIC, TPMA_NV, TPMA_OBJECT
from tpm2_pytss.constants import ESYS_TR, TPM2_ALG
from tpm2_pytss.types import TPMS_NV_PUBLIC
from tpm2_pytss.utils import ek_template

from device.secure_store.hardware.endorsement import (
    HIGH_ECC,
    HIGH_RSA,
    RSA,
    Endorsement,
    certify,
    endorsement,
    open_credential,
)
from device.secure_store.hardware.swtpm import SwTpm
from device.secure_store.hardware.tpm_keystore import TpmKeystore
from device.secure_store.hardware.tpm_link import TpmLink, TpmObject
from sync.errors import MalformedError, SyncError
from sync.events import unit_id
from sync.fleet.certificates import Authority
from sync.fleet.provisioning import claims as remembered
from sync.fleet.provisioning import recovery
from sync.fleet.provisioning.admission import Admission, SiteFacts
from sync.fleet.provisioning.claim import Claim, Parcel
from sync.fleet.provisioning.messages import Begin, Challenge, Finish, Place, Renew
from sync.fleet.provisioning.refusals import RefusedError
from sync.fleet.provisioning.site import Site
from sync.fleet.provisioning.tpm.ek_certificates import Grade, read, sequences
from sync.fleet.provisioning.tpm.proof import Statement, read_key
from sync.keys import FileSigner
from sync.proofs.bundle import key_to_der
from sync.registry import readmission
from sync.registry.database.schema import certificates, identities, units
from sync.registry.database.store import Store
from sync.registry.fleet import wanted
from sync.registry.reports import status
from tests.sync.registry.ingest.test_ingest import cluster

__all__ = ["cluster"]
pytestmark = pytest.mark.e2e

ICU, LAB = unit_id("st-mary/icu-2"), unit_id("st-mary/lab-1")
DAY = dt.timedelta(days=1)


@dataclass
class Desk:
    """A site whose clock can be moved."""

    admission: Admission
    authority: Authority
    now: dt.datetime

    @property
    def store(self) -> Store:
        return self.admission.store

    def claim(self, unit: str = ICU, parcel: Parcel | None = None, tpm: str | None = None) -> Claim:
        claim = Claim.fresh("localhost", 8444, unit_id(unit), "pharmacy", bytes(32))
        remembered.add_claim(
            self.store,
            claim.digest(),
            claim.unit,
            door=claim.door,
            parcel=claim.seal(parcel or Parcel()),
            expected=tpm,
            account="desk",
            now=self.now,
            lasts=DAY,
        )
        return claim

    def alarms(self) -> set[str]:
        return {alarm["kind"] for alarm in status.open_alarms(self.store)}


@dataclass
class Box:
    """A unit with a TPM that makes honest requests, for somebody to change."""

    keystore: TpmKeystore
    tls: TpmObject
    own: Endorsement

    @classmethod
    def on(cls, tpm: SwTpm, folder: Path) -> Box:
        keystore = TpmKeystore(folder, tpm.settings())
        made = keystore.tpm.create_signing_key(restricted=False)
        return cls(keystore, made, endorsement(keystore.tpm))

    @property
    def objects(self) -> tuple[TpmObject, ...]:
        return self.tls, self.keystore.audit_object(), self.keystore.exchange_object()

    @property
    def tpm(self) -> str:
        return read_key(self.own.public, "endorsement").digest()

    def begin(self, claim: Claim) -> Begin:
        keys = tuple(item.public for item in self.objects)
        attestation = self.keystore.attestation_object().public
        return Begin(claim.proof(), self.own.public, self.own.certificate, self.own.chain, attestation, keys)

    def finish(self, challenge: Challenge, objects: tuple[TpmObject, ...] | None = None) -> Finish:
        keystore, attestation = self.keystore, self.keystore.attestation_object()
        chosen = objects if objects is not None else self.objects
        sealed = (challenge.credential, challenge.secret)
        opened = open_credential(keystore.tpm, self.own.kind, attestation, *sealed)
        stated = [Statement(*certify(keystore.tpm, attestation, one, challenge.nonce)) for one in chosen]
        quote = keystore.quote(challenge.nonce)
        return Finish(
            challenge.session,
            opened,
            tuple(stated),
            Statement(quote.statement, quote.signature),
            dict(quote.values),
        )

    def redeem(self, desk: Desk, claim: Claim) -> Place:
        return desk.admission.finish(self.finish(desk.admission.begin(self.begin(claim))))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    yield from opened(f"sqlite:///{tmp_path}/registry.db", tmp_path)


def opened(url: str, folder: Path) -> Iterator[Desk]:
    now = dt.datetime.now(dt.UTC)
    store = Store.open(url)
    authority = Authority.make_site(folder / "pki", folder / "away", "st-mary", now)
    facts = SiteFacts("localhost:8883", b"receipts", b"commands")
    made = Desk(Admission(store, authority, facts, lambda: made.now), authority, now)
    yield made
    store.close()


@pytest.fixture(scope="module")
def tpms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SwTpm, SwTpm]]:
    folder = tmp_path_factory.mktemp("tpms")
    with SwTpm(folder / "first") as first, SwTpm(folder / "second") as second:
        yield first, second


@pytest.fixture(scope="module")
def boxes(tpms: tuple[SwTpm, SwTpm], tmp_path_factory: pytest.TempPathFactory) -> tuple[Box, Box]:
    folder = tmp_path_factory.mktemp("boxes")
    first, second = (Box.on(tpm, folder / str(number)) for number, tpm in enumerate(tpms))
    return first, second


def refused(work: Callable[[], object]) -> str:
    with pytest.raises(RefusedError) as caught:
        work()
    assert "\n" not in str(caught.value)
    return caught.value.code


def test_a_tpm_becomes_a_unit_and_gets_what_the_desk_gave_along(desk: Desk, boxes: tuple[Box, Box]) -> None:
    box, parcel = boxes[0], Parcel(b"version = 1", bytes(range(32)))
    claim = desk.claim(parcel=parcel)
    place = box.redeem(desk, claim)
    assert (place.unit, place.door, place.broker) == (ICU, "pharmacy", "localhost:8883")
    assert claim.open(place.parcel) == parcel
    leaf, issuing = x509.load_pem_x509_certificates(place.certificates)
    leaf.verify_directly_issued_by(issuing)
    assert key_to_der(leaf.public_key()) == key_to_der(box.tls.public_key())  # type: ignore[arg-type]
    assert desk.store.public_keys()[ICU] == key_to_der(box.keystore.audit_signer().public_key())
    (row,) = remembered.admitted(desk.store)
    assert (row.tpm, row.grade) == (box.tpm, Grade.FIRST_USE)
    assert bytes(row.exchange) == box.keystore.exchange_object().public
    measured = {int(pcr): bytes.fromhex(value) for pcr, value in json.loads(row.measured).items()}
    assert measured == box.keystore.measure()
    assert not desk.alarms()


@pytest.mark.slow
def test_the_same_on_postgresql(cluster: str, boxes: tuple[Box, Box], tmp_path: Path) -> None:
    desk = next(opened(cluster, tmp_path))
    claim = desk.claim()
    boxes[0].redeem(desk, claim)
    assert refused(lambda: boxes[1].redeem(desk, claim)) == "second_tpm"
    assert desk.alarms() == {"SECOND_TPM"}
    desk.store.close()


def test_a_claim_is_good_once_and_a_cut_unit_may_ask_again(desk: Desk, boxes: tuple[Box, Box]) -> None:
    claim = desk.claim()
    boxes[0].finish(desk.admission.begin(boxes[0].begin(claim)))  # killed before it sent that
    first = boxes[0].redeem(desk, claim)
    again = boxes[0].redeem(desk, claim)  # killed before it wrote the answer down
    assert (first.unit, first.parcel) == (again.unit, again.parcel)
    desk.admission.store.revoke(ICU, 1)
    assert refused(lambda: boxes[0].redeem(desk, claim)) == "withdrawn"


def test_a_used_claim_is_refused_to_another_tpm_and_is_an_alarm(desk: Desk, boxes: tuple[Box, Box]) -> None:
    claim = desk.claim()
    boxes[0].redeem(desk, claim)
    with desk.store.transaction() as db:  # as if the first unit had been taken out of the books
        db.execute(sa.delete(identities))
    assert refused(lambda: boxes[1].redeem(desk, claim)) == "used"
    assert desk.alarms() == {"CLAIM_REUSED"}


def test_of_two_tpms_that_come_at_once_one_gets_the_claim(desk: Desk, boxes: tuple[Box, Box]) -> None:
    claim = desk.claim()
    first, second = (box.finish(desk.admission.begin(box.begin(claim))) for box in boxes)
    desk.admission.finish(first)
    assert refused(lambda: desk.admission.finish(second)) == "used"


def test_an_expired_a_replaced_and_a_foreign_claim_are_refused(desk: Desk, boxes: tuple[Box, Box]) -> None:
    box, early, claim = boxes[0], desk.claim(), desk.claim()
    assert refused(lambda: box.redeem(desk, early)) == "withdrawn"
    foreign = Claim.fresh("localhost", 8444, ICU, "pharmacy", bytes(32))
    assert refused(lambda: box.redeem(desk, foreign)) == "foreign"
    challenge = desk.admission.begin(box.begin(claim))
    desk.now += DAY
    assert refused(lambda: box.redeem(desk, claim)) == "expired"
    assert refused(lambda: desk.admission.finish(box.finish(challenge))) == "late"
    assert status.refusal_counts(desk.store)


def test_a_second_tpm_under_a_known_name_is_refused_until_two_people_replace_it(
    desk: Desk, boxes: tuple[Box, Box]
) -> None:
    first, second = boxes
    first.redeem(desk, desk.claim())
    with pytest.raises(SyncError, match="fleet replace"):
        desk.claim()
    stolen = desk.claim(tpm=first.tpm)
    with desk.store.transaction() as db:
        db.execute(sa.text("UPDATE claims SET expected = NULL"))
    assert refused(lambda: second.redeem(desk, stolen)) == "second_tpm"
    assert desk.alarms() == {"SECOND_TPM"}
    number = readmission.ask(desk.store, ICU, account="a", why="burnt", now_ms=1, action=readmission.REPLACE)
    readmission.approve(desk.store, number, account="b", now_ms=2)
    with desk.store.reading() as db:
        assert db.execute(sa.select(certificates.c.revoked_ms)).scalars().all() == [2]
        assert db.execute(sa.select(units.c.revoked_ms).where(units.c.unit == ICU)).scalar() == 2
    assert refused(lambda: first.redeem(desk, stolen)) == "withdrawn"
    assert second.redeem(desk, desk.claim()).unit == ICU
    assert [row.tpm for row in remembered.admitted(desk.store)] == [second.tpm]
    renewed = Renew(ICU, first.tpm)
    assert refused(lambda: desk.admission.renew(renewed)) == "unknown"


def test_a_stranger_who_tries_all_day_fills_no_table(desk: Desk, boxes: tuple[Box, Box]) -> None:
    begin = boxes[0].begin(Claim.fresh("localhost", 8444, ICU, "pharmacy", bytes(32)))
    for _ in range(70):
        assert refused(lambda: desk.admission.begin(begin)) == "foreign"
    (row,) = status.refusal_counts(desk.store)
    assert (row["reason"], row["times"]) == ("claim foreign", 60)


def test_a_place_counts_only_as_the_issuing_key_signed_it_for_this_challenge_and_key(
    desk: Desk, boxes: tuple[Box, Box]
) -> None:
    box, claim = boxes[0], desk.claim(parcel=Parcel(b"version = 1"))
    challenge = desk.admission.begin(box.begin(claim))
    place = desk.admission.finish(box.finish(challenge))
    root, key = (desk.authority.folder / "ca.pem").read_bytes(), box.tls.public_key()
    place.check(root, key, challenge.nonce)
    assert Place.from_bytes(place.to_bytes()) == place
    # Anybody who has a server's key of the site, and not the issuing one, would like to be obeyed.
    mine = FileSigner.generate()
    for changed in ({"command_key": mine.public_pem()}, {"broker": "evil:1"}, {"parcel": b""}, {"door": "d"}):
        with pytest.raises(SyncError):
            replace(place, **changed).check(root, key, challenge.nonce)
        with pytest.raises(SyncError):
            replace(place, **changed).signed(mine, challenge.nonce).check(root, key, challenge.nonce)
    with pytest.raises(SyncError):
        place.check(root, key, bytes(32))
    with pytest.raises(SyncError, match="another key"):
        place.check(root, boxes[1].tls.public_key(), challenge.nonce)
    other = Authority.make_site(desk.authority.folder / "o", desk.authority.folder / "p", "st-mary", desk.now)
    with pytest.raises(SyncError, match="site's root"):
        place.check((other.folder / "ca.pem").read_bytes(), key, challenge.nonce)


def after_the_loss(desk: Desk, folder: Path) -> Desk:
    """The same site with an empty database."""
    store = Store.open(f"sqlite:///{folder}/new.db")
    admission = Admission(store, desk.authority, desk.admission.site, lambda: made.now)
    made = Desk(admission, desk.authority, desk.now)
    return made


def asked(desk: Desk) -> bool:
    """Whether any unit is asked what it holds."""
    with desk.admission.store.reading() as db:
        return recovery.recovering(db)


def certificate_of(place: Place) -> bytes:
    return x509.load_pem_x509_certificates(place.certificates)[0].public_bytes(Encoding.DER)


def test_a_new_registry_knows_a_unit_again_by_its_certificate_and_its_tpm_and_no_other(
    desk: Desk, boxes: tuple[Box, Box], tmp_path: Path
) -> None:
    box, other = boxes
    claim = desk.claim()
    shown = certificate_of(box.redeem(desk, claim))
    new = after_the_loss(desk, tmp_path)
    back = replace(box.begin(claim), proof=shown)
    assert refused(lambda: new.admission.begin(back)) == "unknown", "nobody has said that it recovers"
    wanted.want(new.store, "all", "recovering", True, "desk", 1)
    stolen = replace(other.begin(claim), proof=shown)
    assert refused(lambda: new.admission.begin(stolen)) == "not_proved", "the certificate is no secret"
    mixed = replace(back, keys=(other.tls.public, *back.keys[1:]))
    assert refused(lambda: new.admission.begin(mixed)) == "not_proved"
    foreign = Authority.make_site(tmp_path / "o", tmp_path / "p", "st-mary", desk.now)
    forged = foreign.sign(box.tls.public_key(), ICU, desk.now).public_bytes(Encoding.DER)
    assert refused(lambda: new.admission.begin(replace(back, proof=forged))) == "not_proved"
    new.now = desk.now + 91 * DAY
    assert refused(lambda: new.admission.begin(back)) == "expired", "the list names none that has run out"
    new.now = desk.now
    place = new.admission.finish(box.finish(new.admission.begin(back)))
    assert place.unit == ICU
    (row,) = remembered.admitted(new.store)
    assert (row.unit, row.tpm) == (ICU, box.tpm)
    with new.store.reading() as db:
        assert remembered.proved_exchange(db, ICU) == box.keystore.exchange().public_key()
    new.store.close()


@pytest.mark.parametrize("what", ["ended", "revoked"])
def test_a_unit_that_comes_back_is_judged_by_what_counts_when_its_tpm_has_answered(
    desk: Desk, boxes: tuple[Box, Box], tmp_path: Path, what: str
) -> None:
    box, claim = boxes[0], desk.claim()
    shown = certificate_of(box.redeem(desk, claim))
    new = after_the_loss(desk, tmp_path)
    wanted.want(new.store, "all", "recovering", True, "desk", 1)
    challenge = new.admission.begin(replace(box.begin(claim), proof=shown))
    if what == "ended":
        assert recovery.end(new.store, "desk", new.now) == ()
    else:
        with new.store.transaction() as db:
            row = {
                "serial": f"{x509.load_der_x509_certificate(shown).serial_number:x}",
                "unit": ICU,
                "tpm": "",
            }
            db.execute(sa.insert(certificates).values(**row, issued_ms=1, expires_ms=2, revoked_ms=1))
    assert refused(lambda: new.admission.finish(box.finish(challenge))) == (
        "unknown" if what == "ended" else "revoked"
    )
    assert remembered.admitted(new.store) == []
    new.store.close()


def test_what_the_brokers_list_names_stays_revoked_whatever_the_database_remembers(
    desk: Desk, boxes: tuple[Box, Box], tmp_path: Path
) -> None:
    box, claim = boxes[0], desk.claim()
    shown = certificate_of(box.redeem(desk, claim))
    serial = x509.load_der_x509_certificate(shown).serial_number
    folder = tmp_path / "site"
    site = Site(folder, "st-mary", "localhost", "127.0.0.1", 8883, 8444)
    shutil.copytree(desk.authority.folder, site.pki())
    site.revoked.parent.mkdir()
    site.revoked.write_bytes(desk.authority.revocation_list((serial,), 1, desk.now))
    # The backup of yesterday knows the unit, and does not know that it was stolen.
    assert recovery.begin(site, desk.store, "desk", desk.now) == 0
    assert asked(desk)
    assert refused(lambda: box.redeem(desk, claim)) == "withdrawn"
    assert refused(lambda: desk.admission.renew(Renew(ICU, box.tpm))) == "revoked"
    # A new one knows neither.
    new = after_the_loss(desk, tmp_path)
    assert recovery.begin(site, new.store, "desk", desk.now) == 1
    assert refused(lambda: new.admission.begin(replace(box.begin(claim), proof=shown))) == "revoked"
    recovery.end(new.store, "desk", desk.now)
    assert not asked(new)
    site.revoked.write_bytes(
        Authority.make_site(tmp_path / "o", tmp_path / "p", "st-mary", desk.now).revocation_list(
            (), 1, desk.now
        )
    )
    with pytest.raises(SyncError, match="not this site's list"):
        recovery.begin(site, new.store, "desk", desk.now)
    new.store.close()


def test_one_tpm_is_one_unit(desk: Desk, boxes: tuple[Box, Box]) -> None:
    boxes[0].redeem(desk, desk.claim())
    assert refused(lambda: boxes[0].redeem(desk, desk.claim(LAB))) == "second_unit"


def test_a_claim_for_one_tpm_of_the_inventory_is_for_no_other(desk: Desk, boxes: tuple[Box, Box]) -> None:
    claim = desk.claim(tpm=boxes[0].tpm)
    assert refused(lambda: boxes[1].redeem(desk, claim)) == "not_proved"
    boxes[0].redeem(desk, claim)
    assert remembered.admitted(desk.store)[0].grade == Grade.INVENTORY


def soft_key(**attributes: Any) -> bytes:
    """The public area of a key in a file, as its owner would like it to look."""
    pem = FileSigner(ec.derive_private_key(7**80, ec.SECP256R1())).public_pem()
    return bytes(TPM2B_PUBLIC.from_pem(pem, **attributes).marshal())


def test_a_key_in_a_file_is_refused_whatever_it_says_of_itself(desk: Desk, boxes: tuple[Box, Box]) -> None:
    box, claim = boxes[0], desk.claim()
    honest = box.begin(claim)
    plain = soft_key(objectAttributes=TPMA_OBJECT.SIGN_ENCRYPT | TPMA_OBJECT.USERWITHAUTH)
    told = replace(honest, keys=(plain, *honest.keys[1:]))
    assert refused(lambda: desk.admission.begin(told)) == "not_proved"
    lying = soft_key(
        objectAttributes=TPMA_OBJECT.FIXEDTPM
        | TPMA_OBJECT.FIXEDPARENT
        | TPMA_OBJECT.SENSITIVEDATAORIGIN
        | TPMA_OBJECT.SIGN_ENCRYPT
        | TPMA_OBJECT.USERWITHAUTH
    )
    challenge = desk.admission.begin(replace(honest, keys=(lying, *honest.keys[1:])))
    # The TPM vouches for its own key only, whichever that is; and an unrestricted key signs no statement.
    assert refused(lambda: desk.admission.finish(box.finish(challenge))) == "not_proved"
    assert desk.alarms() == {"KEY_NOT_PROVED"}
    with desk.store.reading() as db:
        assert not db.execute(sa.select(identities)).all()


def test_an_attestation_key_of_another_tpm_or_kind_is_refused(desk: Desk, boxes: tuple[Box, Box]) -> None:
    box, other = boxes
    claim = desk.claim()
    honest = box.begin(claim)
    audit = box.keystore.audit_object().public
    assert refused(lambda: desk.admission.begin(replace(honest, attestation=audit))) == "not_proved"
    theirs = replace(honest, attestation=other.keystore.attestation_object().public)
    challenge = desk.admission.begin(theirs)
    finish = other.finish(desk.admission.begin(other.begin(claim)))
    guessed = replace(finish, session=challenge.session, opened=bytes(32))
    assert refused(lambda: desk.admission.finish(guessed)) == "not_proved"


def test_a_statement_from_before_and_a_challenge_twice_are_refused(
    desk: Desk, boxes: tuple[Box, Box]
) -> None:
    box, claim = boxes[0], desk.claim()
    old = box.finish(desk.admission.begin(box.begin(claim)))
    challenge = desk.admission.begin(box.begin(claim))
    fresh = box.finish(challenge)
    assert refused(lambda: desk.admission.finish(replace(fresh, statements=old.statements))) == "not_proved"
    assert refused(lambda: desk.admission.finish(fresh)) == "late", "one try for a challenge"
    challenge = desk.admission.begin(box.begin(claim))
    mixed = box.finish(challenge, (box.objects[1], box.objects[0], box.objects[2]))
    assert refused(lambda: desk.admission.finish(mixed)) == "not_proved"
    fewer = box.finish(desk.admission.begin(box.begin(claim)), (box.tls,))
    assert refused(lambda: desk.admission.finish(fewer)) == "not_proved"


def test_a_unit_that_was_away_for_months_renews_and_a_revoked_one_does_not(
    desk: Desk, boxes: tuple[Box, Box]
) -> None:
    box = boxes[0]
    box.redeem(desk, desk.claim())
    desk.now += 400 * DAY
    challenge = desk.admission.renew(Renew(ICU, box.tpm))
    place = desk.admission.finish(box.finish(challenge, (box.tls,)))
    (leaf, _) = x509.load_pem_x509_certificates(place.certificates)
    assert leaf.not_valid_after_utc > desk.now + 80 * DAY
    assert not place.parcel
    under_way = desk.admission.renew(Renew(ICU, box.tpm))
    desk.store.revoke(ICU, 1)
    assert refused(lambda: desk.admission.finish(box.finish(under_way, (box.tls,)))) == "revoked"
    assert refused(lambda: desk.admission.renew(Renew(ICU, box.tpm))) == "revoked"


def test_a_new_disk_in_a_unit_that_has_sent_events_needs_two_people(
    desk: Desk, boxes: tuple[Box, Box], tpms: tuple[SwTpm, SwTpm], tmp_path: Path
) -> None:
    box = boxes[0]
    box.redeem(desk, desk.claim())
    audit = box.keystore.tpm.create_signing_key(restricted=False)
    begin = box.begin(desk.claim(tpm=box.tpm))
    begin = replace(begin, keys=(begin.keys[0], audit.public, begin.keys[2]))
    desk.admission.finish(
        box.finish(desk.admission.begin(begin), (box.tls, audit, box.objects[2]))
    )  # its log is empty
    with desk.store.transaction() as db:
        db.execute(sa.update(units).values(size=7))
    begin = box.begin(desk.claim(tpm=box.tpm))
    finish = box.finish(desk.admission.begin(begin))
    assert refused(lambda: desk.admission.finish(finish)) == "log"


# Certificates of endorsement keys


class Maker:
    """A TPM maker with a root and an issuing authority."""

    def __init__(self) -> None:
        self.root_key, self.key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        self.root = self._signed("root", "root", self.root_key.public_key(), self.root_key, ca=True)
        self.issuing = self._signed("issuing", "root", self.key.public_key(), self.root_key, ca=True)

    def certify(self, key: Any) -> bytes:
        return self._signed("tpm", "issuing", key, self.key, ca=False).public_bytes(Encoding.DER)

    def _signed(self, name: str, by: str, key: Any, signer: Any, *, ca: bool) -> x509.Certificate:
        subject, issuer = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, one)]) for one in (name, by))
        now = dt.datetime.now(dt.UTC)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
        builder = builder.serial_number(7).not_valid_before(now - DAY).not_valid_after(now + 1000 * DAY)
        builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
        return builder.sign(signer, hashes.SHA256())


def put_in_nv(tpm: SwTpm, index: int, data: bytes) -> None:
    """Where a maker puts it."""
    esapi = ESAPI(tpm.tcti)
    try:
        size = len(data)
        attributes = TPMA_NV.OWNERREAD | TPMA_NV.OWNERWRITE | TPMA_NV.AUTHREAD | TPMA_NV.NO_DA
        area = TPMS_NV_PUBLIC(
            nvIndex=index, nameAlg=TPM2_ALG.SHA256, attributes=attributes, authPolicy=b"", dataSize=size
        )
        handle = esapi.nv_define_space(b"", TPM2B_NV_PUBLIC(area), ESYS_TR.OWNER, session1=ESYS_TR.PASSWORD)
        for at in range(0, size, 512):
            part = data[at : at + 512]
            esapi.nv_write(handle, part, at, auth_handle=ESYS_TR.OWNER, session1=ESYS_TR.PASSWORD)
    finally:
        esapi.close()


def test_a_padded_certificate_and_its_chain_in_the_tpm_are_read_and_believed(
    desk: Desk, tmp_path: Path
) -> None:
    maker = Maker()
    with SwTpm(tmp_path / "swtpm") as tpm:
        bare = endorsement(TpmLink(tpm.tcti, 0), RSA)
        leaf = maker.certify(read_key(bare.public, "endorsement").key)
        put_in_nv(tpm, 0x01C00002, b"\x10\x01\x00" + len(leaf).to_bytes(2) + leaf + b"\xff" * 300)
        put_in_nv(tpm, 0x01C00100, maker.issuing.public_bytes(Encoding.DER) + bytes(9))
        box = Box.on(tpm, tmp_path / "box")
        assert box.own.kind == RSA, "the key that has a certificate"
        desk.admission.site = replace(desk.admission.site, roots=(maker.root,))
        box.redeem(desk, desk.claim())
    (row,) = remembered.admitted(desk.store)
    assert (row.grade, row.note) == (Grade.MAKER, "")
    assert leaf in bytes(row.certificate), "the raw bytes are kept"


@pytest.mark.parametrize("kind", [HIGH_ECC, HIGH_RSA])
def test_a_key_of_the_high_range_is_used_where_its_maker_certified_that_one(
    desk: Desk, tmp_path: Path, kind: str
) -> None:
    maker, template = Maker(), ek_template.lookup(kind)
    with SwTpm(tmp_path / "swtpm") as tpm:
        bare = TpmLink(tpm.tcti, 0).run(
            lambda esapi: bytes(
                esapi.create_primary(
                    None,
                    TPM2B_PUBLIC(template.template.publicArea),
                    ESYS_TR.ENDORSEMENT,
                    session1=ESYS_TR.PASSWORD,
                )[1].marshal()
            )
        )
        put_in_nv(tpm, template.cert_index, maker.certify(read_key(bare, "endorsement").key))
        put_in_nv(tpm, 0x01C00100, maker.issuing.public_bytes(Encoding.DER))
        box = Box.on(tpm, tmp_path / "box")
        assert (box.own.kind, box.own.public) == (kind, bare)
        desk.admission.site = replace(desk.admission.site, roots=(maker.root,))
        box.redeem(desk, desk.claim())
    (row,) = remembered.admitted(desk.store)
    assert row.grade == Grade.MAKER


def test_a_certificate_copied_from_another_tpm_is_refused(desk: Desk, boxes: tuple[Box, Box]) -> None:
    maker = Maker()
    desk.admission.site = replace(desk.admission.site, roots=(maker.root,))
    theirs = maker.certify(read_key(boxes[1].own.public, "endorsement").key)
    chain = (maker.issuing.public_bytes(Encoding.DER),)
    copied = replace(boxes[0].begin(desk.claim()), certificate=theirs, chain=chain)
    assert refused(lambda: desk.admission.begin(copied)) == "not_proved"
    assert desk.alarms() == {"KEY_NOT_PROVED"}


@pytest.mark.parametrize("case", ["unreadable", "no roots", "another maker", "nothing between"])
def test_what_no_maker_vouches_for_is_graded_lower_and_says_why(
    desk: Desk, boxes: tuple[Box, Box], case: str
) -> None:
    maker, box = Maker(), boxes[0]
    leaf = maker.certify(read_key(box.own.public, "endorsement").key)
    roots = {"no roots": (), "another maker": (Maker().root,)}.get(case, (maker.root,))
    chain = () if case == "nothing between" else (maker.issuing.public_bytes(Encoding.DER),)
    desk.admission.site = replace(desk.admission.site, roots=roots)
    sent = leaf[:-20] if case == "unreadable" else leaf
    begin = replace(box.begin(desk.claim()), certificate=sent, chain=chain)
    desk.admission.finish(box.finish(desk.admission.begin(begin)))
    (row,) = remembered.admitted(desk.store)
    assert row.grade == Grade.FIRST_USE
    assert row.note
    assert bytes(row.certificate) == sent


def test_several_certificates_behind_each_other_are_told_apart() -> None:
    maker = Maker()
    one, two = (c.public_bytes(Encoding.DER) for c in (maker.root, maker.issuing))
    assert sequences(one + two + b"\xff" * 40) == [one, two]
    assert read(b"\xff" * 40) is None
    assert read(b"") is None


# Bodies from strangers


@given(st.binary(max_size=300))
def test_nonsense_is_refused_as_nonsense(data: bytes) -> None:
    for kind in (Begin, Renew, Challenge, Finish, Place):
        with pytest.raises(MalformedError):
            kind.from_bytes(data)


@settings(max_examples=60)
@given(st.data())
def test_a_changed_public_area_is_no_key_or_another_one(data: st.DataObject) -> None:
    born_here = TPMA_OBJECT.FIXEDTPM | TPMA_OBJECT.FIXEDPARENT | TPMA_OBJECT.SENSITIVEDATAORIGIN
    public = soft_key(objectAttributes=born_here | TPMA_OBJECT.SIGN_ENCRYPT | TPMA_OBJECT.USERWITHAUTH)
    name = read_key(public, "signing").name
    at = data.draw(st.integers(0, len(public) - 1))
    changed = bytearray(public)
    changed[at] ^= data.draw(st.integers(1, 255))
    with suppress(SyncError):
        assert read_key(bytes(changed), "signing").name != name, "what the TPM says is not about it"
    for raw in (public[:at], public + b"\x00"):
        with pytest.raises(SyncError):
            read_key(raw, "signing")


def test_a_claim_says_where_and_for_whom_and_nothing_else_is_one() -> None:
    claim = Claim.fresh("mqtt.st-mary.example", 8444, ICU, "pharmacy", bytes(range(32)))
    assert Claim.parse(f" {claim}\n") == claim
    assert Claim.parse(str(replace(claim, host="fd00::1"))).host == "fd00::1"
    assert claim.secret.hex() not in repr(claim)
    text = str(claim)
    for wrong in (text[:-1], text.replace("claim:", "claims:"), text.replace("/icu-2", ""), "", "x" * 600):
        with pytest.raises(MalformedError, match="not a whole claim"):
            Claim.parse(wrong)


def test_a_parcel_opens_with_its_claim_only() -> None:
    claim, other = (Claim.fresh("localhost", 1, ICU, "pharmacy", bytes(32)) for _ in range(2))
    sealed = claim.seal(Parcel(b"rules", policies=(b"{}",)))
    assert claim.open(sealed).policies == (b"{}",)
    wrong = ((other, sealed), (claim, sealed[:-1]), (claim, b""), (replace(claim, unit=LAB), sealed))
    for key, data in wrong:
        with pytest.raises(MalformedError, match="do not use this claim"):
            key.open(data)
