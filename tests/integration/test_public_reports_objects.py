"""What others have reported of objects that come and of what operators see, from arrival to result; each links the
report.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MediaStorageDirectoryStorage, RTStructureSetStorage
from pynetdicom import AE, AllStoragePresentationContexts, evt

from dicom_node.__main__ import main
from dicom_node.core.entities import ArtifactKind
from dicom_node.core.errors import CredentialsRefused, DeliveryRefused, NotAnalysable
from dicom_node.core.uids import derived_uid
from dicom_node.deliver.senders.dicom import DicomSender
from dicom_node.dimse.negotiation import Remote
from dicom_node.index.tables import jobs, results, studies
from dicom_node.inference.cards.card import Gate
from dicom_node.inference.images.volume import Volume, read_volume
from tests.integration.sent_objects import SOP_CLASSES, outgoing
from tests.integration.step_by_step_node import Site, site
from tests.support.studies import volumes
from tests.support.studies.data_factories import tilted
from tests.support.studies.rejection_notes import rejection_note

VALUES = volumes.asymmetric(slices=9)
GATE = Gate(min_slices=5)


def volume_of(datasets: Sequence[Dataset], folder: Path, notes: list[str] | None = None) -> Volume:
    return read_volume(volumes.stored(datasets, folder), GATE, [] if notes is None else notes)


def refusal_of(datasets: Sequence[Dataset], folder: Path) -> str:
    with pytest.raises(NotAnalysable) as refused:
        volume_of(datasets, folder)
    return refused.value.reason


def frame_groups(whole: Dataset) -> list[Dataset]:
    return list(whole.PerFrameFunctionalGroupsSequence)


# --- enhanced objects ------------------------------------------------------------------------------------------------


def test_three_stacks_that_make_one_volume_are_one_volume(tmp_path: Path) -> None:
    """https://github.com/rordenlab/dcm2niix/issues/839: an MR of three stacks, read as three times of one place."""
    order = random.Random(839).sample(range(9), 9)
    whole = volumes.enhanced(VALUES[None], volumes.affine(), order=order)
    for groups, z in zip(frame_groups(whole), order, strict=True):
        content = groups.FrameContentSequence[0]
        content.StackID, content.InStackPositionNumber = str(z % 3 + 1), z // 3 + 1
    found = volume_of([whole], tmp_path)
    assert found.values_zyx.shape == VALUES.shape
    assert np.array_equal(found.values_zyx, VALUES)


def test_of_magnitude_and_phase_in_one_object_the_magnitude_is_read(tmp_path: Path) -> None:
    """https://github.com/rordenlab/dcm2niix/issues/1033: ComplexImageComponent MIXED, stacked into one volume."""
    whole = volumes.enhanced(
        np.stack([VALUES, -VALUES]), volumes.affine(), order=random.Random(3).sample(range(18), 18)
    )
    whole.ComplexImageComponent = "MIXED"
    for groups in frame_groups(whole):
        content = groups.FrameContentSequence[0]
        is_phase = content.TemporalPositionIndex == 2
        groups.MRImageFrameTypeSequence[0].ComplexImageComponent = "PHASE" if is_phase else "MAGNITUDE"
        del content.TemporalPositionIndex
        content.DimensionIndexValues = content.DimensionIndexValues[:1]
    del whole.DimensionIndexSequence[1]
    found = volume_of([whole], tmp_path)
    assert np.array_equal(found.values_zyx, VALUES)


def test_an_enhanced_localizer_of_three_planes_is_no_volume(tmp_path: Path) -> None:
    """https://github.com/rordenlab/dcm2niix/issues/894: three planes of a localizer, stacked into one."""
    whole = volumes.enhanced(VALUES[None], volumes.affine())
    shared = whole.SharedFunctionalGroupsSequence[0]
    del shared.PlaneOrientationSequence
    planes = ([1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, -1], [0, 1, 0, 0, 0, -1])
    for number, groups in enumerate(frame_groups(whole)):
        turned = Dataset()
        turned.ImageOrientationPatient = planes[number % 3]
        groups.PlaneOrientationSequence = [turned]
    assert refusal_of([whole], tmp_path) == "TOO_FEW_SLICES"


def test_times_that_come_as_objects_of_their_own_are_not_mixed(tmp_path: Path) -> None:
    """https://github.com/icometrix/dicom2nifti/issues/140: one CT series of several multi-frame objects, one a time."""
    first = volumes.enhanced(VALUES[None], volumes.affine(), modality="CT")
    second = volumes.enhanced(VALUES[None] + 7, volumes.affine(), modality="CT")
    second.SOPInstanceUID = second.file_meta.MediaStorageSOPInstanceUID = derived_uid("second time")
    second.InstanceNumber = 2
    for time, whole in enumerate((first, second)):
        for groups in frame_groups(whole):
            groups.FrameContentSequence[0].FrameAcquisitionDateTime = f"2022022316432{time}.715"
    found = volume_of([second, first], tmp_path)
    assert np.array_equal(found.hu_zyx, VALUES)


