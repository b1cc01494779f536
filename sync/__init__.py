"""What leaves the unit and what receives it: audit events, outbox, agent, registry, dashboard."""

import os

# Python's TLS writes what deciphers each connection to the file of this name. Every process of `sync` and
# `device` that speaks TLS passes here before it does, and child processes inherit it.
os.environ.pop("SSLKEYLOGFILE", None)
