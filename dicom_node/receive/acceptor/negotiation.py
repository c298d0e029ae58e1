"""A-ASSOCIATE: read the request, choose presentation contexts, build the answer (PS3.8 9.3.2 to 9.3.4, PS3.7 D.3).

The PDU types are pynetdicom's. Lengths and counts are checked before it sees the bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from pydicom.uid import UID
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)
from pynetdicom.presentation import PresentationContext

from dicom_node.core.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.dimse.vocabulary import (
    APPLICATION_CONTEXT,
    PLAIN_TRANSFER_SYNTAXES,
    STORAGE_COMMITMENT,
    STORAGE_SOP_CLASSES,
    TRANSFER_SYNTAXES,
    UNKNOWN_APPLICATION_CONTEXT,
    UNKNOWN_CALLED,
    UNKNOWN_CALLER,
    UNKNOWN_PROTOCOL_VERSION,
    VERIFICATION,
    Rejection,
)
from dicom_node.receive.acceptor.admission import Identity, NotAdmitted
from dicom_node.receive.options import AeOption

#: 128 contexts, each with every transfer syntax of the standard, are 155 kB; a user identity adds up to 128 kB. Real
#: senders stay below 64 kB.
MAX_REQUEST_BYTES = 288 << 10
#: Protocol version, two reserved bytes, called and calling AE title, 32 reserved bytes (PS3.8 Table 9-11).
FIXED_BYTES = 68
_MAX_CONTEXTS, _MAX_SYNTAXES, _MAX_USER_ITEMS = 128, 256, 1024
_APPLICATION_CONTEXT, _CONTEXT, _USER_INFORMATION = 0x10, 0x20, 0x50
#: Sub-items that are read: abstract and transfer syntax; longest PDU, implementation, roles, extended negotiation and
#: user identity. The window of operations and common extended negotiation are not: no answer is in order.
_CONTEXT_ITEMS, _USER_ITEMS = frozenset({0x30, 0x40}), frozenset({0x51, 0x52, 0x54, 0x55, 0x56, 0x58})
_FIRST_ITEM, _CONTEXT_HEAD = FIXED_BYTES, 4
_TITLES = struct.Struct(">4x16s16s")
#: PS3.4 B.3.1: full storage (level 2), signatures kept bit by bit (level 3), no element is coerced.
_STORAGE_SUPPORT = b"\x02\x00\x03\x00\x00\x00"
_ACCEPTED, _USER_REJECTION, _NO_ABSTRACT_SYNTAX, _NO_TRANSFER_SYNTAX = 0, 1, 3, 4
_WHY_REFUSED = {
    _NO_ABSTRACT_SYNTAX: "the node takes no objects of this SOP class",
    _NO_TRANSFER_SYNTAX: "the node reads none of its transfer syntaxes",
    _USER_REJECTION: "the peer wants to receive them, and the node sends none here",
}
#: Some propose every SOP class there is.
_MAX_TOLD = 16
_DEFAULT_MAX_PDU_BYTES = 16384
_TITLE_BYTES = 16
#: What pynetdicom makes of items that are not what they say.
_MALFORMED = (ValueError, TypeError, LookupError, AttributeError, AssertionError, struct.error, NotImplementedError)


@dataclass(frozen=True, slots=True)
class Context:
    """An accepted presentation context."""

    sop_class_uid: str
    transfer_syntax_uid: str


@dataclass(frozen=True, slots=True)
class RefusedClass:
    """A SOP class of which no presentation context was accepted, the transfer syntaxes it was proposed in, and why."""

    sop_class_uid: str
    transfer_syntax_uids: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationRequest:
    """An A-ASSOCIATE-RQ, decoded."""

    primitive: A_ASSOCIATE
    calling_ae_title: str
    called_ae_title: str
    identity: Identity | None
    max_pdu_bytes: int
    roles: Mapping[str, tuple[bool, bool]] = field(default_factory=dict)


def read_titles(fixed: bytes) -> tuple[str, str]:
    """Return called and calling AE title from the fixed beginning of an A-ASSOCIATE-RQ's body.

    Zeros behind a title are padding, as some senders write it. What else is no character of a title is replaced, so
    that it is no title of ours.
    """
    called, calling = (title.rstrip(b"\0 ").decode("ascii", "replace").strip() for title in _TITLES.unpack_from(fixed))
    return called, calling


def read_request(body: bytes) -> AssociationRequest:
    """Decode the body of an A-ASSOCIATE-RQ.

    Raises `ValueError` when it is malformed, `NotAdmitted` for another protocol version or application context, and
    for a caller without a title.
    """
    body = _recognised(body)
    if not struct.unpack_from(">H", body)[0] & 1:
        raise NotAdmitted(UNKNOWN_PROTOCOL_VERSION)
    primitive = _decoded(body)
    if str(primitive.application_context_name) != APPLICATION_CONTEXT:
        raise NotAdmitted(UNKNOWN_APPLICATION_CONTEXT)
    items = list(primitive.user_information)
    lengths = [item.maximum_length_received for item in items if isinstance(item, MaximumLengthNotification)]
    roles = [item for item in items if isinstance(item, SCP_SCU_RoleSelectionNegotiation)]
    return AssociationRequest(
        primitive=primitive,
        calling_ae_title=str(primitive.calling_ae_title).strip(),
        called_ae_title=str(primitive.called_ae_title).strip(),
        identity=_identity(items),
        max_pdu_bytes=(lengths[0] or _DEFAULT_MAX_PDU_BYTES) if lengths else _DEFAULT_MAX_PDU_BYTES,
        roles={str(item.sop_class_uid): (bool(item.scu_role), bool(item.scp_role)) for item in roles},
    )


def accept(request: AssociationRequest, ae: AeOption, max_pdu_bytes: int) -> tuple[bytes, Mapping[int, Context]]:
    """Choose among the proposed contexts; return the A-ASSOCIATE-AC PDU and the contexts by their ID."""
    results: list[PresentationContext] = []
    accepted: dict[int, Context] = {}
    for proposed in request.primitive.presentation_context_definition_list:
        result, syntax = _choose(proposed, ae, request.roles)
        answer = PresentationContext()
        answer.context_id = context_id = int(proposed.context_id or 0)
        answer.abstract_syntax = proposed.abstract_syntax
        answer.transfer_syntax = [UID(syntax)]
        answer.result = result
        results.append(answer)
        if result == _ACCEPTED:
            accepted[context_id] = Context(str(proposed.abstract_syntax), syntax)
    return _acceptance(request, results, accepted, max_pdu_bytes), accepted


def refused_classes(
    request: AssociationRequest, ae: AeOption, accepted: Mapping[int, Context]
) -> Sequence[RefusedClass]:
    """Return what was proposed and cannot be sent, class by class; one accepted in another context is none of these."""
    taken = {context.sop_class_uid for context in accepted.values()}
    refused: dict[str, RefusedClass] = {}
    for proposed in request.primitive.presentation_context_definition_list:
        uid = str(proposed.abstract_syntax)
        if uid in taken:
            continue
        before = refused[uid].transfer_syntax_uids if uid in refused else ()
        syntaxes = dict.fromkeys([*before, *(str(syntax) for syntax in proposed.transfer_syntax)])
        why = _WHY_REFUSED[_choose(proposed, ae, request.roles)[0]]
        refused[uid] = RefusedClass(uid, tuple(syntaxes), why)
    return list(refused.values())[:_MAX_TOLD]


def reject_pdu(rejection: Rejection) -> bytes:
    """Build an A-ASSOCIATE-RJ."""
    pdu = A_ASSOCIATE_RJ()
    pdu.result, pdu.source, pdu.reason_diagnostic = rejection.result, rejection.source, rejection.reason
    return bytes(pdu.encode())


def _choose(proposed: PresentationContext, ae: AeOption, roles: Mapping[str, tuple[bool, bool]]) -> tuple[int, str]:
    """Return the result (PS3.8 Table 9-18) and the transfer syntax: the sender's first one that is supported."""
    sop_class = str(proposed.abstract_syntax)
    syntaxes = [str(syntax) for syntax in proposed.transfer_syntax]
    if sop_class in (VERIFICATION, STORAGE_COMMITMENT):
        supported: tuple[str, ...] = PLAIN_TRANSFER_SYNTAXES
    elif sop_class in STORAGE_SOP_CLASSES or ae.any_sop_class:
        supported = TRANSFER_SYNTAXES
    else:
        return _NO_ABSTRACT_SYNTAX, syntaxes[0]
    chosen = next((syntax for syntax in syntaxes if syntax in supported), None)
    if chosen is None:
        return _NO_TRANSFER_SYNTAX, syntaxes[0]
    is_user, is_provider = roles.get(sop_class, (True, False))
    is_wanted = is_user or (is_provider and sop_class == STORAGE_COMMITMENT)
    return (_ACCEPTED, chosen) if is_wanted else (_USER_REJECTION, chosen)


