"""A-ASSOCIATE: what is accepted of what is proposed, and what is not even decoded."""

from __future__ import annotations

import struct

import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import UID
from pynetdicom._globals import ALL_TRANSFER_SYNTAXES
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    AsynchronousOperationsWindowNegotiation,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)
from pynetdicom.presentation import build_context

from dicom_node.dimse.vocabulary import (
    STORAGE_COMMITMENT,
    STORAGE_SOP_CLASSES,
    UNKNOWN_APPLICATION_CONTEXT,
    UNKNOWN_PROTOCOL_VERSION,
    VERIFICATION,
)
from dicom_node.receive.acceptor.admission import NotAdmitted
from dicom_node.receive.acceptor.negotiation import (
    FIXED_BYTES,
    MAX_REQUEST_BYTES,
    AssociationRequest,
    Context,
    RefusedClass,
    accept,
    read_request,
    read_titles,
    refused_classes,
)
from dicom_node.receive.options import AeOption
from tests.peers.raw import associate_rq

CT, MR, PRIVATE = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4", "1.2.3.4.5"
EXPLICIT, IMPLICIT, J2K, DEFLATED = (f"1.2.840.10008.1.2{end}" for end in (".1", "", ".4.90", ".1.99"))
AE = AeOption(ae_title="AINODE")


