"""The pages on TLS and on proxies, done as they are written: openssl and curl, and three proxies before the API."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from string import Template
from typing import Any

import httpx
import pytest

from dicom_node.api.front.connections import ConnectionLimits
from dicom_node.api.front.tls import ShownCertificate
from dicom_node.api.server import ApiServer, create_app
from dicom_node.config.incoming import ApiSettings
from dicom_node.core.calls.limits import Networks
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


def healthy(port: int) -> bool:
    """Ask as the container image's HEALTHCHECK does."""
    asked = re.findall(
        r"HEALTHCHECK [^\n]*\\\n\s+CMD (.*?)\n(?=[A-Z])", (REPOSITORY / "Dockerfile").read_text(), re.DOTALL
    )
    command = asked[0].replace("\\\n", "").replace(":8042/", f":{port}/").replace("python -c", f"{sys.executable} -c")
    return subprocess.run(["/bin/sh", "-c", command], capture_output=True, timeout=60, check=False).returncode == 0


@pytest.mark.parametrize("has_tls", [False, True])
def test_the_container_is_healthy_while_the_node_is_ready(database: Database, tmp_path: Path, has_tls: bool) -> None:
    certificate = make_certificates(tmp_path / "certificates").server
    tls = {"certificate": certificate.certificate, "private_key": certificate.private_key} if has_tls else {}
    api = ApiSettings(hosts=(NAME,), **tls)
    with serving(api, database, tmp_path, ShownCertificate(api) if has_tls else None) as server:
        assert healthy(server.port)
        database.close()
        (tmp_path / "node.sqlite").write_bytes(b"no database any more")
        assert not healthy(server.port)
    assert not healthy(server.port), "nobody listens"


@dataclass(frozen=True)
class ProxyProgram:
    """How one reverse proxy is run by hand with what the page says of it; $port and others are filled in."""

    program: str
    package: str
    language: str
    #: What the page says of where it listens, and what is said here.
    listens: tuple[str, str]
    configuration: str
    arguments: tuple[str, ...]


_TEMPORARY = "".join(
    f"{one}_temp_path $folder/{one};\n" for one in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
)
_MODULES = ("mpm_event", "authz_core", "socache_shmcb", "ssl", "headers", "proxy", "proxy_http")
_LOADED = "".join(f"LoadModule {one}_module /usr/lib/apache2/modules/mod_{one}.so\n" for one in _MODULES)
PROGRAMS = {
    "nginx": ProxyProgram(
        "nginx", "nginx-light", "nginx", ("listen 443", "listen 127.0.0.1:$port"),
        "daemon off; worker_processes 1; pid $folder/nginx.pid; error_log stderr;\nevents {}\n"
        f"http {{\naccess_log off;\n{_TEMPORARY}$site}}\n",
        ("-c", "$folder/configuration"),
    ),
    "Caddy": ProxyProgram(
        # With a certificate of ours instead of the one that it gets by itself where its name is known.
        "caddy", "caddy", "text",
        (f"{NAME} {{", f"https://{NAME}:$port {{\n    bind 127.0.0.1\n    tls $certificate $key"),
        f"{{\nadmin off\nauto_https disable_redirects\ndefault_sni {NAME}\nstorage file_system $folder/caddy\n"
        f"servers {{\nprotocols h1 h2\n}}\n}}\n$site",
        ("run", "--adapter", "caddyfile", "--config", "$folder/configuration"),
    ),
    "Apache": ProxyProgram(
        "apache2", "apache2-bin", "apache", ("<VirtualHost *:443>", "<VirtualHost *:$port>"),
        "ServerRoot $folder\nPidFile $folder/apache.pid\nErrorLog /dev/stderr\nDefaultRuntimeDir $folder\n"
        f"Listen 127.0.0.1:$port https\nServerName {NAME}\n{_LOADED}$site",
        ("-D", "FOREGROUND", "-f", "$folder/configuration"),
    ),
}  # fmt: skip


@contextmanager
def proxy(name: str, folder: Path, server: ApiServer, certificates: Certificates) -> Iterator[int]:
    """Run a proxy as the page says; gives its port."""
    one, own = PROGRAMS[name], certificates.server
    known: dict[str, Any] = {
        "folder": folder,
        "port": free_port(),
        "certificate": own.certificate,
        "key": own.private_key,
    }
    (site,) = blocks("put-the-api-behind-a-proxy.md", one.language)
    site = re.sub(r"/etc/\w+/tls/node\.pem", str(own.certificate), site)
    site = re.sub(r"/etc/\w+/tls/node\.key", str(own.private_key), site)
    for written, meant in (one.listens, ("127.0.0.1:8042", f"127.0.0.1:{server.port}")):
        assert written in site
        site = site.replace(written, meant)
    # What is written with a dollar in the page is the proxy's own.
    site = Template(site).safe_substitute(known)
    (folder / "configuration").write_text(Template(one.configuration).substitute(known, site=site))
    arguments = [Template(argument).substitute(known) for argument in one.arguments]
    process = Process([tool(one.program, one.package), *arguments], folder / f"{one.program}.log")
    try:
        process.wait_until_ready(lambda: listens(known["port"]), 60)
        yield known["port"]
    finally:
        process.stop()


@pytest.mark.parametrize("name", PROGRAMS)
def test_behind_a_proxy_the_client_is_seen_and_its_own_words_are_not_believed(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    certificates = make_certificates(tmp_path / "certificates")
    api = ApiSettings(**settings_on("put-the-api-behind-a-proxy.md", tmp_path))
    forged = {"X-Forwarded-For": "192.0.2.99", "Forwarded": "for=192.0.2.99", "X-Forwarded-Proto": "http"}
    with serving(api, database, tmp_path, None) as server, proxy(name, tmp_path, server, certificates) as port:

        def client(address: str, host: str = NAME) -> httpx.Client:
            return httpx.Client(
                base_url=f"https://127.0.0.1:{port}", headers={"Host": f"{host}:{port}"}, timeout=60,
                transport=httpx.HTTPTransport(verify=certificates.client(None), local_address=address),
            )  # fmt: skip

        with client("127.0.0.7") as guesser, client("127.0.0.8") as person, client("127.0.0.9", "evil.example") as evil:
            guesses = [guesser.post("/login", json={"token": "x"}, headers=forged).status_code for _ in range(11)]
            wrong = person.post("/login", json={"token": "x"}, headers=forged)
            signed_in = person.post(
                "/login", json={"token": TOKEN}, headers={**forged, "Origin": f"https://{NAME}:{port}"}
            )
            refused = evil.get("/")
            session = "__Host-dicom_node_session"
            cookie = {"Cookie": f"{session}={signed_in.cookies[session]}"}
            with person.stream("GET", "/api/events", headers=cookie) as stream:
                first = next(stream.iter_lines())

    assert guesses == [401] * 10 + [429]
    assert (wrong.status_code, signed_in.status_code) == (401, 204)
    # Caddy knows no other name than the page's, and answers by itself with nothing.
    assert (refused.status_code, bool(refused.content)) == ((200, False) if name == "Caddy" else (421, True))
    assert "; Secure" in signed_in.headers["set-cookie"]
    assert "strict-transport-security" in signed_in.headers
    assert first == "retry: 3000", "events come at once"
    addresses = {record.address for record in caplog.records if record.message == "wrong API token"}  # type: ignore[attr-defined]
    assert addresses == {"127.0.0.7", "127.0.0.8"}
