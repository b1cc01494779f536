"""The registry's tables: facts. Status is computed from them and a given time, never stored."""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData()

units = sa.Table(
    "units",
    metadata,
    sa.Column("unit", sa.Text, primary_key=True),
    sa.Column("site", sa.Text, nullable=False),
    sa.Column("public_key", sa.LargeBinary, nullable=False),  # SubjectPublicKeyInfo, DER
    sa.Column("registered_ms", sa.BigInteger, nullable=False),
    sa.Column("revoked_ms", sa.BigInteger),
    sa.Column("size", sa.BigInteger, nullable=False),  # verified and stored without a gap up to here
    sa.Column("chain", sa.LargeBinary, nullable=False),
    sa.Column("frontier", sa.LargeBinary),  # NULL once events are missing: the tree cannot be continued
    sa.Column("head_hash", sa.LargeBinary, nullable=False),
    sa.Column("counter", sa.BigInteger, nullable=False),
    sa.Column("confirmed", sa.BigInteger, nullable=False),  # the unit has our receipt up to here
    sa.Column("confirmed_ms", sa.BigInteger, nullable=False),
    sa.Column("boot", sa.BigInteger, nullable=False),
    sa.Column("event_ms", sa.BigInteger, nullable=False),  # of the last event, by the unit's clock
    sa.Column("monotonic_ms", sa.BigInteger, nullable=False),
    sa.Column("seen_ms", sa.BigInteger),  # last accepted batch, by our clock
    sa.Column("health", sa.Text),  # the unit's last health message, JSON
    sa.Column("health_ms", sa.BigInteger),
    sa.Column("desired", sa.Text),  # versions it should report in its facts, JSON
    sa.Column("health_counter", sa.BigInteger, nullable=False, server_default="0"),  # of that message
    sa.Column("backlog_ms", sa.BigInteger),  # since when it says that it holds events and none has come
)

events = sa.Table(
    "events",
    metadata,
    sa.Column("unit", sa.Text, primary_key=True),
    sa.Column("sequence", sa.BigInteger, primary_key=True),
    sa.Column("month", sa.Integer, primary_key=True),  # yyyymm of `received_ms`, UTC
    sa.Column("received_ms", sa.BigInteger, nullable=False),
    sa.Column("event_id", sa.Text, nullable=False),
    sa.Column("time_ms", sa.BigInteger, nullable=False),
    sa.Column("door", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("attempt", sa.Text),
    sa.Column("person", sa.Text),
    sa.Column("phrase_llr", sa.Double),
    sa.Column("speaker_llr", sa.Double),
    sa.Column("spoof_llr", sa.Double),
    sa.Column("keystore", sa.Text, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),  # the truth; every other column is read from it
    sa.Column("silent_alarm", sa.Integer),  # 1 or NULL; added later, so it comes last
    sa.Index("events_received", "received_ms"),
    sa.Index("events_door", "unit", "door", "time_ms"),
    sa.Index("events_person", "person", "time_ms"),
)

commands = sa.Table(
    "commands",
    metadata,
    sa.Column("unit", sa.Text, primary_key=True),
    sa.Column("counter", sa.BigInteger, primary_key=True),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("arguments", sa.Text, nullable=False),  # JSON
    sa.Column("account", sa.Text, nullable=False),  # who asked for it
    sa.Column("issued_ms", sa.BigInteger, nullable=False),
    sa.Column("expires_ms", sa.BigInteger, nullable=False),
    sa.Column("message", sa.LargeBinary, nullable=False),  # as signed
    sa.Column("sent_ms", sa.BigInteger),  # last handed to the broker
    sa.Column("status", sa.Text),  # of the unit's answer; NULL until there is one
    sa.Column("why", sa.Text),
    sa.Column("answered_ms", sa.BigInteger),
    sa.Column("answer", sa.LargeBinary),  # as the unit signed it
    sa.Index("commands_expire", "expires_ms"),
)

heads = sa.Table(
    "heads",
    metadata,
    sa.Column("unit", sa.Text, primary_key=True),
    sa.Column("size", sa.BigInteger, primary_key=True),
    sa.Column("cose", sa.LargeBinary, nullable=False),
    sa.Column("received_ms", sa.BigInteger, nullable=False),
)

alarms = sa.Table(
    "alarms",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("severity", sa.Text, nullable=False),  # info, warning, critical
    sa.Column("unit", sa.Text),
    sa.Column("site", sa.Text),
    sa.Column("door", sa.Text),
    sa.Column("dedupe", sa.Text, nullable=False),  # the same thing again counts up until it is acknowledged
    sa.Column("times", sa.BigInteger, nullable=False),
    sa.Column("raised_ms", sa.BigInteger, nullable=False),
    sa.Column("last_ms", sa.BigInteger, nullable=False),
    sa.Column("evidence", sa.Text, nullable=False),  # JSON
    sa.Column("sent_ms", sa.BigInteger),  # first handed to a sink
    sa.Column("acknowledged_ms", sa.BigInteger),
    sa.Column("acknowledged_by", sa.Text),
    sa.Index("alarms_raised", "raised_ms"),
    sa.Index("alarms_dedupe", "dedupe"),
)
open_alarm = alarms.c.acknowledged_ms.is_(None)
sa.Index("alarms_open", alarms.c.dedupe, unique=True, sqlite_where=open_alarm, postgresql_where=open_alarm)

deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("sink", sa.Text, primary_key=True),
    sa.Column("alarm", sa.BigInteger, primary_key=True),
    sa.Column("sent_ms", sa.BigInteger, nullable=False),
)

