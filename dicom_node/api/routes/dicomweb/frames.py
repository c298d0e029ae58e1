"""WADO-RS (PS3.18 10.4): frames and bulk data, as they are stored or decoded, and pictures.

Frames are cut out of their files as they lie there; only what a client wants in another encoding, or drawn, goes
through a process with limits.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from typing import Annotated, BinaryIO

from fastapi import APIRouter, Depends, Path, Request
from starlette.responses import Response

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
    tag_of,
    told_as_problems,
)
from dicom_node.api.dicomweb.multipart_answers import AnswerPart, multipart
from dicom_node.api.dicomweb.negotiation import AcceptedType
from dicom_node.index.views.kept_objects import ReadableObject
from dicom_node.viewing.described import EXPLICIT_LITTLE, PLAIN, FrameLayout, View
from dicom_node.viewing.readers import ObjectLost, StoredFile

router = APIRouter(
    prefix=f"{ROOT}/studies/{{uid}}",
    tags=["DICOMweb"],
    dependencies=[Reads],
    include_in_schema=False,  # PS3.18 describes it, and the conformance statement says what of it is here
    responses=described(400, 401, 403, 404, 406, 422, 429, 503),
)
_INSTANCE = "/series/{series}/instances/{instance}"
_OCTETS, _PDF = "application/octet-stream", "application/pdf"
_ENCAPSULATED_DOCUMENT = "00420011"
#: What is shorter goes out in one piece.
_SHORT_BYTES = 8 << 20
#: Media types of compressed frames (PS3.18 8.7.3.3.2).
_OF_SYNTAX = {
    "1.2.840.10008.1.2.5": "image/dicom-rle",
    **{f"1.2.840.10008.1.2.4.{one}": "image/jpeg" for one in (50, 51, 57, 70)},
    **{f"1.2.840.10008.1.2.4.{one}": "image/jls" for one in (80, 81)},
    **{f"1.2.840.10008.1.2.4.{one}": "image/jp2" for one in (90, 91)},
    **{f"1.2.840.10008.1.2.4.{one}": "image/jphc" for one in (201, 202, 203)},
}
_PIXELS = frozenset({"7FE00008", "7FE00009", "7FE00010"})
FrameNumbers = Annotated[str, Path(pattern=r"^[0-9]{1,7}(,[0-9]{1,7})*$", max_length=4096)]
FrameNumber = Annotated[int, Path(ge=1, le=9_999_999)]
BulkPlace = Annotated[str, Path(pattern=r"^[0-9A-Fa-f]{8}(/[0-9]{1,6}/[0-9A-Fa-f]{8}){0,8}$", max_length=256)]


@router.get(f"{_INSTANCE}/frames/{{numbers}}", dependencies=[Looks])
def retrieve_frames(asking: CurrentAsking, one: NamedObject, numbers: FrameNumbers) -> Response:
    """Frames as they are stored, or in Explicit VR Little Endian."""
    return _frames(asking, one, [int(number) for number in numbers.split(",")])


@router.get(f"{_INSTANCE}/bulkdata/{{place:path}}", dependencies=[Looks])
def retrieve_bulk_data(asking: CurrentAsking, one: NamedObject, place: BulkPlace) -> Response:
    """A value that is too long for metadata; of pixel data, all frames."""
    if place.upper() in _PIXELS:
        return _frames(asking, one, [])
    with told_as_problems():
        found = asking.images.value_at(asking.file(one), place)
    for wish in asking.accepted:
        if wish.takes(found.media_type) or wish.takes(_OCTETS):
            return Response(found.content, media_type=found.media_type, headers=kept_with())
        if wish.takes_part(found.media_type) or wish.takes_part(_OCTETS):
            part = AnswerPart(found.media_type, "", [found.content])
            return multipart(found.media_type, [part], kept_with(), short=True)
    raise ProblemError(406, f"The value comes as {found.media_type}, alone or in multipart/related. Accept that.")


def _frames(asking: Asking, one: ReadableObject, numbers: Sequence[int]) -> Response:
    file = asking.file(one)
    with told_as_problems():
        layout = asking.images.describe(file).layout
    numbers = numbers or range(1, layout.frames + 1)
    if not numbers or not all(1 <= number <= layout.frames for number in numbers):
        raise ProblemError(404, f"The object has {layout.frames} frames; they are counted from 1.")
    wish, media_type, syntax = _chosen(asking.accepted, layout, alone=len(numbers) == 1)
    tag = tag_of(one, f"{numbers[0]}-{syntax}") if len(numbers) == 1 else ""
    if tag and asking.has(tag):
        return Response(status_code=304, headers=kept_with(tag))
    read = _reader(asking, file, layout, syntax)
    with told_as_problems():
        first = read(numbers[0])
    kind = f"{media_type}; transfer-syntax={syntax}"
    headers = kept_with(tag)
    if not wish.is_multipart:
        return Response(first, media_type=kind, headers=headers)
    found = ((number, first if number == numbers[0] else read(number)) for number in numbers)
    parts = (AnswerPart(kind, f"{asking.address(one)}/frames/{number}", [content]) for number, content in found)
    return multipart(media_type, parts, headers, short=len(numbers) == 1 or len(first) * len(numbers) < _SHORT_BYTES)


def _chosen(accepted: Sequence[AcceptedType], layout: FrameLayout, *, alone: bool) -> tuple[AcceptedType, str, str]:
    """Return which wish is met, and by which media type and transfer syntax. Raises `ProblemError` 406."""
    for wish in accepted:
        if wish.is_multipart or alone:
            media_type, syntax = _encoding(wish, layout)
            if media_type:
                return wish, media_type, syntax
    raise ProblemError(
        406,
        f"Frames come as they are stored, in {layout.transfer_syntax_uid} (transfer-syntax=*), or as {_OCTETS} in "
        f"{EXPLICIT_LITTLE}, in multipart/related. Accept one of these.",
    )


def _encoding(wish: AcceptedType, layout: FrameLayout) -> tuple[str, str]:
    """Return media type and transfer syntax in which frames go to who wishes this; "" for none."""
    takes = wish.takes_part if wish.is_multipart else wish.takes
    stored, wants = layout.transfer_syntax_uid, wish.transfer_syntax
    is_compressed = bool(layout.fragments)
    if takes(_OCTETS) and (wants in {"", EXPLICIT_LITTLE} or (wants == "*" and not is_compressed)):
        return _OCTETS, EXPLICIT_LITTLE
    if not is_compressed or wants not in {"", "*", stored}:
        return "", ""
    own = _OF_SYNTAX.get(stored, _OCTETS)
    media_type = _OCTETS if takes(_OCTETS) else own
    return (media_type, stored) if takes(media_type) else ("", "")


def _reader(asking: Asking, file: StoredFile, layout: FrameLayout, syntax: str) -> Callable[[int], bytes]:
    lies_there = syntax == layout.transfer_syntax_uid or layout.transfer_syntax_uid in PLAIN
    if lies_there and layout.pieces(1):
        return lambda number: _cut(file, layout, number)
    return lambda number: asking.images.decoded(file, number)


def _cut(file: StoredFile, layout: FrameLayout, number: int) -> bytes:
    """Return a frame as it lies in its file. Raises `ObjectLost`."""
    try:
        with file.path.open("rb") as opened:
            return b"".join(_piece(opened, *place) for place in layout.pieces(number))
    except OSError as error:
        raise ObjectLost from error


def _piece(opened: BinaryIO, offset: int, length: int) -> bytes:
    opened.seek(offset)
    found = opened.read(length)
    if len(found) != length:
        raise ObjectLost
    return found


# --- pictures (PS3.18 8.3.5) -----------------------------------------------------------------------------------------

_NUMBER = r"-?[0-9]{1,7}(?:\.[0-9]{1,6})?"
_WINDOW = re.compile(rf"({_NUMBER}),({_NUMBER})(?:,(linear|linear-exact|sigmoid))?")
_VIEWPORT = re.compile(rf"([0-9]{{1,5}}),([0-9]{{1,5}})(?:,({_NUMBER})?,({_NUMBER})?,({_NUMBER})?,({_NUMBER})?)?")
_LARGEST_SIDE_PX = 8192
_WHOLE = 10_000_000.0


def view_of(request: Request) -> View:
    """Return how a picture is asked for. Raises `ProblemError` 400."""
    asked = request.query_params
    viewport, region = _viewport(asked.get("viewport", ""))
    quality = asked.get("quality", "90")
    if not re.fullmatch(r"[0-9]{1,3}", quality) or not 1 <= int(quality) <= 100:
        raise ProblemError(400, "quality must be a number from 1 to 100.")
    return View(window=_window(asked.get("window", "")), viewport=viewport, region=region, quality=int(quality))


def _window(text: str) -> tuple[float, float, str] | None:
    if not text:
        return None
    found = _WINDOW.fullmatch(text)
    least = 0.0 if found and found[3] in {"linear-exact", "sigmoid"} else 1.0
    if not found or float(found[2]) < least or float(found[2]) <= 0:
        raise ProblemError(400, "window must be center,width as in -600,1500, and a function if need be: ,linear-exact")
    return float(found[1]), float(found[2]), found[3] or ""


def _viewport(
    text: str,
) -> tuple[tuple[int, int] | None, tuple[float, float, float, float] | None]:
    if not text:
        return None, None
    found = _VIEWPORT.fullmatch(text)
    if not found or not all(1 <= int(found[one]) <= _LARGEST_SIDE_PX for one in (1, 2)):
        raise ProblemError(
            400, f"viewport must be columns,rows (1 to {_LARGEST_SIDE_PX}), and left,top,columns,rows of the region."
        )
    size = int(found[1]), int(found[2])
    if not any(found[one] for one in (3, 4, 5, 6)):
        return size, None
    left, top = (max(0.0, float(found[one] or 0)) for one in (3, 4))
    columns, rows = (float(found[one] or _WHOLE) for one in (5, 6))
    return size, (left, top, columns, rows)


CurrentView = Annotated[View, Depends(view_of)]


@router.get(f"{_INSTANCE}/rendered", dependencies=[Looks])
def render_instance(asking: CurrentAsking, one: NamedObject, view: CurrentView) -> Response:
    """A picture of an object, of many frames of the first; of a document that it encloses, the document."""
    if any(wish.takes(_PDF) for wish in asking.accepted):
        with told_as_problems():
            if not asking.images.describe(asking.file(one)).layout.frames:
                return _document(asking, one)
    return _picture(asking, one, 1, view)


def _document(asking: Asking, one: ReadableObject) -> Response:
    found = asking.images.value_at(asking.file(one), _ENCAPSULATED_DOCUMENT)
    if found.media_type != _PDF:
        raise ProblemError(406, "The object is no image and encloses no PDF document.")
    return Response(found.content, media_type=_PDF, headers=kept_with())


@router.get(f"{_INSTANCE}/frames/{{number}}/rendered", dependencies=[Looks])
def render_frame(asking: CurrentAsking, one: NamedObject, number: FrameNumber, view: CurrentView) -> Response:
    """A picture of a frame."""
    return _picture(asking, one, number, view)


@router.get("/thumbnail", dependencies=[Looks])
def study_thumbnail(asking: CurrentAsking, objects: OfStudy, view: CurrentView) -> Response:
    """A small picture of a study: of its middle image."""
    return _thumbnail(asking, _middle(objects), view)


@router.get("/series/{series}/thumbnail", dependencies=[Looks])
def series_thumbnail(asking: CurrentAsking, objects: OfSeries, view: CurrentView) -> Response:
    """A small picture of a series: of its middle image."""
    return _thumbnail(asking, _middle(objects), view)


@router.get(f"{_INSTANCE}/thumbnail", dependencies=[Looks])
def instance_thumbnail(asking: CurrentAsking, one: NamedObject, view: CurrentView) -> Response:
    """A small picture of an object."""
    return _thumbnail(asking, one, view)


@router.get(f"{_INSTANCE}/frames/{{number}}/thumbnail", dependencies=[Looks])
def frame_thumbnail(asking: CurrentAsking, one: NamedObject, number: FrameNumber, view: CurrentView) -> Response:
    """A small picture of a frame."""
    return _thumbnail(asking, one, view, number)


def _middle(objects: Sequence[ReadableObject]) -> ReadableObject:
    received = [one for one in objects if one.is_received] or objects
    return received[len(received) // 2]


def _thumbnail(asking: Asking, one: ReadableObject, view: View, number: int = 1) -> Response:
    return _picture(asking, one, number, view, (128, 128))


def _picture(
    asking: Asking, one: ReadableObject, number: int, view: View, size: tuple[int, int] | None = None
) -> Response:
    kinds = ("image/jpeg", "image/png")
    media_type = next((kind for wish in asking.accepted for kind in kinds if wish.takes(kind)), None)
    if media_type is None:
        raise ProblemError(406, "Pictures come as image/jpeg or image/png. Accept one of these.")
    view = View(
        media_type=media_type, quality=view.quality, window=view.window, viewport=view.viewport or size,
        region=view.region,
    )  # fmt: skip
    tag = tag_of(one, f"{number}-{zlib.crc32(repr(view).encode()):08x}")
    if asking.has(tag):
        return Response(status_code=304, headers=kept_with(tag))
    file = asking.file(one)
    with told_as_problems():
        frames = asking.images.describe(file).layout.frames
        if not 1 <= number <= frames:
            raise ProblemError(404 if frames else 406, f"The object has {frames} frames to draw.")
        found = asking.images.drawn(file, number, view)
    return Response(found.content, media_type=found.media_type, headers=kept_with(tag))
