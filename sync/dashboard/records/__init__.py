"""Proofs, review, ledger, sensitive rooms, reports."""
