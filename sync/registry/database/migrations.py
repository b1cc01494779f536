"""Schema changes, append-only: a migration that was released is never edited, the next one follows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, text

from sync.errors import SyncError
from sync.registry.database.campaign_tables import MADE as CAMPAIGNS
from sync.registry.database.fleet_tables import CHANGES as FLEET_CHANGES
from sync.registry.database.fleet_tables import MADE as FLEET

Statement = str | Mapping[str, Sequence[str]]
"""SQL for both databases, or what each of them needs."""

_UNITS = """
CREATE TABLE units (unit TEXT PRIMARY KEY, site TEXT NOT NULL, public_key {bytes} NOT NULL,
  registered_ms BIGINT NOT NULL, revoked_ms BIGINT, size BIGINT NOT NULL, chain {bytes} NOT NULL,
  frontier {bytes}, head_hash {bytes} NOT NULL, counter BIGINT NOT NULL, confirmed BIGINT NOT NULL,
  confirmed_ms BIGINT NOT NULL, boot BIGINT NOT NULL, event_ms BIGINT NOT NULL, monotonic_ms BIGINT NOT NULL,
  seen_ms BIGINT, health TEXT, health_ms BIGINT, desired TEXT)
"""
_EVENTS = """
CREATE TABLE events (unit TEXT NOT NULL, sequence BIGINT NOT NULL, month INTEGER NOT NULL,
  received_ms BIGINT NOT NULL, event_id TEXT NOT NULL, time_ms BIGINT NOT NULL, door TEXT NOT NULL,
  kind TEXT NOT NULL, reason TEXT NOT NULL, attempt TEXT, person TEXT, phrase_llr {double},
  speaker_llr {double}, spoof_llr {double}, keystore TEXT NOT NULL, body {bytes} NOT NULL,
  PRIMARY KEY (unit, sequence, month)) {partition}
