"""Who asks through proxies, by which host name, from which page, and how often: called without sockets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dicom_node.api.front.rates import Rate
from dicom_node.api.server import create_app
from dicom_node.config.incoming import ApiSettings
from dicom_node.index.database import Database
from tests.support.api_client import TOKEN, Client, parts_over, seeded_database

PROXIES = ("10.0.0.0/8", "fd00::/8")
PREFLIGHT = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("api")


@pytest.fixture(scope="module")
def database(folder: Path) -> Iterator[Database]:
    database = seeded_database(folder)
    yield database
    database.close()


def client(database: Database, folder: Path, **api: Any) -> Client:
    parts = parts_over(database, folder)
    settings = parts.settings.model_copy(update={"api": ApiSettings(**{"hosts": ("node",), **api})})
    return Client(create_app(replace(parts, settings=settings)), {"Authorization": f"Bearer {TOKEN}"})


def guesses(one: Client, headers: dict[str, str], count: int = 1) -> int:
    """Sign in with a wrong token so often, and return the last status: after ten of one address it is 429."""
    return [one.post("/login", json={"token": "wrong"}, headers=headers).status_code for _ in range(count)][-1]


# --- proxies -------------------------------------------------------------------------------------------------------

FORWARDED = [
    {"X-Forwarded-For": "{}"},
    {"X-Forwarded-For": "8.8.8.8, {}"},
    {"X-Forwarded-For": "8.8.8.8, {}, 10.0.0.9, fd00::9"},
    {"X-Forwarded-For": "{}:4711"},
    {"Forwarded": "for={}"},
    {"Forwarded": 'for=8.8.8.8, for="{}:4711";proto=https;by=10.0.0.1, For=10.0.0.9'},
    {"Forwarded": 'for="{}"', "X-Forwarded-For": "{}"},
]


@pytest.mark.parametrize("headers", FORWARDED)
def test_who_asks_through_a_trusted_proxy_is_the_rightmost_stranger(
    database: Database, folder: Path, headers: dict[str, str]
) -> None:
    proxy = client(database, folder, trusted_proxies=PROXIES).stranger("10.0.0.1")

    def of(address: str) -> dict[str, str]:
        return {name: value.format(address) for name, value in headers.items()}

    assert guesses(proxy, of("192.0.2.1"), 11) == 429
    assert guesses(proxy, of("192.0.2.2")) == 401


def test_a_client_is_the_same_whether_its_proxy_writes_ipv4_as_ipv6_or_not(database: Database, folder: Path) -> None:
    proxy = client(database, folder, trusted_proxies=PROXIES).stranger("10.0.0.1")

    assert guesses(proxy, {"X-Forwarded-For": "192.0.2.1"}, 10) == 401
    assert guesses(proxy, {"X-Forwarded-For": "::ffff:192.0.2.1"}) == 429


UNTRUE = [
    ({"X-Forwarded-For": "{}"}, "203.0.113.5"),  # no proxy of ours
    ({"X-Forwarded-For": "{}, 192.0.2.77"}, "10.0.0.1"),  # left of the first stranger
    ({"X-Forwarded-For": "{}, unknown"}, "10.0.0.1"),
    ({"Forwarded": "for={}, for=_hidden"}, "10.0.0.1"),
    ({"Forwarded": "for={}", "X-Forwarded-For": "192.0.2.77"}, "10.0.0.1"),  # the proxy writes only one of them
    ({"Forwarded": 'for="'}, "10.0.0.1"),
]


@pytest.mark.parametrize(("headers", "peer"), UNTRUE)
def test_what_a_client_wrote_itself_is_not_believed(
    database: Database, folder: Path, headers: dict[str, str], peer: str
) -> None:
    one = client(database, folder, trusted_proxies=PROXIES).stranger(peer)
    for number in range(10):
        guesses(one, {name: value.format(f"192.0.2.{number}") for name, value in headers.items()})
    assert guesses(one, {name: value.format("192.0.2.200") for name, value in headers.items()}) == 429


def test_a_session_opened_over_tls_at_a_trusted_proxy_is_for_tls_alone(database: Database, folder: Path) -> None:
    one = client(database, folder, trusted_proxies=PROXIES, hosts=("ai.hospital.example",)).stranger("10.0.0.1")
    told = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "ai.hospital.example"}

    answer = one.post("/login", json={"token": TOKEN}, headers={**told, "Origin": "https://ai.hospital.example"})

    assert answer.status_code == 204
    assert "; Secure" in answer.headers["set-cookie"]
    assert answer.headers["strict-transport-security"] == "max-age=31536000"
    assert one.get("/healthz", headers={"X-Forwarded-Proto": "http"}).headers.get("strict-transport-security") is None


def test_an_address_with_a_slash_too_many_leads_to_the_same_host_and_scheme(database: Database, folder: Path) -> None:
    one = client(database, folder, hosts=(), trusted_proxies=PROXIES)
    told = {"Host": "evil.example", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"}

    answer = one.get("/api/studies/?limit=2", headers=told)

    assert (answer.status_code, answer.headers["location"]) == (307, "/api/v1/studies?limit=2")


def test_a_stranger_cannot_say_that_it_comes_by_tls(database: Database, folder: Path) -> None:
    answer = client(database, folder).post("/login", json={"token": TOKEN}, headers={"X-Forwarded-Proto": "https"})

    assert answer.status_code == 204
    assert "secure" not in answer.headers["set-cookie"].lower()


def test_a_page_without_tls_may_not_sign_in_where_there_is_tls(database: Database, folder: Path) -> None:
    one = client(database, folder, trusted_proxies=PROXIES, hosts=("ai.hospital.example",)).stranger("10.0.0.1")
    told = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "ai.hospital.example"}

    for origin, status in (("http://ai.hospital.example", 403), ("https://ai.hospital.example", 204)):
        assert one.post("/login", json={"token": TOKEN}, headers={**told, "Origin": origin}).status_code == status


# --- host names ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["node", "NODE:8042", "node.", "localhost", "localhost:1", "127.0.0.1:8042", "[::1]:8042", "192.0.2.1"]
)
def test_the_api_goes_by_the_names_that_are_listed_and_by_addresses(
    database: Database, folder: Path, host: str
) -> None:
    assert client(database, folder).get("/api/status", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["", "evil.example", "node.evil.example", "evil.example:8042", "a@node", "node:x", "127.0.0.1.evil.example"]
)
def test_it_goes_by_no_other_name(database: Database, folder: Path, host: str) -> None:
    one = client(database, folder)
    for more in ({}, {"X-Forwarded-For": "192.0.2.1"}, {"X-Forwarded-Host": "node"}):
        assert one.get("/api/status", headers={"Host": host, **more}).status_code == 421
    assert one.post("/login", json={"token": TOKEN}, headers={"Host": host}).status_code == 421
    assert one.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    ("api", "more", "expected"),
    [
        ({"host": "127.0.0.1"}, {}, 421),
        ({"host": "127.0.0.1"}, {"X-Forwarded-For": "192.0.2.1"}, 200),  # as before there was a list
        ({"host": "0.0.0.0"}, {}, 200),
        ({"host": "ai.hospital.example"}, {}, 200),
    ],
)
def test_without_a_list_it_goes_by_the_names_it_was_called_by_so_far(
    database: Database, folder: Path, api: dict[str, str], more: dict[str, str], expected: int
) -> None:
    one = client(database, folder, hosts=(), **api)

    assert one.get("/api/status", headers={"Host": "ai.hospital.example", **more}).status_code == expected


# --- pages of other sites ------------------------------------------------------------------------------------------


def test_pages_of_listed_origins_may_read_with_a_token_of_their_own(database: Database, folder: Path) -> None:
    one = client(database, folder, cors_origins=("https://viewer.example",))
    asked = one.stranger().request("OPTIONS", "/api/studies", headers={"Origin": "https://viewer.example", **PREFLIGHT})
    answer = one.get("/api/studies", headers={"Origin": "https://viewer.example"})
    refused = one.stranger().get("/api/studies", headers={"Origin": "https://viewer.example"})

    assert asked.status_code == 204
    assert "Authorization" in asked.headers["access-control-allow-headers"]
    for each, expected in ((asked, 204), (answer, 200), (refused, 401)):
        assert each.status_code == expected
        assert each.headers["access-control-allow-origin"] == "https://viewer.example"
        assert "access-control-allow-credentials" not in each.headers
        assert "Origin" in each.headers["vary"]


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://viewer.example", "https://viewer.example.evil", "null"]
)
def test_pages_of_other_origins_may_not(database: Database, folder: Path, origin: str) -> None:
    one = client(database, folder, cors_origins=("https://viewer.example",))
    asked = one.stranger().request("OPTIONS", "/api/studies", headers={"Origin": origin, **PREFLIGHT})
    answer = one.get("/api/studies", headers={"Origin": origin})

    assert asked.status_code == 403
    assert not [name for each in (asked, answer) for name in each.headers if name.startswith("access-control")]
    assert "Origin" in answer.headers["vary"], "no cache may give it to a listed one"


def test_no_page_of_another_site_may_where_none_is_listed(database: Database, folder: Path) -> None:
    asked = (
        client(database, folder)
        .stranger()
        .request("OPTIONS", "/api/studies", headers={"Origin": "https://viewer.example", **PREFLIGHT})
    )

    assert asked.status_code == 405
    assert not [name for name in asked.headers if name.startswith("access-control")]


def test_a_listed_page_still_does_nothing_with_a_session(database: Database, folder: Path) -> None:
    one = client(database, folder, cors_origins=("https://viewer.example",)).stranger()
    session = one.post("/login", json={"token": TOKEN}).cookies["dicom_node_session"]
    headers = {"Origin": "https://viewer.example", "Cookie": f"dicom_node_session={session}"}

    assert one.post("/api/deliveries/1/retry", headers=headers).status_code == 403


# --- rates ---------------------------------------------------------------------------------------------------------


def test_whoever_asks_without_end_is_told_when_to_come_back_and_shuts_nobody_out(
    database: Database, folder: Path
) -> None:
    one = client(database, folder, requests_per_minute=50)
    stranger = one.stranger("192.0.2.1")
    answers = [stranger.get("/api/openapi.json") for _ in range(7)]

    assert [each.status_code for each in answers][:5] == [200] * 5
    assert answers[-1].status_code == 429
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 12
    assert stranger.get("/healthz").status_code == 200
    assert one.stranger("192.0.2.2").get("/api/openapi.json").status_code == 200
    assert replace(one, address="192.0.2.1").get("/api/routes").status_code == 200, "who has a token, at that address"
    assert stranger.post("/login", json={"token": TOKEN}).status_code == 204


def test_a_cookie_that_nobody_knows_is_no_way_around_the_limit_and_no_way_to_shut_others_out(
    database: Database, folder: Path
) -> None:
    one = client(database, folder, requests_per_minute=50)
    stranger = one.stranger("192.0.2.1")
    session = stranger.post("/login", json={"token": TOKEN}).cookies["dicom_node_session"]

    unknown = [{"dicom_node_session": f"{number:043}"} for number in range(6)]
    answers = [stranger.get("/api/routes", cookies=cookie).status_code for cookie in unknown]

    assert answers == [401] * 5 + [429]
    assert stranger.get("/api/routes", cookies={"any": "cookie"}).status_code == 429
    assert stranger.get("/api/routes", cookies={"dicom_node_session": session}).status_code == 200
    assert [stranger.get(path).status_code for path in ("/", "/page/app.js", "/login/ways")] == [200] * 3


def test_one_person_is_counted_wherever_they_come_from(database: Database, folder: Path) -> None:
    one = client(database, folder, requests_per_minute=5)
    statuses = [replace(one, address=f"192.0.2.{n}").get("/api/routes").status_code for n in range(7)]

    assert statuses[:5] == [200] * 5
    assert statuses[-1] == 429


def test_a_rate_comes_back_with_time_and_forgets_the_quietest() -> None:
    now = [0.0]
    rate = Rate(per_minute=2, max_keys=2, clock_s=lambda: now[0])

    assert [rate.wait_s("a") for _ in range(3)] == [0, 0, 30]
    now[0] = 30
    assert [rate.wait_s("a") for _ in range(2)] == [0, 30]
    assert [rate.wait_s(key) for key in ("b", "c")] == [0, 0]
    assert rate.wait_s("a") == 0


def test_no_limit_is_none() -> None:
    rate = Rate(per_minute=0)

    assert [rate.wait_s("a") for _ in range(100)] == [0] * 100


# --- what browsers are told ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/page/app.js", "/api/studies", "/api/openapi.json", "/nothing", "/healthz"])
def test_every_answer_tells_browsers_what_they_may_do(database: Database, folder: Path, path: str) -> None:
    answer = client(database, folder).get(path)
    policy = answer.headers["content-security-policy"]

    assert "default-src 'self'" in policy
    assert "object-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert answer.headers["cache-control"] == ("no-cache" if path == "/" else "no-store")
    assert "server" not in answer.headers


def test_a_fault_of_the_node_shows_nothing_of_it(
    database: Database, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_arguments: object) -> None:
        raise RuntimeError("Doe^Jane at /srv/secret")

    monkeypatch.setattr("dicom_node.api.routes.node.views.counts", broken)
    answer = client(database, folder).get("/api/status")

    assert answer.status_code == 500
    assert "Doe" not in answer.text
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
