"""Somebody on the machine who guesses at a protected object of their own until the TPM locks."""

from __future__ import annotations

import pytest
from tpm2_pytss import ESAPI, TPM2B_PUBLIC, TPM2B_SENSITIVE_CREATE, TPMA_OBJECT, TSS2_Exception
from tpm2_pytss.constants import ESYS_TR, TPM2_ALG, TPM2_RH, TPM2_ST
from tpm2_pytss.types import TPMS_SENSITIVE_CREATE, TPMT_SIG_SCHEME, TPMT_TK_HASHCHECK

from device.secure_store.hardware.swtpm import SwTpm


def lock_by_wrong_passwords(swtpm: SwTpm) -> None:
    protected = TPMA_OBJECT.FIXEDTPM | TPMA_OBJECT.FIXEDPARENT | TPMA_OBJECT.USERWITHAUTH
    tpm = ESAPI(swtpm.tcti)
    try:
        template = TPM2B_PUBLIC.parse(
            "ecc256:ecdsa-sha256:null",
            objectAttributes=protected | TPMA_OBJECT.SENSITIVEDATAORIGIN | TPMA_OBJECT.SIGN_ENCRYPT,
        )
        sensitive = TPM2B_SENSITIVE_CREATE(TPMS_SENSITIVE_CREATE(userAuth=b"right"))
        key, *_ = tpm.create_primary(sensitive, template)
        tpm.tr_set_auth(key, b"wrong")
        for _ in range(6):
            with pytest.raises(TSS2_Exception):
                tpm.sign(
                    key,
                    bytes(32),
                    TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL),
                    TPMT_TK_HASHCHECK(tag=TPM2_ST.HASHCHECK, hierarchy=TPM2_RH.NULL),
                    session1=ESYS_TR.PASSWORD,
                )
        tpm.flush_context(key)
    finally:
        tpm.close()
