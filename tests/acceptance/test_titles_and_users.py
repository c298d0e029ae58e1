"""Further AE titles and user identity, as senders of two makes meet them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import AE
from pynetdicom.pdu_primitives import UserIdentityNegotiation
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made at import time
from sqlalchemy import select

from dicom_node.index.tables import instances
from tests.peers import raw
from tests.peers.dcmtk import echoscu, storescu
from tests.peers.node import Node
from tests.peers.raw import Raw
from tests.support.acceptor_state import log_lines, logged_errors
from tests.support.results.arrivals import opened_database
from tests.support.studies.small_images import EXPLICIT_LITTLE, small_image

pytestmark = pytest.mark.timeout(600)

NOT_RECOGNISED_CALLER, NOT_RECOGNISED_CALLED, NO_REASON = (1, 1, 3), (1, 1, 7), (1, 1, 1)
PRIVATE_CLASS = "1.3.12.2.1107.5.9.1"
NAME_ONLY, NAME_AND_PASSCODE, WEB_TOKEN = 1, 2, 5


# --- AE titles ---


@pytest.fixture(scope="module")
def two_titles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    settings: dict[str, Any] = {
        "route": [],
        "peer": [{"ae_title": "CT1"}, {"ae_title": "RESEARCH"}],
        "ae": [{"ae_title": "TRIAL", "peers": ["RESEARCH"], "accept_any_sop_class": True}],
    }
    node = Node(tmp_path_factory.mktemp("titles"), settings)
    node.start()
    yield node
    assert logged_errors(node) == []
    node.kill9()


def answer_to(node: Node, calling: str, called: str, sop_class: str = raw.VERIFICATION) -> tuple[int, ...]:
    """Return the rejection (result, source, reason), or the result of the one context of an accepted association."""
    with Raw(node.dicom_port) as peer:
        answer = peer.associate({1: (sop_class, (EXPLICIT_LITTLE,))}, calling=calling, called=called)
        if answer.kind == raw.ASSOCIATE_RJ:
            return tuple(answer.body[1:4])
        start = answer.body.index(b"\x21\x00", 68)
        peer.release()
        return (answer.body[start + 6],)


def test_each_title_lets_in_the_peers_it_lists(two_titles: Node) -> None:
    assert answer_to(two_titles, "CT1", "AINODE") == (0,)
    assert answer_to(two_titles, "RESEARCH", "AINODE") == (0,)
    assert answer_to(two_titles, "RESEARCH", "TRIAL") == (0,)
    assert answer_to(two_titles, "CT1", "TRIAL") == NOT_RECOGNISED_CALLER
    assert answer_to(two_titles, "CT1", "OTHER") == NOT_RECOGNISED_CALLED


def test_only_the_title_that_says_so_takes_classes_nobody_knows(two_titles: Node) -> None:
    assert answer_to(two_titles, "RESEARCH", "TRIAL", PRIVATE_CLASS) == (0,)
    assert answer_to(two_titles, "RESEARCH", "AINODE", PRIVATE_CLASS) == (3,)


def test_an_image_is_filed_with_the_title_it_was_sent_to(two_titles: Node, tmp_path: Path) -> None:
    image = small_image("to-the-trial", "to-the-trial")
    sent = storescu(two_titles.dicom_port, image.save(tmp_path), called="TRIAL", calling="RESEARCH")
    assert sent.returncode == 0, sent.stdout
    two_titles.wait_until_settled()
    with opened_database(f"sqlite:///{two_titles.data_dir / 'node.sqlite'}") as database, database.read() as connection:
        rows = connection.execute(select(instances.c.calling_ae_title, instances.c.called_ae_title)).all()
    assert [tuple(row) for row in rows] == [("RESEARCH", "TRIAL")]


# --- user identity ---


@pytest.fixture(scope="module")
def known_users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    users = [{"name": "operator", "password": "s3cret-pass"}, {"name": "kiosk"}]
    node = Node(tmp_path_factory.mktemp("users"), {"route": [], "user": users})
    node.start()
    yield node
    assert logged_errors(node) == []
    assert not [line for line in log_lines(node) if "s3cret-pass" in line], "a passcode is in the log"
    node.kill9()


def identified(node: Node, kind: int, primary: bytes, secondary: bytes = b"", *, wants: bool = True) -> Any:
    """Ask for an association as pynetdicom does; return it, established or not."""
    ae = AE(ae_title="MOD1")
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 20
    ae.add_requested_context(Verification)
    user = UserIdentityNegotiation()
    user.user_identity_type, user.primary_field, user.secondary_field = kind, primary, secondary
    user.positive_response_requested = wants
    return ae.associate("127.0.0.1", node.dicom_port, ae_title=node.aet, ext_neg=[user])


@pytest.mark.parametrize(
    ("kind", "name", "passcode"), [(NAME_AND_PASSCODE, b"operator", b"s3cret-pass"), (NAME_ONLY, b"kiosk", b"")]
)
@pytest.mark.parametrize("wants", [True, False], ids=["asks for a response", "asks for none"])
def test_a_known_user_comes_in_and_is_told_so_when_he_asks(
    known_users: Node, kind: int, name: bytes, passcode: bytes, wants: bool
) -> None:
    association = identified(known_users, kind, name, passcode, wants=wants)
    assert association.is_established
    told = [item for item in association.acceptor.user_information if isinstance(item, UserIdentityNegotiation)]
    # PS3.7 D.3.3.7.2: the response to a name is empty.
    assert [item.server_response for item in told] == ([b""] if wants else [])
    assert association.send_c_echo().Status == 0
    association.release()


REFUSED: dict[str, tuple[int, bytes, bytes]] = {
    "a wrong passcode": (NAME_AND_PASSCODE, b"operator", b"s3cret-pasS"),
    "no passcode where one is set": (NAME_ONLY, b"operator", b""),
    "an empty passcode": (NAME_AND_PASSCODE, b"operator", b""),
    "a passcode where none is set": (NAME_AND_PASSCODE, b"kiosk", b"x"),
    "an unknown name": (NAME_AND_PASSCODE, b"root", b"s3cret-pass"),
    "a name that is no text": (NAME_AND_PASSCODE, b"\xff\xfe\0", b"\xff"),
    "a token instead": (WEB_TOKEN, b"eyJhbGciOiJub25lIn0.eyJzdWIiOiJvcGVyYXRvciJ9.", b""),
}


@pytest.mark.parametrize("what", REFUSED)
def test_another_user_is_rejected_with_a_line_in_the_log(known_users: Node, what: str) -> None:
    lines = len(log_lines(known_users))
    kind, name, passcode = REFUSED[what]
    fields = b"".join(len(field).to_bytes(2) + field for field in (name, passcode))
    # Each from an address of its own: of one address only a few rejections a minute are told line by line.
    with Raw(known_users.dicom_port, source=f"127.0.0.{10 + list(REFUSED).index(what)}") as peer:
        peer.send(raw.associate_rq(user_items=raw.item(0x58, bytes([kind, 1]) + fields)))
        answer = peer.receive()
        assert answer is not None
        assert (answer.kind, tuple(answer.body[1:4])) == (raw.ASSOCIATE_RJ, NO_REASON)
    told = [json.loads(line) for line in log_lines(known_users)[lines:]]
    told = [line for line in told if "association" in line["event"]]  # a node has more to say, at its start above all
    assert [(line["event"], line["calling_ae_title"]) for line in told] == [("association rejected", "MOD1")]
    assert "user identity" in told[0]["why"]


def test_a_peer_without_an_identity_is_rejected_once_there_are_users(known_users: Node) -> None:
    assert answer_to(known_users, "MOD1", "AINODE") == NO_REASON
    assert echoscu(known_users.dicom_port).returncode != 0


def test_dcmtk_comes_in_with_name_and_passcode_and_hears_the_response(known_users: Node, tmp_path: Path) -> None:
    path = small_image("by-the-operator").save(tmp_path)
    told = storescu(known_users.dicom_port, path, options=("-d", "-usr", "operator", "-pwd", "s3cret-pass", "-rsp"))
    assert told.returncode == 0, told.stdout[-1000:]
    refused = storescu(known_users.dicom_port, path, options=("-usr", "operator", "-pwd", "guess", "-rsp"))
    assert refused.returncode != 0
    assert "Reject" in refused.stdout


def test_without_users_an_identity_of_any_type_does_no_harm(node: Callable[..., Node], tmp_path: Path) -> None:
    one = node(route=[])
    token = tmp_path / "token"
    token.write_text(
        ".".join(base64.urlsafe_b64encode(part).decode() for part in (b"{}", b"{}", b"")), encoding="ascii"
    )
    path = small_image("whoever").save(tmp_path)
    for options in (("-usr", "anyone"), ("-usr", "anyone", "-pwd", "x"), ("--jwt", str(token))):
        sent = storescu(one.dicom_port, path, options=options)
        assert sent.returncode == 0, (options, sent.stdout[-1000:])
    assert logged_errors(one) == []
