"""Uploads: DICOM files, archives and pictures from people, and what each of them is told."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pydicom
import pytest
from PIL import Image as Picture

from dicom_node.core.entities import StatedRequest
from dicom_node.headers.file_meta import file_head
from dicom_node.index.received.stated_requests import request_for
from tests.peers.node import Node
from tests.peers.process import wait_until
from tests.support.ingesting import Children, Place, as_file, child_processes, opened_place, served
from tests.support.studies.data_factories import small_chest_ct
from tests.support.studies.small_images import EXPLICIT_LITTLE, element, small_image
from tests.support.validators.objects import assert_valid_dicom

IMAGES = [small_image(name) for name in ("a", "b", "c")]
STUDY = IMAGES[0].study_instance_uid
GREY = np.arange(60 * 80, dtype=np.uint16).reshape(60, 80)
PATIENT = {"patient_id": "P-1", "patient_name": "Müller^Änne", "birth_date": "2021-05-04", "sex": "F"}


@pytest.fixture(scope="module")
def children() -> Iterator[Children]:
    with child_processes() as one:
        yield one


@pytest.fixture
def place(tmp_path: Path, children: Children) -> Iterator[Place]:
    with opened_place(tmp_path, children) as one:
        yield one


@pytest.fixture
def client(place: Place) -> Iterator[httpx.Client]:
    with served(place.api_parts()) as one:
        yield one


def upload(client: httpx.Client, *files: tuple[str, bytes], **fields: str) -> httpx.Response:
    parts = [("files", (name, content, "application/octet-stream")) for name, content in files]
    return client.post("/api/studies", files=parts, data=fields)


def states(answer: httpx.Response) -> dict[str, str]:
    return {file["name"]: file["state"] for file in answer.json()["files"]}


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def long_directory() -> bytes:
    """Return an archive whose directory is long, and says that it is short in a place that counts for nobody."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("a", "b"):
            member = zipfile.ZipInfo(name)
            member.comment = b"x" * 60_000 + b"PK\x06\x06" + bytes(28) + struct.pack("<QQ", 1, 10)
            archive.writestr(member, b"")
    return buffer.getvalue()


