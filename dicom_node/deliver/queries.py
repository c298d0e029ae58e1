"""Whose study is it, and what has arrived? Asked of a destination by C-FIND or QIDO-RS, within a bounded time.

Only what it says of that study counts: some servers ignore keys and name whatever they have.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import httpx
from pydicom.datadict import tag_for_keyword
from pydicom.uid import UID

from dicom_node.config.peers import WebPeer
from dicom_node.core.calls.cutoff import Cutoff
from dicom_node.core.calls.limits import retry_after_s
from dicom_node.core.errors import (
    CredentialsRefused,
    DeliveryDeferred,
    DeliveryError,
    DestinationAway,
    QueryNotOffered,
    QueryRefused,
    SourceUnavailable,
    tls_fault_told,
)
from dicom_node.core.outputs.artifact_kinds import RESULT_CLASSES
from dicom_node.deliver.connections.web import nobody_took_it, web_client
from dicom_node.deliver.outgoing import SentObject
from dicom_node.dimse.dicom_file import UNCOMPRESSED
from dicom_node.dimse.find_scu import find
from dicom_node.dimse.line import PeerErrors
from dicom_node.dimse.negotiation import Remote, deferred_rejection
from dicom_node.dimse.retrieve_scu import STUDY_ROOT_FIND, RetrieveAssociation
from dicom_node.dimse.vocabulary import VERIFICATION
from dicom_node.headers.patient import COMPARED, Said, said_in

#: Whoever needs longer to find one study by its UID does not get its result yet.
_ANSWERED_WITHIN_S = 20.0
#: One study has one answer, or a few; more are not read.
_MOST_ANSWERS = 100
#: A list of series as long as this may be the first page of a longer one.
_MOST_SERIES = 100
#: A series of the node's own holds fewer.
_MOST_OBJECTS = 10_000
_MOST_BYTES = 1 << 20
_ADVICE = 'Tried again later; check_identity = "none" of this destination has results sent without asking.'


# --- C-FIND ------------------------------------------------------------------------------------------------------

#: With what they do take beside it an association is accepted by those that know no queries, too.
_PROPOSED = [(uid, tuple(map(str, UNCOMPRESSED))) for uid in (STUDY_ROOT_FIND, VERIFICATION, *RESULT_CLASSES)]
_NOT_OFFERED = {
    0x0122: "it knows no such SOP class",
    0x0124: "it does not allow this node to ask",
    0x0211: "it knows no such operation",
    0xA900: "it does not take these keys",
}
_ASSOCIATIONS_TRIED = 2


class _CutOff(DeliveryError):
    """The peer let the node in and broke off at its question."""


class _QueryAssociation(RetrieveAssociation):
    """An association for a question; where there is nobody to answer it, nothing can be sent either."""

    peer_errors = PeerErrors(DestinationAway, "Tried again later.", deferred_rejection)


def ask_dicom(remote: Remote, study_instance_uid: str) -> Sequence[Said]:
    """Ask by C-FIND (Study Root, PS3.4 C.6.2) whose study it is; nothing where the peer does not have it.

    A peer that lets the node in and then cuts the question off twice is one that does not allow it (Orthanc does so).
    Raises `QueryNotOffered`, and `DeliveryDeferred` where it may answer later.
    """
    prompt = replace(remote, timeout_s=min(remote.timeout_s, _ANSWERED_WITHIN_S))
    for _ in range(_ASSOCIATIONS_TRIED):
        with suppress(_CutOff):
            return _found(prompt, study_instance_uid)
    raise QueryNotOffered(f"{remote} cuts C-FIND off. Allow this node to query there.")


def series_at_dicom(remote: Remote, study_instance_uid: str) -> Collection[str]:
    """Ask by C-FIND for the Series Instance UIDs that the peer has of a study.

    Raises `QueryNotOffered`, and `DeliveryDeferred` where it may answer later.
    """
    prompt = replace(remote, timeout_s=min(remote.timeout_s, _ANSWERED_WITHIN_S))
    keys = {"QueryRetrieveLevel": "SERIES", "StudyInstanceUID": study_instance_uid, "SeriesInstanceUID": ""}
    try:
        with _QueryAssociation(prompt, _PROPOSED) as association:
            found = list(islice(find(prompt, association, keys), _MOST_SERIES))
    except SourceUnavailable as error:
        raise DeliveryDeferred(f"{error} {_ADVICE}") from error
    except QueryRefused as error:
        raise QueryNotOffered(f"{remote} does not say which series it has of a study.") from error
    return _whole_list(str(remote), [str(one.get("SeriesInstanceUID") or "").strip() for one in found])


def objects_at_dicom(remote: Remote, objects: Sequence[SentObject]) -> Collection[str]:
    """Ask by C-FIND at image level (PS3.4 C.6.2.1.5), series by series, which of these objects the peer has.

    All that it has of a series is listed: some peers do not know lists of UIDs as keys. Raises `QueryNotOffered`, and
    `DeliveryDeferred` where it may answer later.
    """
    prompt = replace(remote, timeout_s=min(remote.timeout_s, _ANSWERED_WITHIN_S))
    there: set[str] = set()
    try:
        with _QueryAssociation(prompt, _PROPOSED) as association:
            if association.context_of(STUDY_ROOT_FIND) is None:
                raise QueryNotOffered(f"{remote} does not accept {UID(STUDY_ROOT_FIND).name}.")
            for study, series in _series_of(objects):
                keys = {"QueryRetrieveLevel": "IMAGE", "StudyInstanceUID": study, "SeriesInstanceUID": series}
                found = islice(find(prompt, association, keys | {"SOPInstanceUID": ""}), _MOST_OBJECTS)
                there.update(str(one.get("SOPInstanceUID") or "").strip() for one in found)
    except SourceUnavailable as error:
        raise DeliveryDeferred(f"{error} Asked again later.") from error
    except QueryRefused as error:
        raise QueryNotOffered(f"{remote} refuses C-FIND at image level (0x{error.status:04X}).") from error
    return there & {one.uid for one in objects}


def _series_of(objects: Sequence[SentObject]) -> Collection[tuple[str, str]]:
    return dict.fromkeys((one.study_instance_uid, one.series_instance_uid) for one in objects)


def _whole_list(told: str, series: Sequence[str]) -> Collection[str]:
    if len(series) >= _MOST_SERIES or "" in series:
        raise QueryNotOffered(f"{told} does not say which series it has of a study.")
    return set(series)


def _found(remote: Remote, study_instance_uid: str) -> Sequence[Said]:
    with _QueryAssociation(remote, _PROPOSED) as association:
        is_offered = association.context_of(STUDY_ROOT_FIND) is not None
        named = _matches(remote, association, study_instance_uid) if is_offered else ()
    if not is_offered:
        raise QueryNotOffered(f"{remote} does not accept {UID(STUDY_ROOT_FIND).name}. Enable it there for this node.")
    return _about(study_instance_uid, str(remote), named)


def _matches(remote: Remote, association: RetrieveAssociation, study_instance_uid: str) -> Sequence[tuple[str, Said]]:
    try:
        return _named(remote, association, study_instance_uid)
    except DestinationAway as lost:
        if not isinstance(lost.__cause__, TimeoutError):
            raise _CutOff from lost
        raise DeliveryDeferred(f"{remote} does not say whose study it has. {_ADVICE}") from lost
    except SourceUnavailable as error:
        raise DeliveryDeferred(f"{error} {_ADVICE}") from error
    except QueryRefused as error:
        if error.status in _NOT_OFFERED:
            raise QueryNotOffered(f"{remote} refuses C-FIND: {_NOT_OFFERED[error.status]}.") from error
        raise DeliveryDeferred(f"{error} {_ADVICE}") from error


def _named(remote: Remote, association: RetrieveAssociation, study_instance_uid: str) -> list[tuple[str, Said]]:
    """Return the studies that the peer names, each by its UID, as far as they come in time."""
    deadline = time.monotonic() + remote.timeout_s
    keys = {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": study_instance_uid} | dict.fromkeys(COMPARED, "")
    named: list[tuple[str, Said]] = []
    for match in find(remote, association, keys):
        named.append((str(match.get("StudyInstanceUID") or "").strip(), said_in(match)))
        if len(named) == _MOST_ANSWERS or time.monotonic() > deadline:
            break
    return named


def _about(study_instance_uid: str, told: str, named: Sequence[tuple[str, Said]]) -> list[Said]:
    of_study = [said for uid, said in named if uid == study_instance_uid]
    if named and not of_study:
        raise QueryNotOffered(f"{told} answers with other studies than the one it was asked for.")
    return of_study


# --- QIDO-RS -----------------------------------------------------------------------------------------------------

_TAGS: Mapping[str, str] = {keyword: f"{tag_for_keyword(keyword):08X}" for keyword in COMPARED}
_STUDY_INSTANCE_UID, _SERIES_INSTANCE_UID, _SOP_INSTANCE_UID = "0020000D", "0020000E", "00080018"
#: The one attribute of those compared that is not told without being asked for (PS3.18 Table 10.6.3-3).
_ISSUER = _TAGS["IssuerOfPatientID"]
_NAME_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
#: Client errors that pass by themselves.
_PASSING_STATUSES = frozenset({408, 425, 429})
_NOT_IMPLEMENTED = 501
_BAD_REQUEST, _UNAUTHORIZED, _NOT_FOUND = 400, 401, 404


@dataclass(frozen=True, slots=True)
class _Response:
    """A response that was read within its bounds."""

    status: int
    retry_after_s: float | None
    body: bytes


def ask_web(peer: WebPeer, timeout_s: float, study_instance_uid: str) -> Sequence[Said]:
    """Ask by QIDO-RS (PS3.18 10.6) whose study it is; nothing where the server does not have it.

    Raises `QueryNotOffered`, `CredentialsRefused`, and `DeliveryDeferred` where it may answer later.
    """
    told = str(httpx.URL(peer.url).copy_with(userinfo=b"", query=None))
    asked = {"StudyInstanceUID": study_instance_uid, "limit": str(_MOST_ANSWERS)}
    response = _get(peer, told, timeout_s, asked | {"includefield": _ISSUER})
    if response.status == _BAD_REQUEST:  # by a server that does not know what else may be asked for
        response = _get(peer, told, timeout_s, asked)
    _check(told, response)
    named = [(_text(one, _STUDY_INSTANCE_UID), _said(one)) for one in _listed(told, response)]
    return _about(study_instance_uid, told, named)


def series_at_web(peer: WebPeer, timeout_s: float, study_instance_uid: str) -> Collection[str]:
    """Ask by QIDO-RS for the Series Instance UIDs that the server has of a study.

    Raises `QueryNotOffered`, `CredentialsRefused`, and `DeliveryDeferred` where it may answer later.
    """
    told = str(httpx.URL(peer.url).copy_with(userinfo=b"", query=None))
    asked = {"limit": str(_MOST_SERIES)}
    response = _get(peer, told, timeout_s, asked, f"studies/{study_instance_uid}/series")
    _check(told, response)
    return _whole_list(told, [_text(one, _SERIES_INSTANCE_UID) for one in _listed(told, response)])


def objects_at_web(peer: WebPeer, timeout_s: float, objects: Sequence[SentObject]) -> Collection[str]:
    """Ask by QIDO-RS (PS3.18 10.6), object by object, which of these the server has.

    Raises `QueryNotOffered`, `CredentialsRefused`, and `DeliveryDeferred` where it may answer later.
    """
    told = str(httpx.URL(peer.url).copy_with(userinfo=b"", query=None))
    return {one.uid for one in objects if _is_at_web(peer, told, timeout_s, one)}


def _is_at_web(peer: WebPeer, told: str, timeout_s: float, wanted: SentObject) -> bool:
    asked = {"SOPInstanceUID": wanted.uid, "limit": "2"}
    series = f"series/{wanted.series_instance_uid}/" if wanted.series_instance_uid else ""
    response = _get(peer, told, timeout_s, asked, f"studies/{wanted.study_instance_uid}/{series}instances")
    if response.status == _NOT_FOUND:  # how some servers say that they have no such study or series
        _check_study_is_known(peer, told, timeout_s, wanted)
        return False
    _check(told, response)
    return any(_text(one, _SOP_INSTANCE_UID) == wanted.uid for one in _listed(told, response))


def _check_study_is_known(peer: WebPeer, told: str, timeout_s: float, wanted: SentObject) -> None:
    """Raise what a server means that answers 404 to a search for studies, too: it offers none, or is elsewhere."""
    _check(told, _get(peer, told, timeout_s, {"StudyInstanceUID": wanted.study_instance_uid, "limit": "1"}))


def _get(peer: WebPeer, told: str, timeout_s: float, asked: Mapping[str, str], resource: str = "studies") -> _Response:
    within_s = min(timeout_s, _ANSWERED_WITHIN_S)
    # Identity: a small compressed body could unfold to more than the machine holds.
    headers = {"Accept": "application/dicom+json", "Accept-Encoding": "identity"}
    url = f"{peer.url.rstrip('/')}/{resource}"
    try:
        with (
            web_client(peer, within_s) as client,
            Cutoff(client).after(within_s),
            client.stream("GET", url, params=asked, headers=headers) as response,
        ):
            return _Response(
                response.status_code, retry_after_s(response.headers.get("Retry-After", "")),
                _body(told, response),
            )  # fmt: skip
    except (httpx.RequestError, UnicodeError) as error:
        if nobody_took_it(error):
            why = tls_fault_told(error) or f"cannot be reached ({type(error).__name__})"
            raise DestinationAway(f"{told} {why}. Tried again later.") from error
        raise DeliveryDeferred(f"{told} does not say whose study it has. {_ADVICE}") from error


def _body(told: str, response: httpx.Response) -> bytes:
    body = bytearray()
    for piece in response.iter_raw():
        body += piece
        if len(body) > _MOST_BYTES:
            raise QueryNotOffered(f"{told} answers QIDO-RS with more than can be about one study.")
    return bytes(body)


def _check(told: str, response: _Response) -> None:
    status, what = response.status, f"{told} answered HTTP {response.status} to QIDO-RS."
    if status == _UNAUTHORIZED:
        raise CredentialsRefused(f"{what} Check token, username and password of this destination.")
    if status in _PASSING_STATUSES or (status >= 500 and status != _NOT_IMPLEMENTED):
        raise DeliveryDeferred(f"{what} {_ADVICE}", response.retry_after_s)
    if status not in {200, 204}:
        raise QueryNotOffered(f"{what} Let it answer this node, if it can.")


def _listed(told: str, response: _Response) -> list[Mapping[str, Any]]:
    try:
        answer = json.loads(response.body or b"[]")
    except (ValueError, RecursionError) as error:
        raise QueryNotOffered(f"{told} answers QIDO-RS with something that is not JSON.") from error
    return [one for one in answer if isinstance(one, dict)] if isinstance(answer, list) else []


def _said(study: Mapping[str, Any]) -> Said:
    return {keyword: _text(study, tag) for keyword, tag in _TAGS.items()}


def _text(study: Mapping[str, Any], tag: str) -> str:
    """Return the first value of an element in the DICOM JSON model (PS3.18 F.2); of a name all its groups."""
    element = study.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    first = values[0] if isinstance(values, list) and values else None
    if isinstance(first, dict):
        return "=".join(str(first.get(group) or "") for group in _NAME_GROUPS)
    return "" if first is None else str(first).strip()
