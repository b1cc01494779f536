"""What a TPM says of its keys and its maker of it, checked without a TPM."""
