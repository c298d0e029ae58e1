"""The report on one page, for PACS that show documents better than structured reports (PS3.3 A.45.1).

The page names no patient: a PACS that corrects a name corrects headers, and a page would keep the old one for ever.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import typst
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code as DicomCode
from pydicom.uid import EncapsulatedPDFStorage

from dicom_node.analysis.answer import NotAnalysed, analysed_images, whole_objects
from dicom_node.analysis.written import Picture, WrittenObject
from dicom_node.core import codes
from dicom_node.core.entities import ArtifactKind, Code
from dicom_node.sr_writer.documents.page_content import page_content
from dicom_node.sr_writer.identity import code_item, stamp
from dicom_node.sr_writer.pictures.pen import png_bytes
from dicom_node.sr_writer.text import NOT_PERFORMED, long_string
from dicom_node.sr_writer.writing import Writing

SERIES_NUMBER = 9907
_PICTURE_SIDE_PX = 1000
_MOST_REFERENCES = 20


def encapsulated_pdfs(writing: Writing, _variant: object) -> Iterator[WrittenObject]:
    """Make the one document of an answer."""
    yield WrittenObject(
        kind=ArtifactKind.ENCAPSULATED_PDF, dataset=encapsulated_pdf(writing), order=1, description="Report as PDF"
    )


def encapsulated_pdf(writing: Writing) -> Dataset:
    """Return the Encapsulated PDF of an answer, with the most telling of its pictures."""
    identity = writing.identity
    picture = next((one for one in writing.pictures if one.source is not None), None)
    dataset = Dataset()
    dataset.SOPClassUID = EncapsulatedPDFStorage
    dataset.SOPInstanceUID = identity.uid("pdf")
    dataset.SeriesInstanceUID = identity.uid("pdf-series")
    dataset.SeriesNumber = SERIES_NUMBER
    dataset.InstanceNumber = 1
    dataset.Modality = "DOC"
    dataset.ConversionType = "WSD"
    dataset.AcquisitionDateTime = ""
    # It asks whether the page tells who the patient is (PS3.3 C.24.2).
    dataset.BurnedInAnnotation = "NO"
    dataset.RecognizableVisualFeatures = "NO"
    dataset.VerificationFlag = "UNVERIFIED" if identity.context.review is None else "VERIFIED"
    dataset.ConceptNameCodeSequence = [_coded(codes.DIAGNOSTIC_IMAGING_STUDY)]
    dataset.DocumentTitle = _title(writing)
    dataset.SourceInstanceSequence = [_reference(one) for one in _referenced(analysed_images(writing.answer))]
    content = page_content(writing, picture, str(dataset.SOPInstanceUID))
    _enclose(dataset, pdf_bytes(content, _png(picture) if picture is not None else None, identity.made_at))
    stamp(dataset, identity, f"PDF report {identity.model.name}")
    return dataset


def _title(writing: Writing) -> str:
    identity = writing.identity
    subject = NOT_PERFORMED if isinstance(writing.answer, NotAnalysed) else "AI report"
    return long_string(f"{subject} {identity.model.name} - {identity.marking.removeprefix('AI - ')}", 1024)


def _enclose(dataset: Dataset, document: bytes) -> None:
    """Put the PDF in, padded to an even length; EncapsulatedDocumentLength tells the true one."""
    dataset.MIMETypeOfEncapsulatedDocument = "application/pdf"
    dataset.EncapsulatedDocument = document + b"\x00" * (len(document) % 2)
    dataset["EncapsulatedDocument"].VR = "OB"
    dataset.EncapsulatedDocumentLength = len(document)


def _png(picture: Picture) -> bytes:
    image = Image.fromarray(picture.rgb)
    image.thumbnail((_PICTURE_SIDE_PX, _PICTURE_SIDE_PX), Image.Resampling.BOX)
    return png_bytes(np.asarray(image))


def _referenced(images: Sequence[Dataset]) -> Sequence[Dataset]:
    """Return as many images as a page may name, one of each series first."""
    whole = whole_objects(images)
    first = {str(one.SeriesInstanceUID): one for one in reversed(whole)}
    leading = [one for one in whole if first[str(one.SeriesInstanceUID)] is one]
    return [*leading, *(one for one in whole if first[str(one.SeriesInstanceUID)] is not one)][:_MOST_REFERENCES]


def _reference(source: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = source.SOPClassUID
    item.ReferencedSOPInstanceUID = source.SOPInstanceUID
    return item


def _coded(code: Code) -> Dataset:
    return code_item(DicomCode(code.value, code.scheme, code.meaning))


# --- the bytes: PDF/A-2a for archives, PDF/UA-1 for screen readers ---------------------------------------------------

_STANDARDS: list[Any] = ["a-2a", "ua-1"]


def pdf_bytes(content: Mapping[str, Any], picture_png: bytes | None, made_at: datetime) -> bytes:
    """Set the page; `made_at` is the aware time that stands in the document's metadata.

    Whatever there is to say goes on one page: `page.typ` tries smaller and smaller type, and at the end leaves rows out
    and says how many.
    """
    # Files by their name, which Typst takes and its type hints do not know.
    sources: Any = {"main.typ": _template()}
    if picture_png is not None:
        sources["picture.svg"] = _as_text(picture_png)
    compiler = typst.Compiler(sources, ignore_system_fonts=True, sys_inputs={"report": json.dumps(content)})
    made = compiler.compile(format="pdf", pdf_standards=_STANDARDS, timestamp=_fixed_offset(made_at))
    if not isinstance(made, bytes):
        raise TypeError(f"Typst made {type(made).__name__}, not one document; the version is not the pinned one.")
    return made


def _as_text(picture_png: bytes) -> bytes:
    """Wrap a picture in SVG: Typst takes files from memory only where they are text."""
    columns, rows = struct.unpack(">II", picture_png[16:24])
    size = f'width="{columns}" height="{rows}"'
    data = base64.b64encode(picture_png).decode("ascii")
    picture = f'<image {size} href="data:image/png;base64,{data}"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{picture}</svg>'.encode("ascii")


@cache
def _template() -> bytes:
    return files(__package__).joinpath("page.typ").read_bytes()


def _fixed_offset(moment: datetime) -> datetime:
    """Typst takes whole seconds, and offsets instead of names of zones."""
    return moment.replace(microsecond=0, tzinfo=timezone(moment.utcoffset() or timedelta()))
