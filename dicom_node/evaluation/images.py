"""One labelled image made ready for the runner: DICOM as it is, pictures wrapped as an upload wraps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from dicom_node.analysis import SourceFile
from dicom_node.errors import NotAnalysable, RefusedObject
from dicom_node.evaluation.labels import LabelledImage
from dicom_node.governance.golden import files_in
from dicom_node.ingest.wrapping import PictureRequest, PictureWrapper
from dicom_node.uids import derived_uid

_PICTURES = frozenset({".png", ".jpg", ".jpeg"})
_MAX_MEGAPIXELS = 64
_UIDS = ["SOPInstanceUID", "SeriesInstanceUID"]


def source_files(image: LabelledImage, wrapper: PictureWrapper, folder: Path) -> Sequence[SourceFile]:
    """Return the files of one image or series. Raises `NotAnalysable` for what is no image at all."""
    if image.path.is_dir():
        files = list(files_in(image.path))
        if not files:
            raise NotAnalysable("NO_IMAGES", "The folder holds no DICOM image.")
        return files
    if not image.path.is_file():
        raise NotAnalysable("FILE_MISSING", "The labels name a file that is not there.")
    if image.path.suffix.lower() in _PICTURES:
        return [_wrapped(image, wrapper, folder)]
    return [_source(image.path)]


def _wrapped(image: LabelledImage, wrapper: PictureWrapper, folder: Path) -> SourceFile:
    target = folder / "picture.dcm"
    study = derived_uid("evaluated-picture", image.name)
    request = PictureRequest(image.path, target, _words(image.attributes), study, 1, _MAX_MEGAPIXELS)
    try:
        wrapper.wrap(request)
    except RefusedObject as refusal:
        raise NotAnalysable("UNREADABLE_FILE", str(refusal)) from refusal
    return _source(target)


def _words(attributes: Mapping[str, str]) -> Mapping[str, str]:
    return {"PatientID": "EVALUATION", **attributes}


def _source(path: Path) -> SourceFile:
    try:
        header = dcmread(path, specific_tags=_UIDS, stop_before_pixels=True)
    except (InvalidDicomError, OSError) as error:
        raise NotAnalysable("UNREADABLE_FILE", "The file is neither DICOM nor PNG nor JPEG.") from error
    found = SourceFile(path=path, sop_instance_uid="", series_instance_uid="")
    return replace(
        found,
        sop_instance_uid=str(header.get("SOPInstanceUID", "")),
        series_instance_uid=str(header.get("SeriesInstanceUID", "")),
    )
