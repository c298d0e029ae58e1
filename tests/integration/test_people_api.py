"""Sign-in by name and password, people and keys over the API, and what of it is written down."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import pytest

from dicom_node.api.access import BROWSER_COOKIE, COOKIE, UNATTENDED
from dicom_node.api.routes import events as event_routes
from dicom_node.api.server import ApiServer
from dicom_node.core.audit import AuditedAct, AuditedEvent
from dicom_node.core.errors import AuditUnavailable, SignInDelayed
from dicom_node.people.passwords import NOBODY, Passwords
from tests.support.api_client import TOKEN, Client, client_of, parts_over, seeded_database
from tests.support.results.seeded import CHEST_XR

pytestmark = pytest.mark.usefixtures("cheap_hashes")
PASSWORD = "seven blue herons"
OTHER = "nine slow turbines"
SAME_SITE = {"Origin": "http://node", "Sec-Fetch-Site": "same-origin"}


ABOUT_PEOPLE = {
    AuditedAct.SIGN_IN, AuditedAct.SIGN_OUT, AuditedAct.ACCOUNT_CHANGED, AuditedAct.KEY_CHANGED,
    AuditedAct.ACCESS_REFUSED,
}  # fmt: skip


@dataclass
class KeptAudit:
    """Keeps what is written down; when it is away, it takes nothing."""

    events: list[AuditedEvent] = field(default_factory=list)
    is_away: bool = False

    def record(self, event: AuditedEvent) -> None:
        if self.is_away:
            raise AuditUnavailable("The audit trail cannot be written.")
        self.events.append(event)

    def note(self, event: AuditedEvent, key: str = "") -> None:  # noqa: ARG002 - nothing is told again here
        self.events.append(event)

    @property
    def fault(self) -> str:
        return "away" if self.is_away else ""

    def told(self) -> list[tuple[str, str, str]]:
        """What was told of people; what they did with studies is told elsewhere."""
        return [(one.act.value, one.actor.name, one.outcome.name) for one in self.events if one.act in ABOUT_PEOPLE]


@pytest.fixture
def audit() -> KeptAudit:
    return KeptAudit()


@pytest.fixture
def admin(tmp_path: Path, audit: KeptAudit) -> Iterator[Client]:
    database = seeded_database(tmp_path)
    yield client_of(replace(parts_over(database, tmp_path), audit=audit))
    database.close()


def add(admin: Client, name: str, *roles: str, password: str = PASSWORD) -> httpx.Response:
    return admin.post("/api/users", json={"name": name, "roles": roles, "password": password})


def sign_in(client: Client, name: str, password: str = PASSWORD, **cookies: str) -> httpx.Response:
    return client.post("/login", json={"name": name, "password": password}, headers=SAME_SITE, cookies=cookies)


def session_of(client: Client, name: str, password: str = PASSWORD) -> dict[str, str]:
    answer = sign_in(client, name, password)
    assert answer.status_code == 204, answer.text
    return {COOKIE: answer.cookies[COOKIE]}


def test_a_person_signs_in_acts_in_their_name_and_signs_out(admin: Client, audit: KeptAudit) -> None:
    assert add(admin, "olga", "operator").status_code == 201
    stranger = admin.stranger()
    cookie = session_of(stranger, "OLGA")
    assert stranger.post(f"/api/studies/{CHEST_XR}/retry", cookies=cookie, headers=SAME_SITE).status_code == 200
    timeline = admin.get(f"/api/studies/{CHEST_XR}/timeline").json()
    assert "olga" in {entry["actor"] for entry in timeline}
    me = stranger.get("/api/me", cookies=cookie).json()
    assert (me["name"], me["roles"], me["permissions"]) == ("olga", ["operator"], ["operate", "read"])
    assert me["has_password"]
    assert stranger.get("/api/users", cookies=cookie).status_code == 403
    assert stranger.post("/logout", cookies=cookie, headers=SAME_SITE).status_code == 204
    assert stranger.get("/api/me", cookies=cookie).status_code == 401
    assert audit.told() == [
        ("account-changed", "api-token", "SUCCESS"),
        ("sign-in", "olga", "SUCCESS"),
        ("access-refused", "olga", "MINOR_FAILURE"),
        ("sign-out", "olga", "SUCCESS"),
    ]
    assert {one.address for one in audit.events} == {"127.0.0.1", "10.9.9.9"}


def test_wrong_names_and_passwords_get_one_answer_and_a_mistyped_password_is_not_written_down(
    admin: Client, audit: KeptAudit
) -> None:
    add(admin, "olga", "operator")
    add(admin, "shut", "operator")
    admin.request("PATCH", "/api/users/shut", json={"disabled": True})
    audit.events.clear()
    answers = [
        sign_in(admin.stranger(), *tried)
        for tried in [("olga", "wrong"), ("nobody", PASSWORD), ("shut", PASSWORD), (PASSWORD, "olga")]
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.json()["detail"] for answer in answers}) == 1
    assert [one.actor.name for one in audit.events] == ["olga", "unknown", "shut", "unknown"]
    assert PASSWORD not in str(audit.events)


def test_every_sign_in_gives_another_secret_and_ends_the_one_before(admin: Client) -> None:
    add(admin, "olga", "viewer")
    stranger = admin.stranger()
    fixed = "F" * 43
    first = sign_in(stranger, "olga", **{COOKIE: fixed})
    secret = first.cookies[COOKIE]
    assert secret != fixed
    assert stranger.get("/api/me", cookies={COOKIE: fixed}).status_code == 401
    second = sign_in(stranger, "olga", **{COOKIE: secret, BROWSER_COOKIE: first.cookies[BROWSER_COOKIE]})
    assert second.cookies[BROWSER_COOKIE] == first.cookies[BROWSER_COOKIE]
    assert stranger.get("/api/me", cookies={COOKIE: secret}).status_code == 401
    assert stranger.get("/api/me", cookies={COOKIE: second.cookies[COOKIE]}).status_code == 200


def test_over_https_the_cookies_are_of_this_host_alone(admin: Client) -> None:
    answer = admin.stranger().post("https://node/login", json={"token": TOKEN}, headers={"Sec-Fetch-Site": "none"})
    cookies = answer.headers.get_list("set-cookie")
    assert {cookie.partition("=")[0] for cookie in cookies} == {f"__Host-{COOKIE}", f"__Host-{BROWSER_COOKIE}"}
    assert all({"Secure", "HttpOnly", "Path=/", "SameSite=strict"} <= set(cookie.split("; ")) for cookie in cookies)
    assert not any("Domain" in cookie for cookie in cookies)


@pytest.mark.parametrize(
    "given", [{}, {"name": "olga"}, {"token": TOKEN, "name": "olga", "password": PASSWORD}, {"password": PASSWORD}]
)
def test_a_sign_in_is_by_one_of_the_two(admin: Client, given: dict[str, str]) -> None:
    answer = admin.stranger().post("/login", json=given)
    assert answer.status_code == 422
    assert PASSWORD not in answer.text


def test_people_are_changed_and_removed_and_signed_out_by_it(admin: Client, audit: KeptAudit) -> None:
    add(admin, "olga", "operator")
    add(admin, "root", "admin")
    stranger = admin.stranger()
    for change in ({"roles": ["viewer"]}, {"password": OTHER}, {"disabled": True}, {"disabled": False}):
        password = OTHER if change in ({"disabled": True}, {"disabled": False}) else PASSWORD
        cookie = {} if change == {"disabled": False} else session_of(stranger, "olga", password)
        assert admin.request("PATCH", "/api/users/olga", json=change).status_code == 200
        assert stranger.get("/api/me", cookies=cookie).status_code == 401
    cookie = session_of(stranger, "olga", OTHER)
    assert admin.post("/api/users/olga/sign-out").status_code == 204
    assert stranger.get("/api/me", cookies=cookie).status_code == 401
    assert [one["name"] for one in admin.get("/api/users").json()] == ["olga", "root"]
    assert "argon2" not in admin.get("/api/users").text
    assert admin.request("DELETE", "/api/users/olga").status_code == 204
    assert admin.request("DELETE", "/api/users/olga").status_code == 404
    refused = admin.request("DELETE", "/api/users/root")
    assert (refused.status_code, "last who can administer" in refused.json()["detail"]) == (409, True)
    assert ("account-changed", "api-token", "MINOR_FAILURE") in audit.told()
    assert PASSWORD not in str(audit.events)


@pytest.mark.parametrize(
    ("call", "status"),
    [
        (("POST", "/api/users", {"name": "eve", "roles": ["viewer"], "password": "short"}), 422),
        (("POST", "/api/users", {"name": "eve", "roles": ["viewer"], "password": ""}), 422),
        (("POST", "/api/users", {"name": "eve", "roles": []}), 422),
        (("POST", "/api/users", {"name": "a:b", "roles": ["viewer"]}), 422),
        (("POST", "/api/users", {"name": "node", "roles": ["viewer"]}), 422),
        (("POST", "/api/users", {"name": "eve", "roles": ["root"]}), 422),
        (("PATCH", "/api/users/eve", {"roles": ["viewer"], "disabled": True}), 422),
        (("PATCH", "/api/users/eve", {}), 422),
        (("PATCH", "/api/users/eve", {"disabled": True}), 404),
        (("PATCH", "/api/users/e%00ve", {"disabled": True}), 422),
        (("POST", "/api/keys", {"name": "eve", "roles": ["viewer"], "expires_days": 0}), 422),
        (("DELETE", "/api/keys/eve", None), 404),
    ],
)
def test_what_cannot_be_done_is_a_problem(admin: Client, call: tuple[str, str, dict[str, object]], status: int) -> None:
    method, path, body = call
    answer = admin.request(method, path, json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


def test_one_s_own_password_is_changed_by_who_knows_it(admin: Client) -> None:
    add(admin, "olga", "viewer")
    stranger = admin.stranger()
    here, elsewhere = session_of(stranger, "olga"), session_of(stranger, "olga")

    def change(current: str, new: str) -> httpx.Response:
        body = {"current": current, "new": new}
        return stranger.post("/api/me/password", json=body, cookies=here, headers=SAME_SITE)

    assert change("wrong", OTHER).status_code == 403
    assert change(PASSWORD, "olga-olga-olga").status_code == 422
    changed = change(PASSWORD, OTHER)
    assert changed.status_code == 204
    assert stranger.get("/api/me", cookies={COOKIE: changed.cookies[COOKIE]}).status_code == 200
    assert {stranger.get("/api/me", cookies=cookie).status_code for cookie in (here, elsewhere)} == {401}
    assert sign_in(stranger, "olga").status_code == 401
    assert admin.post("/api/me/password", json={"current": TOKEN, "new": OTHER}).status_code == 409


def test_who_signs_out_everywhere_is_signed_out_everywhere_and_nobody_else_is(admin: Client) -> None:
    for name in ("olga", "oleg"):
        add(admin, name, "viewer")
    stranger = admin.stranger()
    olga, too, oleg = session_of(stranger, "olga"), session_of(stranger, "olga"), session_of(stranger, "oleg")
    by_token = {COOKIE: stranger.post("/login", json={"token": TOKEN}).cookies[COOKIE]}
    assert stranger.post("/api/me/sign-out-everywhere", cookies=olga, headers=SAME_SITE).status_code == 204
    seen = [stranger.get("/api/me", cookies=cookie).status_code for cookie in (olga, too, oleg, by_token)]
    assert seen == [401, 401, 200, 200]
    assert admin.post("/api/me/sign-out-everywhere").status_code == 204
    assert stranger.get("/api/me", cookies=by_token).status_code == 401
    assert admin.get("/api/me").status_code == 200


def test_a_key_works_as_bearer_and_as_password_and_opens_a_session_that_ends_with_it(admin: Client) -> None:
    made = admin.post("/api/keys", json={"name": "ris", "roles": ["operator"], "expires_days": 7}).json()
    secret, stranger = made["secret"], admin.stranger()
    basic = base64.b64encode(f"ris:{secret}".encode()).decode()
    for authorization in (f"Bearer {secret}", f"Basic {basic}"):
        me = stranger.get("/api/me", headers={"Authorization": authorization}).json()
        assert (me["name"], me["roles"], me["has_password"]) == ("key:ris", ["operator"], False)
    cookie = {COOKIE: stranger.post("/login", json={"token": secret}).cookies[COOKIE]}
    assert stranger.get("/api/me", cookies=cookie).json()["name"] == "key:ris"
    assert secret not in admin.get("/api/keys").text
    assert admin.request("DELETE", "/api/keys/RIS").status_code == 204
    assert stranger.get("/api/me", cookies=cookie).status_code == 401
    assert stranger.get("/api/me", headers={"Authorization": f"Bearer {secret}"}).status_code == 401


def test_a_session_of_a_token_that_is_no_more_is_over(admin: Client, tmp_path: Path) -> None:
    cookie = {COOKIE: admin.stranger().post("/login", json={"token": TOKEN}).cookies[COOKIE]}
    parts = admin.app.state.parts
    restarted = client_of(parts).stranger()
    assert restarted.get("/api/me", cookies=cookie).status_code == 200
    rotated = client_of(replace(parts, token_digest="0" * 64)).stranger()
    assert rotated.get("/api/me", cookies=cookie).status_code == 401


def test_what_cannot_be_written_down_is_not_done(admin: Client, audit: KeptAudit) -> None:
    add(admin, "olga", "viewer")
    audit.is_away = True
    assert sign_in(admin.stranger(), "olga").status_code == 503
    assert add(admin, "eve", "admin").status_code == 503
    assert admin.post("/api/keys", json={"name": "eve", "roles": ["admin"]}).status_code == 503
    audit.is_away = False
    assert [one["name"] for one in admin.get("/api/users").json()] == ["olga"]
    assert admin.get("/api/keys").json() == []


def test_a_lock_is_told_with_its_time_and_is_not_the_owner_s_elsewhere(admin: Client) -> None:
    add(admin, "olga", "viewer")
    guesser = admin.stranger("10.0.0.66")
    assert [sign_in(guesser, "olga", f"guess {n}").status_code for n in range(6)] == [401] * 5 + [429]
    locked = sign_in(guesser, "olga")
    assert 0 < int(locked.headers["retry-after"]) <= 15
    assert sign_in(admin.stranger("10.0.0.67"), "olga").status_code == 204
    assert guesser.get("/api/me", headers=admin.headers).status_code == 200


def test_an_unattended_page_keeps_no_session_open(admin: Client) -> None:
    asked: list[bool] = []
    sessions = admin.app.state.access.sessions
    find = sessions.find
    sessions.find = lambda secret, *, is_used=True: (asked.append(is_used), find(secret, is_used=is_used))[1]
    admin.stranger().get("/api/me", headers={UNATTENDED: "1"}, cookies={COOKIE: "x" * 43})
    admin.stranger().get("/api/me", cookies={COOKIE: "x" * 43})
    assert asked == [False, True]


def test_few_hashes_run_at_once_and_few_wait_and_known_people_have_a_place_of_their_own() -> None:
    passwords = Passwords(at_once=2)
    inside, refused, go = threading.Semaphore(0), threading.Semaphore(0), threading.Event()

    def hold(_: int) -> str:
        try:
            with passwords._strangers.entered():
                inside.release()
                go.wait(60)
        except SignInDelayed:
            refused.release()
            return "told to wait"
        return "compared"

    with ThreadPoolExecutor(30) as pool:
        tried = [pool.submit(hold, n) for n in range(30)]
        assert all(inside.acquire(timeout=60) for _ in range(2))
        assert all(refused.acquire(timeout=60) for _ in range(20))
        assert not inside.acquire(blocking=False)
        assert passwords.match(PASSWORD, None, is_known=True) is False
        go.set()
        answers = [one.result(60) for one in tried]
    assert answers.count("compared") >= 2


def test_a_stream_of_events_ends_with_the_session_that_asked_for_it(
    admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_routes, "HEARTBEAT_S", 0.1)
    add(admin, "olga", "viewer")
    cookie = session_of(admin.stranger(), "olga")
    server = ApiServer(admin.app, "127.0.0.1", 0)
    server.start()
    try:
        url = f"http://127.0.0.1:{server.port}/api/events"
        with httpx.stream("GET", url, cookies=cookie, timeout=60, trust_env=False) as stream:
            lines = stream.iter_lines()
            for _ in range(6):
                next(lines)
            assert admin.post("/api/users/olga/sign-out").status_code == 204
            for _ in lines:  # to its end
                pass
        assert httpx.get(url, cookies=cookie, trust_env=False).status_code == 401
    finally:
        server.stop()


def test_an_unknown_name_costs_as_much_as_a_wrong_password(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str | None] = []
    match = Passwords.match

    def noted(self: Passwords, password: str, password_hash: str | None, *, is_known: bool = False) -> bool:
        compared.append(password_hash and password_hash.split("$")[3])
        return match(self, password, password_hash, is_known=is_known)

    monkeypatch.setattr(Passwords, "match", noted)
    add(admin, "olga", "viewer")
    sign_in(admin.stranger(), "olga", "wrong")
    sign_in(admin.stranger(), "nobody", "wrong")
    sign_in(admin.stranger(), "no body!", "wrong")
    assert compared == ["m=64,t=1,p=1", None, None]
    monkeypatch.undo()  # what a real password costs is what nobody's costs
    assert Passwords().hashed(PASSWORD).split("$")[3] == NOBODY.split("$")[3]
