"""What the registry knows of its fleet: what is wanted, of whom, and what units said to that."""

from __future__ import annotations

import sqlalchemy as sa

from sync.registry.database.schema import metadata

parts = sa.Table(
    "fleet_parts",
    metadata,
    sa.Column("sha256", sa.LargeBinary, primary_key=True),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("data", sa.LargeBinary, nullable=False),
)

unit_tags = sa.Table(
    "fleet_unit_tags",
    metadata,
    sa.Column("unit", sa.Text, primary_key=True),
    sa.Column("tag", sa.Text, primary_key=True),  # `zone:icu`, `tag:pharmacy`
)

wanted = sa.Table(
    "fleet_wanted",
    metadata,
    sa.Column("scope", sa.Text, primary_key=True),  # all, site:S, zone:Z, tag:T, unit:S/U
    sa.Column("item", sa.Text, primary_key=True),  # rules, bundle, thresholds, software, enrols
    sa.Column("value", sa.Text, nullable=False),  # JSON
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("set_ms", sa.BigInteger, nullable=False),
)

cards = sa.Table(
    "fleet_cards",
    metadata,
    sa.Column("unit", sa.Text, primary_key=True),
    sa.Column("certificate", sa.LargeBinary, nullable=False),  # of its exchange key, PEM
)

enrolments = sa.Table(
    "fleet_enrolments",
    metadata,
    sa.Column("uid", sa.Text, primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False),  # only rises
    sa.Column("holder", sa.Text, nullable=False),  # where it was made
    sa.Column("version", sa.BigInteger, nullable=False),  # of it, there
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("text_version", sa.Text, nullable=False),  # of the consent
    sa.Column("purpose", sa.Text, nullable=False),
    sa.Column("given_ms", sa.BigInteger, nullable=False),
    sa.Column("until_ms", sa.BigInteger, nullable=False),
    sa.Column("since_ms", sa.BigInteger, nullable=False),
    sa.Column("forgotten_ms", sa.BigInteger),
)

passes = sa.Table(
    "fleet_passes",
    metadata,
    sa.Column("uid", sa.Text, primary_key=True),
    sa.Column("scope", sa.Text, primary_key=True),  # whose doors this person may use
)

envelopes = sa.Table(
    "fleet_envelopes",
    metadata,
    sa.Column("uid", sa.Text, primary_key=True),
    sa.Column("unit", sa.Text, primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.LargeBinary, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
)

holdings = sa.Table(
    "fleet_holdings",
    metadata,
    sa.Column("unit", sa.Text, primary_key=True),
    sa.Column("uid", sa.Text, primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False),  # the newest that was named to it
    sa.Column("gone_ms", sa.BigInteger),  # since when its receipt is here
    sa.Column("proof", sa.LargeBinary),
)

documents = sa.Table(
    "fleet_documents",
    metadata,
    sa.Column("unit", sa.Text, primary_key=True),
    sa.Column("counter", sa.BigInteger, nullable=False),
    sa.Column("issued_ms", sa.BigInteger, nullable=False),
    sa.Column("expires_ms", sa.BigInteger, nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False),  # of its contents
    sa.Column("people", sa.LargeBinary),  # the roster's hash
    sa.Column("message", sa.LargeBinary, nullable=False),
    sa.Column("published_ms", sa.BigInteger),
)

rollouts = sa.Table(
    "fleet_rollouts",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("scope", sa.Text, nullable=False),
    sa.Column("bundle", sa.Text, nullable=False),  # JSON, as `wanted.value`
    sa.Column("canary", sa.Text, nullable=False),  # a scope
    sa.Column("percents", sa.Text, nullable=False),  # JSON: [10, 50, 100]
    sa.Column("soak_s", sa.BigInteger, nullable=False),
    sa.Column("attempts", sa.BigInteger, nullable=False),  # needed before a comparison counts
    sa.Column("stage", sa.BigInteger, nullable=False),  # 0 is the canary
    sa.Column("stage_ms", sa.BigInteger, nullable=False),
    sa.Column("state", sa.Text, nullable=False),  # running, halted, done, stopped
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("started_ms", sa.BigInteger, nullable=False),
)

changes = sa.Table(
    "fleet_changes",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
)
"""A row for each statement since the documents were worked out last (`changes.py`)."""

CHANGES = ("CREATE TABLE fleet_changes (id {serial})",)
"""The migration that makes it."""

MADE = (
    "CREATE TABLE fleet_parts (sha256 {bytes} PRIMARY KEY, size BIGINT NOT NULL, data {bytes} NOT NULL)",
    "CREATE TABLE fleet_unit_tags (unit TEXT NOT NULL, tag TEXT NOT NULL, PRIMARY KEY (unit, tag))",
    "CREATE TABLE fleet_wanted (scope TEXT NOT NULL, item TEXT NOT NULL, value TEXT NOT NULL,"
    " account TEXT NOT NULL, set_ms BIGINT NOT NULL, PRIMARY KEY (scope, item))",
    "CREATE TABLE fleet_cards (unit TEXT PRIMARY KEY, certificate {bytes} NOT NULL)",
    "CREATE TABLE fleet_enrolments (uid TEXT PRIMARY KEY, number BIGINT NOT NULL, holder TEXT NOT NULL,"
    " version BIGINT NOT NULL, model TEXT NOT NULL, text_version TEXT NOT NULL, purpose TEXT NOT NULL,"
    " given_ms BIGINT NOT NULL, until_ms BIGINT NOT NULL, since_ms BIGINT NOT NULL, forgotten_ms BIGINT)",
    "CREATE TABLE fleet_passes (uid TEXT NOT NULL, scope TEXT NOT NULL, PRIMARY KEY (uid, scope))",
    "CREATE TABLE fleet_envelopes (uid TEXT NOT NULL, unit TEXT NOT NULL, number BIGINT NOT NULL,"
    " sha256 {bytes} NOT NULL, size BIGINT NOT NULL, PRIMARY KEY (uid, unit))",
    "CREATE TABLE fleet_holdings (unit TEXT NOT NULL, uid TEXT NOT NULL, number BIGINT NOT NULL,"
    " gone_ms BIGINT, proof {bytes}, PRIMARY KEY (unit, uid))",
    "CREATE TABLE fleet_documents (unit TEXT PRIMARY KEY, counter BIGINT NOT NULL,"
    " issued_ms BIGINT NOT NULL, expires_ms BIGINT NOT NULL, digest {bytes} NOT NULL, people {bytes},"
    " message {bytes} NOT NULL, published_ms BIGINT)",
    "CREATE TABLE fleet_rollouts (id {serial}, scope TEXT NOT NULL, bundle TEXT NOT NULL,"
    " canary TEXT NOT NULL, percents TEXT NOT NULL, soak_s BIGINT NOT NULL, attempts BIGINT NOT NULL,"
    " stage BIGINT NOT NULL, stage_ms BIGINT NOT NULL, state TEXT NOT NULL, why TEXT NOT NULL,"
    " account TEXT NOT NULL, started_ms BIGINT NOT NULL)",
)
"""The migration that makes them. Never edited: the next one follows it."""
