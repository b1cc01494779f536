"""The unit's side of the claim service: redeems a claim, renews a certificate, by proofs of its TPM."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import ssl
from collections.abc import Callable

from cryptography.hazmat.primitives.serialization import Encoding

from device.errors import DeviceError
from device.secure_store.hardware.endorsement import Endorsement, certify, endorsement, open_credential
from device.secure_store.hardware.tpm_keystore import TpmKeystore
from device.secure_store.hardware.tpm_link import TpmObject
from device.uplink.network import Network, Place, fingerprint_bytes, trusting
from device.uplink.tpm_tls import NetworkKeys, network_keys
from sync.errors import MalformedError, ProofError
from sync.fleet.provisioning import messages
from sync.fleet.provisioning.claim import Claim, Parcel
from sync.fleet.provisioning.tpm.ek_certificates import MAX_CERTIFICATE_BYTES
from sync.fleet.provisioning.tpm.proof import Statement
from sync.plain_words import what_and_why, why

TIMEOUT_S = 20.0
Tell = Callable[[str], None]
Service = tuple[str, int, ssl.SSLContext]
"""Host and port of a claim service, and by what it is known."""


class RefusedError(DeviceError):
    """The site refuses. `code` is for programs."""

    exit_code = 1

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def trusted_site(claim: Claim) -> messages.Site:
    """The site's description, if its root is the one that the claim names. Raises DeviceError.

    It is fetched over an unverified connection and checked by the hash of its root; then again over one that
    this root vouches for.
    """
    unknown = ssl.create_default_context()
    unknown.check_hostname = False
    unknown.verify_mode = ssl.CERT_NONE
    found = messages.Site.from_bytes(_ask(claim.host, claim.port, unknown, messages.SITE_PATH))
    der = fingerprint_bytes(found.root.decode("ascii", "replace"))
    if not hmac.compare_digest(hashlib.sha256(der).digest(), claim.pin):
        raise DeviceError(
            f"{claim.host}:{claim.port} is not the site of this claim: its root certificate is another one. "
            "Somebody may be in between, or the site was made anew; ask the desk"
        )
    context = trusting(found.root.decode())
    again = messages.Site.from_bytes(_ask(claim.host, claim.port, context, messages.SITE_PATH))
    if again.root != found.root:
        raise DeviceError("the site changed its root while it was asked; run it again")
    return again


def redeem(
    claim: Claim, site: messages.Site, keystore: TpmKeystore, network: Network, tell: Tell
) -> tuple[Place, Parcel]:
    """Prove this TPM's keys and take the unit's place, which is on the disk when this returns.

    After a power cut the same claim works again on the same TPM. Raises RefusedError, DeviceError,
    StoreError.
    """
    keys = network_keys(network, keystore)
    own = endorsement(keystore.tpm, keys.kind)
    tell("keys made in the TPM: attestation, audit, TLS, exchange")
    service = (claim.host, claim.port, trusting(site.root.decode()))
    given = _admitted(claim.proof(), keystore, keys, own, service, site.root)
    tell("the TPM proved that they are in it")
    if given.unit != claim.unit or given.door != claim.door:
        raise DeviceError("the site gave another unit or door than the claim names; tell the desk")
    parcel = claim.open(given.parcel)
    place = Place(
        given.unit,
        given.door,
        given.broker,
        f"{claim.host}:{claim.port}",
        site.root.decode(),
        given.certificates.decode(),
        given.receipts_key.decode(),
        given.command_key.decode(),
        hashlib.sha256(own.public).hexdigest(),
    )
    network.save(place)
    tell(f"certificate until {place.certificate().not_valid_after_utc:%Y-%m-%d}, broker {place.broker}")
    return place, parcel


def renew(place: Place, keystore: TpmKeystore, network: Network) -> Place:
    """The next certificate for the same key; the old one may have run out long ago.

    Raises RefusedError, DeviceError or StoreError.
    """
    keys, service = network_keys(network, keystore), _service(place)
    asked = messages.Renew(place.unit, place.tpm).to_bytes()
    challenge = messages.Challenge.from_bytes(_ask(*service, messages.RENEW_PATH, asked))
    given = _proved(keystore, keys, (keys.tls,), challenge, service, place.root.encode())
    renewed = place.renewed(given.certificates)
    renewed.certificate()
    network.save(renewed)
    return renewed


def known(place: Place) -> bool:
    """Whether the site still knows this unit. Raises RefusedError for a revoked one, DeviceError."""
    try:
        _ask(*_service(place), messages.RENEW_PATH, messages.Renew(place.unit, place.tpm).to_bytes())
    except RefusedError as err:
        if err.code != "unknown":
            raise
        return False
    return True


def come_back(place: Place, keystore: TpmKeystore, network: Network) -> Place:
    """Register again at a site that has lost its registry, by the certificate that it gave.

    Raises RefusedError where the site does not ask for that, DeviceError or StoreError.
    """
    keys = network_keys(network, keystore)
    own = endorsement(keystore.tpm, keys.kind)
    shown = place.certificate().public_bytes(Encoding.DER)
    given = _admitted(shown, keystore, keys, own, _service(place), place.root.encode())
    back = place.renewed(given.certificates)
    network.save(back)
    return back


def _service(place: Place) -> Service:
    """The claim service of the site where the unit has its place."""
    host, _, port = place.claims.rpartition(":")
    return host.strip("[]"), int(port), trusting(place.root)


def _admitted(
    proof: bytes, keystore: TpmKeystore, keys: NetworkKeys, own: Endorsement, service: Service, root: bytes
) -> messages.Place:
    """The place that the site gives for `proof` (of a claim, or a certificate of its own) and for keys which
    the TPM proves.
    """
    objects = (keys.tls, keystore.audit_object(), keystore.exchange_object())
    begin = messages.Begin(
        proof,
        own.public,
        own.certificate[:MAX_CERTIFICATE_BYTES],
        own.chain,
        keystore.attestation_object().public,
        tuple(item.public for item in objects),
    )
    challenge = messages.Challenge.from_bytes(_ask(*service, messages.BEGIN_PATH, begin.to_bytes()))
    return _proved(keystore, keys, objects, challenge, service, root)


def _proved(
    keystore: TpmKeystore,
    keys: NetworkKeys,
    objects: tuple[TpmObject, ...],
    challenge: messages.Challenge,
    service: Service,
    root: bytes,
) -> messages.Place:
    attestation, tpm = keystore.attestation_object(), keystore.tpm
    opened = open_credential(tpm, keys.kind, attestation, challenge.credential, challenge.secret)
    statements = tuple(Statement(*certify(tpm, attestation, item, challenge.nonce)) for item in objects)
    quote = keystore.quote(challenge.nonce)
    finish = messages.Finish(
        challenge.session,
        opened,
        statements,
        Statement(quote.statement, quote.signature),
        dict(quote.values),
    )
    given = messages.Place.from_bytes(_ask(*service, messages.FINISH_PATH, finish.to_bytes()))
    try:
        given.check(root, keys.tls.public_key(), challenge.nonce)
    except (ProofError, MalformedError) as err:
        raise DeviceError(
            f"{service[0]}:{service[1]} gave a place that the site's issuing key did not sign ({err}); "
            "somebody may be in between: tell the desk"
        ) from err
    return given


def _ask(host: str, port: int, context: ssl.SSLContext, path: str, body: bytes | None = None) -> bytes:
    """The answer to one request. Raises RefusedError where the site refuses, else DeviceError."""
    connection = http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)
    try:
        headers = {"Content-Type": "application/cbor"} if body is not None else {}
        connection.request("GET" if body is None else "POST", path, body, headers)
        answer = connection.getresponse()
        data = answer.read(messages.MAX_ANSWER_BYTES + 1)
    except ssl.SSLCertVerificationError as err:
        raise DeviceError(
            f"{host}:{port} does not prove that it is the site ({why(err)}); check the clock, and the "
            "name in the claim"
        ) from err
    except (OSError, http.client.HTTPException) as err:
        raise DeviceError(
            f"the site's claim service at {host}:{port} does not answer ({what_and_why(err)})"
        ) from err
    finally:
        connection.close()
    if len(data) > messages.MAX_ANSWER_BYTES:
        raise DeviceError("the claim service sends too much; is it the right address?")
    if answer.status == http.client.OK:
        return data
    try:
        refusal = messages.Refusal.from_bytes(data)
    except MalformedError as err:
        raise DeviceError(f"{host}:{port} answers {answer.status}; is it the site's claim service?") from err
    if answer.status == http.client.SERVICE_UNAVAILABLE:
        raise DeviceError(refusal.why)
    raise RefusedError(refusal.code, refusal.why)