"""
_REST = (
    "CREATE INDEX events_received ON events (received_ms)",
    "CREATE TABLE heads (unit TEXT NOT NULL, size BIGINT NOT NULL, cose {bytes} NOT NULL,"
    " received_ms BIGINT NOT NULL, PRIMARY KEY (unit, size))",
    "CREATE TABLE alarms (id {serial}, kind TEXT NOT NULL, severity TEXT NOT NULL, unit TEXT, site TEXT,"
    " door TEXT, dedupe TEXT NOT NULL UNIQUE, times BIGINT NOT NULL, raised_ms BIGINT NOT NULL,"
    " last_ms BIGINT NOT NULL, evidence TEXT NOT NULL, sent_ms BIGINT, acknowledged_ms BIGINT,"
    " acknowledged_by TEXT)",
    "CREATE INDEX alarms_raised ON alarms (raised_ms)",
    "CREATE TABLE refusals (day INTEGER NOT NULL, reason TEXT NOT NULL, unit TEXT NOT NULL,"
    " times BIGINT NOT NULL, last_ms BIGINT NOT NULL, PRIMARY KEY (day, reason, unit))",
    "CREATE TABLE access (id {serial}, account TEXT NOT NULL, action TEXT NOT NULL, rows BIGINT NOT NULL,"
    " time_ms BIGINT NOT NULL)",
    "CREATE INDEX access_time ON access (time_ms)",
    "CREATE TABLE retained (unit TEXT PRIMARY KEY, size BIGINT NOT NULL, chain {bytes} NOT NULL,"
    " frontier {bytes} NOT NULL)",
)

_BASELINES = (
    "CREATE TABLE door_hours (unit TEXT NOT NULL, door TEXT NOT NULL, hour BIGINT NOT NULL,"
    " events BIGINT NOT NULL, PRIMARY KEY (unit, door, hour))",
    "CREATE TABLE watermarks (name TEXT PRIMARY KEY, received_ms BIGINT NOT NULL)",
)

_COMMANDS_AND_DELIVERIES = (
    "ALTER TABLE events ADD COLUMN silent_alarm INTEGER",
    "CREATE TABLE commands (unit TEXT NOT NULL, counter BIGINT NOT NULL, action TEXT NOT NULL,"
    " arguments TEXT NOT NULL, account TEXT NOT NULL, issued_ms BIGINT NOT NULL, expires_ms BIGINT NOT NULL,"
    " message {bytes} NOT NULL, sent_ms BIGINT, status TEXT, why TEXT, answered_ms BIGINT, answer {bytes},"
    " PRIMARY KEY (unit, counter))",
    "CREATE INDEX commands_expire ON commands (expires_ms)",
    "CREATE TABLE deliveries (alarm BIGINT NOT NULL, sink TEXT NOT NULL, sent_ms BIGINT NOT NULL,"
    " PRIMARY KEY (sink, alarm))",
)

_ALARMS = (
    "(id {serial}, kind TEXT NOT NULL, severity TEXT NOT NULL, unit TEXT, site TEXT, door TEXT,"
    " dedupe TEXT NOT NULL, times BIGINT NOT NULL, raised_ms BIGINT NOT NULL, last_ms BIGINT NOT NULL,"
    " evidence TEXT NOT NULL, sent_ms BIGINT, acknowledged_ms BIGINT, acknowledged_by TEXT)"
)
_SEGMENTS_AND_SIGNED_HEALTH: Sequence[Statement] = (
    "ALTER TABLE units ADD COLUMN health_counter BIGINT NOT NULL DEFAULT 0",
    "ALTER TABLE units ADD COLUMN backlog_ms BIGINT",
    # SQLite cannot drop the constraint that kept an acknowledged alarm from being raised again.
    {
        "postgresql": ("ALTER TABLE alarms DROP CONSTRAINT alarms_dedupe_key",),
        "sqlite": (
            f"CREATE TABLE alarms_new {_ALARMS}",
            "INSERT INTO alarms_new SELECT * FROM alarms",
            "DROP TABLE alarms",
            "ALTER TABLE alarms_new RENAME TO alarms",
            "CREATE INDEX alarms_raised ON alarms (raised_ms)",
        ),
    },
    "CREATE INDEX alarms_dedupe ON alarms (dedupe)",
    "CREATE UNIQUE INDEX alarms_open ON alarms (dedupe) WHERE acknowledged_ms IS NULL",
    "CREATE INDEX events_door ON events (unit, door, time_ms)",
    "CREATE INDEX events_person ON events (person, time_ms)",
    "CREATE TABLE retentions (unit TEXT NOT NULL, size BIGINT NOT NULL, first BIGINT NOT NULL,"
    " account TEXT NOT NULL, time_ms BIGINT NOT NULL, record {bytes} NOT NULL, PRIMARY KEY (unit, size))",
    "CREATE TABLE gaps (unit TEXT NOT NULL, first BIGINT NOT NULL, missing_from BIGINT NOT NULL,"
    " chain {bytes} NOT NULL, noticed_ms BIGINT NOT NULL, PRIMARY KEY (unit, first))",
    "CREATE TABLE requests (id {serial}, action TEXT NOT NULL, unit TEXT NOT NULL, arguments TEXT NOT NULL,"
    " account TEXT NOT NULL, requested_ms BIGINT NOT NULL, approved_by TEXT, approved_ms BIGINT)",
)

_FACTS: Sequence[Statement] = ("CREATE TABLE facts (name TEXT PRIMARY KEY, value {bytes} NOT NULL)",)

_PROVISIONING: Sequence[Statement] = (
    "CREATE TABLE identities (id {serial}, unit TEXT NOT NULL, tpm TEXT NOT NULL, grade TEXT NOT NULL,"
    " note TEXT NOT NULL, endorsement {bytes} NOT NULL, certificate {bytes}, attestation {bytes} NOT NULL,"
    " tls {bytes} NOT NULL, exchange {bytes}, measured TEXT NOT NULL, proved_ms BIGINT NOT NULL,"
    " enrolled_ms BIGINT NOT NULL, retired_ms BIGINT)",
    "CREATE UNIQUE INDEX identities_unit ON identities (unit) WHERE retired_ms IS NULL",
    "CREATE UNIQUE INDEX identities_tpm ON identities (tpm) WHERE retired_ms IS NULL",
    "CREATE TABLE claims (digest TEXT PRIMARY KEY, unit TEXT NOT NULL, door TEXT NOT NULL,"
    " account TEXT NOT NULL, made_ms BIGINT NOT NULL, expires_ms BIGINT NOT NULL, expected TEXT,"
    " parcel {bytes} NOT NULL, used_ms BIGINT, used_by TEXT, withdrawn_ms BIGINT)",
    "CREATE TABLE certificates (serial TEXT PRIMARY KEY, unit TEXT NOT NULL, tpm TEXT NOT NULL,"
    " issued_ms BIGINT NOT NULL, expires_ms BIGINT NOT NULL, revoked_ms BIGINT)",
    "CREATE INDEX certificates_unit ON certificates (unit)",
)

MIGRATIONS: Sequence[Sequence[Statement]] = (
    (_UNITS, _EVENTS, *_REST),
    _BASELINES,
    _COMMANDS_AND_DELIVERIES,
    _SEGMENTS_AND_SIGNED_HEALTH,
    _FACTS,
    ("ALTER TABLE access ADD COLUMN subject TEXT",),
    _PROVISIONING,
    FLEET,
    CAMPAIGNS,
    FLEET_CHANGES,
)

_WORDS = {
    "sqlite": {
        "bytes": "BLOB",
        "double": "REAL",
        "serial": "INTEGER PRIMARY KEY AUTOINCREMENT",
        "partition": "",
    },
    "postgresql": {
        "bytes": "BYTEA",
        "double": "DOUBLE PRECISION",
        "serial": "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY",
        "partition": "PARTITION BY RANGE (month)",
    },
}


def migrate(connection: Connection, migrations: Sequence[Sequence[Statement]] = MIGRATIONS) -> int:
    """Bring the schema up to date inside the caller's transaction; returns its version.

    `migrations` may end earlier, as those of a version before did.
    """
    words = _WORDS.get(connection.dialect.name)
    if words is None:
        raise SyncError("the registry runs on SQLite or PostgreSQL")
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(7216353)"))
    connection.execute(text("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)"))
    done = connection.execute(text("SELECT max(version) FROM schema_version")).scalar() or 0
    if done > len(migrations):
        raise SyncError("this database was made by a newer version; update this program")
    for number, statements in enumerate(migrations[done:], start=done + 1):
        for statement in statements:
            of_dialect = (statement,) if isinstance(statement, str) else statement[connection.dialect.name]
            for line in of_dialect:
                connection.execute(text(line.format(**words)))
        connection.execute(text("INSERT INTO schema_version VALUES (:number)"), {"number": number})
    return len(migrations)