def test_a_shutter_of_single_frames_is_told(tmp_path: Path) -> None:
    whole = volumes.enhanced(VALUES[None], volumes.affine(), modality="CT")
    for groups in frame_groups(whole)[:4]:
        shutter = Dataset()
        shutter.ShutterShape, shutter.ShutterPresentationValue = "CIRCULAR", 0
        shutter.CenterOfCircularShutter, shutter.RadiusOfCircularShutter = [20, 18], 9
        groups.FrameDisplayShutterSequence = [shutter]
    notes: list[str] = []
    volume_of([whole], tmp_path, notes)
    assert [note for note in notes if note.startswith("4 of the 9 images have a display shutter")]


# --- classic series --------------------------------------------------------------------------------------------------


def test_a_tilted_gantry_is_refused_by_that_name(tmp_path: Path) -> None:
    """https://github.com/wasserth/TotalSegmentator/issues/610: a head CT with tilt; slices are sheared."""
    assert refusal_of(tilted(volumes.classic(VALUES, volumes.affine())), tmp_path) == "GANTRY_TILT"


def test_an_exposure_that_follows_the_patient_does_not_part_a_series(tmp_path: Path) -> None:
    """https://github.com/rordenlab/dcm2niix/issues/468: a CT was cut where its exposure changed."""
    datasets = volumes.classic(VALUES, volumes.affine())
    for number, one in enumerate(datasets):
        one.Exposure, one.XRayTubeCurrent, one.ExposureTime = 14 + number, 200 + 5 * number, 500
    assert np.array_equal(volume_of(datasets, tmp_path).hu_zyx, VALUES)


def test_values_without_an_intercept_are_not_guessed(tmp_path: Path) -> None:
    """https://github.com/pydicom/pydicom/issues/1615: code that takes -1024 where no RescaleIntercept is told."""
    datasets = volumes.classic(VALUES, volumes.affine())
    for one in datasets:
        del one.RescaleIntercept
    assert refusal_of(datasets, tmp_path) == "NOT_CT_HU"


# --- what else is in a series ----------------------------------------------------------------------------------------


def structure_set(images: Sequence[Dataset]) -> Dataset:
    """Return an RT Structure Set under the Series Instance UID of the images, as some planning systems file it."""
    first, other = images[0], Dataset()
    for keyword in (
        *("StudyInstanceUID", "SeriesInstanceUID", "PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
        *("StudyDate", "StudyTime", "AccessionNumber", "StudyID", "FrameOfReferenceUID"),
    ):
        other[keyword] = copy.deepcopy(first[keyword])
    other.SOPClassUID, other.SOPInstanceUID = RTStructureSetStorage, derived_uid("structure set")
    other.Modality, other.StructureSetLabel, other.SeriesNumber = "RTSTRUCT", "plan", 1
    other.file_meta = copy.deepcopy(first.file_meta)
    other.file_meta.MediaStorageSOPClassUID = other.SOPClassUID
    other.file_meta.MediaStorageSOPInstanceUID = other.SOPInstanceUID
    return other


@contextmanager
def node(folder: Path) -> Iterator[Site]:
    files = {"name": "files", "kind": "folder", "path": str(folder / "files")}
    with site(folder / "node", [files]) as one:
        yield one


def chest(**changes: object) -> list[Dataset]:
    return volumes.classic(VALUES, volumes.affine(), BodyPartExamined="CHEST", **changes)


def reported(one: Site) -> list[str]:
    return [f"{row.state} {row.standing}" for row in one.rows(results)]


def test_structures_filed_in_the_series_of_the_images_do_not_hide_them(tmp_path: Path) -> None:
    """https://github.com/SlicerRt/SlicerRT/issues/272: a CT and an RT Structure Set that share a series."""
    images = chest()
    with node(tmp_path) as one:
        one.run([structure_set(images), *images])
        assert [row.state for row in one.rows(jobs)] == ["DONE"]
        assert one.rows(studies)[0].state == "REPORTED"


def test_images_that_were_rejected_and_are_sent_again_stay_rejected(tmp_path: Path) -> None:
    """https://github.com/dcm4che/dcm4chee-arc-light/issues/4449: a study rejected, then sent again unchanged."""
    images = chest()
    with node(tmp_path) as one:
        one.run(images)
        one.run([rejection_note(images)])
        one.run(images)
        assert [row.standing for row in one.rows(results)] == ["WITHDRAWN"]
        assert one.rows(studies)[0].state == "NOT_ANALYSED"


def test_a_note_that_takes_a_rejection_back_rejects_nothing(tmp_path: Path) -> None:
    """https://github.com/dcm4che/dcm4chee-arc-light/issues/4309: restoring a study sent another rejection."""
    images = chest()
    note = rejection_note(images)
    title = note.ConceptNameCodeSequence[0]
    title.CodeValue, title.CodingSchemeDesignator = "REVOKE_REJECTION", "99DCM4CHEE"
    with node(tmp_path) as one:
        one.run(images)
        one.run([note])
        assert [row.standing for row in one.rows(results)] == ["CURRENT"]


def test_of_two_reconstructions_the_soft_one_is_measured_whatever_their_uids(tmp_path: Path) -> None:
    """https://github.com/Slicer/SlicerLungCTAnalyzer/issues/21: emphysema depends on the kernel, which nobody told."""
    sharp = chest(name="a", ConvolutionKernel=["Bl64f", "3"], Manufacturer="SIEMENS")
    soft = chest(name="b", ConvolutionKernel=["Br36f", "3"], Manufacturer="SIEMENS")
    for names in ((sharp, soft), (soft, sharp)):
        for number, series in enumerate(names):
            for image in series:
                image.SeriesInstanceUID = f"1.2.826.0.1.{number + 1}"
        with node(tmp_path / names[0][0].ConvolutionKernel[0]) as one:
            one.receive([*sharp, *soft])
            (job,) = one.rows(jobs)
            assert job.series_instance_uid == soft[0].SeriesInstanceUID
            assert "soft" in job.decision["reason"]


# --- what operators see ----------------------------------------------------------------------------------------------


@contextmanager
def receiver(answer: Callable[[Dataset], int], **about: object) -> Iterator[int]:
    """A receiver of another make; yields its port."""
    scp = AE("PACS")
    scp.supported_contexts = about.get("contexts", AllStoragePresentationContexts)
    scp.require_calling_aet = about.get("callers", [])
    server = scp.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, lambda event: answer(event.dataset))]
    )
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()


