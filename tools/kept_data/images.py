"""Images of one invented patient, small as stamps, and a modality that sends them and remembers what was answered."""

from __future__ import annotations

import subprocess
from array import array
from collections.abc import Sequence
from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE, build_role
from pynetdicom.pdu_primitives import UserIdentityNegotiation
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at import time
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

MODALITY, USER, PASSCODE = "MOD1", "technician", "invented-passcode"
_CLASSES = {"CR": ComputedRadiographyImageStorage, "CT": CTImageStorage}
_NAME_AND_PASSCODE, _ASK = 2, 1


def uid(*names: object) -> str:
    """Return the UID of something by its names: the same in every kept folder."""
    return str(generate_uid(entropy_srcs=["kept", *map(str, names)]))


def images(study: str, count: int, **changes: object) -> list[Dataset]:
    """Return images of a study by keyword of what differs from a chest radiograph of 32 x 32 pixels."""
    return [_image(study, number, **changes) for number in range(1, count + 1)]


def with_other_pixels(image: Dataset) -> Dataset:
    """Return another image under the same UID."""
    other = Dataset.from_json(image.to_json())
    other.file_meta = image.file_meta
    other.PixelData = bytes(len(image.PixelData))
    return other


def _image(study: str, number: int, **changes: object) -> Dataset:
    image = Dataset()
    image.SpecificCharacterSet = "ISO_IR 192"
    image.ImageType = ["ORIGINAL", "PRIMARY"]
    image.StudyDate, image.StudyTime, image.AccessionNumber = "20260105", "080000", "A1"
    image.Manufacturer, image.ReferringPhysicianName = "Invented", ""
    image.StudyDescription, image.SeriesDescription = "Chest", "Series"
    image.PatientName, image.PatientID = "Invented^Ida", "INV-1"
    image.PatientBirthDate, image.PatientSex, image.PatientAge = "19700101", "F", "055Y"
    image.StudyID, image.SeriesNumber, image.InstanceNumber = "1", 1, number
    image.SliceThickness, image.PixelSpacing = 5, [2, 2]
    image.ImagePositionPatient, image.ImageOrientationPatient = [0, 0, 5 * number], [1, 0, 0, 0, 1, 0]
    image.FrameOfReferenceUID = uid("frame", study)
    image.Modality, image.Rows, image.Columns = "CR", 32, 32
    image.StudyInstanceUID, image.SeriesInstanceUID = uid("study", study), uid("series", study)
    image.SOPInstanceUID = uid("image", study, number)
    for keyword, value in changes.items():
        setattr(image, keyword, value)
    return _with_pixels(image)


def _with_pixels(image: Dataset) -> Dataset:
    """Give it a ramp, which packs to almost nothing."""
    image.SOPClassUID = _CLASSES[image.Modality]
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
    image.RescaleIntercept, image.RescaleSlope = -1024, 1
    ramp = array("H", [1024 + place % 32 + int(image.InstanceNumber) for place in range(image.Rows * image.Columns)])
    image.PixelData = ramp.tobytes()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return image


def write(datasets: Sequence[Dataset], folder: Path) -> list[Path]:
    """Write files, one for each image."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:03d}.dcm" for number, _ in enumerate(datasets)]
    for dataset, path in zip(datasets, paths, strict=True):
        dataset.save_as(path, enforce_file_format=True)
    return paths


class Modality:
    """Sends images as a user the node knows; `acknowledged` are the SOP Instance UIDs that were answered with success.

    `unfiled` are those of them that were answered while the node could file nothing.
    """

    def __init__(self, called: str, folder: Path) -> None:
        self._called, self._folder, self._sent = called, folder, 0
        self.port = 0
        self.acknowledged: dict[str, list[str]] = {}
        self.unfiled: list[str] = []
        self.transactions: list[str] = []

    def send(self, datasets: Sequence[Dataset], *, unfiled: bool = False) -> None:
        """Store images over one association; raises `CalledProcessError` unless all were taken."""
        self._sent += 1
        paths = write(datasets, self._folder / str(self._sent))
        peer = ["-aet", MODALITY, "-aec", self._called, "-usr", USER, "-pwd", PASSCODE, "127.0.0.1", str(self.port)]
        subprocess.run(["storescu", "-R", *peer, *map(str, paths)], check=True, env={"PATH": "/usr/bin:/bin"})
        self.note(datasets)
        if unfiled:
            self.unfiled += [str(one.SOPInstanceUID) for one in datasets]

    def note(self, datasets: Sequence[Dataset]) -> None:
        """Write down that the node has taken these."""
        for one in datasets:
            uids = self.acknowledged.setdefault(str(one.StudyInstanceUID), [])
            if one.SOPInstanceUID not in uids:
                uids.append(str(one.SOPInstanceUID))

    def ask_for_commitment(self, datasets: Sequence[Dataset]) -> None:
        """Ask by N-ACTION whether these may be deleted; the outcome goes to a listener that is not there."""
        request = Dataset()
        request.TransactionUID = uid("transaction", len(self.transactions))
        request.ReferencedSOPSequence = [_reference(one) for one in datasets]
        ae = AE(ae_title=MODALITY)
        ae.add_requested_context(StorageCommitmentPushModel)
        user = UserIdentityNegotiation()
        user.user_identity_type, user.primary_field, user.secondary_field = (
            _NAME_AND_PASSCODE, USER.encode(), PASSCODE.encode(),
        )  # fmt: skip
        role = build_role(StorageCommitmentPushModel, scu_role=True)
        association = ae.associate("127.0.0.1", self.port, ae_title=self._called, ext_neg=[user, role])
        status, _ = association.send_n_action(
            request, _ASK, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
        association.release()
        if status.Status != 0:
            raise RuntimeError(f"the request for commitment was answered 0x{status.Status:04X}")
        self.transactions.append(str(request.TransactionUID))


def _reference(image: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    return item
