"""Sessions of people for whom an OpenID provider vouches: they last as long as it does.

Before a session is used it is asked again, with the refresh token, at most every `ASKED_EVERY`. So somebody who signed
out there, or lost a role, is out here within a minute, and sessions that nobody uses cost no request. Providers that
tell of sign-outs by themselves (Back-Channel Logout 1.0) end them at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from dicom_node.config.openid import OidcSettings
from dicom_node.core.errors import GrantEnded, SignInDenied
from dicom_node.core.principal import Principal
from dicom_node.index.database import Database
from dicom_node.index.people.sessions import ProviderSession, Session, claim_check, note_vouched
from dicom_node.people.openid.sign_in import OpenIdSignIn, Vouched
from dicom_node.people.sessions import Sessions, now_utc

#: With the longest answer (10 s) and what other processes may remember (5 s), less than a minute.
ASKED_EVERY = timedelta(seconds=40)
#: So many requests wait for the provider at once; others go on for the moment. A provider that is silent must not hold
#: all threads that answer requests.
_MOST_ASKING = 8


class ProviderSessions:
    """The sessions of one provider. Safe to share between threads."""

    def __init__(
        self,
        database: Database,
        sessions: Sessions,
        sign_in: OpenIdSignIn,
        clock: Callable[[], datetime] = now_utc,
    ) -> None:
        self.sign_in = sign_in
        self._database = database
        self._sessions = sessions
        self._clock = clock
        self._asking = threading.BoundedSemaphore(_MOST_ASKING)

    @property
    def settings(self) -> OidcSettings:
        """Those of the provider."""
        return self.sign_in.settings

    def open(self, vouched: Vouched) -> str:
        """Open a session of somebody who has just signed in there, and return its secret."""
        grant = vouched.grant
        provider = ProviderSession(
            issuer=self.settings.issuer, subject=grant.subject, session_id=grant.session_id,
            token=self.sign_in.sealed(grant), checked_at=self._clock(),
        )  # fmt: skip
        return self._sessions.open(vouched.principal, provider)

    def vouched(self, session: Session) -> Session:
        """Return a session as the provider has it by now.

        Raises `SignInDenied` where it no longer vouches for it; the session has ended then.
        """
        provider, now = session.provider, self._clock()
        if provider is None or provider.issuer != self.settings.issuer:
            self._sessions.end(session)
            raise GrantEnded("Nobody here asks the provider of this session any more. Sign in again.")
        if provider.checked_at is not None and now - provider.checked_at < ASKED_EVERY:
            return session
        if not self._asking.acquire(blocking=False):
            return session
        try:
            return self._checked(session, now)
        finally:
            self._asking.release()

    def close(self, session: Session) -> str:
        """End a session, and return where its owner can sign out of the provider as well; "" where they cannot."""
        self._sessions.end(session)
        if session.provider is None or session.provider.issuer != self.settings.issuer:
            return ""
        try:
            return self.sign_in.give_back(self.sign_in.opened(session.provider.token))
        except SignInDenied:
            return ""

    def end_as_told(self, token: str) -> int:
        """End what a logout token speaks of; return how many sessions ended. Raises `SignInDenied`, `ProviderAway`."""
        notice = self.sign_in.sign_out_notice(token)
        return self._sessions.end_for_provider(notice.issuer, session_id=notice.session_id, subject=notice.subject)

    def end_session_there(self, session_id: str) -> int:
        """End what was opened by this session of the provider; return how many sessions ended."""
        return self._sessions.end_for_provider(self.settings.issuer, session_id=session_id)

    def service(self, token: str) -> tuple[Principal, datetime]:
        """Return which service shows this token, and until when. Raises `SignInDenied`, `ProviderAway`."""
        return self.sign_in.service(token)

    def _checked(self, session: Session, now: datetime) -> Session:
        with self._database.write() as connection:
            token = claim_check(connection, session.secret_digest, now - ASKED_EVERY, now)
        self._sessions.forget()  # what is remembered of it is older
        return session if token is None else self._asked(session, token)

    def _asked(self, session: Session, token: str) -> Session:
        try:
            grant = self.sign_in.opened(token)
            vouched = self.sign_in.confirmed(grant)
        except SignInDenied:
            self._sessions.end(session)
            raise
        if vouched is None or session.provider is None:
            return session
        sealed = self.sign_in.sealed(vouched.grant)
        with self._database.write() as connection:
            note_vouched(connection, session.secret_digest, vouched.principal, sealed)
        self._sessions.forget()  # others have read it as it was while the provider was asked
        provider = replace(session.provider, token=sealed, checked_at=self._clock())
        return replace(session, principal=vouched.principal, provider=provider)
