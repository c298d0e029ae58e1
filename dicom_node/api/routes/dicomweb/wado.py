"""WADO-RS (PS3.18 10.4): objects and their metadata. Long answers are made piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain

from fastapi import APIRouter
from starlette.responses import Response, StreamingResponse

from dicom_node.api.access import Reads
from dicom_node.api.answers.problems import ProblemError, described
from dicom_node.api.dicomweb.asking import (
    ROOT,
    Asking,
    CurrentAsking,
    Looks,
    NamedObject,
    OfSeries,
    OfStudy,
    kept_with,
    lost,
    tag_of,
    told_as_problems,
)
from dicom_node.api.dicomweb.multipart_answers import AnswerPart, multipart
from dicom_node.api.dicomweb.negotiation import AcceptedType
from dicom_node.core.errors import NotAnalysable, UnreadableObject
from dicom_node.index.views.kept_objects import ReadableObject
from dicom_node.viewing.described import EXPLICIT_LITTLE, Described
from dicom_node.viewing.readers import StoredFile

router = APIRouter(
    prefix=f"{ROOT}/studies/{{uid}}",
    tags=["DICOMweb"],
    dependencies=[Reads],
    include_in_schema=False,  # PS3.18 describes it, and the conformance statement says what of it is here
    responses=described(400, 401, 403, 404, 406, 422, 429, 503),
)
_DICOM, _JSON = "application/dicom", "application/dicom+json"
_CHUNK = 1 << 20
_BULK_MARK = '"BulkDataURI":"bulkdata/'


@router.get("", dependencies=[Looks])
def retrieve_study(asking: CurrentAsking, objects: OfStudy) -> Response:
    """All objects of a study."""
    return _objects(asking, objects)


@router.get("/series/{series}", dependencies=[Looks])
def retrieve_series(asking: CurrentAsking, objects: OfSeries) -> Response:
    """All objects of a series."""
    return _objects(asking, objects)


@router.get("/series/{series}/instances/{instance}", dependencies=[Looks])
def retrieve_instance(asking: CurrentAsking, one: NamedObject) -> Response:
    """One object."""
    wish = next((wish for wish in asking.accepted if wish.takes(_DICOM) or wish.takes_part(_DICOM)), None)
    if wish is None or wish.is_multipart:
        return _objects(asking, [one])
    with told_as_problems():
        content, syntax = _bytes_of(asking, one, wish)
    return StreamingResponse(content, media_type=f"{_DICOM}; transfer-syntax={syntax}", headers=kept_with())


def _objects(asking: Asking, objects: Sequence[ReadableObject]) -> Response:
    wish = next((one for one in asking.accepted if one.takes_part(_DICOM)), None)
    if wish is None:
        raise _not_acceptable()
    there = [one for one in objects if asking.parts.open_object(one.object_key).is_file()]
    if not there:
        raise lost()
    with told_as_problems():  # what cannot be had at all is known before the answer begins
        first = _part(_DICOM, *_bytes_of(asking, there[0], wish))
    rest = (_part(_DICOM, *_bytes_or_stored(asking, one, wish)) for one in there[1:])
    # PS3.18 Table 10.4.3-1: some could not be found.
    status = 200 if len(there) == len(objects) else 206
    return multipart(_DICOM, chain([first], rest), kept_with(), status=status)


def _not_acceptable() -> ProblemError:
    return ProblemError(
        406,
        f'Objects come as multipart/related; type="{_DICOM}", as they are stored (transfer-syntax=*) or in '
        f"{EXPLICIT_LITTLE}. Accept one of these.",
    )


def _part(media_type: str, content: Iterator[bytes], syntax: str) -> AnswerPart:
    return AnswerPart(f"{media_type}; transfer-syntax={syntax}" if syntax else media_type, "", content)


def _bytes_of(asking: Asking, one: ReadableObject, wish: AcceptedType) -> tuple[Iterator[bytes], str]:
    """Return an object in the encoding that is asked for, and which that is; none named is Explicit VR Little Endian
    (PS3.18 8.7.3.5.2). Raises what readers raise, and `ProblemError` 406."""
    file = asking.file(one)
    stored = asking.images.describe(file).layout.transfer_syntax_uid
    if wish.transfer_syntax in {"*", stored} or (not wish.transfer_syntax and stored == EXPLICIT_LITTLE):
        return _stored_bytes(file), stored
    if wish.transfer_syntax not in {"", EXPLICIT_LITTLE}:
        raise _not_acceptable()
    return _explicit_bytes(asking, file), EXPLICIT_LITTLE


def _bytes_or_stored(asking: Asking, one: ReadableObject, wish: AcceptedType) -> tuple[Iterator[bytes], str]:
    """As `_bytes_of`; but one among many that cannot be put into another encoding comes as it is stored."""
    try:
        return _bytes_of(asking, one, wish)
    except (UnreadableObject, NotAnalysable, ProblemError):
        return _stored_bytes(asking.file(one)), ""


def _stored_bytes(file: StoredFile) -> Iterator[bytes]:
    with file.path.open("rb") as opened:
        yield from _pieces(opened.read)


def _explicit_bytes(asking: Asking, file: StoredFile) -> Iterator[bytes]:
    """Write the object now, and read it when it is asked for."""
    held = ExitStack()
    opened = held.enter_context(asking.images.explicit(file))

    def pieces() -> Iterator[bytes]:
        with held:
            yield from _pieces(opened.read)

    return pieces()


def _pieces(read: Callable[[int], bytes]) -> Iterator[bytes]:
    while piece := read(_CHUNK):
        yield piece


# --- metadata --------------------------------------------------------------------------------------------------------


@router.get("/metadata", dependencies=[Looks])
def retrieve_study_metadata(asking: CurrentAsking, objects: OfStudy) -> Response:
    """The headers of a study's objects."""
    return _metadata(asking, objects)


