"""Passkeys (WebAuthn level 2): a key in the person's device instead of a password that can be given away.

An account with a passkey logs in with nothing else: a password beside it would be the weaker way in. A person
who loses the device gets a new one-time link from an administrator, which removes the passkeys.
"""

from __future__ import annotations

import json
from urllib.parse import urlsplit

import sqlalchemy as sa
import webauthn
from sqlalchemy import Connection
from webauthn.helpers import base64url_to_bytes, bytes_to_base64url, options_to_json
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from sync.dashboard.accounts import journal
from sync.dashboard.accounts.sessions import Login, hold_session
from sync.dashboard.errors import RefusedError
from sync.dashboard.schema import accounts, challenges, passkeys
from sync.dashboard.settings import DashboardSettings
from sync.registry.database.store import Store

CHALLENGE_LIFE_MS = 5 * 60_000
MOST = 10


NONE_HELD = ~sa.select(passkeys.c.credential).where(passkeys.c.account == accounts.c.name).exists()
"""Of an account: a password beside a passkey would be the weaker way in."""


class Passkeys:
    """The passkeys of one registry's accounts, for one address of the page."""

    def __init__(self, store: Store, settings: DashboardSettings) -> None:
        self._store = store
        self._settings = settings
        self._rp_id = urlsplit(settings.origin).hostname or ""

    def count(self, account: str) -> int:
        with self._store.reading() as db:
            query = sa.select(sa.func.count()).select_from(passkeys).where(passkeys.c.account == account)
            return int(db.execute(query).scalar_one())

    def begin_adding(self, account: str, now_ms: int) -> str:
        """Options for `navigator.credentials.create`, as JSON."""
        with self._store.reading() as db:
            query = sa.select(passkeys.c.credential).where(passkeys.c.account == account)
            held = [base64url_to_bytes(text) for text in db.execute(query).scalars()]
        if len(held) >= MOST:
            raise RefusedError("An account has at most {0} passkeys.", 400, MOST)
        options = webauthn.generate_registration_options(
            rp_id=self._rp_id,
            rp_name=self._settings.organisation,
            user_name=account,
            user_id=account.encode(),
            exclude_credentials=[PublicKeyCredentialDescriptor(id=one) for one in held],
            authenticator_selection=AuthenticatorSelectionCriteria(
                resident_key=ResidentKeyRequirement.REQUIRED,
                user_verification=UserVerificationRequirement.REQUIRED,
            ),
        )
        self._keep(options.challenge, account, now_ms)
        return options_to_json(options)

    def add(self, account: str, credential: str, session: str, now_ms: int) -> None:
        """Keep a new passkey of who has `session` (its hash). Raises RefusedError."""
        with self._store.transaction() as db:
            hold_session(db, account, session)
            held = sa.select(sa.func.count()).select_from(passkeys).where(passkeys.c.account == account)
            if db.execute(held).scalar_one() >= MOST:
                raise RefusedError("An account has at most {0} passkeys.", 400, MOST)
            challenge = self._take(db, credential, account, now_ms)
            try:
                made = webauthn.verify_registration_response(
                    credential=credential,
                    expected_challenge=challenge,
                    expected_rp_id=self._rp_id,
                    expected_origin=self._settings.origin,
                    require_user_verification=True,
                )
            except (WebAuthnException, ValueError, KeyError) as err:
                raise RefusedError("This passkey was not accepted. Try again.") from err
            db.execute(
                sa.insert(passkeys).values(
                    credential=bytes_to_base64url(made.credential_id),
                    account=account,
                    public_key=made.credential_public_key,
                    sign_count=made.sign_count,
                    added_ms=now_ms,
                )
            )
            journal.append(db, account, "passkey added", account, now_ms)

    def remove_all(self, account: str, session: str, now_ms: int) -> None:
        with self._store.transaction() as db:
            hold_session(db, account, session)
            db.execute(sa.delete(passkeys).where(passkeys.c.account == account))
            journal.append(db, account, "passkeys removed", account, now_ms)

    def begin_login(self, now_ms: int) -> str:
        """Options for `navigator.credentials.get`, as JSON: the same for everybody, so they tell nothing."""
        options = webauthn.generate_authentication_options(
            rp_id=self._rp_id, user_verification=UserVerificationRequirement.REQUIRED
        )
        self._keep(options.challenge, None, now_ms)
        return options_to_json(options)

    def login(self, credential: str, now_ms: int) -> Login:
        """Whose passkey signed. Raises RefusedError."""
        refused = RefusedError("This passkey is not known here, or its account is disabled.", 401)
        with self._store.transaction() as db:
            challenge = self._take(db, credential, None, now_ms)
            name = str(json.loads(credential).get("id", ""))
            query = (
                sa.select(passkeys)
                .join(accounts, accounts.c.name == passkeys.c.account)
                .where(passkeys.c.credential == name, accounts.c.disabled_ms.is_(None))
            )
            row = db.execute(query).one_or_none()
            if row is None:
                raise refused
            try:
                done = webauthn.verify_authentication_response(
                    credential=credential,
                    expected_challenge=challenge,
                    expected_rp_id=self._rp_id,
                    expected_origin=self._settings.origin,
                    credential_public_key=bytes(row.public_key),
                    credential_current_sign_count=row.sign_count,
                    require_user_verification=True,
                )
            except (WebAuthnException, ValueError, KeyError) as err:
                raise refused from err
            used = sa.update(passkeys).where(passkeys.c.credential == name)
            db.execute(used.values(sign_count=done.new_sign_count))
        there = sa.select(passkeys.c.credential).where(
            passkeys.c.credential == name, passkeys.c.account == accounts.c.name
        )
        return Login(str(row.account), (there.exists(),))

    def _keep(self, challenge: bytes, account: str | None, now_ms: int) -> None:
        with self._store.transaction() as db:
            db.execute(sa.delete(challenges).where(challenges.c.expires_ms < now_ms))
            text, until_ms = bytes_to_base64url(challenge), now_ms + CHALLENGE_LIFE_MS
            db.execute(sa.insert(challenges).values(challenge=text, account=account, expires_ms=until_ms))

    def _take(self, db: Connection, credential: str, account: str | None, now_ms: int) -> bytes:
        """The challenge that a credential answers, once: it must be ours, for this purpose, and fresh."""
        try:
            told = json.loads(base64url_to_bytes(json.loads(credential)["response"]["clientDataJSON"]))
            text = str(told["challenge"])
        except (ValueError, KeyError, TypeError) as err:
            raise RefusedError("This is no passkey's answer.") from err
        mine = challenges.c.account.is_(None) if account is None else challenges.c.account == account
        fresh = (challenges.c.challenge == text, mine, challenges.c.expires_ms >= now_ms)
        if db.execute(sa.delete(challenges).where(*fresh)).rowcount != 1:
            raise RefusedError("This took too long. Try again.")
        return base64url_to_bytes(text)
