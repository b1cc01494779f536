"""Accounts and their rights, approval by a second person, and the record of who looked at what."""