def encoded(pixels: np.ndarray[Any, Any], kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Picture.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def only(place: Place) -> pydicom.FileDataset:
    (content,) = place.stored().values()
    return pydicom.dcmread(io.BytesIO(content))


# --- DICOM files ---


def test_what_the_form_says_of_the_analysis_is_kept_for_every_study_of_it(place: Place, client: httpx.Client) -> None:
    said = {"indication": "Dyspnoea, known COPD", "purpose": "follow-up"}
    assert upload(client, ("1.dcm", as_file(IMAGES[0])), **said).status_code == 201
    with place.parts.database.read() as connection:
        assert request_for(connection, STUDY, "any") == StatedRequest(*said.values())
    assert upload(client, ("2.dcm", as_file(IMAGES[1]))).status_code == 201
    with place.parts.database.read() as connection:
        assert request_for(connection, STUDY, "any") == StatedRequest(*said.values())


@pytest.mark.parametrize("said", [{"purpose": "fun"}, {"indication": "x" * 501}, {"indication": "a\x00b"}])
def test_what_cannot_be_said_of_an_analysis_is_refused_by_the_name_of_the_field(
    client: httpx.Client, said: dict[str, str]
) -> None:
    answer = upload(client, ("1.dcm", as_file(IMAGES[0])), **said)
    assert answer.status_code == 422
    assert [one["where"] for one in answer.json()["errors"]] == list(said)
    assert next(iter(said.values())) not in answer.text


@pytest.mark.parametrize("field", ["indicaton", "", "a\x00b", "x" * 900])
def test_a_field_that_nobody_reads_is_refused_whatever_else_comes(client: httpx.Client, field: str) -> None:
    """A word that is misspelt would be lost without a word."""
    answer = client.post("/api/studies", files=[(field, (None, b"Dyspnoea")), ("files", ("1.dcm", as_file(IMAGES[0])))])
    assert answer.status_code == 422
    assert "indication" in answer.json()["errors"][0]["why"]
    assert "Dyspnoea" not in answer.text


def test_a_field_that_comes_too_late_to_be_refused_is_told(client: httpx.Client) -> None:
    form: list[tuple[str, tuple[str | None, bytes]]] = [
        ("files", ("1.dcm", as_file(IMAGES[0]))),
        ("purpose", (None, b"fun")),
    ]
    told = client.post("/api/studies", files=form).json()
    assert (told["stored"], told["whole"]) == (1, False)
    assert "The field purpose cannot be used" in told["why"]
    assert "'primary', 'comparison'" in told["why"]


def test_files_are_stored_and_the_answer_leads_to_their_study(place: Place, client: httpx.Client) -> None:
    answer = upload(client, *((f"{n}.dcm", as_file(image)) for n, image in enumerate(IMAGES)))

    assert answer.status_code == 201, answer.text
    told = answer.json()
    assert (told["stored"], told["refused"], told["skipped"], told["whole"]) == (3, 0, 0, True)
    assert told["studies"] == [{"study_instance_uid": STUDY, "stored": 3, "url": f"/api/v1/studies/{STUDY}"}]
    assert client.get(told["studies"][0]["url"]).json()["study"]["instances"] == 3
    assert place.stored() == {image.sop_instance_uid: as_file(image) for image in IMAGES}
    assert [(row["calling_ae_title"], row["outcome"]) for row in place.associations()] == [("UPLOAD", "released")]
    assert place.leftovers() == []


def test_each_file_is_told_what_became_of_it(place: Place, client: httpx.Client) -> None:
    files = {
        "good.dcm": as_file(IMAGES[0]),
        "without preamble.dcm": IMAGES[1].data_set,
        "cut off.dcm": as_file(IMAGES[2])[:-5],
        "liesmich-ü.txt": b"read me",
        "DICOMDIR": file_head("1.2.840.10008.1.3.10", "1.2.3", EXPLICIT_LITTLE) + element(0x00041130, b"CS", b"DISC"),
    }
    answer = upload(client, *files.items())

    assert answer.status_code == 201
    assert list(states(answer).items()) == [
        ("good.dcm", "STORED"), ("without preamble.dcm", "STORED"), ("cut off.dcm", "REFUSED"),
        ("liesmich-ü.txt", "SKIPPED"), ("DICOMDIR", "SKIPPED"),
    ]  # fmt: skip
    assert "cut off" in answer.json()["files"][2]["why"]
    assert len(place.rows()) == 2
    assert place.leftovers() == []


def test_nothing_usable_is_a_problem_that_says_why(place: Place, client: httpx.Client) -> None:
    answer = upload(client, ("a.dcm", as_file(IMAGES[0])[:-5]), ("b.txt", b"text"))
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert [error["where"] for error in answer.json()["errors"]] == ["a.dcm", "b.txt"]
    assert upload(client).status_code in {415, 422}
    assert upload(client, ("", b"")).status_code == 422
    assert place.rows() == []


def test_another_content_type_is_told_so(client: httpx.Client) -> None:
    answer = client.post("/api/studies", json={"files": []})
    assert (answer.status_code, answer.headers["content-type"]) == (415, "application/problem+json")


def test_what_came_before_a_form_broke_off_is_kept_and_told(place: Place, client: httpx.Client) -> None:
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="%d.dcm"\r\n\r\n'
    body = head % 1 + as_file(IMAGES[0]) + b"\r\n" + head % 2 + as_file(IMAGES[1])[:900]
    answer = client.post("/api/studies", content=body, headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert (answer.status_code, answer.json()["whole"]) == (201, False)
    assert "the body ends in the middle of a part" in answer.json()["why"]
    assert list(place.stored()) == [IMAGES[0].sop_instance_uid]
    assert place.leftovers() == []


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("filename=\"a.dcm\"; filename*=a\0b''x", "a.dcm"),
        ("filename*=utf-8''M%C3%BCller.dcm", "Müller.dcm"),
        ("filename*=a\0b''x.dcm", "x.dcm"),
        ("filename*=idna''%ff", "\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_a_name_in_a_character_set_that_there_is_not_is_taken_as_it_is(
    client: httpx.Client, said: str, name: str
) -> None:
    head = f'--x\r\nContent-Disposition: form-data; name="files"; {said}\r\n\r\n'.encode()
    body = head + as_file(IMAGES[0]) + b"\r\n--x--\r\n"
    answer = client.post("/api/studies", content=body, headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert answer.status_code == 201
    assert list(states(answer)) == [name]


@pytest.mark.parametrize("disposition", ['form-data; name="files"; filename=""', 'form-data; name="sex"', ""])
def test_a_form_of_too_many_parts_is_refused_at_the_first_above_the_limit(place: Place, disposition: str) -> None:
    """Empty parts cost time as well: a million of them took 36 s."""
    part = f"--x\r\nContent-Disposition: {disposition}\r\n\r\n\r\n".encode()
    with served(place.api_parts(upload={"max_parts": 30})) as client:
        body = part * 31 + b"here a well-formed form would end"
        answer = client.post("/api/studies", content=body, headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert answer.status_code == 413
    assert "more than 30 parts" in answer.json()["detail"]
    assert "upload.max_parts" in answer.json()["detail"]


def test_what_came_before_a_part_too_many_is_kept_and_told(place: Place) -> None:
    with served(place.api_parts(upload={"max_parts": 1})) as client:
        answer = upload(client, *((f"{n}.dcm", as_file(image)) for n, image in enumerate(IMAGES[:2])))
    assert (answer.status_code, answer.json()["whole"]) == (201, False)
    assert list(place.stored()) == [IMAGES[0].sop_instance_uid]


def test_a_full_disk_is_said_and_passes(place: Place) -> None:
    with served(place.with_limits(min_free_bytes=1 << 60).api_parts()) as client:
        answer = upload(client, ("a.dcm", as_file(IMAGES[0])))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")


def test_uploads_can_be_switched_off(place: Place) -> None:
    with served(place.api_parts(upload={"enabled": False})) as client:
        assert upload(client, ("a.dcm", as_file(IMAGES[0]))).status_code == 404


# --- archives ---


def test_an_archive_is_unpacked_and_its_names_lead_nowhere(place: Place, client: httpx.Client, tmp_path: Path) -> None:
    files = {
        "../../../escaped.dcm": as_file(IMAGES[0]),
        "/etc/absolute": as_file(IMAGES[1]),
        "deep/er/IM0001": as_file(IMAGES[2]),
        "readme.txt": b"text",
        "inner.zip": zipped({"x": as_file(IMAGES[0])}),
    }
    answer = upload(client, ("study.zip", zipped(files)))

    assert answer.status_code == 201
    assert list(states(answer).values()) == ["STORED", "STORED", "STORED", "SKIPPED", "SKIPPED"]
    assert place.stored() == {image.sop_instance_uid: as_file(image) for image in IMAGES}
    assert {path.name for path in tmp_path.parent.rglob("escaped*")} == set()
    assert place.leftovers() == []


def test_one_damaged_member_does_not_keep_the_others_away(place: Place, client: httpx.Client) -> None:
    content = zipped({f"{n}": as_file(image) for n, image in enumerate(IMAGES)}, zipfile.ZIP_STORED)
    at = content.index(IMAGES[1].data_set) + len(IMAGES[1].data_set) - 20
    answer = upload(client, ("study.zip", content[:at] + b"XX" + content[at + 2 :]))
    assert states(answer) == {"0": "STORED", "1": "REFUSED", "2": "STORED"}
    assert len(place.rows()) == 2


def encrypted(content: bytes) -> bytes:
    """Set the bit that says so in both headers of the only member."""
    changed = bytearray(content)
    changed[6] |= 1
    changed[content.index(b"PK\x01\x02") + 8] |= 1
    return bytes(changed)


def endless_directory() -> bytes:
    return b"PK\x05\x06" + struct.pack("<HHHHLLH", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFE, 0, 0)


def bomb() -> bytes:
    return zipped({"zeros": bytes(300 << 20)})


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (encrypted(zipped({"a": as_file(IMAGES[0])})), "encrypted"),
        (zipped({"a": as_file(IMAGES[0])}, zipfile.ZIP_LZMA), "not Deflate"),
        (zipped({"a": as_file(IMAGES[0])})[:-30], "cut off"),
        (b"PK\x03\x04" + b"garbage" * 1000, "cut off"),
        (endless_directory(), "more than"),
        (bomb(), "more than 200 times"),
        (zipped({str(n): b"" for n in range(31)}), "more than 30 members"),
        (long_directory(), "more than 30 members"),
        (zipped({str(n): bytes(3 << 20) for n in range(20)}, zipfile.ZIP_STORED)[:100], "cut off"),
    ],
    ids=["encrypted", "lzma", "cut off", "garbage", "endless directory", "bomb", "too many", "long", "beginning only"],
)
def test_an_archive_that_cannot_be_used_is_refused_with_the_reason(place: Place, content: bytes, why: str) -> None:
    with served(place.api_parts(upload={"max_zip_members": 30})) as client:
        answer = upload(client, ("a.zip", content))
    assert answer.status_code == 422
    assert why in answer.json()["errors"][0]["why"]
    assert (place.rows(), place.leftovers()) == ([], [])


def test_an_archive_that_unpacks_to_too_much_is_refused_before_it_is_unpacked(place: Place) -> None:
    content = zipped({str(n): bytes(700_000) for n in range(3)})
    with served(place.api_parts(upload={"max_unzipped_mb": 1})) as client:
        answer = upload(client, ("a.zip", content))
    assert "would unpack to 2100000 bytes" in answer.json()["errors"][0]["why"]


# --- pictures ---


def test_a_picture_becomes_a_secondary_capture_with_its_words(
    place: Place, client: httpx.Client, tmp_path: Path
) -> None:
    words = PATIENT | {"modality": "DX", "body_part": "CHEST", "view_position": "AP", "study_date": "2026-01-05"}
    answer = upload(client, ("x.png", encoded(GREY.astype(np.uint8))), **words)

    assert answer.status_code == 201, answer.text
    image = only(place)
    assert (image.SOPClassUID.name, image.Modality, image.ConversionType) == (
        "Secondary Capture Image Storage",
        "DX",
        "WSD",
    )
    assert (image.PatientID, str(image.PatientName), image.PatientBirthDate) == ("P-1", "Müller^Änne", "20210504")
    assert (image.BodyPartExamined, image.ViewPosition, image.StudyDate) == ("CHEST", "AP", "20260105")
    assert image.SecondaryCaptureDeviceManufacturer == "DICOM AI Node Project"
    assert "Manufacturer" not in image
    np.testing.assert_array_equal(image.pixel_array, GREY.astype(np.uint8))
    assert answer.json()["studies"][0]["study_instance_uid"] == image.StudyInstanceUID
    (row,) = place.rows()
    assert (row["role"], row["attributes"]["modality"]) == ("SOURCE", "DX")
    del image.ViewPosition  # an addition to the standard's module; the class is a Standard Extended one with it
    image.save_as(tmp_path / "sc.dcm")
    assert_valid_dicom(tmp_path / "sc.dcm")


def test_the_same_upload_twice_is_the_same_object(place: Place, client: httpx.Client) -> None:
    first, again = (upload(client, ("x.png", encoded(GREY.astype(np.uint8))), **PATIENT) for _ in range(2))
    assert first.json()["files"] == again.json()["files"]
    assert len(place.rows()) == 1
    other = upload(client, ("x.png", encoded(GREY.astype(np.uint8))), **PATIENT | {"patient_id": "P-2"})
    assert other.json()["files"][0]["study_instance_uid"] != first.json()["files"][0]["study_instance_uid"]
    assert [row["superseded_at"] for row in place.rows()] == [None, None]


def test_pictures_of_one_upload_are_one_study_and_each_content_one_object(place: Place, client: httpx.Client) -> None:
    one, two = encoded(GREY.astype(np.uint8)), encoded(GREY.astype(np.uint8)[::-1])
    answer = upload(client, ("1.png", one), ("2.png", two), ("1 again.png", one), **PATIENT)
    assert answer.json()["studies"][0]["stored"] == 3
    assert sorted(len(row["sop_instance_uid"]) > 0 for row in place.rows()) == [True, True]
    assert len({row["series_instance_uid"] for row in place.rows()}) == 1


def test_a_picture_can_join_a_study(place: Place, client: httpx.Client) -> None:
    upload(client, ("x.png", encoded(GREY.astype(np.uint8))), **PATIENT, study_instance_uid=STUDY)
    assert only(place).StudyInstanceUID == STUDY


RGB = np.stack([GREY % 256, GREY % 7, GREY % 13], axis=-1).astype(np.uint8)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (encoded(GREY), GREY),
        (encoded(RGB), RGB),
        (encoded(np.stack([GREY % 256] * 3, axis=-1).astype(np.uint8)), (GREY % 256).astype(np.uint8)),
        (encoded((GREY % 2).astype(bool)), ((GREY % 2) * 255).astype(np.uint8)),
    ],
    ids=["16 bits", "colours", "grey in three channels", "one bit"],
)
def test_pixels_come_through_unchanged(
    place: Place, client: httpx.Client, content: bytes, expected: np.ndarray[Any, Any]
) -> None:
    assert upload(client, ("x.png", content), **PATIENT).status_code == 201
    image = only(place)
    np.testing.assert_array_equal(image.pixel_array, expected)
    assert image.pixel_array.dtype == expected.dtype
    assert "LossyImageCompression" not in image