@pytest.fixture(autouse=True)
def as_in_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values of strangers are judged by the node, not warned of by pydicom."""
    monkeypatch.setattr(pydicom.config.settings, "reading_validation_mode", pydicom.config.IGNORE)
    monkeypatch.setattr(pydicom.config.settings, "writing_validation_mode", pydicom.config.IGNORE)


def request_body(proposed: list[tuple[str, list[str]]], *items: object, max_pdu_bytes: int = 16384) -> bytes:
    """The body of an A-ASSOCIATE-RQ by pynetdicom."""
    primitive = A_ASSOCIATE()
    primitive.application_context_name = UID("1.2.840.10008.3.1.1.1")
    primitive.calling_ae_title, primitive.called_ae_title = "CT1", "AINODE"
    contexts = [build_context(sop_class, syntaxes) for sop_class, syntaxes in proposed]
    for number, context in enumerate(contexts):
        context.context_id = 2 * number + 1
    primitive.presentation_context_definition_list = contexts
    length = MaximumLengthNotification()
    length.maximum_length_received = max_pdu_bytes
    implementation = ImplementationClassUIDNotification()
    implementation.implementation_class_uid = UID("1.2.3")
    primitive.user_information = [length, implementation, *items]
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(primitive)
    return bytes(pdu.encode()[6:])


def accepted(request: AssociationRequest, ae: AeOption = AE) -> tuple[A_ASSOCIATE_AC, dict[int, Context]]:
    encoded, contexts = accept(request, ae, 131072)
    answer = A_ASSOCIATE_AC()
    answer.decode(encoded)
    return answer, dict(contexts)


def results(*proposed: tuple[str, list[str]], ae: AeOption = AE) -> list[int]:
    answer, _ = accepted(read_request(request_body(list(proposed))), ae)
    return [int(item.result or 0) for item in answer.presentation_context]


def test_the_senders_first_supported_syntax_is_taken_so_that_nothing_is_recoded() -> None:
    _, contexts = accepted(read_request(request_body([(CT, [DEFLATED, J2K, EXPLICIT]), (CT, [IMPLICIT])])))
    assert contexts == {1: Context(CT, J2K), 3: Context(CT, IMPLICIT)}


def test_what_is_not_supported_is_rejected_context_by_context() -> None:
    assert results((CT, [DEFLATED]), (PRIVATE, [EXPLICIT]), (VERIFICATION, [IMPLICIT]), (CT, [EXPLICIT])) == [
        4,
        3,
        0,
        0,
    ]
    assert results((VERIFICATION, [J2K]), (STORAGE_COMMITMENT, [EXPLICIT])) == [4, 0]


def test_an_ae_title_may_take_every_class() -> None:
    assert results((PRIVATE, [EXPLICIT]), ae=AeOption(ae_title="AINODE", any_sop_class=True)) == [0]


def test_the_answer_names_the_longest_pdu_and_no_window_of_operations() -> None:
    window = AsynchronousOperationsWindowNegotiation()
    window.maximum_number_operations_invoked = window.maximum_number_operations_performed = 5
    request = read_request(request_body([(CT, [EXPLICIT])], window, max_pdu_bytes=0))
    answer, _ = accepted(request)
    assert answer.user_information is not None
    assert answer.user_information.maximum_length == 131072
    assert answer.user_information.async_ops_window is None
    assert request.max_pdu_bytes == 16384  # 0 means no limit; a modest length always fits


BOTH, PROVIDER = (True, True), (False, True)


@pytest.mark.parametrize(
    ("sop_class", "asked", "result", "agreed"),
    [
        (CT, (True, False), 0, [(1, 0)]),
        (CT, BOTH, 0, [(1, 0)]),
        (CT, PROVIDER, 1, []),
        (STORAGE_COMMITMENT, (True, False), 0, [(1, 0)]),
        (STORAGE_COMMITMENT, BOTH, 0, [(1, 1)]),
        (STORAGE_COMMITMENT, PROVIDER, 0, [(0, 1)]),
    ],
)
def test_who_stores_is_the_user_and_who_reports_on_a_commitment_may_be_the_provider(
    sop_class: str, asked: tuple[bool, bool], result: int, agreed: list[tuple[int, int]]
) -> None:
    role = SCP_SCU_RoleSelectionNegotiation()
    role.sop_class_uid, (role.scu_role, role.scp_role) = UID(sop_class), asked
    answer, _ = accepted(read_request(request_body([(sop_class, [EXPLICIT])], role)))
    assert answer.presentation_context[0].result == result
    assert answer.user_information is not None
    told = answer.user_information.role_selection
    assert [(item.scu_role, item.scp_role) for item in told.values()] == agreed


def test_extended_negotiation_of_storage_is_answered_with_full_support() -> None:
    asked = SOPClassExtendedNegotiation()
    asked.sop_class_uid, asked.service_class_application_information = UID(CT), b"\x02\x00\x00\x00\x00\x00"
    answer, _ = accepted(read_request(request_body([(CT, [EXPLICIT])], asked)))
    assert answer.user_information is not None
    (told,) = answer.user_information.ext_neg
    assert told.service_class_application_information == b"\x02\x00\x03\x00\x00\x00"


@pytest.mark.parametrize(
    ("kind", "wants", "answered"), [(1, True, True), (2, True, True), (2, False, False), (5, True, False)]
)
def test_a_positive_response_to_an_identity_is_given_when_asked_for(kind: int, wants: bool, answered: bool) -> None:
    identity = UserIdentityNegotiation()
    identity.user_identity_type, identity.positive_response_requested = kind, wants
    identity.primary_field = b"user"
    if kind == 2:
        identity.secondary_field = b"pass"
    request = read_request(request_body([(CT, [EXPLICIT])], identity))
    assert request.identity is not None
    assert (request.identity.kind, request.identity.primary) == (kind, b"user")
    answer, _ = accepted(request)
    assert answer.user_information is not None
    assert (answer.user_information.user_identity is not None) == answered


def test_another_protocol_version_or_application_is_rejected_with_its_reason() -> None:
    body = request_body([(CT, [EXPLICIT])])
    with pytest.raises(NotAdmitted) as refused:
        read_request(b"\0\2" + body[2:])
    assert refused.value.rejection is UNKNOWN_PROTOCOL_VERSION
    with pytest.raises(NotAdmitted) as refused:
        read_request(body.replace(b"1.2.840.10008.3.1.1.1", b"1.2.840.10008.3.1.1.9"))
    assert refused.value.rejection is UNKNOWN_APPLICATION_CONTEXT


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(where=st.integers(0, 400), value=st.binary(min_size=1, max_size=4))
def test_a_damaged_request_is_malformed_rejected_or_read(where: int, value: bytes) -> None:
    body = bytearray(_BODY)
    where %= len(body)
    body[where : where + len(value)] = value
    try:
        accept(read_request(bytes(body)), AE, 131072)
    except (ValueError, NotAdmitted):
        return


def test_the_largest_request_that_makes_sense_is_below_the_limit() -> None:
    """128 contexts, each with every transfer syntax of the standard, and a ticket of the longest kind."""
    classes = sorted(STORAGE_SOP_CLASSES)[:128]
    contexts = {2 * n + 1: (sop_class, ALL_TRANSFER_SYNTAXES) for n, sop_class in enumerate(classes)}
    ticket = bytes([3, 0]) + struct.pack(">H", 60000) + bytes(60000) + bytes(2)
    body = associate_rq(contexts, user_items=item(0x58, ticket))[6:]
    assert len(body) < MAX_REQUEST_BYTES
    assert len(read_request(body).primitive.presentation_context_definition_list) == 128
    assert read_titles(body[:FIXED_BYTES]) == ("AINODE", "MOD1")


@pytest.mark.parametrize("title", [b"CT\xc41", b"CT\x001", b"ct1", b"C T1"])
def test_a_title_that_is_not_exactly_ours_is_not_made_to_be(title: bytes) -> None:
    assert read_titles(associate_rq(calling=title)[6 : 6 + FIXED_BYTES])[1] != "CT1"


def item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(body)) + body


@pytest.mark.parametrize(
    "items",
    [
        item(0x10, b"1.2") * 2000,
        item(0x20, b"\1\0\0\0" + item(0x30, b"1.2") + item(0x40, b"1.2") * 3000),
        item(0x20, b"\1\0\0\0" + item(0x30, b"1.2") + item(0x40, b"1.2")) * 200,
        item(0x50, item(0x51, b"\0\0\1\0") * 3000),
        struct.pack(">BxH", 0x10, 60000) + b"short",
        b"",
    ],
)
def test_too_many_or_too_long_items_are_malformed_before_anything_decodes_them(items: bytes) -> None:
    with pytest.raises(ValueError, match=r"items|item|contexts"):
        read_request(_BODY[:68] + items)


def nested(kind: int, depth: int) -> bytes:
    """An item within an item of its own kind, again and again."""
    body = b""
    for _ in range(depth):
        body = item(kind, body)
    return body


@pytest.mark.parametrize(
    "items",
    [
        item(0x5F, b"?"),
        item(0x50, item(0x5F, b"?") + item(0x20, b"\xff\xff\0\0") + nested(0x50, 15000)),
        item(0x20, b"\5\0\0\0" + item(0x30, b"1.2.3") + item(0x99, b"?") + nested(0x20, 3000) + item(0x40, b"1.2")),
        item(0x20, b"\5"),
        nested(0x10, 1) * 3,
    ],
    ids=["top", "in user information", "in a context", "a context of one byte", "empty application contexts"],
)
def test_items_that_are_not_recognised_where_they_stand_are_ignored(items: bytes) -> None:
    """PS3.8 9.3.1. An item within its own kind, thousands deep, must not be followed."""
    request = read_request(_BODY + items)
    assert [str(c.abstract_syntax) for c in request.primitive.presentation_context_definition_list][:2] == [
        CT,
        VERIFICATION,
    ]


_BODY = request_body([(CT, [EXPLICIT, J2K]), (VERIFICATION, [IMPLICIT])])


def test_what_cannot_be_sent_is_told_class_by_class_with_the_reason() -> None:
    proposed = [(PRIVATE, [EXPLICIT]), (PRIVATE, [IMPLICIT]), (MR, [DEFLATED]), (CT, [DEFLATED]), (CT, [EXPLICIT])]
    request = read_request(request_body(proposed))
    _, contexts = accept(request, AE, 131072)
    assert refused_classes(request, AE, contexts) == [
        RefusedClass(PRIVATE, (EXPLICIT, IMPLICIT), "the node takes no objects of this SOP class"),
        RefusedClass(MR, (DEFLATED,), "the node reads none of its transfer syntaxes"),
    ]


def test_a_peer_that_proposes_everything_makes_no_long_list() -> None:
    request = read_request(request_body([(f"{PRIVATE}.{number}", [EXPLICIT]) for number in range(1, 101)]))
    assert len(refused_classes(request, AE, {})) == 16
