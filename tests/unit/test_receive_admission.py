"""Who may come in: every rule by itself, and the places there are."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from dicom_node.config.incoming import Peer
from dicom_node.config.running import NodeSettings
from dicom_node.config.settings import Settings
from dicom_node.dimse.vocabulary import (
    CONGESTED,
    TOO_MANY,
    UNKNOWN_CALLED,
    UNKNOWN_CALLER,
    UNKNOWN_USER,
    Rejection,
)
from dicom_node.receive.acceptor.admission import CallingPeer, Identity, NotAdmitted, PeerAdmission
from dicom_node.receive.options import AcceptorOptions, AeOption, PeerOption, UserOption
from dicom_node.receive.start import acceptor_options

DIGEST = "ab" * 32
CT1 = CallingPeer(calling_ae_title="CT1", called_ae_title="AINODE", host="10.1.2.3")
OPTIONS = AcceptorOptions(
    spool="", journal="", parts_owner="",
    aes=(
        AeOption(ae_title="AINODE"), AeOption(ae_title="RESEARCH", peers=("WS",)), AeOption(ae_title="SAFE", tls=True)
    ),
    peers=(
        PeerOption(ae_title="CT1", network="10.1.2.0/24"),
        PeerOption(ae_title="WS", network="10.0.0.0/8"),
        PeerOption(ae_title="TLS1", network="10.0.0.0/8", tls=True),
        PeerOption(ae_title="PINNED", network="10.0.0.0/8", certificate_sha256=DIGEST),
        PeerOption(ae_title="V6", network="fd00::/8"),
    ),
)  # fmt: skip


def rejection(
    caller: CallingPeer, identity: Identity | None = None, options: AcceptorOptions = OPTIONS
) -> Rejection | None:
    try:
        PeerAdmission(options, lambda: True).policy(caller, identity)
    except NotAdmitted as refused:
        return refused.rejection
    return None


def test_a_listed_peer_comes_in_from_where_it_may() -> None:
    assert rejection(CT1) is None
    assert rejection(replace(CT1, calling_ae_title="V6", host="fd00::1")) is None
    assert rejection(replace(CT1, host="::ffff:10.1.2.3")) is None  # IPv4 on a socket that takes both


@pytest.mark.parametrize("network", ["::ffff:10.1.2.3", "::ffff:10.1.2.0/120"])
def test_a_network_of_ipv4_may_be_written_as_one_of_ipv6(network: str) -> None:
    options = replace(OPTIONS, peers=(PeerOption(ae_title="CT1", network=network),))
    assert rejection(CT1, options=options) is None
    assert rejection(replace(CT1, host="::ffff:10.1.2.3"), options=options) is None
    assert rejection(replace(CT1, host="10.1.3.3"), options=options) is UNKNOWN_CALLER


@pytest.mark.parametrize("host", [None, "any"])
@pytest.mark.parametrize("address", ["10.1.2.3", "fd00::1", "fe80::1%eth0", "::ffff:10.1.2.3"])
def test_a_peer_without_a_host_or_of_any_comes_from_everywhere(host: str | None, address: str, tmp_path: Path) -> None:
    given = {"ae_title": "CT1"} | ({"host": host} if host else {})
    options = acceptor_options(Settings(node=NodeSettings(data_dir=tmp_path), peer=(Peer.model_validate(given),)))
    assert rejection(replace(CT1, host=address), options=options) is None
    assert not PeerAdmission(options, lambda: True).is_foreign(address)


@pytest.mark.parametrize(
    "change",
    [{"calling_ae_title": "CT2"}, {"calling_ae_title": "ct1"}, {"host": "10.1.3.3"}, {"host": "fe80::1"},
     {"calling_ae_title": ""}, {"calling_ae_title": "TLS1"}, {"calling_ae_title": "PINNED"}],
)  # fmt: skip
def test_another_caller_is_not_recognised(change: dict[str, str]) -> None:
    assert rejection(replace(CT1, **change)) is UNKNOWN_CALLER  # type: ignore[arg-type]


def test_a_called_title_that_is_not_ours_is_not_recognised() -> None:
    for called in ("OTHER", "ainode", ""):
        assert rejection(replace(CT1, called_ae_title=called)) is UNKNOWN_CALLED


def test_each_title_has_its_own_peers() -> None:
    assert rejection(replace(CT1, called_ae_title="RESEARCH")) is UNKNOWN_CALLER
    assert rejection(replace(CT1, calling_ae_title="WS", called_ae_title="RESEARCH")) is None


def test_tls_is_asked_for_by_peer_and_by_title() -> None:
    assert rejection(replace(CT1, calling_ae_title="TLS1", tls=True)) is None
    assert rejection(replace(CT1, called_ae_title="SAFE")) is UNKNOWN_CALLER
    assert rejection(replace(CT1, called_ae_title="SAFE", tls=True)) is None


def test_a_certificate_is_compared_by_its_digest() -> None:
    pinned = replace(CT1, calling_ae_title="PINNED", tls=True)
    assert rejection(replace(pinned, certificate_sha256=DIGEST)) is None
    assert rejection(replace(pinned, certificate_sha256="cd" * 32)) is UNKNOWN_CALLER


def test_without_a_list_of_peers_every_caller_comes_in() -> None:
    assert rejection(replace(CT1, calling_ae_title="ANY", host="192.0.2.1"), options=replace(OPTIONS, peers=())) is None


@pytest.mark.parametrize(
    ("identity", "admitted"),
    [
        (None, False),
        (Identity(1, False, b"modality", b""), False),
        (Identity(2, False, b"modality", b"secret"), True),
        (Identity(2, False, b"modality", b"wrong"), False),
        (Identity(2, False, b"other", b"secret"), False),
        (Identity(1, True, b"guest", b""), True),
        (Identity(5, True, b"eyJhbGciOiJub25lIn0.e30.", b""), False),
        (Identity(3, False, b"ticket", b""), False),
    ],
)
def test_once_there_are_users_every_peer_must_be_one(identity: Identity | None, admitted: bool) -> None:
    options = replace(OPTIONS, users=(UserOption(name="modality", password="secret"), UserOption(name="guest")))
    assert rejection(CT1, identity, options) is (None if admitted else UNKNOWN_USER)


def test_without_users_an_identity_is_neither_asked_for_nor_held_against_a_peer() -> None:
    for identity in (None, Identity(2, True, b"x", b"y"), Identity(5, True, b"token", b"")):
        assert rejection(CT1, identity) is None


def test_a_full_disk_is_said_to_those_who_may_come_in_only() -> None:
    admission = PeerAdmission(OPTIONS, lambda: False)
    with pytest.raises(NotAdmitted) as refused:
        admission.policy(CT1, None)
    assert refused.value.rejection is CONGESTED
    with pytest.raises(NotAdmitted) as refused:
        admission.policy(replace(CT1, calling_ae_title="CT2"), None)
    assert refused.value.rejection is UNKNOWN_CALLER


def test_two_peers_cannot_take_every_place() -> None:
    admission = PeerAdmission(replace(OPTIONS, max_associations=64, max_associations_per_peer=32), lambda: True)
    with ExitStack() as held:
        counts = [_take_all(admission, host, held) for host in ("10.1.2.3", "10.1.2.4", "10.1.2.5")]
        assert counts[0] == 32
        assert all(count > 0 for count in counts)
        held.enter_context(admission.place("10.1.2.6"))


def test_where_nobody_else_may_call_an_address_has_every_place_that_it_is_given() -> None:
    for peers in ((), (PeerOption(ae_title="ROUTER", network="10.1.2.3"),)):
        options = replace(OPTIONS, peers=peers, max_associations=8, max_associations_per_peer=8)
        with ExitStack() as held:
            assert _take_all(PeerAdmission(options, lambda: True), "10.1.2.3", held) == 8


def _take_all(admission: PeerAdmission, host: str, held: ExitStack) -> int:
    for count in range(100):
        try:
            held.enter_context(admission.place(host))
        except NotAdmitted:
            return count
    raise AssertionError("there is no limit")


@pytest.mark.parametrize(
    ("host", "foreign"), [("10.1.2.3", False), ("::ffff:10.1.2.3", False), ("fd00::1", False), ("192.0.2.1", True)]
)
def test_an_address_is_foreign_when_no_peer_may_call_from_it(host: str, foreign: bool) -> None:
    assert PeerAdmission(OPTIONS, lambda: True).is_foreign(host) is foreign
    assert not PeerAdmission(replace(OPTIONS, peers=()), lambda: True).is_foreign(host)


def test_places_are_counted_in_all_and_by_peer_and_given_back() -> None:
    admission = PeerAdmission(replace(OPTIONS, max_associations=3, max_associations_per_peer=2), lambda: True)
    with admission.place("a"), admission.place("a"):
        with pytest.raises(NotAdmitted) as refused, admission.place("a"):
            pass
        assert refused.value.rejection is TOO_MANY
        with admission.place("b"), pytest.raises(NotAdmitted), admission.place("c"):
            pass
    with admission.place("a"), admission.place("a"), admission.place("c"):
        pass


def test_new_rules_count_for_whoever_calls_next_and_whoever_is_in_keeps_the_place() -> None:
    admission = PeerAdmission(replace(OPTIONS, max_associations=2), lambda: True)
    with admission.place(CT1.host):
        new = (PeerOption(ae_title="CT2", network="10.1.2.0/24"),)
        admission.renew(
            replace(OPTIONS, peers=new, users=(UserOption(name="node"),), aes=(AeOption(ae_title="OTHER"),))
        )
        ct2 = replace(CT1, calling_ae_title="CT2", called_ae_title="OTHER")
        named = Identity(kind=1, wants_response=False, primary=b"node", secondary=b"")
        assert admission.policy(ct2, named).ae_title == "OTHER"
        refused = {CT1: UNKNOWN_CALLED, replace(ct2, calling_ae_title="CT1"): UNKNOWN_CALLER, ct2: UNKNOWN_USER}
        for caller, why in refused.items():
            with pytest.raises(NotAdmitted) as told:
                admission.policy(caller, None)
            assert told.value.rejection is why
        with admission.place("10.1.2.4"), pytest.raises(NotAdmitted) as told, admission.place("10.1.2.5"):
            pass
        assert told.value.rejection is TOO_MANY