refusals = sa.Table(
    "refusals",
    metadata,
    sa.Column("day", sa.Integer, primary_key=True),  # yyyymmdd
    sa.Column("reason", sa.Text, primary_key=True),
    sa.Column("unit", sa.Text, primary_key=True),  # '' when nobody we know
    sa.Column("times", sa.BigInteger, nullable=False),
    sa.Column("last_ms", sa.BigInteger, nullable=False),
)

retained = sa.Table(
    "retained",
    metadata,
    sa.Column("unit", sa.Text, primary_key=True),
    sa.Column("size", sa.BigInteger, nullable=False),  # events up to here passed their retention
    sa.Column("chain", sa.LargeBinary, nullable=False),
    sa.Column("frontier", sa.LargeBinary, nullable=False),  # empty behind a gap: the tree is not known there
)

retentions = sa.Table(
    "retentions",
    metadata,
    sa.Column("unit", sa.Text, primary_key=True),
    sa.Column("size", sa.BigInteger, primary_key=True),  # events up to here were deleted
    sa.Column("first", sa.BigInteger, nullable=False),  # from here on
    sa.Column("account", sa.Text, nullable=False),  # who had them deleted
    sa.Column("time_ms", sa.BigInteger, nullable=False),
    sa.Column("record", sa.LargeBinary, nullable=False),  # the same, signed by the registry
)

gaps = sa.Table(
    "gaps",
    metadata,
    sa.Column("unit", sa.Text, primary_key=True),
    sa.Column("first", sa.BigInteger, primary_key=True),  # the event after the missing ones
    sa.Column("missing_from", sa.BigInteger, nullable=False),
    sa.Column("chain", sa.LargeBinary, nullable=False),  # before `first`, as the unit says; its head vouches
    sa.Column("noticed_ms", sa.BigInteger, nullable=False),
)

facts = sa.Table(
    "facts",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.LargeBinary, nullable=False),
)
"""What is true of the whole registry: `receipts_key`, the public key (DER) that signs receipts."""

