"""What the registry knows of attackers: campaigns, who reported them, what honest traffic is like."""

from __future__ import annotations

import sqlalchemy as sa

from sync.registry.database.schema import metadata

campaigns = sa.Table(
    "campaigns",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("model", sa.Text, nullable=False),  # whose prints these are
    sa.Column("centre", sa.LargeBinary, nullable=False),  # what they have in common
    sa.Column("times", sa.BigInteger, nullable=False),
    sa.Column("reporters", sa.BigInteger, nullable=False),  # how many units
    sa.Column("first_ms", sa.BigInteger, nullable=False),
    sa.Column("last_ms", sa.BigInteger, nullable=False),
    sa.Column("likeness", sa.BigInteger, nullable=False),  # that a match needs, in thousandths
    sa.Column("state", sa.Text, nullable=False),  # forming, known, set_aside
    sa.Column("origin", sa.Text, nullable=False),  # empty, or the deployment that shared it
)

reports = sa.Table(
    "campaign_reports",
    metadata,
    sa.Column("campaign", sa.BigInteger, primary_key=True),
    sa.Column("unit", sa.Text, primary_key=True),
    sa.Column("times", sa.BigInteger, nullable=False),
    sa.Column("counted", sa.BigInteger, nullable=False),  # of these, how many are in `sums`
    sa.Column("sums", sa.Text, nullable=False),  # JSON: of their values
)

prints = sa.Table(
    "campaign_prints",
    metadata,
    sa.Column("unit", sa.Text, primary_key=True),
    sa.Column("name", sa.LargeBinary, primary_key=True),
    sa.Column("sequence", sa.BigInteger, nullable=False),  # the event; 0 for a granted attempt's
    sa.Column("campaign", sa.BigInteger),
    sa.Column("likeness", sa.BigInteger),  # to that campaign as it was when this came, in thousandths
    sa.Column("taken_ms", sa.BigInteger, nullable=False),
    sa.Index("campaign_prints_event", "unit", "sequence"),
    sa.Index("campaign_prints_taken", "taken_ms"),
)
"""Which prints came, so that none counts twice. Their values are not kept: they are in the sums."""

honest = sa.Table(
    "campaign_honest",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("unit", sa.Text, nullable=False),
    sa.Column("values", sa.LargeBinary, nullable=False),
    sa.Column("day", sa.Integer, nullable=False),  # yyyymmdd
    sa.Index("campaign_honest_unit", "model", "unit"),
)
"""Some prints of granted attempts: of no event, no person and no time of day."""

watch_list = sa.Table(
    "watch_list",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("campaign", sa.BigInteger, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("from_ms", sa.BigInteger, nullable=False),
    sa.Column("until_ms", sa.BigInteger, nullable=False),
    sa.Column("ended_ms", sa.BigInteger),
    sa.Column("ended_by", sa.Text),
)

lists = sa.Table(
    "threat_lists",
    metadata,
    sa.Column("version", sa.BigInteger, primary_key=True),
    sa.Column("made_ms", sa.BigInteger, nullable=False),
    sa.Column("expires_ms", sa.BigInteger, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
)

shares = sa.Table(
    "campaign_shares",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("campaign", sa.BigInteger, nullable=False),
    sa.Column("epsilon", sa.Float, nullable=False),
    sa.Column("delta", sa.Float, nullable=False),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("shared_ms", sa.BigInteger, nullable=False),
)
"""The privacy budget that each campaign has spent."""

MADE = (
    "CREATE TABLE campaigns (id {serial}, model TEXT NOT NULL, centre {bytes} NOT NULL,"
    " times BIGINT NOT NULL, reporters BIGINT NOT NULL, first_ms BIGINT NOT NULL, last_ms BIGINT NOT NULL,"
    " likeness BIGINT NOT NULL, state TEXT NOT NULL, origin TEXT NOT NULL)",
    "CREATE TABLE campaign_reports (campaign BIGINT NOT NULL, unit TEXT NOT NULL, times BIGINT NOT NULL,"
    " counted BIGINT NOT NULL, sums TEXT NOT NULL, PRIMARY KEY (campaign, unit))",
    "CREATE TABLE campaign_prints (unit TEXT NOT NULL, name {bytes} NOT NULL, sequence BIGINT NOT NULL,"
    " campaign BIGINT, likeness BIGINT, taken_ms BIGINT NOT NULL, PRIMARY KEY (unit, name))",
    "CREATE INDEX campaign_prints_event ON campaign_prints (unit, sequence)",
    "CREATE INDEX campaign_prints_taken ON campaign_prints (taken_ms)",
    "CREATE TABLE campaign_honest (id {serial}, model TEXT NOT NULL, unit TEXT NOT NULL,"
    ' "values" {bytes} NOT NULL, day INTEGER NOT NULL)',
    "CREATE INDEX campaign_honest_unit ON campaign_honest (model, unit)",
    "CREATE TABLE watch_list (id {serial}, campaign BIGINT NOT NULL, reason TEXT NOT NULL,"
    " account TEXT NOT NULL, from_ms BIGINT NOT NULL, until_ms BIGINT NOT NULL, ended_ms BIGINT,"
    " ended_by TEXT)",
    "CREATE TABLE threat_lists (version BIGINT PRIMARY KEY, made_ms BIGINT NOT NULL,"
    " expires_ms BIGINT NOT NULL, body {bytes} NOT NULL)",
    "CREATE TABLE campaign_shares (id {serial}, campaign BIGINT NOT NULL, epsilon {double} NOT NULL,"
    " delta {double} NOT NULL, account TEXT NOT NULL, shared_ms BIGINT NOT NULL)",
)
"""The migration that makes them. Never edited: the next one follows it."""
