"""Accounts, keys and sessions in the database: who gets in, for how long, and what ends it. On both databases."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from types import ModuleType

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, select

from dicom_node.core.errors import AccountRefused, Conflict, NotFound, SignInDelayed
from dicom_node.core.principal import Principal, UserRole
from dicom_node.index.database import SCHEMA_HEAD, Database
from dicom_node.index.people import keys as key_rows
from dicom_node.index.people import sessions as session_rows
from dicom_node.index.people.sessions import OpenedBy, ProviderSession, claim_check
from dicom_node.index.tables import accounts as account_rows
from dicom_node.index.tables import api_keys, sessions
from dicom_node.people.accounts import Accounts, TriedFrom
from dicom_node.people.keys import Keys
from dicom_node.people.limits import LockOut
from dicom_node.people.passwords import require_good
from dicom_node.people.sessions import SessionLimits, Sessions, digest_of

pytestmark = pytest.mark.usefixtures("cheap_hashes")
GOOD = "seven blue herons"
ALSO_GOOD = "nine slow turbines"
HERE = TriedFrom("10.0.0.1")
ADMIN = Principal("api-token", frozenset({UserRole.ADMIN}))


class Clock:
    """A time that tests set on."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 14, 8, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def later(self, **by: float) -> None:
        self.now += timedelta(**by)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def accounts(index: Database, clock: Clock) -> Accounts:
    return Accounts(index, clock=clock)


# --- accounts ----------------------------------------------------------------------------------------------------


def test_a_person_signs_in_by_the_password_that_is_kept_as_an_argon2_hash_only(
    accounts: Accounts, index: Database
) -> None:
    accounts.add("Alice", [UserRole.REVIEWER, UserRole.VIEWER], GOOD)
    with index.read() as connection:
        kept = connection.execute(select(account_rows.c.password_hash)).scalar_one()
    assert kept.startswith("$argon2id$v=19$m=64,t=1,p=1$")  # those of `cheap_hashes`
    alice = accounts.sign_in("ALICE", GOOD, HERE)
    assert alice is not None
    assert alice.principal == Principal("Alice", frozenset({UserRole.REVIEWER, UserRole.VIEWER}))
    assert accounts.sign_in("alice", GOOD + "!", HERE) is None
    assert accounts.sign_in("bob", GOOD, HERE) is None
    assert accounts.sign_in("alice\0", GOOD, HERE) is None


def test_names_are_unique_whatever_their_case(accounts: Accounts) -> None:
    accounts.add("Alice", [UserRole.VIEWER], GOOD)
    with pytest.raises(Conflict, match="There is an account aLICE already"):
        accounts.add("aLICE", [UserRole.VIEWER], GOOD)


def test_of_two_who_add_one_name_at_once_one_is_told(accounts: Accounts, index: Database) -> None:
    gate = threading.Barrier(2)

    def add(_: int) -> str:
        gate.wait()
        try:
            accounts.add("alice", [UserRole.VIEWER], None)
            keys.add("ris", [UserRole.VIEWER], 1, ADMIN)
        except Conflict:
            return "told"
        return "added"

    keys = Keys(index)
    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(add, range(2))) == ["added", "told"]


def test_without_a_password_and_when_disabled_nobody_signs_in(accounts: Accounts) -> None:
    accounts.add("machine", [UserRole.VIEWER], None)
    accounts.add("alice", [UserRole.VIEWER], GOOD)
    accounts.disable("alice")
    assert accounts.sign_in("machine", "", HERE) is None
    assert accounts.sign_in("alice", GOOD, HERE) is None
    accounts.enable("alice")
    assert accounts.sign_in("alice", GOOD, HERE) is not None


def test_the_last_administrator_stays(accounts: Accounts) -> None:
    accounts.add("alice", [UserRole.ADMIN], GOOD)
    accounts.add("bob", [UserRole.ADMIN], None)  # nobody can sign in as bob
    for lose in (
        lambda: accounts.disable("alice"),
        lambda: accounts.remove("alice"),
        lambda: accounts.set_roles("alice", [UserRole.OPERATOR]),
    ):
        with pytest.raises(Conflict, match="alice is the last who can administer"):
            lose()
    accounts.set_roles("alice", [UserRole.ADMIN, UserRole.REVIEWER])
    accounts.set_password("bob", GOOD)
    accounts.remove("alice")
    with pytest.raises(NotFound, match="There is no account alice"):
        accounts.disable("alice")


