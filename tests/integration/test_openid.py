"""People sign in at a real OpenID provider (oidc-provider), and are out here when they are out there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from sqlalchemy import select

from dicom_node.api.routes import events
from dicom_node.api.server import ApiServer, create_app
from dicom_node.config.openid import OidcSettings
from dicom_node.config.running import NodeSettings
from dicom_node.config.settings import Settings
from dicom_node.core.audit import AuditedAct, AuditedEvent, AuditOutcome
from dicom_node.core.principal import UserRole
from dicom_node.index.database import Database
from dicom_node.index.tables import sessions
from dicom_node.people.openid import sessions as oidc_sessions
from tests.peers.browser import Browser, running_browser
from tests.peers.openid import AUDIENCE, CLIENT_ID, CLIENT_SECRET, OpenIdProvider, Person, running_openid_provider
from tests.peers.process import free_port
from tests.support.api_client import TOKEN, parts_over, seeded_database
from tests.support.results.seeded import ALL_STUDIES, CHEST_CT

ROLES = {"readers": "viewer", "radiologists": "reviewer", "engineers": "operator", "heads": "admin"}
#: Who is what at the provider.
PEOPLE = {"vera": ["readers"], "rita": ["radiologists"], "otto": ["engineers"], "anna": ["heads"], "eve": ["cleaners"]}


class Trail:
    """Keeps what is audited."""

    def __init__(self) -> None:
        self.events: list[AuditedEvent] = []

    fault = ""

    def record(self, event: AuditedEvent) -> None:
        self.events.append(event)

    def note(self, event: AuditedEvent, key: str = "") -> None:
        assert not key
        self.events.append(event)


TRAIL = Trail()


class Clock:
    """The time, and how far a test has set it on."""

    ahead = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


CLOCK = Clock()


@pytest.fixture(scope="module")
def node_url() -> str:
    return f"http://127.0.0.1:{free_port()}"


@pytest.fixture(scope="module")
def running_provider(node_url: str) -> Iterator[OpenIdProvider]:
    with running_openid_provider(node_url) as provider:
        yield provider


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    database = seeded_database(tmp_path_factory.mktemp("database"), datetime.now(UTC))
    yield database
    database.close()


@pytest.fixture(scope="module")
def node(
    node_url: str, running_provider: OpenIdProvider, database: Database, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("node")
    openid = OidcSettings.model_validate(
        {
            "issuer": running_provider.url,
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "public_url": node_url,
            "roles": ROLES,
            "audience": AUDIENCE,
        }
    )
    settings = Settings(node=NodeSettings(data_dir=folder, min_free_mb=0), oidc=openid)
    parts = replace(parts_over(database, folder), settings=settings, audit=TRAIL)
    app = create_app(parts)
    app.state.access.provider._clock = app.state.access.sessions._clock = CLOCK
    server = ApiServer(app, "127.0.0.1", int(node_url.rpartition(":")[2]))
    server.start()
    yield node_url
    server.stop()


@pytest.fixture
def provider(running_provider: OpenIdProvider) -> OpenIdProvider:
    """The provider, as it is without faults."""
    TRAIL.events.clear()
    CLOCK.ahead = timedelta(0)
    running_provider.set(roles=PEOPLE, blocked=[], serviceRoles=[], inUserinfo=False, silent=False, noticesTold=True)
    return running_provider


@pytest.fixture
def asked_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the node ask the provider before each request of a session, as it does when 40 s have passed."""
    monkeypatch.setattr(oidc_sessions, "ASKED_EVERY", timedelta(0))


def status_of(somebody: Person, url: str) -> int:
    return somebody.http.get(url).status_code


def signed_in(name: str, node: str) -> Person:
    somebody = Person(name)
    assert somebody.go(f"{node}/login/oidc").url == f"{node}/#/"
    return somebody


