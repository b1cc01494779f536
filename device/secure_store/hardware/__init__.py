"""Keys in a TPM 2.0: sessions, sealing, signatures, counters, quotes."""