@router.get("/series/{series}/metadata", dependencies=[Looks])
def retrieve_series_metadata(asking: CurrentAsking, objects: OfSeries) -> Response:
    """The headers of a series' objects."""
    return _metadata(asking, objects)


@router.get("/series/{series}/instances/{instance}/metadata", dependencies=[Looks])
def retrieve_instance_metadata(asking: CurrentAsking, one: NamedObject) -> Response:
    """The header of an object."""
    tag = tag_of(one, "metadata")
    if asking.has(tag):
        return Response(status_code=304, headers=kept_with(tag))
    answer = _metadata(asking, [one])
    answer.headers["ETag"] = tag
    return answer


def _metadata(asking: Asking, objects: Sequence[ReadableObject]) -> Response:
    if not any(one.takes(_JSON) or one.takes("application/json") for one in asking.accepted):
        raise ProblemError(406, f"Metadata come as {_JSON}; accept that.")
    headers = _headers(asking, objects)
    with told_as_problems():
        first = next(headers, None)
    if first is None:
        raise lost()
    return StreamingResponse(_json_list(first, headers), media_type=_JSON, headers=kept_with())


def _headers(asking: Asking, objects: Sequence[ReadableObject]) -> Iterator[str]:
    """Yield the headers that can be read, with whole addresses of bulk data: in a text of a header every quote is
    escaped, so that nothing but such an address looks like one."""
    read = asking.images.describe_all([asking.file(one) for one in objects])
    for one, found in zip(objects, read, strict=True):
        if isinstance(found, Described):
            yield found.header.replace(_BULK_MARK, f'"BulkDataURI":"{asking.address(one)}/bulkdata/')


def _json_list(first: str, rest: Iterator[str]) -> Iterator[bytes]:
    yield f"[{first}".encode()
    for one in rest:
        yield f",\n{one}".encode()
    yield b"]"
