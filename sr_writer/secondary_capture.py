"""A picture becomes a Secondary Capture image: single-frame RGB, the one kind of result every viewer shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import SecondaryCaptureImageStorage

from dicom_node.analysis.answer import frame_number_of, whole_objects
from dicom_node.analysis.written import Picture, WrittenObject
from dicom_node.core.entities import ArtifactKind
from dicom_node.decoding.lossy import lossy_history
from dicom_node.sr_writer.geometry import patient_orientation
from dicom_node.sr_writer.identity import ResultIdentity, code_item, stamp
from dicom_node.sr_writer.pictures.pen import png_bytes
from dicom_node.sr_writer.text import ascii_text
from dicom_node.sr_writer.writing import Writing

SERIES_NUMBER = 9902
_HEADS = frozenset({"HEAD", "BRAIN", "FACE", "SKULL", "NECK", "HEADNECK", "ORBIT"})
_MOST_REFERENCES = 20
_PREVIEW_SIDE_PX = 1024


def secondary_captures(writing: Writing, _variant: object) -> Iterator[WrittenObject]:
    """Make one object of every picture."""
    for number, picture in enumerate(writing.pictures, start=1):
        yield WrittenObject(
            kind=ArtifactKind.SECONDARY_CAPTURE,
            dataset=secondary_capture(picture, writing.answer.sources, writing.identity, number),
            order=number,
            description=picture.description,
            preview_png=preview_png(picture),
            picture_key=picture.key,
        )


def secondary_capture(
    picture: Picture, sources: Sequence[Dataset], identity: ResultIdentity, instance_number: int
) -> Dataset:
    """Return the SC image (PS3.3 A.8.1) of one picture; `sources` are what the answer was made from."""
    dataset = Dataset()
    dataset.SOPClassUID = SecondaryCaptureImageStorage
    dataset.SOPInstanceUID = identity.uid("sc", picture.key)
    dataset.SeriesInstanceUID = identity.uid("sc-series")
    dataset.SeriesNumber = SERIES_NUMBER
    dataset.InstanceNumber = instance_number
    dataset.Modality = "OT"
    dataset.ConversionType = "WSD"
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.BurnedInAnnotation = "YES"
    dataset.RecognizableVisualFeatures = "YES" if _shows_a_face(picture.source) else "NO"
    dataset.PatientOrientation = patient_orientation(picture.source) if picture.source is not None else ""
    dataset.DerivationDescription = ascii_text(
        f"{picture.description}; drawn by {identity.model.name} {identity.model.version}"
    )
    dataset.ImageComments = f"{identity.marking}. {identity.standing} Not for primary diagnosis."
    drawn_from = [picture.source] if picture.source is not None else whole_objects(sources)[:_MOST_REFERENCES]
    dataset.SourceImageSequence = [_source_reference(source) for source in drawn_from]
    _set_lossy_history(dataset, picture.source)
    _set_pixels(dataset, picture)
    stamp(dataset, identity, f"images {identity.model.name}")
    return dataset


def preview_png(picture: Picture) -> bytes:
    """Return a PNG for the API, at most 1024 pixels on its longer side."""
    image = Image.fromarray(picture.rgb)
    image.thumbnail((_PREVIEW_SIDE_PX, _PREVIEW_SIDE_PX), Image.Resampling.BOX)
    return png_bytes(np.asarray(image))


def _source_reference(source: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = source.SOPClassUID
    item.ReferencedSOPInstanceUID = source.SOPInstanceUID
    if frame_number_of(source) is not None:
        item.ReferencedFrameNumber = frame_number_of(source)
    item.PurposeOfReferenceCodeSequence = [code_item(codes.DCM.SourceImageForImageProcessingOperation)]
    return item


def _shows_a_face(source: Dataset | None) -> bool:
    if source is None or source.get("Modality") not in {"CT", "MR", "PT"}:
        return False
    return str(source.get("BodyPartExamined") or "").upper() in _HEADS


def _set_lossy_history(dataset: Dataset, source: Dataset | None) -> None:
    """Once lossy, always lossy (PS3.3 C.7.6.1.1.5): a picture of a lossy image says so too."""
    history = lossy_history(source) if source is not None else None
    if source is None or history is None or not history.is_certain:
        dataset.LossyImageCompression = "00"
        return
    dataset.LossyImageCompression = "01"
    dataset.LossyImageCompressionMethod = list(history.methods) or None
    if source.get("LossyImageCompressionRatio"):
        dataset.LossyImageCompressionRatio = source.LossyImageCompressionRatio


def _set_pixels(dataset: Dataset, picture: Picture) -> None:
    dataset.Rows, dataset.Columns = picture.rgb.shape[:2]
    dataset.SamplesPerPixel = 3
    dataset.PhotometricInterpretation = "RGB"
    dataset.PlanarConfiguration = 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PixelRepresentation = 0
    pixels = picture.rgb.tobytes()
    dataset.PixelData = pixels + b"\x00" * (len(pixels) % 2)
    dataset["PixelData"].VR = "OB"
