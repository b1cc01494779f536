"""Checks what a TPM says about its keys, and what its maker says about the TPM. Needs no TPM."""
