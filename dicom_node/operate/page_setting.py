"""The report on a page, set from what is kept of a result; runs in a process with limits (`stored_pages`).

It says what the page of an Encapsulated PDF says, as far as that is kept: the drawing of a distribution is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC
from typing import Any

import numpy as np
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node import MANUFACTURER, PRODUCT_NAME
from dicom_node.analysis.answer import Analysis, NotAnalysed
from dicom_node.analysis.context import ReportContext
from dicom_node.analysis.stored_findings import model_named, readable_findings
from dicom_node.core.entities import JobState
from dicom_node.logs import quiet_third_parties
from dicom_node.operate.stored_pages import EnclosedPage, StoredPage
from dicom_node.sr_writer.documents.encapsulated_pdf import pdf_bytes
from dicom_node.sr_writer.documents.page_content import page_content
from dicom_node.sr_writer.identity import ResultIdentity
from dicom_node.sr_writer.pictures.pen import png_bytes
from dicom_node.sr_writer.text import ascii_text
from dicom_node.sr_writer.writing import Writing

_PICTURE_SIDE_PX = 1000
#: Larger is no picture of this node's.
_MOST_PIXELS = 64_000_000
#: What the index keeps of images and the page tells.
_TOLD_OF_IMAGES = {
    "modality": "Modality", "series_number": "SeriesNumber", "convolution_kernel": "ConvolutionKernel",
    "study_date": "StudyDate",
}  # fmt: skip


def page(wanted: StoredPage | EnclosedPage) -> bytes:
    """Return a PDF: the one that an object encloses, or one set anew; equal requests give equal bytes."""
    quiet_third_parties()
    return _enclosed(wanted) if isinstance(wanted, EnclosedPage) else _set(wanted)


def _enclosed(wanted: EnclosedPage) -> bytes:
    dataset = dcmread(wanted.path)
    document = bytes(dataset.EncapsulatedDocument)
    length = dataset.get("EncapsulatedDocumentLength")  # without it, the byte of an odd length's padding stays
    return document if length is None else document[: int(length)]


def _set(wanted: StoredPage) -> bytes:
    writing = _writing(wanted)
    content = page_content(writing, None, wanted.job_key)
    content |= _own_words(wanted, writing)
    content["warnings"] = [*([ascii_text(wanted.falls_short)] if wanted.falls_short else []), *content["warnings"]]
    if not wanted.images:  # a summary that does not say which they were
        content["subtitle"] = ""
    picture = None if wanted.picture is None else _png(wanted)
    return pdf_bytes(content, picture, wanted.made_at.astimezone(UTC))


def _writing(wanted: StoredPage) -> Writing:
    sources = tuple(_images(wanted))
    answer = _answer(wanted, sources)
    context = ReportContext(
        job_key=wanted.job_key, route_name=wanted.route, started_at=wanted.made_at, ae_title="", node_uid="",
        intended_use=wanted.intended_use, review=wanted.review,
    )  # fmt: skip
    identity = ResultIdentity(
        source=Dataset(), model=answer.model, context=context, made_at=wanted.made_at.astimezone(UTC)
    )
    return Writing(answer=answer, identity=identity, pictures=())


def _answer(wanted: StoredPage, sources: tuple[Dataset, ...]) -> Analysis | NotAnalysed:
    model, notes = model_named(wanted.summary), tuple(map(str, wanted.summary.get("notes") or ()))
    if wanted.state in {JobState.NOT_ANALYSABLE, JobState.FAILED}:
        return NotAnalysed(model=model, sources=sources, reason=wanted.reason, message=wanted.message, notes=notes)
    findings, unreadable = readable_findings(wanted.summary)
    if unreadable:
        notes = (f"{unreadable} findings of another form are kept and not shown.", *notes)
    partial = wanted.state is JobState.PARTIAL
    return Analysis(model=model, sources=sources, findings=findings, notes=notes, partial=partial)


def _images(wanted: StoredPage) -> Iterator[Dataset]:
    """Yield what the index keeps of the images, as headers of which the page tells."""
    for uid, told in wanted.images:
        image = Dataset()
        image.SOPInstanceUID = uid
        for name, keyword in _TOLD_OF_IMAGES.items():
            if said := told.get(name):
                setattr(image, keyword, said)
        yield image


def _own_words(wanted: StoredPage, writing: Writing) -> Mapping[str, Any]:
    """Return what the page says of itself: by which version the result was made, and that the page was set later."""
    identity, version = writing.identity, str(wanted.summary.get("node_version") or "")
    made_at = identity.made_at.strftime("%Y-%m-%d %H:%M:%S %z")
    made_by = ascii_text(f"{PRODUCT_NAME} {version}".strip())
    caption = ascii_text(wanted.caption)
    return {
        "author": ascii_text(f"{made_by}, {MANUFACTURER}"),
        "footer": [
            f"{identity.marking}. The page names no patient: the study of the result does.",
            f"Result of {made_at} by {made_by}, set from what is kept of it; study {wanted.study_instance_uid},",
            f"result {wanted.job_key}",
        ],
        "picture": {"caption": caption, "alt": f"{caption}, {identity.marking}"} if wanted.picture else None,
    }


def _png(wanted: StoredPage) -> bytes:
    if wanted.picture is None:
        raise TypeError("There is no picture to set.")
    with Image.open(wanted.picture, formats=("PNG",)) as image:
        if image.width * image.height > _MOST_PIXELS:
            raise ValueError("The picture of the result is too large to be set.")
        shown = image.convert("RGB")
    shown.thumbnail((_PICTURE_SIDE_PX, _PICTURE_SIDE_PX), Image.Resampling.BOX)
    return png_bytes(np.asarray(shown))
