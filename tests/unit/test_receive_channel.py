"""What the acceptor and its parent tell each other: every message comes back as it was, in order, or is an error."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.receive import channel
from dicom_node.receive.channel import (
    AssociationClosed,
    Channel,
    ContextRefused,
    Freed,
    Message,
    Options,
    RecordStored,
    ReportAnswered,
    UnknownMessage,
    channel_pair,
    decode,
    encode,
)
from dicom_node.receive.options import AcceptorOptions, AeOption, PeerOption, TlsOption, UserOption
from dicom_node.receive.refusals import Refusals, keep, kept_in

_SECONDS = st.floats(allow_nan=False, allow_infinity=False)
_TITLES = st.lists(st.text(), max_size=3).map(tuple)
_OPTIONS = st.builds(
    AcceptorOptions,
    aes=st.lists(st.builds(AeOption, peers=_TITLES, tls=st.booleans()), max_size=3).map(tuple),
    peers=st.lists(st.builds(PeerOption, tls=st.booleans(), certificate_sha256=st.text()), max_size=3).map(tuple),
    users=st.lists(st.builds(UserOption, password=st.text()), max_size=3).map(tuple),
    tls=st.none() | st.builds(TlsOption, handshake_timeout_s=_SECONDS),
    max_object_bytes=st.integers(),
    idle_timeout_s=_SECONDS,
)
#: Of those that are not listed every field is made up from its type.
_SPECIAL = {
    Options: st.builds(Options, _OPTIONS),
    AssociationClosed: st.builds(AssociationClosed, at_s=_SECONDS),
    ReportAnswered: st.builds(ReportAnswered, at_s=_SECONDS),
    RecordStored: st.builds(RecordStored, found=st.booleans()),
}
_MESSAGES = st.one_of([_SPECIAL.get(kind, st.builds(kind)) for kind in get_args(Message)])


@given(message=_MESSAGES)
def test_every_message_comes_back_as_it_was(message: Message) -> None:
    assert decode(json.loads(json.dumps(encode(message)))) == message


def test_every_message_has_a_tag_of_its_own() -> None:
    assert set(channel._KINDS.values()) == set(get_args(Message))


@pytest.mark.parametrize("data", [{"kind": "gossip"}, {}, {"kind": None}])
def test_a_message_of_an_unknown_kind_is_an_error_that_says_so(data: dict[str, object]) -> None:
    with pytest.raises(UnknownMessage, match="do not understand each other"):
        decode(data)


@pytest.mark.parametrize("data", [{"kind": "freed"}, {"kind": "freed", "slots": 3}, {"kind": "freed", "slots": [[1]]}])
def test_a_message_with_wrong_fields_is_an_error_that_names_it(data: dict[str, object]) -> None:
    with pytest.raises(UnknownMessage, match="A message Freed between acceptor and parent is malformed"):
        decode(data)


def test_messages_travel_in_order_and_end_with_their_sender() -> None:
    ours, theirs = channel_pair()
    sent = [RecordStored(number, number, f"1.2.{number}", found=False) for number in range(1000)]
    sender, receiver = Channel(theirs, "one"), Channel(ours, "other")
    for one in (*sent, AssociationClosed("a", "released", 1.5), Freed(((1, 2),))):
        sender.tell(one)
    sender.close()
    assert list(receiver.messages()) == [*sent, AssociationClosed("a", "released", 1.5), Freed(((1, 2),))]
    receiver.close()


def test_what_cannot_be_sent_is_counted_and_the_first_of_its_kind_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    refusals = Refusals()
    private = ContextRefused("CT1", "10.1.2.3", "1.3.12.2.1107.5.9.1", ("1.2.840.10008.1.2.1",), "not taken")
    other = ContextRefused("MR1", "10.1.2.4", "1.2.840.10008.5.1.4.1.1.4", ("1.2.840.10008.1.2.1.99",), "not read")
    for one in (private, private, other, private):
        refusals.note(one)
    first, second = refusals.latest()
    assert (first.sop_class_name, first.transfer_syntaxes, first.count) == (
        "1.3.12.2.1107.5.9.1", ["Explicit VR Little Endian"], 3,
    )  # fmt: skip
    assert (second.sop_class_name, second.count) == ("MR Image Storage", 1)
    assert [record.message for record in caplog.records] == 2 * ["objects cannot be sent here"]


def test_of_endless_kinds_the_oldest_are_forgotten() -> None:
    refusals = Refusals()
    for number in range(300):
        refusals.note(ContextRefused("CT1", "10.1.2.3", f"1.2.{number}", (), "not taken"))
    assert len(refusals.latest()) == 256
    assert refusals.latest()[0].sop_class_uid == "1.2.299"


def test_what_cannot_be_sent_is_told_by_other_processes_of_the_node(tmp_path: Path) -> None:
    first, second = Refusals(), Refusals()
    first.note(ContextRefused("CT1", "10.1.2.3", "1.3.12.2.1107.5.9.1", ("1.2.840.10008.1.2.1",), "not taken"))
    keep(first.latest(), tmp_path / "not-taken" / "journal.json")
    (tmp_path / "not-taken" / "damaged.json").write_text("[{")
    second.note(ContextRefused("MR1", "10.1.2.4", "1.2.840.10008.5.1.4.1.1.4", (), "not read"))
    own = tmp_path / "not-taken" / "journal-2.json"
    keep([], own)
    assert kept_in(tmp_path / "not-taken", {own: second.latest()}) == [*second.latest(), *first.latest()]
    assert kept_in(tmp_path / "nowhere") == []
