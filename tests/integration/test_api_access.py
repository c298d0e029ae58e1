"""Who gets in, who does not, and how the token is made and kept."""

from __future__ import annotations

import base64
import logging
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.api.access import COOKIE, load_or_create_token
from dicom_node.api.front.guard import MAX_BODY_BYTES
from dicom_node.core.errors import SettingsError
from dicom_node.people.limits import FailureLimit
from dicom_node.people.sessions import digest_of
from tests.support.api_client import TOKEN, Client, client_of, parts_over, seeded_database
from tests.support.results.seeded import CHEST_XR

SAME_SITE = {"Origin": "http://node", "Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    database = seeded_database(tmp_path)
    yield client_of(parts_over(database, tmp_path))
    database.close()


def logged_in(client: Client) -> dict[str, str]:
    response = client.stranger().post("/login", json={"token": TOKEN}, headers=SAME_SITE)
    assert response.status_code == 204
    return {COOKIE: response.cookies[COOKIE]}


GUARDED = [
    ("GET", "/api/studies"),
    ("GET", f"/api/studies/{CHEST_XR}"),
    ("GET", f"/api/studies/{CHEST_XR}/timeline"),
    ("GET", f"/api/studies/{CHEST_XR}/results"),
    ("GET", "/api/artifacts/2.25.201"),
    ("GET", "/api/artifacts/2.25.201/preview.png"),
    ("GET", "/api/deliveries"),
    ("GET", "/api/status"),
    ("GET", "/api/models"),
    ("GET", "/api/shadows"),
    ("GET", "/api/routes"),
    ("GET", "/api/destinations"),
    ("GET", "/api/events"),
    ("POST", "/api/deliveries/1/retry"),
    ("POST", "/api/destinations/pacs/retry"),
    ("POST", f"/api/studies/{CHEST_XR}/retry"),
    ("POST", f"/api/studies/{CHEST_XR}/rerun"),
    ("POST", "/api/studies"),
    ("POST", "/dicom-web/studies"),
    ("POST", f"/dicom-web/studies/{CHEST_XR}"),
]


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_nothing_is_told_or_done_without_token(client: Client, method: str, path: str) -> None:
    response = client.stranger().request(method, path)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert "api-token" in response.json()["detail"]


@pytest.mark.parametrize("header", ["Bearer wrong", "Bearer ", "Basic YTpi", "Bearer \u00e4".encode("latin-1")])
def test_a_wrong_token_is_refused(client: Client, header: str) -> None:
    assert client.stranger().get("/api/status", headers={"Authorization": header}).status_code == 401


def test_a_session_works_like_the_token_and_ends_with_log_out(client: Client) -> None:
    cookie = logged_in(client)
    browser = client.stranger()
    assert browser.get("/api/status", cookies=cookie).status_code == 200
    assert browser.post(f"/api/studies/{CHEST_XR}/retry", cookies=cookie, headers=SAME_SITE).status_code == 200
    assert browser.post("/logout", cookies=cookie, headers=SAME_SITE).status_code == 204
    assert browser.get("/api/status", cookies=cookie).status_code == 401


def test_the_cookie_is_hidden_from_scripts_and_other_sites(client: Client) -> None:
    response = client.stranger().post("/login", json={"token": TOKEN})
    cookie = response.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert TOKEN not in cookie


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://node"},
        {"Origin": "null"},
        {"Origin": "http://node:1"},
    ],
)
def test_another_site_cannot_use_the_session(client: Client, headers: dict[str, str]) -> None:
    cookie = logged_in(client)
    response = client.stranger().post(f"/api/studies/{CHEST_XR}/rerun", cookies=cookie, headers=headers)
    assert response.status_code == 403
    assert client.stranger().post("/login", json={"token": TOKEN}, headers=headers).status_code == 403


