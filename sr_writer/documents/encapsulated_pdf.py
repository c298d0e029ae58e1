"""The report on one page, for PACS that show documents better than structured reports (PS3.3 A.45.1).

The page names no patient: a PACS that corrects a name corrects headers, and a page would keep the old one for ever.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code as DicomCode
from pydicom.uid import EncapsulatedPDFStorage

from dicom_node import codes
from dicom_node.analysis import NotAnalysed, Picture, WrittenObject, whole_objects
from dicom_node.model import ArtifactKind, Code
from dicom_node.sr_writer.documents.page_content import NOT_PERFORMED, page_content
from dicom_node.sr_writer.documents.pdf import pdf_bytes
from dicom_node.sr_writer.identity import code_item, stamp
from dicom_node.sr_writer.pictures.png import png_bytes
from dicom_node.sr_writer.text import long_string
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
    dataset.VerificationFlag = "UNVERIFIED"
    dataset.ConceptNameCodeSequence = [_coded(codes.DIAGNOSTIC_IMAGING_STUDY)]
    dataset.DocumentTitle = _title(writing)
    dataset.SourceInstanceSequence = [
        _reference(one) for one in whole_objects(writing.answer.sources)[:_MOST_REFERENCES]
    ]
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


def _reference(source: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = source.SOPClassUID
    item.ReferencedSOPInstanceUID = source.SOPInstanceUID
    return item


def _coded(code: Code) -> Dataset:
    return code_item(DicomCode(code.value, code.scheme, code.meaning))
