"""The dashboard's own tables: who may look, who looked, and the work that people do on what they see.

What happened at the doors lies in the registry's tables and is only read here.
"""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData()

accounts = sa.Table(
    "dashboard_accounts",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("password", sa.Text),  # Argon2id, encoded; NULL until the person has chosen one
    sa.Column("scopes", sa.Text, nullable=False),  # JSON list of `site` and `site/zone`; [] is everywhere
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("disabled_ms", sa.BigInteger),
    sa.Column("subject", sa.Text),  # who it is at the identity provider; NULL: a local account
)

sessions = sa.Table(
    "dashboard_sessions",
    metadata,
    sa.Column("id_hash", sa.Text, primary_key=True),  # SHA-256 of what the cookie holds
    sa.Column("account", sa.Text, nullable=False, index=True),
    sa.Column("csrf", sa.Text, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("seen_ms", sa.BigInteger, nullable=False),
)

links = sa.Table(
    "dashboard_links",
    metadata,
    sa.Column("token_hash", sa.Text, primary_key=True),
    sa.Column("account", sa.Text),  # NULL: the person who opens it chooses the name
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("scopes", sa.Text, nullable=False),
    sa.Column("expires_ms", sa.BigInteger, nullable=False),
    sa.Column("used_ms", sa.BigInteger),
)

failures = sa.Table(
    "dashboard_login_failures",
    metadata,
    sa.Column("who", sa.Text, primary_key=True),
    sa.Column("times", sa.Integer, nullable=False),
    sa.Column("last_ms", sa.BigInteger, nullable=False),
)

passkeys = sa.Table(
    "dashboard_passkeys",
    metadata,
    sa.Column("credential", sa.Text, primary_key=True),  # base64url
    sa.Column("account", sa.Text, nullable=False, index=True),
    sa.Column("public_key", sa.LargeBinary, nullable=False),
    sa.Column("sign_count", sa.BigInteger, nullable=False),
    sa.Column("added_ms", sa.BigInteger, nullable=False),
)

tokens = sa.Table(
    "dashboard_tokens",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),  # public part of the token
    sa.Column("secret_hash", sa.Text, nullable=False),  # SHA-256 of the rest
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("rights", sa.Text, nullable=False),  # JSON list of names of `Right`
    sa.Column("scopes", sa.Text, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("expires_ms", sa.BigInteger, nullable=False),
    sa.Column("used_ms", sa.BigInteger),
    sa.Column("revoked_ms", sa.BigInteger),
)

approvals = sa.Table(
    "dashboard_approvals",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("about", sa.Text, nullable=False),  # JSON: what exactly is asked for
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("asked_ms", sa.BigInteger, nullable=False),
    sa.Column("decided_by", sa.Text),
    sa.Column("decided_ms", sa.BigInteger),
    sa.Column("agreed", sa.Integer),
    sa.Column("used_ms", sa.BigInteger),
)

oidc_logins = sa.Table(
    "dashboard_oidc_logins",
    metadata,
    sa.Column("state_hash", sa.Text, primary_key=True),
    sa.Column("nonce", sa.Text, nullable=False),
    sa.Column("verifier", sa.Text, nullable=False),
    sa.Column("wanted", sa.Text, nullable=False),  # the page to go to afterwards
    sa.Column("expires_ms", sa.BigInteger, nullable=False),
)

challenges = sa.Table(
    "dashboard_challenges",
    metadata,
    sa.Column("challenge", sa.Text, primary_key=True),  # base64url; answered once, or it expires
    sa.Column("account", sa.Text),  # whose new passkey it is for; NULL: for a login
    sa.Column("expires_ms", sa.BigInteger, nullable=False),
)

journal = sa.Table(
    "dashboard_journal",
    metadata,
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("time_ms", sa.BigInteger, nullable=False),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("chain", sa.LargeBinary, nullable=False),  # over this entry and all before it
)

places = sa.Table(
    "dashboard_places",
    metadata,
    sa.Column("unit", sa.Text, primary_key=True),
    sa.Column("door", sa.Text, primary_key=True),
    sa.Column("label", sa.Text, nullable=False),
    sa.Column("zone", sa.Text, nullable=False),
    sa.Column("zone_label", sa.Text, nullable=False),
    sa.Column("locking", sa.Text, nullable=False),
    sa.Column("phrase_llr", sa.Double, nullable=False),
    sa.Column("voice_llr", sa.Double, nullable=False),
    sa.Column("live_llr", sa.Double, nullable=False),
    sa.Column("egress", sa.Text, nullable=False),  # what opens it from inside, words with blanks between
    sa.Column("sensitive", sa.Text, nullable=False),  # why the zone is one; '' when it is none
)

reports = sa.Table(
    "dashboard_reports",
    metadata,
    sa.Column("day", sa.Text, primary_key=True),  # yyyy-mm-dd
    sa.Column("claimed_ms", sa.BigInteger, nullable=False),  # by the worker that sends it
    sa.Column("sent_ms", sa.BigInteger),
)

stamps = sa.Table(
    "dashboard_stamps",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),  # `places`, `figures`
    sa.Column("value", sa.Text, nullable=False),  # another one whenever that table changes; when counted, ms
)