def test_two_administrators_who_remove_each_other_at_once_do_not_both_succeed(accounts: Accounts) -> None:
    accounts.add("alice", [UserRole.ADMIN], GOOD)
    accounts.add("bob", [UserRole.ADMIN], GOOD)
    gate = threading.Barrier(2)

    def remove(name: str) -> bool:
        gate.wait()
        try:
            accounts.remove(name)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(remove, ["alice", "bob"])) == [False, True]
    assert accounts.has_administrator()


def test_a_hash_of_weaker_parameters_is_made_anew_at_the_next_sign_in(
    index: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts = Accounts(index, clock=clock)
    weak = accounts.add("alice", [UserRole.VIEWER], GOOD).password_hash
    monkeypatch.undo()
    signed_in = accounts.sign_in("alice", GOOD, HERE)
    assert signed_in is not None
    assert signed_in.password_hash != weak
    assert signed_in == accounts.get("alice")
    assert str(signed_in.password_hash).startswith("$argon2id$v=19$m=47104,t=1,p=1$")


@pytest.mark.parametrize(
    ("password", "name"),
    [
        ("short words", "alice"),
        ("x" * 257, "alice"),
        ("aaaaaaaaaaaaaaaa", "alice"),
        ("Password2026!!", "alice"),
        ("P@$$w0rd-P@$$w0rd", "alice"),
        ("12345678901234", "alice"),
        ("qwertyuiopasdf", "alice"),
        ("welcome hospital", "alice"),
        ("i am alice the first", "alice"),
        ("vanderberg-2026", "e.vanderberg"),
    ],
)
def test_what_is_tried_first_is_no_password(password: str, name: str) -> None:
    with pytest.raises(AccountRefused):
        require_good(password, name)


@pytest.mark.parametrize(
    "password",
    ["correct horse battery staple", "837465920174", "aluminium sandwich", "пять синих птиц", "x y" * 40 + "qz"],
)
def test_what_else_it_is_made_of_is_free(password: str) -> None:
    require_good(password, "al")


# --- sessions ----------------------------------------------------------------------------------------------------


def test_a_session_survives_a_restart_and_ends_without_use_and_in_the_end(index: Database, clock: Clock) -> None:
    limits = SessionLimits(idle=timedelta(minutes=30), longest=timedelta(hours=2))
    secret = Sessions(index, limits, clock).open(ADMIN)
    restarted = Sessions(index, limits, clock)
    for _ in range(5):
        clock.later(minutes=20)
        found = restarted.find(secret)
        assert found is not None
        assert found.principal == ADMIN
    clock.later(minutes=20)
    assert restarted.find(secret) is None  # two hours, however much it was used
    idle = restarted.open(ADMIN)
    clock.later(minutes=20)
    assert restarted.find(idle, is_used=False) is not None  # a page that looks by itself
    clock.later(minutes=10)
    assert restarted.find(idle) is None
    assert [restarted.find(wrong) for wrong in ("", "a" * 43, "\u00e4" * 43)] == [None] * 3


def test_the_database_has_no_secret_and_not_a_write_for_every_request(index: Database, clock: Clock) -> None:
    opened = Sessions(index, clock=clock)
    secret = opened.open(ADMIN)
    clock.later(seconds=59)
    opened.find(secret)
    with index.read() as connection:
        row = connection.execute(select(sessions)).one()
    assert row.last_seen_at == row.opened_at
    assert row.secret_digest == digest_of(secret)
    clock.later(seconds=1)
    opened.find(secret)
    with index.read() as connection:
        assert connection.execute(select(sessions.c.last_seen_at)).scalar_one() == clock.now


@pytest.mark.parametrize("change", ["password", "roles", "disabled", "removed", "signed-out"])
def test_what_changes_about_a_person_ends_their_sessions_in_every_process(
    accounts: Accounts, index: Database, clock: Clock, change: str
) -> None:
    accounts.add("root", [UserRole.ADMIN], GOOD)
    accounts.add("bob", [UserRole.OPERATOR], GOOD)
    ours, theirs = Sessions(index, clock=clock), Sessions(index, clock=clock)
    bob, root = accounts.sign_in("bob", GOOD, HERE), accounts.sign_in("root", GOOD, HERE)
    assert bob is not None
    assert root is not None
    secret, other = ours.open_for(bob), ours.open_for(root)
    assert secret is not None
    assert other is not None
    {
        "password": lambda: accounts.set_password("bob", ALSO_GOOD),
        "roles": lambda: accounts.set_roles("bob", [UserRole.VIEWER]),
        "disabled": lambda: accounts.disable("bob"),
        "removed": lambda: accounts.remove("bob"),
        "signed-out": lambda: ours.end_for_account(bob.id),
    }[change]()
    assert theirs.find(secret) is None
    assert theirs.find(other) is not None
    if change != "signed-out":  # whoever was looked up before that is let in no more
        assert ours.open_for(bob) is None


def test_what_is_asked_for_all_the_time_is_still_read_again(index: Database) -> None:
    now_s = [1000.0]
    ours, theirs = Sessions(index), Sessions(index)
    theirs._remembered._clock_s = lambda: now_s[0]
    secret = ours.open(ADMIN)
    assert theirs.find(secret) is not None
    ours.close(secret)
    seen = []
    for _ in range(6):
        now_s[0] += 1
        seen.append(theirs.find(secret) is not None)
    assert seen[-1] is False
    assert seen[0] is True


@pytest.mark.parametrize("kind", ["session", "key"])
def test_who_reads_what_ends_meanwhile_does_not_remember_it(
    index: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    opened, keys = Sessions(index, clock=clock), Keys(index, clock)
    session, (key, _) = opened.open(ADMIN), keys.add("ris", [UserRole.OPERATOR], 30, ADMIN)
    rows: ModuleType = {"session": session_rows, "key": key_rows}[kind]
    name = {"session": "find_session", "key": "key_of_digest"}[kind]
    read = getattr(rows, name)

    def find() -> object:
        return opened.find(session) if kind == "session" else keys.find(key)

    def read_while_it_ends(connection: Connection, digest: str) -> object:
        found = read(connection, digest)
        monkeypatch.undo()
        opened.close(session)
        keys.revoke("ris")
        return found

    monkeypatch.setattr(rows, name, read_while_it_ends)
    assert find() is not None
    assert find() is None


def test_of_too_many_sessions_of_one_the_oldest_end(index: Database, clock: Clock) -> None:
    opened = Sessions(index, clock=clock)
    secrets = []
    for _ in range(66):
        secrets.append(opened.open(ADMIN))
        clock.later(seconds=1)
    assert [opened.find(secret) is not None for secret in secrets] == [False] * 2 + [True] * 64


def test_what_a_provider_ends_is_ended_and_nothing_else(index: Database, clock: Clock) -> None:
    opened = Sessions(index, clock=clock)

    def of(subject: str, session_id: str, issuer: str = "https://id.example") -> str:
        said = ProviderSession(
            issuer=issuer, subject=subject, session_id=session_id, token="sealed", checked_at=clock.now
        )
        return opened.open(Principal(subject, frozenset({UserRole.VIEWER})), said)

    one, two, other = of("1", "a"), of("1", "b"), of("1", "a", "https://other.example")
    found = opened.find(one)
    assert found is not None
    assert found.provider == ProviderSession(
        issuer="https://id.example", subject="1", session_id="a", token="sealed", checked_at=clock.now
    )
    assert opened.end_for_provider("https://id.example", session_id="a") == 1
    assert [opened.find(secret) is not None for secret in (one, two, other)] == [False, True, True]
    assert opened.end_for_provider("https://id.example") == 0
    assert opened.end_for_provider("", subject="") == 0
    assert opened.end_for_key("") == 0
    soon = clock.now + timedelta(seconds=1)
    with index.write() as connection:
        taken = [claim_check(connection, digest_of(secret), soon, soon) for secret in (one, two, two, other)]
        tokens = dict(connection.execute(select(sessions.c.secret_digest, sessions.c.provider_token)).all())
    assert taken == [None, "sealed", None, "sealed"]
    assert tokens[digest_of(one)] == ""
    assert opened.end_for_provider("https://id.example", subject="1") == 1


# --- keys --------------------------------------------------------------------------------------------------------


def test_a_key_opens_until_it_expires_or_is_revoked_and_is_kept_as_a_digest(index: Database, clock: Clock) -> None:
    keys = Keys(index, clock)
    secret, key = keys.add("ris", [UserRole.OPERATOR], 30, ADMIN)
    assert len(secret) == 4 + 43  # 256 bits
    found = keys.find(secret)
    assert found is not None
    assert found.principal == Principal("key:ris", frozenset({UserRole.OPERATOR}))
    assert found.created_by == "api-token"
    with index.read() as connection:
        row = connection.execute(select(api_keys)).one()
    assert row.secret_digest == digest_of(secret)
    assert row.last_used_at == clock.now
    assert secret not in str(row)
    assert secret not in repr(key)
    assert keys.find(secret[:-1] + ("A" if secret[-1] != "A" else "B")) is None
    with pytest.raises(Conflict, match="There is a key RIS already"):
        keys.add("RIS", [UserRole.VIEWER], 30, ADMIN)
    clock.later(days=30)
    assert keys.find(secret) is None


def test_a_revoked_key_and_what_it_opened_is_shut_and_its_name_is_free(index: Database, clock: Clock) -> None:
    keys, opened = Keys(index, clock), Sessions(index, clock=clock)
    secret, key = keys.add("ris", [UserRole.OPERATOR], 30, ADMIN)
    session = opened.open(key.principal, None, OpenedBy(key_digest=key.secret_digest), key.expires_at)
    assert keys.find(secret) is not None
    keys.revoke("RIS")
    assert keys.find(secret) is None
    assert Sessions(index, clock=clock).find(session) is None
    with pytest.raises(NotFound, match="no key ris in use"):
        keys.revoke("ris")
    keys.add("ris", [UserRole.OPERATOR], 30, ADMIN)
    assert [(one.name, one.revoked_at) for one in keys.all()] == [("ris", clock.now), ("ris", None)]


# --- guessing ----------------------------------------------------------------------------------------------------


def test_whoever_guesses_a_name_is_locked_out_where_they_are_and_its_owner_is_not(accounts: Accounts) -> None:
    accounts.add("alice", [UserRole.VIEWER], GOOD)
    guesser = TriedFrom("10.0.0.66")
    assert [accounts.sign_in("alice", f"guess number {n}", guesser) for n in range(5)] == [None] * 5
    with pytest.raises(SignInDelayed, match="Try again in 15 s"):
        accounts.sign_in("alice", GOOD, guesser)  # right, and not looked at
    assert accounts.sign_in("alice", GOOD, HERE) is not None
    accounts.add("bob", [UserRole.VIEWER], GOOD)
    assert accounts.sign_in("bob", GOOD, guesser) is not None  # behind the same proxy


def test_behind_the_proxy_of_a_guesser_the_browser_of_its_owner_is_known(accounts: Accounts, index: Database) -> None:
    accounts.add("alice", [UserRole.VIEWER], GOOD)
    at_home = TriedFrom("10.0.0.66", digest_of("browser"))
    alice = accounts.sign_in("alice", GOOD, at_home)
    assert alice is not None
    Sessions(index).open_for(alice, at_home.browser_digest)
    for _ in range(30):
        accounts._failures.failed("10.0.0.66")
    with pytest.raises(SignInDelayed):
        accounts.sign_in("alice", GOOD, TriedFrom("10.0.0.66"))
    assert accounts.sign_in("alice", GOOD, at_home) is not None


def test_a_lock_doubles_ends_by_itself_and_opens_with_the_right_password() -> None:
    now_s = [0.0]
    lock_out = LockOut(clock_s=lambda: now_s[0])
    waits = []
    for _ in range(12):
        try:
            lock_out.begin("alice", "10.0.0.1")
        except SignInDelayed as delayed:
            waits.append(delayed.wait_s)
            now_s[0] += delayed.wait_s
            lock_out.begin("alice", "10.0.0.1")
    assert waits == [15, 30, 60, 120, 240, 480, 900]
    lock_out.succeeded("alice", "10.0.0.1")
    for _ in range(LockOut.FREE):
        lock_out.begin("alice", "10.0.0.1")
    with pytest.raises(SignInDelayed):
        lock_out.begin("alice", "10.0.0.1")
    now_s[0] += LockOut.FORGOTTEN_AFTER_S + 1
    lock_out.begin("alice", "10.0.0.1")


def test_many_tries_at_once_are_no_way_around_the_lock_and_memory_is_bounded() -> None:
    lock_out = LockOut(most_kept=100)
    gate = threading.Barrier(8)

    def guess(_: int) -> bool:
        gate.wait()
        try:
            lock_out.begin("alice", "10.0.0.1")
        except SignInDelayed:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(guess, range(8))) == LockOut.FREE
    for n in range(1000):
        lock_out.begin(f"name{n}", "10.0.0.1")
    assert len(lock_out._tries) == 100


# --- an index from before ----------------------------------------------------------------------------------------


def test_an_index_from_before_gets_the_tables_at_the_next_start(index: Database) -> None:
    config = Config()
    config.set_main_option("script_location", "dicom_node.index:migrations")
    with index.write() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0014")
    index.migrate()
    assert index.schema_version() == SCHEMA_HEAD
    Accounts(index).add("alice", [UserRole.ADMIN], GOOD)
    assert Accounts(index).has_administrator()
