"""The door of the processes that read stored objects for viewers: one request, one answer."""

from __future__ import annotations

from dicom_node.core.errors import UnreadableObject
from dicom_node.headers.sound import READ_ERRORS
from dicom_node.logs import quiet_third_parties
from dicom_node.viewing.described import (
    Answer,
    BulkRequest,
    DecodeRequest,
    DescribeRequest,
    EncodedFrames,
    ExplicitRequest,
    RenderRequest,
    Request,
)
from dicom_node.viewing.frames import decoded, drawn, explicit, value_at
from dicom_node.viewing.layouts import described


def perform(request: Request) -> Answer:
    """Do what is asked; runs in the child process. Raises `UnreadableObject` and `NotAnalysable`."""
    quiet_third_parties()
    if isinstance(request, DescribeRequest):
        return [described(path) for path in request.paths]
    try:
        return _read(request)
    except READ_ERRORS as error:
        raise UnreadableObject(f"The object cannot be read ({type(error).__name__}).") from error


def _read(request: DecodeRequest | RenderRequest | BulkRequest | ExplicitRequest) -> EncodedFrames:
    match request:
        case DecodeRequest(frame):
            return decoded(frame)
        case RenderRequest(frame, view):
            return drawn(frame, view)
        case BulkRequest(path, place):
            return value_at(path, place)
        case ExplicitRequest(path, out):
            explicit(path, out)
            return EncodedFrames("application/dicom", b"")
