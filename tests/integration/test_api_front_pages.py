"""The pages on TLS and on proxies, done as they are written: openssl and curl, and nginx in front of the API."""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from dicom_node.api.front.connections import ConnectionLimits
from dicom_node.api.front.tls import ShownCertificate
from dicom_node.api.server import ApiServer, create_app
from dicom_node.config.incoming import ApiSettings
from dicom_node.core.limits import Networks
from dicom_node.index.database import Database
from tests.peers.certificates import Certificates, make_certificates
from tests.peers.process import Process, free_port, listens
from tests.support.api_client import TOKEN, parts_over, seeded_database
from tests.support.needs import REPOSITORY, tool

PAGES = REPOSITORY / "docs" / "how-to"
NAME = "ai.hospital.example"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = seeded_database(tmp_path)
    yield database
    database.close()


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (PAGES / page).read_text(encoding="utf-8"), re.DOTALL)


def settings_on(page: str, folder: Path) -> dict[str, Any]:
    """The settings of a page, with its relative files in a folder."""
    api = tomllib.loads(blocks(page, "toml")[0])["api"]
    return {key: folder / value if key in {"certificate", "private_key"} else value for key, value in api.items()}


@contextmanager
def serving(api: ApiSettings, database: Database, folder: Path, shown: ShownCertificate | None) -> Iterator[ApiServer]:
    parts = parts_over(database, folder)
    parts = replace(parts, settings=parts.settings.model_copy(update={"api": api}))
    limits = ConnectionLimits(proxies=Networks(api.trusted_proxies), tls=None if shown is None else shown.context)
    server = ApiServer(create_app(parts), "127.0.0.1", 0, limits)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def run(script: str, folder: Path, environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        ["bash", "-euc", script], cwd=folder, env={"PATH": "/usr/bin:/bin", **environment}, capture_output=True,
        text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_page_on_tls_holds(database: Database, tmp_path: Path) -> None:
    _, signed, asked = blocks("serve-the-api-by-tls.md", "sh")
    run(signed, tmp_path, {})
    api = ApiSettings(**settings_on("serve-the-api-by-tls.md", tmp_path))
    with serving(api, database, tmp_path, ShownCertificate(api)) as server:
        answer = run(asked.replace(":8042", f":{server.port}"), tmp_path, {"TOKEN": TOKEN})

    assert '"ae_title":"AINODE"' in answer


@contextmanager
def nginx(folder: Path, server: ApiServer, certificates: Certificates) -> Iterator[int]:
    """Run nginx as the page says; gives its port."""
    port = free_port()
    (site,) = blocks("put-the-api-behind-a-proxy.md", "nginx")
    for written, meant in (
        ("listen 443", f"listen 127.0.0.1:{port}"),
        ("/etc/nginx/tls/node.pem", str(certificates.server.certificate)),
        ("/etc/nginx/tls/node.key", str(certificates.server.private_key)),
        ("127.0.0.1:8042", f"127.0.0.1:{server.port}"),
    ):
        assert written in site
        site = site.replace(written, meant)
    paths = "".join(f"{kind}_temp_path {folder / kind};\n" for kind in _KINDS)
    (folder / "nginx.conf").write_text(
        f"daemon off; worker_processes 1; pid {folder / 'nginx.pid'}; error_log stderr;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{paths}{site}}}\n"
    )
    process = Process([tool("nginx", "nginx-light"), "-c", str(folder / "nginx.conf")], folder / "nginx.log")
    try:
        process.wait_until_ready(lambda: listens(port), 60)
        yield port
    finally:
        process.stop()


_KINDS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def test_behind_nginx_the_client_is_seen_and_its_own_words_are_not_believed(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    certificates = make_certificates(tmp_path / "certificates")
    api = ApiSettings(**settings_on("put-the-api-behind-a-proxy.md", tmp_path))
    forged = {"X-Forwarded-For": "192.0.2.99", "Forwarded": "for=192.0.2.99", "X-Forwarded-Proto": "http"}
    with serving(api, database, tmp_path, None) as server, nginx(tmp_path, server, certificates) as port:

        def client(address: str, name: str = NAME) -> httpx.Client:
            return httpx.Client(
                base_url=f"https://127.0.0.1:{port}", headers={"Host": f"{name}:{port}"}, timeout=60,
                transport=httpx.HTTPTransport(verify=certificates.client(None), local_address=address),
            )  # fmt: skip

        with client("127.0.0.7") as guesser, client("127.0.0.8") as person, client("127.0.0.9", "evil.example") as evil:
            guesses = [guesser.post("/login", json={"token": "x"}, headers=forged).status_code for _ in range(11)]
            wrong = person.post("/login", json={"token": "x"}, headers=forged)
            signed_in = person.post(
                "/login", json={"token": TOKEN}, headers={**forged, "Origin": f"https://{NAME}:{port}"}
            )
            refused = evil.get("/")
            name = "__Host-dicom_node_session"
            cookie = {"Cookie": f"{name}={signed_in.cookies[name]}"}
            with person.stream("GET", "/api/events", headers=cookie) as stream:
                first = next(stream.iter_lines())

    assert guesses == [401] * 10 + [429]
    assert (wrong.status_code, signed_in.status_code, refused.status_code) == (401, 204, 421)
    assert "; Secure" in signed_in.headers["set-cookie"]
    assert "strict-transport-security" in signed_in.headers
    assert first == "retry: 3000", "events come at once"
    addresses = {record.address for record in caplog.records if record.message == "wrong API token"}  # type: ignore[attr-defined]
    assert addresses == {"127.0.0.7", "127.0.0.8"}