def test_what_is_transparent_is_black(place: Place, client: httpx.Client) -> None:
    alpha = np.where(GREY % 2, 255, 0).astype(np.uint8)
    upload(client, ("x.png", encoded(np.dstack([RGB, alpha]))), **PATIENT)
    np.testing.assert_array_equal(only(place).pixel_array, np.where(GREY[..., None] % 2, RGB, 0))


def test_a_jpeg_is_upright_and_says_that_it_is_lossy(place: Place, client: httpx.Client) -> None:
    turned = Picture.Exif()
    turned[0x0112] = 6  # to be turned by 90 degrees clockwise
    upload(client, ("x.jpg", encoded((GREY % 200).astype(np.uint8), "JPEG", exif=turned, quality=100)), **PATIENT)
    image = only(place)
    assert (image.Rows, image.Columns) == (80, 60)
    assert (image.LossyImageCompression, image.LossyImageCompressionMethod) == ("01", "ISO_10918_1")
    difference = image.pixel_array.astype(int) - np.rot90((GREY % 200).astype(np.uint8), -1)
    assert np.abs(difference).max() <= 4


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">L", len(content)) + kind + content + struct.pack(">L", zlib.crc32(kind + content))


def huge_png() -> bytes:
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">LLBBBBB", 60000, 60000, 8, 0, 0, 0, 0))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (huge_png(), "more than 64 megapixels"),
        (encoded(RGB)[:-100], "damaged or cut off"),
        (b"\x89PNG\r\n\x1a\n" + b"garbage", "cannot be read"),
        (b"\xff\xd8\xff" + b"garbage" * 100, "cannot be read"),
    ],
    ids=["huge", "cut off", "garbage", "garbage JPEG"],
)
def test_a_picture_that_cannot_be_used_is_refused_with_the_reason(
    place: Place, client: httpx.Client, content: bytes, why: str
) -> None:
    answer = upload(client, ("x.png", content), **PATIENT)
    assert answer.status_code == 422
    assert why in answer.json()["errors"][0]["why"]
    assert (place.rows(), place.leftovers()) == ([], [])


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({}, "patient_id: Field required"),
        (PATIENT | {"patient_id": "a\\b"}, "patient_id"),
        (PATIENT | {"birth_date": "yesterday"}, "birth_date"),
        (PATIENT | {"modality": "dx;rm"}, "modality"),
        (PATIENT | {"study_instance_uid": "../.."}, "not a UID"),
        (PATIENT | {"colour": "blue"}, "colour"),
    ],
)
def test_a_picture_without_usable_words_is_refused_and_nothing_is_repeated(
    place: Place, client: httpx.Client, words: dict[str, str], why: str
) -> None:
    answer = upload(client, ("x.png", encoded(GREY.astype(np.uint8))), **words)
    assert answer.status_code == 422
    assert why in answer.json()["errors"][0]["why"]
    assert not any(value in answer.text for value in words.values() if len(value) > 5)
    assert (place.rows(), place.leftovers()) == ([], [])


