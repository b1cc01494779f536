"""Ingest, by any number of workers: batches are verified, placed, stored and answered with receipts."""