def sent(capsys: pytest.CaptureFixture[str], folder: Path, port: int) -> tuple[int, str]:
    status = main(["send", str(folder), "--to", f"PACS@127.0.0.1:{port}"])
    return status, capsys.readouterr().out


def test_the_directory_of_a_medium_is_not_sent_and_stops_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """https://github.com/pydicom/pynetdicom/issues/185: who sends a CD by its folder meets its DICOMDIR."""
    (tmp_path / "IMAGES").mkdir()
    for number, image in enumerate(chest()[:3]):
        dcmwrite(tmp_path / "IMAGES" / f"IM{number}", image, enforce_file_format=True)
    directory = Dataset()
    directory.file_meta = FileMetaDataset()
    directory.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    directory.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    directory.file_meta.MediaStorageSOPInstanceUID = derived_uid("medium")
    directory.FileSetID, directory.DirectoryRecordSequence = "CD1", []
    dcmwrite(tmp_path / "DICOMDIR", directory, enforce_file_format=True)
    with receiver(lambda _: 0x0000) as port:
        status, text = sent(capsys, tmp_path, port)
    assert status == 0
    assert "DICOMDIR" in text
    assert "passed over" in text
    assert "3 of 3 stored" in text


def test_one_object_that_is_refused_is_named_and_fails_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """https://github.com/nroduit/weasis-dicom-tools/issues/4: the state said success although the PACS had refused."""
    for number, image in enumerate(chest()[:3]):
        dcmwrite(tmp_path / f"{number}.dcm", image, enforce_file_format=True)
    with receiver(lambda dataset: 0xA900 if dataset.InstanceNumber == 2 else 0x0000) as port:
        status, text = sent(capsys, tmp_path, port)
    assert status == 1
    assert "1.dcm" in text
    assert "0xA900" in text
    assert "2 of 3 stored" in text


def test_a_pacs_that_takes_no_kind_of_result_ends_the_attempt_with_the_kinds(tmp_path: Path) -> None:
    """https://github.com/UMEssen/DICOM-RST/issues/56: no accepted presentation context, and each object timed out."""
    (ct_only,) = [one for one in AllStoragePresentationContexts if one.abstract_syntax == CTImageStorage]
    results_made = [outgoing(tmp_path, kind.lower(), kind) for kind in SOP_CLASSES]
    with receiver(lambda _: 0x0000, contexts=[ct_only]) as port:
        answers = list(DicomSender(Remote("127.0.0.1", port, "PACS", "AINODE", 60.0)).send(results_made))
    assert len(answers) == len(results_made)
    assert all(isinstance(one.error, DeliveryRefused) for one in answers)
    assert all("does not take" in str(one.error) or "accept" in str(one.error) for one in answers)


def test_a_pacs_that_does_not_know_the_node_is_told_as_that_and_not_as_faults_of_the_objects(tmp_path: Path) -> None:
    """https://github.com/Project-MONAI/monai-deploy-informatics-gateway/issues/200: rejected, and exported for ever."""
    with receiver(lambda _: 0x0000, callers=["OTHER"]) as port:
        item = outgoing(tmp_path, "one", ArtifactKind.STRUCTURED_REPORT)
        (answer,) = DicomSender(Remote("127.0.0.1", port, "PACS", "AINODE", 60.0)).send([item])
    assert isinstance(answer.error, CredentialsRefused)
    assert "AINODE" in str(answer.error)
