"""Passwords: which may be taken (NIST SP 800-63B 3.1.1), and how they are kept and compared, a few at a time."""

from __future__ import annotations

import re
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from dicom_node.core.errors import AccountRefused, SignInDelayed

MIN_LENGTH = 12
MAX_LENGTH = 256
#: What the commonest passwords are made of, and what this place suggests. With digits and signs around it is no better.
_COMMON_WORDS = frozenset(
    """
    abc abcd access admin administrator asdf asdfgh baseball batman changeme charlie clinic computer default demo
    dicom dicomnode dragon exampl example flower football freedom guest hello hospital iloveyou internet jesus killer
    letmein login london lovely mama master medical michael monkey mustang node nothing ninja orthanc pacs pass passwd
    passwort password please princess qazwsx qwert qwerty qwertyuiop qwertz qwertzuiop radiology radiologie root secret
    shadow starwars summer sunshine superman spring autumn winter system temp test tester testing trustno user welcome
    willkommen whatever xray zxcvbn zxcvbnm
    """.split()  # noqa: SIM905 - a list of this length is read as words
)
_ROWS = ("0123456789" * 3, "abcdefghijklmnopqrstuvwxyz", "qwertyuiopasdfghjklzxcvbnm", "qwertzuiopasdfghjklyxcvbnm")
_LEET = str.maketrans("013457@$!", "oleasta" + "si")


def require_good(password: str, name: str) -> None:
    """Raise `AccountRefused` for a password that is short, common, or made of the name; of what it is made is free."""
    plain = _normalised(password)
    if not MIN_LENGTH <= len(plain) <= MAX_LENGTH:
        raise AccountRefused(
            f"A password has {MIN_LENGTH} to {MAX_LENGTH} characters, this one {len(plain)}. Several words are good."
        )
    if any("\ud800" <= sign <= "\udfff" for sign in plain):
        raise AccountRefused("The password holds signs that are no text. Choose another.")
    if _is_common(plain.casefold(), name.casefold()):
        raise AccountRefused(
            "The password is among those that are tried first: a common word, a row of keys, few signs, or the name. "
            "Choose another; several words that do not belong together are good."
        )


def _is_common(password: str, name: str) -> bool:
    own = {part for part in (name, *re.split(r"[._@-]", name)) if len(part) > 2}
    letters = {re.sub(r"[^a-z]", "", text) for text in (password, password.translate(_LEET))}
    keys = re.sub(r"[^a-z0-9]", "", password)
    return (
        len(set(password)) < 5
        or any(len(keys) > 2 and (keys in row or keys[::-1] in row) for row in _ROWS)
        or any(_is_made_of(text, _COMMON_WORDS | own) for text in letters)
        or (len(name) > 2 and name in password)
    )


def _is_made_of(letters: str, words: frozenset[str] | set[str]) -> bool:
    """Tell whether nothing but these words stand one after another; hardly any letters are no words."""
    reached = {0}
    for end in range(1, len(letters) + 1):
        if any(start in reached and letters[start:end] in words for start in range(end)):
            reached.add(end)
    return len(letters) > 2 and len(letters) in reached


def _normalised(password: str) -> str:
    """The same password however a keyboard composes its letters (NIST SP 800-63B 3.1.1.2)."""
    return unicodedata.normalize("NFKC", password)


# --- kept and compared -------------------------------------------------------------------------------------------

#: One of the configurations of equal strength in the OWASP Password Storage Cheat Sheet: 46 MiB, about 50 ms.
_HASHER = PasswordHasher(time_cost=1, memory_cost=47104, parallelism=1)
#: What an unknown name is compared with, so that it takes as long as a wrong password. Of random bytes, thrown away.
NOBODY = "$argon2id$v=19$m=47104,t=1,p=1$0D1tsSPk3k0gG9gDrMWIUQ$eyoTdEE0DJhqMp47NmX+VieGeML8Sgy5v/pE8lhcvE0"
_MOST_WAITING = 8
_PATIENCE_S = 5.0


class Passwords:
    """Hashes and compares, at most so many at once: each takes 46 MiB and a processor. Safe to share between threads.

    Whoever is known here has a place of their own, so that a flood of strangers does not keep them out.
    """

    def __init__(self, at_once: int = 2) -> None:
        self._strangers = _Gate(at_once)
        self._known = _Gate(1)

    def hashed(self, password: str) -> str:
        """Return what is kept of a password. Raises `SignInDelayed` when too many wait already."""
        with self._known.entered():
            return _HASHER.hash(_normalised(password))

    def match(self, password: str, password_hash: str | None, *, is_known: bool = False) -> bool:
        """Tell whether this is the password; where there is none it takes as long. Raises `SignInDelayed`."""
        with (self._known if is_known else self._strangers).entered():
            try:
                return _HASHER.verify(password_hash or NOBODY, _normalised(password)) and password_hash is not None
            except (VerificationError, InvalidHashError, UnicodeEncodeError):
                return False

    def are_outdated(self, password_hash: str) -> bool:
        """Tell whether it was made with weaker parameters than those of today."""
        return _HASHER.check_needs_rehash(password_hash)


class _Gate:
    """Lets few through at once, and few wait."""

    def __init__(self, at_once: int) -> None:
        self._inside = threading.BoundedSemaphore(at_once)
        self._waiting = threading.BoundedSemaphore(at_once + _MOST_WAITING)

    @contextmanager
    def entered(self) -> Iterator[None]:
        if not self._waiting.acquire(blocking=False):
            raise _busy()
        try:
            if not self._inside.acquire(timeout=_PATIENCE_S):
                raise _busy()
            try:
                yield
            finally:
                self._inside.release()
        finally:
            self._waiting.release()


def _busy() -> SignInDelayed:
    return SignInDelayed("Too many sign in at this moment. Try again in some seconds.", _PATIENCE_S)
