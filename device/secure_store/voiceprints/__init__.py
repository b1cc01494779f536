"""The vault: encrypted records, their ledger, backup, erasure."""