@pytest.mark.parametrize("told_in_userinfo", [False, True])
def test_each_role_may_what_it_may_and_who_has_none_stays_out(
    provider: OpenIdProvider, node: str, *, told_in_userinfo: bool
) -> None:
    provider.set(inUserinfo=told_in_userinfo)
    may_operate = {}
    for name in ("vera", "rita", "otto", "anna"):
        somebody = signed_in(name, node)
        assert status_of(somebody, f"{node}/api/studies") == 200
        may_operate[name] = somebody.http.post(f"{node}/api/deliveries/99/retry").status_code != 403
    assert may_operate == {"vera": False, "rita": False, "otto": True, "anna": True}
    eve = Person("eve")
    page = eve.go(f"{node}/login/oidc")
    assert page.status_code == 403
    assert "This account has no role here: its claim roles has no value that is mapped" in page.text
    assert status_of(eve, f"{node}/api/studies") == 401


def test_who_signs_in_and_who_does_not_is_audited(provider: OpenIdProvider, node: str) -> None:
    rita = signed_in("rita", node)
    assert rita.http.post(f"{node}/logout").json()["sign_out_at"].startswith(f"{provider.url}/session/end?")
    Person("eve").go(f"{node}/login/oidc")
    success, failure = AuditOutcome.SUCCESS, AuditOutcome.MINOR_FAILURE
    assert [(one.act, one.actor.name, one.outcome) for one in TRAIL.events] == [
        (AuditedAct.SIGN_IN, "rita (127.0.0.1)", success),
        (AuditedAct.SIGN_OUT, "rita (127.0.0.1)", success),
        (AuditedAct.SIGN_IN, "unknown", failure),
    ]
    assert TRAIL.events[0].actor.roles == {UserRole.REVIEWER}
    # By these somebody is told apart from another of the same name.
    assert TRAIL.events[0].detail == {"by": "openid", "issuer": provider.url, "subject": "rita"}
    assert status_of(rita, f"{node}/api/studies") == 401


def test_signed_out_there_is_signed_out_here_as_soon_as_the_provider_tells(provider: OpenIdProvider, node: str) -> None:
    rita, elsewhere, otto = signed_in("rita", node), signed_in("rita", node), signed_in("otto", node)
    rita.sign_out_at(provider)
    assert status_of(rita, f"{node}/api/studies") == 401
    assert status_of(elsewhere, f"{node}/api/studies") == 200
    assert status_of(otto, f"{node}/api/studies") == 200
    told = [(one.actor.name, one.detail) for one in TRAIL.events if one.act is AuditedAct.SIGN_OUT]
    assert told == [("127.0.0.1", {"by": "openid", "sessions": 1})]


def test_a_page_of_the_provider_tells_which_session_is_over(
    provider: OpenIdProvider, node: str, database: Database
) -> None:
    rita, otto = signed_in("rita", node), signed_in("otto", node)
    with database.read() as connection:
        query = select(sessions.c.provider_session_id).where(sessions.c.provider_subject == "rita")
        sid = connection.execute(query.order_by(sessions.c.opened_at.desc()).limit(1)).scalar_one()
    for iss, told in (("https://evil.example", sid), (provider.url, ""), (provider.url, "another")):
        httpx.get(f"{node}/logout/oidc/frontchannel", params={"iss": iss, "sid": told}).raise_for_status()
    assert status_of(rita, f"{node}/api/studies") == 200
    httpx.get(f"{node}/logout/oidc/frontchannel", params={"iss": provider.url, "sid": sid}).raise_for_status()
    assert [status_of(one, f"{node}/api/studies") for one in (rita, otto)] == [401, 200]


@pytest.mark.usefixtures("asked_each_time")
def test_signed_out_there_is_signed_out_here_when_the_provider_is_asked(provider: OpenIdProvider, node: str) -> None:
    provider.set(noticesTold=False)
    rita = signed_in("rita", node)
    before = provider.control()["refreshes"]
    assert [status_of(rita, f"{node}/api/studies") for _ in range(3)] == [200, 200, 200]
    assert provider.control()["refreshes"] == before + 3
    rita.sign_out_at(provider)
    assert status_of(rita, f"{node}/api/studies") == 401


