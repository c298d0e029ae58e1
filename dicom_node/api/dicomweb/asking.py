"""What search and retrieval by DICOMweb have in common: the objects, who reads them, and how looks are written down."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request

from dicom_node.api.access import address_of
from dicom_node.api.answers.problem_kinds import BUSY, OBJECT_LOST, SWITCHED_OFF
from dicom_node.api.answers.problems import ProblemError
from dicom_node.api.audited import Audited
from dicom_node.api.dicomweb.negotiation import AcceptedType, accepted
from dicom_node.api.front.proxies import MARKS
from dicom_node.api.parts import ApiParts, InstanceUid, Parts, StudyUid
from dicom_node.core.audit import AuditedAct, AuditedEvent
from dicom_node.core.errors import NotAnalysable, UnreadableObject
from dicom_node.core.principal import Principal
from dicom_node.core.uids import is_valid_uid
from dicom_node.index.views.kept_objects import ReadableObject, object_of, objects_of
from dicom_node.viewing.readers import ImageReaders, ObjectLost, ReadersBusy, StoredFile

ROOT = "/dicom-web"


@dataclass(frozen=True, slots=True)
class Asking:
    """One request, and who reads stored objects for it."""

    request: Request
    parts: ApiParts
    images: ImageReaders

    def file(self, one: ReadableObject) -> StoredFile:
        """Return the file of an object."""
        return StoredFile(self.parts.open_object(one.object_key), one.sha256)

    @property
    def accepted(self) -> Sequence[AcceptedType]:
        """What the client accepts, the best first."""
        return accepted(self.request)

    @property
    def root(self) -> str:
        """The address of the service, as the client calls this node.

        dicomweb-client leaves the port out of Host; where that names this machine and no proxy, it is known.
        """
        url, server = self.request.base_url, self.request.scope.get("server")
        is_direct = not any(mark in self.request.headers for mark in MARKS)
        if server and url.port is None and url.hostname == server[0] and is_direct:
            url = url.replace(port=server[1])
        return f"{str(url).rstrip('/')}{ROOT}"

    def address(self, one: ReadableObject) -> str:
        """Return the whole address of an object."""
        return (
            f"{self.root}/studies/{one.study_instance_uid}/series/{one.series_instance_uid}"
            f"/instances/{one.sop_instance_uid}"
        )

    def has(self, tag: str) -> bool:
        """Tell whether the client has the answer of this tag already (RFC 9110 13.1.2)."""
        given = self.request.headers.get("if-none-match", "")
        return tag in {one.strip().removeprefix("W/") for one in given.split(",")}


def asking(request: Request, parts: Parts) -> Asking:
    """Return who asks. Raises `ProblemError` 404 where this process reads no images."""
    if parts.images is None:
        raise ProblemError(404, "This process shows no images. Ask the one with the role api.", kind=SWITCHED_OFF)
    return Asking(request, parts, parts.images)


CurrentAsking = Annotated[Asking, Depends(asking)]


# --- what addresses name ---------------------------------------------------------------------------------------------


def objects_of_study(parts: Parts, uid: StudyUid) -> Sequence[ReadableObject]:
    """Return the objects of the study that an address names. Raises `ProblemError` 404."""
    with parts.database.read() as connection:
        found = objects_of(connection, [uid]).get(uid)
    if not found:
        raise ProblemError(404, "The node has no objects of this study.")
    return found


def objects_of_series(parts: Parts, uid: StudyUid, series: InstanceUid) -> Sequence[ReadableObject]:
    """Return the objects of the series that an address names. Raises `ProblemError` 404."""
    found = [one for one in objects_of_study(parts, uid) if one.series_instance_uid == series]
    if not found:
        raise ProblemError(404, "The node has no objects of this series in this study.")
    return found


def object_named(parts: Parts, uid: StudyUid, series: InstanceUid, instance: InstanceUid) -> ReadableObject:
    """Return the object that an address names. Raises `ProblemError` 404."""
    with parts.database.read() as connection:
        one = object_of(connection, uid, instance)
    if one is None or one.series_instance_uid != series:
        raise ProblemError(404, "The node does not have this object in this series of this study, or not any more.")
    return one


OfStudy = Annotated[Sequence[ReadableObject], Depends(objects_of_study)]
OfSeries = Annotated[Sequence[ReadableObject], Depends(objects_of_series)]
NamedObject = Annotated[ReadableObject, Depends(object_named)]


# --- what is written down --------------------------------------------------------------------------------------------


class _AuditedLook(Audited):
    """A look at a study: one record for it, who looks and a few minutes, whichever of its images they look at."""

    def _event(self, request: Request, parts: ApiParts, principal: Principal) -> AuditedEvent:  # noqa: ARG002
        uid = str(request.path_params.get("uid", ""))
        return AuditedEvent(
            act=self.act,
            actor=principal,
            address=address_of(request),
            study_instance_uid=uid if is_valid_uid(uid) else "",
            detail={"route": f"GET {ROOT}/studies/{{uid}}"},
        )


class _AuditedSearch(Audited):
    """A search: by which attributes, never for which values, which may be a patient's name."""

    def _event(self, request: Request, parts: ApiParts, principal: Principal) -> AuditedEvent:  # noqa: ARG002
        asked = sorted({name for name in request.query_params if name.isalnum() and len(name) <= 64})
        route = str(getattr(request.scope.get("route"), "path", ""))
        return AuditedEvent(
            act=self.act, actor=principal, address=address_of(request),
            detail={"route": f"GET {route}", "asked": " ".join(asked)[:256]},
        )  # fmt: skip


#: Dependencies of routes, after the permission.
Looks: Any = Depends(_AuditedLook(AuditedAct.IMAGES_READ))
Searches: Any = Depends(_AuditedSearch(AuditedAct.QUERY))


# --- answers ---------------------------------------------------------------------------------------------------------


def kept_with(tag: str = "") -> dict[str, str]:
    """Return the headers of an answer that its reader may keep and must ask for again: they may have lost the right."""
    return {"Cache-Control": "private, no-cache", **({"ETag": tag} if tag else {})}


def tag_of(one: ReadableObject, about: str) -> str:
    """Return the entity tag of an answer about an object; `about` says which one."""
    return f'"{one.sha256[:32]}-{about}"'


@contextmanager
def told_as_problems() -> Iterator[None]:
    """Turn what readers raise into answers: 404 for what is gone, 406 for what cannot be shown, 503 for no place."""
    try:
        yield
    except ObjectLost as error:
        raise lost() from error
    except (UnreadableObject, NotAnalysable) as error:
        raise ProblemError(406, str(error)) from error
    except ReadersBusy as error:
        text = "All processes that read images are at work. Try again."
        raise ProblemError(503, text, {"Retry-After": "5"}, kind=BUSY) from error


def lost() -> ProblemError:
    """Return the answer for an object whose file is gone or damaged."""
    return ProblemError(
        404, "The object is recorded but its file is gone or damaged. Look at the disk.", kind=OBJECT_LOST
    )