# --- a whole node ---


def test_an_uploaded_archive_is_reported(tmp_path: Path) -> None:
    images = small_chest_ct()[0]
    files = {}
    for number, image in enumerate(images):
        buffer = io.BytesIO()
        image.save_as(buffer, enforce_file_format=True)
        files[f"DICOM/{number}.dcm"] = buffer.getvalue()
    route = {"name": "ct", "model": "ct-lung-density", "quiet_period_s": 1.0, "when": {"modality": "CT"}}
    node = Node(tmp_path / "node", {"route": [route], "destination": []})
    node.start()
    try:
        with node.api() as api:
            answer = api.post("/api/studies", files={"files": ("ct.zip", zipped(files))}, timeout=120)
            assert answer.json()["stored"] == len(images), json.dumps(answer.json())[:2000]
            url = answer.json()["studies"][0]["url"]
            wait_until(lambda: api.get(url).json()["study"]["state"] == "REPORTED", 120, "the report", 0.5)
        kept = [pydicom.dcmread(path) for path in (node.data_dir / "spool").rglob("*.dcm")]
        sent = {str(image.SOPInstanceUID): bytes(image.PixelData) for image in images}
        found = {str(one.SOPInstanceUID): bytes(one.PixelData) for one in kept if one.Modality == "CT"}
        assert found == sent
    finally:
        node.kill9()


def test_an_uploaded_radiograph_goes_the_way_its_modality_says(tmp_path: Path) -> None:
    when = {"modality": ["CR", "DX"], "body_part_examined": "CHEST"}
    route = {"name": "cxr", "model": "cxr-pneumonia", "quiet_period_s": 1.0, "when": when}
    node = Node(tmp_path / "node", {"route": [route], "destination": []})
    node.start()
    try:
        with node.api() as api:
            picture = encoded((GREY % 256).astype(np.uint8).repeat(8, 0).repeat(6, 1))
            words = PATIENT | {"modality": "DX", "body_part": "CHEST", "view_position": "AP", "patient_age": "004Y"}
            url = upload(api, ("x.png", picture), **words).json()["studies"][0]["url"]
            ended = {"REPORTED", "NOT_ANALYSED", "FAILED"}
            wait_until(lambda: api.get(url).json()["study"]["state"] in ended, 120, "an answer", 0.5)
            told = api.get(url).json()
        assert [job["route"] for job in told["jobs"]] == ["cxr"]
        assert told["study"]["state"] != "FAILED", told
    finally:
        node.kill9()
