"""The parts of an uploaded form, one after the other: files are stored as they come, pictures when all is said."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from urllib.parse import unquote

from pydantic import ValidationError

from dicom_node.api.answers.problems import ProblemError
from dicom_node.api.upload_form import PictureWords, RequestWords, words_of
from dicom_node.config.incoming import UploadSettings
from dicom_node.core.entities import StatedRequest
from dicom_node.core.errors import RefusedObject
from dicom_node.ingest.archive import Kind, archive_limits, take_archive, told
from dicom_node.ingest.pictures import MAX_PICTURE_BYTES, NamedPicture, hold, take_pictures
from dicom_node.ingest.session import FileReport, IngestParts, IngestSession, refused, skipped, take_dicom
from dicom_node.retrieve.multipart import BodyPart, read_parameters

_MEGABYTE = 1 << 20
_LONGEST_FIELD_BYTES = 1024
_MOST_FIELDS, _MOST_PICTURES = 64, 200
#: Browsers fill it by themselves (HTML, 4.10.21.5).
_OF_BROWSERS = "_charset_"


class UploadedFiles:
    """Takes the parts of one form. Use in `with`: what had to be held is gone at the end."""

    def __init__(self, session: IngestSession, parts: IngestParts, limits: UploadSettings) -> None:
        self.reports: list[FileReport] = []
        self.stated = StatedRequest()
        self._session = session
        self._parts = parts
        self._limits = limits
        self._fields: dict[str, str] = {}
        self._pictures: list[NamedPicture] = []
        self._held = ExitStack()

    def __enter__(self) -> UploadedFiles:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def take(self, part: BodyPart) -> None:
        """Take one part: a field or a file. Raises `ProblemError`, `SpoolUnavailable`, and what the body raises."""
        field, name = _named(part.headers.get("content-disposition", ""))
        if name is None:
            self._take_field(field, part.content)
            return
        kind, pieces = told(part.content)
        if kind is Kind.DICOM:
            self.reports.append(take_dicom(self._session, name, pieces))
        elif kind is Kind.ARCHIVE:
            self._take_archive(name, pieces)
        elif kind is Kind.PICTURE:
            self._hold_picture(name, pieces)
        elif name or next(pieces, None) is not None:  # a browser sends an empty part where no file was chosen
            self.reports.append(skipped(name, "It is not a DICOM file, a zip archive, PNG or JPEG."))

    def finish(self) -> None:
        """Nothing more comes: wrap and store the pictures. Raises `SpoolUnavailable`."""
        if not self._pictures:
            return
        try:
            words = words_of(self._fields)
        except RefusedObject as refusal:
            self.reports += [refused(picture.name, str(refusal)) for picture in self._pictures]
            return
        self.reports += take_pictures(
            self._session, self._parts, self._pictures, words, self._limits.max_picture_megapixels
        )

    def _take_field(self, field: str, content: Iterable[bytes]) -> None:
        value = bytearray()
        for piece in content:
            value += piece
            if len(value) > _LONGEST_FIELD_BYTES:
                raise ProblemError(400, f"A field of the form has more than {_LONGEST_FIELD_BYTES} bytes.")
        if len(self._fields) >= _MOST_FIELDS:
            raise ProblemError(400, f"The form has more than {_MOST_FIELDS} fields.")
        text = value.decode("utf-8", "replace")
        if field in RequestWords.model_fields:
            self._state(field, text)
        elif field in PictureWords.model_fields:
            self._fields[field] = text
        elif field != _OF_BROWSERS and (field or text):
            raise _unknown(field)

    def _state(self, field: str, text: str) -> None:
        try:
            said = RequestWords.model_validate({field: text.strip() or None}).stated()
        except ValidationError as error:
            errors = [{"where": field, "why": str(one["msg"])} for one in error.errors()]
            raise ProblemError(422, f"The field {field} cannot be used; `errors` says why.", errors=errors) from error
        self.stated = replace(self.stated, **{field: getattr(said, field)})

    def _take_archive(self, name: str, pieces: Iterable[bytes]) -> None:
        most = archive_limits(self._limits)
        with hold(self._parts.spool, pieces, self._limits.max_request_mb * _MEGABYTE) as archive:
            try:
                for report in take_archive(self._session, archive.path, most):
                    self.reports.append(report)
            except RefusedObject as refusal:
                self.reports.append(refused(name, str(refusal)))

    def _hold_picture(self, name: str, pieces: Iterable[bytes]) -> None:
        if len(self._pictures) >= _MOST_PICTURES:
            self.reports.append(refused(name, f"More than {_MOST_PICTURES} pictures came at once. Send them apart."))
            return
        try:
            file = self._held.enter_context(hold(self._parts.spool, pieces, MAX_PICTURE_BYTES))
        except RefusedObject as refusal:
            self.reports.append(refused(name, str(refusal)))
            return
        self._pictures.append(NamedPicture(name, file))


def _unknown(field: str) -> ProblemError:
    known = ", ".join(sorted({*RequestWords.model_fields, *PictureWords.model_fields}))
    name = _quoted(field)
    errors = [{"where": name, "why": f"{name} is no field of this form; it may have: {known}."}]
    return ProblemError(422, "The form has a field that nobody here reads; `errors` names it.", errors=errors)


def _quoted(field: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in field)[:64]


def _named(disposition: str) -> tuple[str, str | None]:
    """Return the name of a part's field, and of its file, if it is one (RFC 7578 4.2).

    Names come as UTF-8, which the header was not read as; some programs say so (RFC 8187), though RFC 7578 forbids it.
    """
    said = disposition.encode("latin-1", "replace").decode("utf-8", "replace")
    _, parameters = read_parameters(said)
    name = parameters.get("filename")
    if name is None and "filename*" in parameters:
        name = unquote(parameters["filename*"].rpartition("'")[2], errors="replace")
    return parameters.get("name", ""), name