def _acceptance(
    request: AssociationRequest, results: list[PresentationContext], accepted: Mapping[int, Context], max_pdu_bytes: int
) -> bytes:
    answer = A_ASSOCIATE()
    answer.application_context_name = UID(APPLICATION_CONTEXT)
    answer.calling_ae_title = request.primitive.calling_ae_title
    answer.called_ae_title = request.primitive.called_ae_title
    answer.result, answer.result_source = 0x00, 0x01
    answer.presentation_context_definition_results_list = results
    answer.user_information = list(_user_information(request, accepted, max_pdu_bytes))
    pdu = A_ASSOCIATE_AC()
    pdu.from_primitive(answer)
    return bytes(pdu.encode())


def _user_information(
    request: AssociationRequest, accepted: Mapping[int, Context], max_pdu_bytes: int
) -> Iterator[Any]:
    length = MaximumLengthNotification()
    length.maximum_length_received = max_pdu_bytes
    class_uid = ImplementationClassUIDNotification()
    class_uid.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    version = ImplementationVersionNameNotification()
    version.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    yield from (length, class_uid, version)
    # No asynchronous operations window: without an answer it is one operation at a time (PS3.7 D.3.3.3).
    classes = {context.sop_class_uid for context in accepted.values()}
    for sop_class in sorted(classes & set(request.roles)):
        role = SCP_SCU_RoleSelectionNegotiation()
        role.sop_class_uid, role.scu_role, role.scp_role = UID(sop_class), True, False
        if sop_class == STORAGE_COMMITMENT:  # a PACS that was asked reports as the provider that it is
            role.scu_role, role.scp_role = request.roles[sop_class]
        yield role
    asked = [i for i in request.primitive.user_information if isinstance(i, SOPClassExtendedNegotiation)]
    for item in asked:
        if str(item.sop_class_uid) in classes & STORAGE_SOP_CLASSES:
            support = SOPClassExtendedNegotiation()
            support.sop_class_uid, support.service_class_application_information = item.sop_class_uid, _STORAGE_SUPPORT
            yield support
    if request.identity and request.identity.wants_response and request.identity.kind in (1, 2):
        positive = UserIdentityNegotiation()
        positive.server_response = b""
        yield positive