requests = sa.Table(
    "requests",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("action", sa.Text, nullable=False),  # what needs a second person
    sa.Column("unit", sa.Text, nullable=False),
    sa.Column("arguments", sa.Text, nullable=False),  # JSON
    sa.Column("account", sa.Text, nullable=False),  # who asked
    sa.Column("requested_ms", sa.BigInteger, nullable=False),
    sa.Column("approved_by", sa.Text),
    sa.Column("approved_ms", sa.BigInteger),
)

identities = sa.Table(
    "identities",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("unit", sa.Text, nullable=False),
    sa.Column("tpm", sa.Text, nullable=False),  # SHA-256 of the endorsement key's public area, hex
    sa.Column("grade", sa.Text, nullable=False),  # how that key is known to be a TPM's: see `ek_certificates`
    sa.Column("note", sa.Text, nullable=False),  # why the grade is not higher
    sa.Column("endorsement", sa.LargeBinary, nullable=False),  # TPM2B_PUBLIC, as the following
    sa.Column("certificate", sa.LargeBinary),  # of the endorsement key, raw
    sa.Column("attestation", sa.LargeBinary, nullable=False),
    sa.Column("tls", sa.LargeBinary, nullable=False),
    sa.Column("exchange", sa.LargeBinary),
    sa.Column("measured", sa.Text, nullable=False),  # PCR values of the last quote, JSON
    sa.Column("proved_ms", sa.BigInteger, nullable=False),  # when that was
    sa.Column("enrolled_ms", sa.BigInteger, nullable=False),
    sa.Column("retired_ms", sa.BigInteger),
)
"""Which TPM is which unit. Of those that are not retired, a unit has one and a TPM is one."""
in_service = identities.c.retired_ms.is_(None)
sa.Index(
    "identities_unit", identities.c.unit, unique=True, sqlite_where=in_service, postgresql_where=in_service
)
sa.Index(
    "identities_tpm", identities.c.tpm, unique=True, sqlite_where=in_service, postgresql_where=in_service
)

claims = sa.Table(
    "claims",
    metadata,
    sa.Column("digest", sa.Text, primary_key=True),  # of the proof, from which the proof cannot be made
    sa.Column("unit", sa.Text, nullable=False),
    sa.Column("door", sa.Text, nullable=False),
    sa.Column("account", sa.Text, nullable=False),  # who made it
    sa.Column("made_ms", sa.BigInteger, nullable=False),
    sa.Column("expires_ms", sa.BigInteger, nullable=False),
    sa.Column("expected", sa.Text),  # the TPM that it is for, where the desk knows it
    sa.Column("parcel", sa.LargeBinary, nullable=False),  # enciphered under the claim
    sa.Column("used_ms", sa.BigInteger),
    sa.Column("used_by", sa.Text),  # the TPM
    sa.Column("withdrawn_ms", sa.BigInteger),
)

certificates = sa.Table(
    "certificates",
    metadata,
    sa.Column("serial", sa.Text, primary_key=True),  # hex
    sa.Column("unit", sa.Text, nullable=False),
    sa.Column("tpm", sa.Text, nullable=False),
    sa.Column("issued_ms", sa.BigInteger, nullable=False),
    sa.Column("expires_ms", sa.BigInteger, nullable=False),
    sa.Column("revoked_ms", sa.BigInteger),
    sa.Index("certificates_unit", "unit"),
)

door_hours = sa.Table(
    "door_hours",
    metadata,
    sa.Column("unit", sa.Text, primary_key=True),
    sa.Column("door", sa.Text, primary_key=True),
    sa.Column("hour", sa.BigInteger, primary_key=True),  # hours since 1970, of the event's own time
    sa.Column("events", sa.BigInteger, nullable=False),
)

watermarks = sa.Table(
    "watermarks",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("received_ms", sa.BigInteger, nullable=False),
)

access = sa.Table(
    "access",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),  # read, export, acknowledge, pseudonym, person
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("time_ms", sa.BigInteger, nullable=False),
    sa.Column("subject", sa.Text),  # whom or what it was about, and why
    sa.Index("access_time", "time_ms"),
)
