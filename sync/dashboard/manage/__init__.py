"""The entrance, accounts, tokens and the second person."""
