"""TLS with a key that is in the TPM: the unit's own, made once."""

from __future__ import annotations

from dataclasses import dataclass

from device.errors import DeviceError
from device.secure_store.hardware.endorsement import endorsement
from device.secure_store.hardware.tls_key import TpmTlsKey
from device.secure_store.hardware.tpm_keystore import TpmKeystore
from device.secure_store.hardware.tpm_link import TpmObject
from device.uplink.network import Network, Place, trusting


@dataclass(frozen=True, slots=True)
class NetworkKeys:
    """`tls` lives in the TPM; `kind` is which endorsement key this unit is known by."""

    kind: str
    tls: TpmObject


def network_keys(network: Network, keystore: TpmKeystore) -> NetworkKeys:
    """This unit's TLS key, made in its TPM when there is none. Raises DeviceError or StoreError."""
    table = network.key_file()
    if table is None:
        made = keystore.tpm.create_signing_key(restricted=False)
        kind = endorsement(keystore.tpm).kind
        network.save_key_file({"kind": kind, "public": made.public.hex(), "private": made.private.hex()})
        return NetworkKeys(kind, made)
    try:
        blob = TpmObject(bytes.fromhex(table["public"]), bytes.fromhex(table["private"]))
        return NetworkKeys(str(table["kind"]), blob)
    except (KeyError, ValueError, TypeError) as err:
        raise DeviceError("network/keys.json is damaged; delete it and provision the unit again") from err


class TpmTls:
    """A context for one place; `renew` changes the certificate for connections from then on."""

    def __init__(self, keystore: TpmKeystore, network: Network, place: Place) -> None:
        """Raises StoreError or DeviceError."""
        tpm, key = keystore.tpm, network_keys(network, keystore).tls
        self._key = TpmTlsKey(key.public_key(), lambda digest: tpm.sign(key, digest))
        self.context = trusting(place.root)
        self.renew(place)

    def renew(self, place: Place) -> None:
        self._key.load_into(self.context, place.certificates.encode())
