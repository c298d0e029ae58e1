"""What the acceptor and its parent tell each other: every message comes back as it was, in order, or is an error."""

from __future__ import annotations

import json
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.receive import channel
from dicom_node.receive.channel import (
    AssociationClosed,
    Channel,
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