def _identity(items: Sequence[object]) -> Identity | None:
    for item in items:
        if isinstance(item, UserIdentityNegotiation):
            return Identity(
                int(item.user_identity_type or 0),
                bool(item.positive_response_requested),
                bytes(item.primary_field or b""),
                bytes(item.secondary_field or b""),
            )
    return None


def _decoded(body: bytes) -> A_ASSOCIATE:
    pdu = A_ASSOCIATE_RQ()
    try:
        pdu.decode(struct.pack(">BxL", 1, len(body)) + body)
        primitive = pdu.to_primitive()
        contexts = primitive.presentation_context_definition_list
    except _MALFORMED as error:
        raise ValueError(f"A-ASSOCIATE-RQ cannot be decoded ({type(error).__name__})") from error
    ids = [context.context_id for context in contexts]
    if len(set(ids)) != len(ids) or any(not context.transfer_syntax for context in contexts):
        raise ValueError("its presentation contexts are malformed")
    if not all(context.abstract_syntax for context in contexts):
        raise ValueError("a presentation context has no abstract syntax")
    return primitive


def _recognised(body: bytes) -> bytes:
    """Return the body with the items that are recognised where they stand; others are ignored (PS3.8 9.3.1), which
    also keeps items out of items of their own kind. Every length must fit. Raises `ValueError`, `NotAdmitted`."""
    if len(body) < _FIRST_ITEM:
        raise ValueError("A-ASSOCIATE-RQ is too short")
    kept, contexts = [_with_known_padding(body[:_FIRST_ITEM])], 0
    for kind, start, end in _items(body, _FIRST_ITEM, len(body), _MAX_CONTEXTS + 8):
        if kind == _CONTEXT and end - start >= _CONTEXT_HEAD:
            contexts += 1
            first = start + _CONTEXT_HEAD
            sub_items = _among(body, _items(body, first, end, _MAX_SYNTAXES), _CONTEXT_ITEMS)
            kept.append(_item(kind, body[start:first] + sub_items))
        elif kind == _USER_INFORMATION:
            kept.append(_item(kind, _among(body, _items(body, start, end, _MAX_USER_ITEMS), _USER_ITEMS)))
        elif kind == _APPLICATION_CONTEXT:
            kept.append(_item(kind, body[start:end]))
    if not 0 < contexts <= _MAX_CONTEXTS:
        raise ValueError(f"{contexts} presentation contexts")
    return b"".join(kept)


def _with_known_padding(fixed: bytes) -> bytes:
    """Return the fixed part with its titles padded by blanks (PS3.8 9.3.2), also where a sender filled up with zeros.

    Raises `NotAdmitted` for a title of nothing but padding, which is none (PS3.5 6.2): such a caller is told why.
    """
    called, calling = (fixed[start : start + _TITLE_BYTES].rstrip(b"\0 ") for start in (4, 4 + _TITLE_BYTES))
    if not called:
        raise NotAdmitted(UNKNOWN_CALLED)
    if not calling:
        raise NotAdmitted(UNKNOWN_CALLER)
    titles = called.ljust(_TITLE_BYTES) + calling.ljust(_TITLE_BYTES)
    return fixed[:4] + titles + fixed[4 + 2 * _TITLE_BYTES :]


def _among(body: bytes, items: Iterator[tuple[int, int, int]], recognised: Set[int]) -> bytes:
    """Return those of the items whose type is recognised."""
    return b"".join(_item(kind, body[start:end]) for kind, start, end in items if kind in recognised)


def _item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(value)) + value


def _items(body: bytes, position: int, end: int, most: int) -> Iterator[tuple[int, int, int]]:
    """Yield type, start and end of each item's value."""
    count = 0
    while position < end:
        count += 1
        if count > most or position + 4 > end:
            raise ValueError("its items are malformed or too many")
        kind, length = struct.unpack_from(">BxH", body, position)
        start, position = position + 4, position + 4 + length
        if position > end:
            raise ValueError("an item is longer than what holds it")
        yield kind, start, position