people = sa.Table(
    "dashboard_people",
    metadata,
    sa.Column("person", sa.Text, primary_key=True),
    sa.Column("since_ms", sa.BigInteger, primary_key=True),
    sa.Column("sealed", sa.LargeBinary, nullable=False),
)

incidents = sa.Table(
    "dashboard_incidents",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("subject", sa.Text, nullable=False, index=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("severity", sa.Text, nullable=False),
    sa.Column("unit", sa.Text),
    sa.Column("site", sa.Text),
    sa.Column("door", sa.Text),
    sa.Column("opened_ms", sa.BigInteger, nullable=False),
    sa.Column("last_ms", sa.BigInteger, nullable=False),
    sa.Column("times", sa.BigInteger, nullable=False),
    sa.Column("owner", sa.Text),
    sa.Column("acknowledged_ms", sa.BigInteger),
    sa.Column("resolved_ms", sa.BigInteger),
    sa.Column("reopened", sa.Integer, nullable=False),
)

incident_spans = sa.Table(
    "dashboard_incident_spans",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("incident", sa.BigInteger, nullable=False, index=True),
    sa.Column("opened_ms", sa.BigInteger, nullable=False),
    sa.Column("acknowledged_ms", sa.BigInteger),
    sa.Column("resolved_ms", sa.BigInteger, index=True),
    sa.Column(
        "by_itself", sa.Integer, nullable=False
    ),  # nobody resolved it: the door shut, the unit came back
)

incident_alarms = sa.Table(
    "dashboard_incident_alarms",
    metadata,
    sa.Column("alarm", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("incident", sa.BigInteger, nullable=False, index=True),
    sa.Column("times", sa.BigInteger, nullable=False),
)

notes = sa.Table(
    "dashboard_notes",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("incident", sa.BigInteger, nullable=False, index=True),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("time_ms", sa.BigInteger, nullable=False),
    sa.Column("what", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
)

plans = sa.Table(
    "dashboard_plans",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("site", sa.Text, nullable=False),
    sa.Column("zones", sa.Text, nullable=False),  # JSON list, in the order in which they are locked
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("removed_ms", sa.BigInteger),
)

runs = sa.Table(
    "dashboard_runs",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("plan", sa.BigInteger, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("site", sa.Text, nullable=False),
    sa.Column("drill", sa.Integer, nullable=False),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("started_ms", sa.BigInteger, nullable=False),
    sa.Column("ended_by", sa.Text),
    sa.Column("ended_ms", sa.BigInteger),
    sa.Column("until_ms", sa.BigInteger),  # ends by itself then; NULL: when somebody ends it
)

run_doors = sa.Table(
    "dashboard_run_doors",
    metadata,
    sa.Column("run", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("unit", sa.Text, primary_key=True),
    sa.Column("rank", sa.Integer, nullable=False),
    sa.Column("counter", sa.BigInteger, nullable=False),  # of the command that asked it
    sa.Column("end_counter", sa.BigInteger),  # of the command that ended it
)

musters = sa.Table(
    "dashboard_musters",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("site", sa.Text, nullable=False),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("started_ms", sa.BigInteger, nullable=False),
    sa.Column("ended_ms", sa.BigInteger),
)

muster_people = sa.Table(
    "dashboard_muster_people",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("muster", sa.BigInteger, nullable=False, index=True),
    sa.Column("person", sa.Text),
    sa.Column("visitor", sa.Text),
    sa.Column("zone", sa.Text, nullable=False),
    sa.Column("seen_ms", sa.BigInteger),
    sa.Column("safe_ms", sa.BigInteger),
    sa.Column("safe_by", sa.Text),
)

reviews = sa.Table(
    "dashboard_reviews",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("day", sa.Text, nullable=False),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("time_ms", sa.BigInteger, nullable=False),
    sa.Column("events", sa.BigInteger, nullable=False),
    sa.Column("finding", sa.Text, nullable=False),
    sa.Column("scopes", sa.Text, nullable=False, server_default="[]"),  # JSON, of the person who looked
)

holds = sa.Table(
    "dashboard_holds",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("unit", sa.Text, nullable=False),
    sa.Column("door", sa.Text, nullable=False),
    sa.Column("begins_ms", sa.BigInteger, nullable=False),
    sa.Column("ends_ms", sa.BigInteger, nullable=False),
    sa.Column("first_person", sa.Integer, nullable=False),
    sa.Column("on_holidays", sa.Integer, nullable=False),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("asked_ms", sa.BigInteger, nullable=False),
    sa.Column("counter", sa.BigInteger),  # of the command; NULL when nothing could be sent
    sa.Column("plan", sa.BigInteger),  # of `weekly_holds`
    sa.Column("slot", sa.Text, unique=True),  # plan and day: each is asked for once
    sa.Column("ended_ms", sa.BigInteger),
    sa.Column("ended_by", sa.Text),
    sa.Index("dashboard_holds_door", "unit", "door", "id"),
)

weekly_holds = sa.Table(
    "dashboard_weekly_holds",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("unit", sa.Text, nullable=False),
    sa.Column("door", sa.Text, nullable=False),
    sa.Column("days", sa.Text, nullable=False),  # digits, 0 is Monday
    sa.Column("begins", sa.Text, nullable=False),  # HH:MM in the page's time zone
    sa.Column("ends", sa.Text, nullable=False),
    sa.Column("first_person", sa.Integer, nullable=False),
    sa.Column("on_holidays", sa.Integer, nullable=False),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("made_ms", sa.BigInteger, nullable=False),
    sa.Column("removed_ms", sa.BigInteger),
)

handovers = sa.Table(
    "dashboard_handovers",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("scopes", sa.Text, nullable=False),  # JSON, of its author
    sa.Column("time_ms", sa.BigInteger, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("left_open", sa.Text, nullable=False),  # JSON: what was open then
    sa.Column("accepted_by", sa.Text),
    sa.Column("accepted_ms", sa.BigInteger),
)

calibrations = sa.Table(
    "dashboard_calibrations",
    metadata,
    sa.Column("score", sa.Text, primary_key=True),  # phrase_llr, speaker_llr, spoof_llr
    sa.Column("bins", sa.Text, nullable=False),  # JSON: {"granted": [...], "refused": [...]}
    sa.Column("source", sa.Text, nullable=False),  # models and trials of the evaluation
    sa.Column("set_ms", sa.BigInteger, nullable=False),
)

door_figures = sa.Table(
    "dashboard_door_figures",
    metadata,
    sa.Column("unit", sa.Text, primary_key=True),
    sa.Column("door", sa.Text, primary_key=True),
    sa.Column("counted_ms", sa.BigInteger, nullable=False),
    sa.Column("attempts", sa.BigInteger, nullable=False),  # of seven days
    sa.Column("wrongly", sa.BigInteger, nullable=False),  # refused, and let in within 90 s
    sa.Column("worst_hour", sa.Integer),
    sa.Column("now", sa.Text, nullable=False),  # histograms of 30 days, as `insight/counted.py` packs them
    sa.Column("before", sa.Text, nullable=False),  # of the 30 days before
)

visits = sa.Table(
    "dashboard_visits",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("person", sa.Text, nullable=False, index=True),
    sa.Column("site", sa.Text, nullable=False),
    sa.Column("sponsor", sa.Text, nullable=False),  # the account that answers for them
    sa.Column("what", sa.Text, nullable=False),
    sa.Column("begins_ms", sa.BigInteger, nullable=False),
    sa.Column("ends_ms", sa.BigInteger, nullable=False),
    sa.Column("made_by", sa.Text, nullable=False),
    sa.Column("made_ms", sa.BigInteger, nullable=False),
    sa.Column("lifted_ms", sa.BigInteger),  # they stay for good
)

visit_units = sa.Table(
    "dashboard_visit_units",
    metadata,
    sa.Column("visit", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("unit", sa.Text, primary_key=True),
    sa.Column("counter", sa.BigInteger),  # of the command that told it; NULL: it has to be told anew
)

exceptions = sa.Table(
    "dashboard_exceptions",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),  # of one emergency access: `event:`, `hold:` or `run:`
    sa.Column("account", sa.Text, nullable=False),  # who reviewed it
    sa.Column("time_ms", sa.BigInteger, nullable=False),
    sa.Column("finding", sa.Text, nullable=False),
)