def test_guessing_is_slowed_down_for_the_guesser_only(client: Client) -> None:
    guesser, other = client.stranger("10.0.0.66"), client.stranger("10.0.0.67")
    answers = [guesser.post("/login", json={"token": f"guess {n}"}).status_code for n in range(11)]
    assert answers == [401] * 10 + [429]
    refused = guesser.get("/api/status", headers={"Authorization": "Bearer guess"})
    assert refused.status_code == 429
    assert 0 < int(refused.headers["retry-after"]) <= 60
    assert other.post("/login", json={"token": "guess"}).status_code == 401


def test_whoever_has_the_token_gets_in_from_the_address_of_a_guesser(client: Client) -> None:
    """Behind a reverse proxy all callers have its address."""
    proxy = client.stranger("10.0.0.66")
    assert 429 in [proxy.post("/login", json={"token": f"guess {n}"}).status_code for n in range(12)]
    basic = base64.b64encode(f"anybody:{TOKEN}".encode()).decode()
    assert proxy.get("/api/status", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert proxy.get("/api/status", headers={"Authorization": f"Basic {basic}"}).status_code == 200
    assert proxy.post("/login", json={"token": TOKEN}, headers=SAME_SITE).status_code == 204


def test_asking_without_a_token_is_no_guess(client: Client) -> None:
    stranger = client.stranger()
    assert [stranger.get("/api/status").status_code for _ in range(12)] == [401] * 12
    assert stranger.post("/login", json={"token": TOKEN}).status_code == 204


def test_a_token_is_in_no_log_and_no_answer(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    answers = [
        client.stranger().post("/login", json={"token": "guess-secret"}),
        client.stranger().post("/login", json={"token": ["guess-secret"]}),
        client.stranger().post("/login", json={"token": "guess-secret" * 30}),
    ]
    assert [answer.status_code for answer in answers] == [401, 422, 422]
    assert not any("guess-secret" in answer.text for answer in answers)
    assert "guess-secret" not in "".join(str(record.__dict__) for record in caplog.records)


def test_a_log_line_cannot_be_forged_through_the_path(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="dicom_node")
    client.get("/api/studies/1%0a2026 forged")
    assert caplog.records
    assert not any("forged" in str(record.__dict__) for record in caplog.records)


def test_a_body_that_is_too_large_or_endless_is_refused(client: Client) -> None:
    assert client.post("/login", content=b"x" * (MAX_BODY_BYTES + 1)).status_code == 413
    chunked = {"Transfer-Encoding": "chunked", "Content-Type": "application/json"}
    assert client.post("/login", headers=chunked).status_code == 411


def test_failures_are_forgotten_after_a_minute_and_memory_is_bounded() -> None:
    now = [0.0]
    limit = FailureLimit(per_minute=2, max_addresses=3, clock_s=lambda: now[0])
    for _ in range(2):
        limit.failed("10.0.0.1")
    assert limit.wait_s("10.0.0.1") == 60
    now[0] = 61
    assert limit.wait_s("10.0.0.1") == 0
    for number in range(2, 6):
        limit.failed(f"10.0.0.{number}")
        limit.failed(f"10.0.0.{number}")
    assert limit.wait_s("10.0.0.2") == 0
    assert limit.wait_s("10.0.0.5") == 60


def test_neighbours_in_one_ipv6_network_count_together() -> None:
    limit = FailureLimit(per_minute=2)
    limit.failed("2001:db8::1")
    limit.failed("2001:db8::2")
    assert limit.wait_s("2001:db8::3") > 0
    assert limit.wait_s("2001:db8:0:1::3") == 0


def test_the_token_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "data" / "api-token"
    token, digest = load_or_create_token(path)
    assert token is not None
    assert path.read_text() == f"{token}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert digest == digest_of(token)
    assert load_or_create_token(path) == (None, digest)
    assert [file.name for file in path.parent.iterdir()] == ["api-token"]


def test_a_token_file_that_cannot_serve_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "api-token"
    path.write_text("short\n")
    with pytest.raises(SettingsError, match="shorter than 20"):
        load_or_create_token(path)
    with pytest.raises(SettingsError, match="IsADirectoryError"):
        load_or_create_token(tmp_path)
