"""`dicom-node users` and `keys` on a node that runs: what they change is in force there at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from dicom_node.__main__ import main
from dicom_node.people.sessions import REMEMBERED_S
from tests.peers.node import Node
from tests.peers.process import wait_until
from tests.support.needs import REPOSITORY

PASSWORD = "seven blue herons"
Command = Callable[..., tuple[int, str, str]]
Browser = Callable[..., httpx.Client | None]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node whose first administrator a file names."""
    folder = tmp_path_factory.mktemp("people")
    (folder / "first-admin").write_text(f"root\n{PASSWORD}\n", encoding="utf-8")
    node = Node(folder / "node", {"people": {"first_admin_file": str(folder / "first-admin")}})
    node.start()
    yield node
    node.kill9()


@pytest.fixture
def command(served: Node, capsys: pytest.CaptureFixture[str]) -> Command:
    def run(*arguments: str) -> tuple[int, str, str]:
        status = main([*arguments, "--config", str(served.config)])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


@pytest.fixture
def browser(served: Node) -> Iterator[Browser]:
    """Returns a client that has signed in, or `None` where it may not."""
    with ExitStack() as clients:

        def signed_in(name: str, password: str = PASSWORD) -> httpx.Client | None:
            url = f"http://127.0.0.1:{served.api_port}"
            client = clients.enter_context(httpx.Client(base_url=url, trust_env=False))
            answer = client.post("/login", json={"name": name, "password": password})
            return client if answer.status_code == 204 else None

        yield signed_in


def test_the_first_administrator_of_the_file_signs_in(browser: Browser) -> None:
    client = browser("root")
    assert client is not None
    assert client.get("/api/status").status_code == 200


def test_a_person_s_whole_life(browser: Browser, command: Command, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text(PASSWORD + "\n", encoding="utf-8")
    file = ("--password-file", str(secret))
    assert command("users", "add", "bob", "--role", "viewer", "--role", "reviewer", *file) == (
        0,
        "bob can sign in now.\n",
        "",
    )
    bob = browser("bob")
    assert bob is not None
    assert bob.get("/api/status").status_code == 200
    assert command("users", "disable", "BOB")[0] == 0
    wait_until(lambda: bob.get("/api/status").status_code == 401, REMEMBERED_S + 30, "the session to end")
    assert browser("bob") is None
    assert command("users", "enable", "bob")[0] == 0
    secret.write_text("nine slow turbines", encoding="utf-8")
    assert command("users", "reset-password", "bob", *file)[0] == 0
    assert browser("bob", "nine slow turbines") is not None
    assert command("users", "set-role", "bob", "--role", "operator")[1] == "bob is operator from the next sign-in.\n"
    listed = {one["name"]: one["roles"] for one in json.loads(command("users", "list", "--json")[1])}
    assert listed == {"bob": ["operator"], "root": ["admin"]}
    assert "argon2" not in command("users", "list", "--json")[1]
    assert command("users", "remove", "bob")[0] == 0
    status, _, said = command("users", "remove", "root")
    assert (status, "root is the last who can administer" in said) == (1, True)


@pytest.mark.parametrize(
    ("name", "password", "told"),
    [
        ("eve", "short", "12 to 256 characters"),
        ("eve", "Password2026!!", "tried first"),
        ("eve", "1234-5678-9012", "tried first"),
        ("e.vanderberg", "vanderberg-2026", "tried first"),
        ("root", "seven blue herons", "account root already"),
        ("api-token", "seven blue herons", "cannot be a name"),
        ("key:ris", "seven blue herons", "cannot be a name"),
    ],
)
def test_who_cannot_be_added_is_told_why(command: Command, tmp_path: Path, name: str, password: str, told: str) -> None:
    (tmp_path / "password").write_text(password, encoding="utf-8")
    status, _, said = command("users", "add", name, "--role", "viewer", "--password-file", str(tmp_path / "password"))
    assert (status, told in said) == (1, True), said


def test_a_key_s_whole_life(served: Node, command: Command) -> None:
    status, secret, told = command("keys", "add", "ris", "--role", "operator", "--expires", "30")
    assert status == 0
    assert "shown only now" in told
    with httpx.Client(base_url=f"http://127.0.0.1:{served.api_port}", trust_env=False) as client:
        client.headers["Authorization"] = f"Bearer {secret.strip()}"
        assert client.get("/api/status").status_code == 200
        (key,) = json.loads(command("keys", "list", "--json")[1])
        assert (key["name"], key["roles"], key["last_used_at"] is None) == ("ris", ["operator"], False)
        assert secret.strip() not in json.dumps(key)
        assert command("keys", "revoke", "ris")[0] == 0
        wait_until(lambda: client.get("/api/status").status_code == 401, REMEMBERED_S + 30, "the key to end")


def test_without_a_terminal_nobody_is_asked_for_a_password(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(os.devnull, encoding="utf-8") as nothing:  # noqa: PTH123 - a device
        monkeypatch.setattr(sys, "stdin", nothing)
        status, _, said = command("users", "add", "eve", "--role", "viewer")
    assert (status, "use --password-file" in said) == (1, True)


_ASKING = """
import sys
from dicom_node.cli.access.people import ask_first_administrator
from dicom_node.people.audit.trail import LoggedAudit
from dicom_node.people.directory import People
from dicom_node.roles.node import Node
from dicom_node.roles.settings import load_settings
from pathlib import Path
settings = load_settings(Path(sys.argv[1]))
people = People.of(Node(settings).database, settings.people)
ask_first_administrator(people, settings, LoggedAudit())
print("ADDED", [one.name for one in people.accounts.all() if one.administers])
"""


def test_whoever_starts_a_node_first_on_a_terminal_is_asked_who_administers_it(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_text(f'[node]\ndata_dir = "{tmp_path / "data"}"\n', encoding="utf-8")
    ours, theirs = os.openpty()
    asked = subprocess.Popen(
        ["setsid", "--ctty", "--wait", sys.executable, "-c", _ASKING, str(config)],
        stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    os.close(theirs)
    for prompt, typed in [
        ("Name:", "root"), ("New password:", "short"), ("again:", "short"),
        ("Name:", "root"), ("New password:", PASSWORD), ("again:", PASSWORD),
    ]:  # fmt: skip
        _read_until(ours, prompt)
        os.write(ours, typed.encode() + b"\n")
    assert PASSWORD not in _read_until(ours, "ADDED ['root']")
    assert asked.wait(60) == 0
    os.close(ours)


def _read_until(terminal: int, words: str) -> str:
    seen = ""
    while words not in seen:
        seen += os.read(terminal, 4096).decode()
    return seen