@pytest.mark.parametrize("what", ["grant", "tokens", "session", "account"])
def test_what_an_administrator_revokes_there_is_over_here_within_a_minute(
    provider: OpenIdProvider, node: str, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Nobody signs out, and the provider tells nothing: the node learns of it when it asks."""
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.1)
    rita, otto = signed_in("rita", node), signed_in("otto", node)
    with rita.http.stream("GET", f"{node}/api/events") as stream:
        lines = stream.iter_lines()
        assert next(lines) == "retry: 3000"
        provider.revoke(what, of="rita")
        CLOCK.ahead = timedelta(seconds=39)
        assert [status_of(one, f"{node}/api/studies") for one in (rita, otto)] == [200, 200], "it is not due yet"
        CLOCK.ahead = timedelta(seconds=55)
        for line in lines:
            assert line in {"", "event: heartbeat", "data: {}"}
    assert [status_of(one, f"{node}/api/studies") for one in (rita, otto)] == [401, 200]
    ended = [(one.actor.name, one.actor.roles) for one in TRAIL.events if one.act is AuditedAct.SIGN_OUT]
    assert ended == [("rita (127.0.0.1)", {UserRole.REVIEWER})]
    back = rita.go(f"{node}/login/oidc")
    assert (back.status_code == 200) == (what != "account"), "who is blocked came in again, or another was kept out"


@pytest.mark.usefixtures("asked_each_time")
def test_a_role_that_is_taken_away_there_is_gone_here(provider: OpenIdProvider, node: str) -> None:
    otto = signed_in("otto", node)
    assert otto.http.post(f"{node}/api/deliveries/99/retry").status_code == 404
    provider.set(roles={**PEOPLE, "otto": ["readers"]})
    assert otto.http.post(f"{node}/api/deliveries/99/retry").status_code == 403
    provider.set(roles={**PEOPLE, "otto": []})
    assert status_of(otto, f"{node}/api/studies") == 401


@pytest.mark.usefixtures("asked_each_time")
def test_a_provider_that_is_away_is_told_and_ends_no_session(
    provider: OpenIdProvider, node: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.people.openid.provider.ANSWERED_WITHIN_S", 0.5)
    monkeypatch.setattr("dicom_node.people.openid.provider._FAILED_FOR_S", 2.0)
    vera = signed_in("vera", node)
    provider.set(silent=True)
    assert status_of(vera, f"{node}/api/studies") == 200
    assert "no whole answer" in vera.http.get(f"{node}/api/status").json()["sign_in_fault"]
    assert "no whole answer" in vera.http.get(f"{node}/login/ways").json()["openid_fault"]
    page = Person("rita").http.get(f"{node}/login/oidc/callback?state=x&code=y")
    assert page.status_code == 403  # it was not begun here
    token = {"Authorization": f"Bearer {TOKEN}"}
    assert vera.http.get(f"{node}/api/studies", headers=token).status_code == 200
    provider.set(silent=False)
    monkeypatch.setattr("dicom_node.people.openid.provider._FAILED_FOR_S", 0.0)
    assert status_of(vera, f"{node}/api/studies") == 200
    assert vera.http.get(f"{node}/login/ways").json()["openid_fault"] == ""


def test_what_the_browser_brings_back_is_good_for_one_browser_once(provider: OpenIdProvider, node: str) -> None:
    rita, eve = Person("rita"), Person("eve")
    answer = rita.answer_of_provider(node)
    assert eve.http.get(answer).status_code == 403
    assert "not begun in this browser" in eve.http.get(answer).text
    eve.http.get(f"{node}/login/oidc")  # has begun one of her own
    assert "another sign-in" in eve.http.get(answer).text
    kept = dict(rita.http.cookies)
    first = rita.http.get(answer)
    assert (first.status_code, first.headers["location"]) == (303, "/#/")
    cookies = first.headers.get_list("set-cookie")
    assert any("dicom_node_session=" in one and "HttpOnly" in one and "SameSite=strict" in one for one in cookies)
    assert any(one.startswith('dicom_node_login="";') for one in cookies)
    with httpx.Client(cookies=kept, trust_env=False) as again:
        assert "ended before" in again.get(answer).text


def test_of_two_tabs_the_one_that_was_begun_last_signs_in(provider: OpenIdProvider, node: str) -> None:
    rita = Person("rita")
    first, last = (rita.answer_of_provider(node) for _ in range(2))
    assert (rita.http.get(first).status_code, rita.http.get(last).status_code) == (403, 303)


@pytest.mark.usefixtures("provider")
@pytest.mark.parametrize(
    "view", ["https://evil.example", "//evil.example", "study/../../x", "study/1\r\nX: y", "\\evil"]
)
def test_a_sign_in_leads_nowhere_but_to_the_own_page(node: str, view: str) -> None:
    vera = Person("vera")
    begun = vera.http.get(f"{node}/login/oidc", params={"view": view})
    assert vera._followed(begun).url == f"{node}/#/"


def test_a_service_shows_its_token(provider: OpenIdProvider, node: str) -> None:
    refused = httpx.get(f"{node}/api/studies", headers={"Authorization": f"Bearer {provider.service_token()}"})
    assert refused.status_code == 401
    assert "no role here" in refused.json()["detail"]
    provider.set(serviceRoles=["engineers"], key="second")  # a key that the node has not seen
    shown = {"Authorization": f"Bearer {provider.service_token()}"}
    assert httpx.get(f"{node}/api/studies", headers=shown).status_code == 200
    assert httpx.post(f"{node}/api/deliveries/99/retry", headers=shown).status_code == 404
    vera = signed_in("vera", node)
    assert httpx.post(f"{node}/api/me/sign-out-everywhere", headers=shown).status_code == 204
    assert status_of(vera, f"{node}/api/studies") == 200, "a service signed somebody else out"
    shown = {"Authorization": f"Bearer {provider.service_token()[:-8]}AAAAAAAA"}
    assert httpx.get(f"{node}/api/studies", headers=shown).status_code == 401


@pytest.mark.usefixtures("provider")
@pytest.mark.parametrize("form", [{}, {"logout_token": "x"}, {"logout_token": "e30.e30.e30"}])
def test_a_notice_that_is_none_ends_nothing(node: str, form: dict[str, str]) -> None:
    answer = httpx.post(f"{node}/logout/oidc/backchannel", data=form)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert answer.headers["cache-control"] == "no-store"


# --- in a browser ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with running_browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.mark.parametrize(
    ("name", "role"), [("vera", "viewer"), ("rita", "reviewer"), ("otto", "operator"), ("anna", "admin")]
)
def test_in_a_browser_each_role_signs_in_there_sees_the_studies_and_signs_out(
    provider: OpenIdProvider, node: str, browser: Browser, name: str, role: str
) -> None:
    browser.open("about:blank")
    browser.open(f"{node}/#/study/{CHEST_CT}")
    browser.wait_for("!document.querySelector('#login-openid').hidden")
    browser.click("#openid")
    browser.wait_for("document.querySelector('#person')")
    browser.run(f"document.querySelector('#person').value = {json.dumps(name)}")
    browser.click("#go")
    listed = f"document.querySelectorAll('#studies .study').length == {len(ALL_STUDIES)}"
    shown = f"document.querySelector('#detail .uid')?.textContent == '{CHEST_CT}'"
    browser.wait_for(f"document.querySelector('#app')?.hidden === false && {listed} && {shown}")
    assert TRAIL.events[0].actor.roles == {UserRole(role)}
    retry = "fetch('/api/deliveries/99/retry', {method: 'POST'}).then((answer) => answer.status)"
    assert browser.run(retry) == (404 if role in {"operator", "admin"} else 403)
    browser.click("#logout")
    browser.wait_for(f"location.origin == '{provider.url}' && document.querySelector('#yes')")
    browser.click("#yes")
    browser.wait_for(f"location.origin == '{node}' && document.querySelector('#login')?.hidden === false")
    assert browser.run("fetch('/api/studies').then((answer) => answer.status)") == 401
