"""QIDO-RS and WADO-RS: what a client finds, and whether what it gets is what was stored, and what a look leaves."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from sqlalchemy import insert, select

from dicom_node.core.principal import NODE, UserRole
from dicom_node.decoding.stored import stored_frames
from dicom_node.index.tables import artifacts, audit_records, results
from dicom_node.people.audit.seal import Anchor, AuditKeys
from dicom_node.people.audit.spool import AuditSpool
from dicom_node.people.audit.trail import AuditTrail
from dicom_node.people.keys import Keys
from dicom_node.viewing.readers import ImageReaders
from tests.support.ingesting import RELATED, Children, Place, child_processes, multipart, opened_place, served
from tests.support.needs import real_data
from tests.support.results.rows import NOW

EXPLICIT, ALL = "1.2.840.10008.1.2.1", "transfer-syntax=*"
OCTETS = 'multipart/related; type="application/octet-stream"'
PRIVATE = {"cache-control": "private, no-cache"}


@dataclass(frozen=True)
class Site:
    """A node with studies, and a client of it."""

    client: httpx.Client
    place: Place
    files: Sequence[Path]

    def get(self, path: str, accept: str = "*/*", **more: Any) -> httpx.Response:
        return self.client.get(f"/dicom-web{path}", headers={"Accept": accept, **more.pop("headers", {})}, **more)

    def dataset(self, number: int) -> Dataset:
        return dcmread(self.files[number])


@pytest.fixture(scope="module")
def children() -> Iterator[Children]:
    with child_processes() as one:
        yield one


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, children: Children) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("dicomweb")
    files = sent_files(folder)
    with opened_place(folder, children) as place, trail_over(place) as trail:
        images = ImageReaders(folder / "viewing", place.parts.spool.objects)
        with served(
            replace(place.api_parts(), images=images, audit=trail, open_object=place.parts.spool.path)
        ) as client:
            sent = multipart([one.read_bytes() for one in files])
            stored = client.post("/dicom-web/studies", content=sent, headers={"Content-Type": RELATED})
            assert stored.status_code == 200, stored.text
            add_result(place, files[0])
            damage_one(client, place, files[0])
            yield Site(client, place, files)
        images.close()


@contextmanager
def trail_over(place: Place) -> Iterator[AuditTrail]:
    keys = AuditKeys(place.folder / "audit" / "key")
    keys.make()
    trail = AuditTrail(
        place.parts.database, keys, Anchor(place.folder / "anchor"), AuditSpool(place.folder / "audit" / "waiting")
    )
    yield trail
    trail.close()


def sent_files(folder: Path) -> list[Path]:
    """One image in nine encodings, as nine images of a study; then images of many frames and in colour."""
    files = []
    for number in range(1, 10):
        dataset = dcmread(real_data("mr_9_transfer_syntaxes") / f"{number}.dcm")
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"2.25.9{number}"
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "2.25.1", f"2.25.1{number % 2}"
        dataset.PatientName, dataset.PatientID, dataset.AccessionNumber = "Müller^Jürgen", "P-1", "ACC-1"
        dataset.SpecificCharacterSet, dataset.StudyDate, dataset.InstanceNumber = "ISO_IR 100", "20260131", number
        dataset.save_as(folder / f"{number}.dcm")
        files.append(folder / f"{number}.dcm")
    colour = real_data("us_multiframe_and_colour")
    return [*files, *(colour / name for name in ("NM-MONO2-16-13x-heart", "US-PAL-8-10x-echo", "YBR_FULL-RLE.dcm"))]


def add_result(place: Place, source: Path) -> None:
    """Enter a report and a picture that the node has made of the first study, and one of a result taken back."""
    about = {"study_instance_uid": "2.25.1", "revision": 1, "route": "mr", "model": "m", "state": "DONE"}
    with place.parts.database.write() as connection:
        for key, standing in (("a" * 64, "CURRENT"), ("b" * 64, "WITHDRAWN")):
            row = {"job_key": key, "standing": standing, "sequence": 1, "summary": {}, "created_at": NOW, **about}
            connection.execute(insert(results).values(**row))
            dataset = dcmread(source)
            dataset.SOPInstanceUID, dataset.SeriesInstanceUID, dataset.Modality = (
                f"2.25.7{key[0] == 'b':d}",
                "2.25.70",
                "OT",
            )
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            into = io.BytesIO()
            dataset.save_as(into)
            kept = place.parts.spool.put([into.getvalue()], ".obj")
            row = {
                "uid": dataset.SOPInstanceUID, "job_key": key, "kind": "SC", "media_type": "application/dicom",
                "sop_class_uid": "1.2.840.10008.5.1.4.1.1.7", "series_instance_uid": "2.25.70", "send_order": 1,
                "object_key": kept.key, "sha256": kept.sha256, "size_bytes": kept.size_bytes,
            }  # fmt: skip
            connection.execute(insert(artifacts).values(**row))


DAMAGED = "/studies/2.25.5/series/2.25.50/instances/2.25.995"


def damage_one(client: httpx.Client, place: Place, source: Path) -> None:
    """Store one more image, and change a byte of it on the disk."""
    dataset = dcmread(source)
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID = "2.25.5", "2.25.50", "2.25.995"
    dataset.PatientID, dataset.AccessionNumber, dataset.StudyDate = "P-5", "OTHER", "20250101"
    dataset.file_meta.MediaStorageSOPInstanceUID = "2.25.995"
    into = io.BytesIO()
    dataset.save_as(into)
    client.post("/dicom-web/studies", content=multipart([into.getvalue()]), headers={"Content-Type": RELATED})
    row = next(one for one in place.rows() if one["sop_instance_uid"] == "2.25.995")
    file = place.parts.spool.path(row["object_key"])
    file.write_bytes(file.read_bytes()[:-1] + b"\xff")


def address(dataset: Dataset) -> str:
    return f"/studies/{dataset.StudyInstanceUID}/series/{dataset.SeriesInstanceUID}/instances/{dataset.SOPInstanceUID}"


def parts_of(answer: httpx.Response) -> list[tuple[str, bytes]]:
    """Content type and bytes of each part."""
    assert answer.status_code == 200, answer.text
    message = BytesParser().parsebytes(
        b"Content-Type: " + answer.headers["content-type"].encode() + b"\r\n\r\n" + answer.content
    )
    return [(str(one["Content-Type"]), bytes(one.get_payload(decode=True))) for one in message.get_payload()]  # type: ignore[union-attr,arg-type]


def values(answer: httpx.Response, tag: str) -> list[Any]:
    assert answer.status_code == 200, answer.text
    return [(one.get(tag, {}).get("Value") or [None])[0] for one in answer.json()]


# --- search ---


def test_a_study_is_found_by_what_an_index_or_a_header_knows(site: Site) -> None:
    for asked in (
        "StudyInstanceUID=2.25.1", "0020000D=2.25.1", "PatientID=P-1", "PatientID=*-1", "AccessionNumber=ACC-?",
        "AccessionNumber=ACC-1",
        "StudyDate=20260131", "StudyDate=20260101-", "StudyDate=-20260131&ModalitiesInStudy=MR&PatientID=P-1",
        "ModalitiesInStudy=OT",
        "PatientName=m%C3%BCller*", "PatientName=*J%C3%BCRGEN",
    ):  # fmt: skip
        answer = site.get(f"/studies?{asked}")
        assert answer.status_code == 200, asked
        assert values(answer, "0020000D") == ["2.25.1"], asked
    told = answer.json()[0]
    assert told["00100010"]["Value"] == [{"Alphabetic": "Müller^Jürgen"}]
    assert told["00080061"]["Value"] == ["MR", "OT"]
    assert (told["00201206"]["Value"], told["00201208"]["Value"]) == ([3], [10])
    assert told["00081190"]["Value"] == [str(site.client.base_url.join("/dicom-web/studies/2.25.1"))]
    for asked in ("StudyInstanceUID=2.25.2", "StudyDate=20260201-", "PatientName=Müll", "AccessionNumber=acc-2"):
        assert site.get(f"/studies?{asked}").status_code == 204, asked


def test_series_and_instances_are_found_at_every_level(site: Site) -> None:
    assert sorted(values(site.get("/studies/2.25.1/series"), "0020000E")) == ["2.25.10", "2.25.11", "2.25.70"]
    counted = dict(
        zip(values(one := site.get("/studies/2.25.1/series"), "0020000E"), values(one, "00201209"), strict=True)
    )
    assert counted == {"2.25.10": 4, "2.25.11": 5, "2.25.70": 1}
    assert values(site.get("/studies/2.25.1/series?Modality=OT"), "0020000E") == ["2.25.70"]
    assert len(values(site.get("/studies/2.25.1/instances"), "00080018")) == 10
    assert values(site.get("/studies/2.25.1/series/2.25.10/instances?InstanceNumber=4"), "00080018") == ["2.25.94"]
    assert values(site.get("/instances?SOPInstanceUID=2.25.93"), "0020000D") == ["2.25.1"]
    assert values(site.get("/series?SeriesInstanceUID=2.25.70"), "00100020") == ["P-1"]
    assert "2.25.71" not in values(site.get("/instances"), "00080018"), "it was taken back"


def test_a_search_is_paged_and_says_what_it_did_not_do(site: Site) -> None:
    every = values(site.get("/studies"), "0020000D")
    assert len(every) == 5
    first, second = (site.get(f"/studies?limit=3&offset={offset}&fuzzymatching=true") for offset in (0, 3))
    assert values(first, "0020000D") + values(second, "0020000D") == every
    assert "more results" in first.headers["warning"]
    assert "more results" not in second.headers["warning"]
    assert "fuzzymatching parameter is not supported" in second.headers["warning"]
    told = site.get("/studies?StudyInstanceUID=2.25.1&includefield=MagneticFieldStrength,00080070").json()[0]
    assert {"00180087", "00080070"} <= told.keys()
    assert len(site.get("/studies?StudyInstanceUID=2.25.1&includefield=all").json()[0]) > 60


@pytest.mark.parametrize("asked", [
    "limit=-1", "limit=9999999999", "offset=x", "StudyDate=2026", "StudyDate=-", "Nothing=1", "StudyInstanceUID=..",
    "PixelData=1", "ReferencedSeriesSequence.Modality=1", f"PatientName={'*a' * 20}", f"PatientID={'x' * 300}",
    "PatientID=%00", "includefield=Nothing",
])  # fmt: skip
def test_a_search_that_cannot_be_made_is_refused(site: Site, asked: str) -> None:
    answer = site.get(f"/studies?{asked}")
    assert answer.status_code == 400, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


# --- objects, metadata, frames ---


@pytest.mark.parametrize("number", range(9))
def test_frames_of_every_encoding_come_as_stored_and_decoded(site: Site, number: int) -> None:
    dataset, plain = site.dataset(number), site.dataset(0)
    syntax = dataset.file_meta.TransferSyntaxUID
    path = f"{address(dataset)}/frames/1"
    (decoded,) = parts_of(site.get(path, OCTETS))
    assert decoded == (f"application/octet-stream; transfer-syntax={EXPLICIT}", plain.PixelData)
    ((kind, stored),) = parts_of(site.get(path, f"{OCTETS}; {ALL}"))
    if syntax.is_encapsulated:
        assert kind == f"application/octet-stream; transfer-syntax={syntax}"
        assert stored.rstrip(b"\0") in dataset.PixelData
    else:
        assert (kind, stored) == decoded
    alone = site.get(path, "application/octet-stream")
    assert alone.content == plain.PixelData
    again = site.get(path, "application/octet-stream", headers={"If-None-Match": alone.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert PRIVATE.items() <= alone.headers.items()


@pytest.mark.parametrize("number", range(9))
def test_objects_come_as_stored_and_in_the_encoding_that_is_asked_for(site: Site, number: int) -> None:
    sent = site.dataset(number)
    ((_, stored),) = parts_of(site.get(address(sent), f'multipart/related; type="application/dicom"; {ALL}'))
    assert stored == site.place.stored()[sent.SOPInstanceUID]
    ((kind, explicit),) = parts_of(site.get(address(sent), 'multipart/related; type="application/dicom"'))
    assert kind == f"application/dicom; transfer-syntax={EXPLICIT}"
    there = dcmread(io.BytesIO(explicit))
    assert there.file_meta.TransferSyntaxUID == EXPLICIT
    assert (there.PatientName, there.PixelData) == (sent.PatientName, site.dataset(0).PixelData)
    assert there.EchoTime == sent.EchoTime


def test_a_study_is_one_answer_with_what_was_received_and_what_was_made(site: Site) -> None:
    uids = [dcmread(io.BytesIO(one)).SOPInstanceUID for _, one in parts_of(site.get("/studies/2.25.1", ALL_OBJECTS))]
    assert sorted(uids) == ["2.25.70", *(f"2.25.9{number}" for number in range(1, 10))]
    of_series = parts_of(site.get("/studies/2.25.1/series/2.25.70", ALL_OBJECTS))
    assert [dcmread(io.BytesIO(one)).Modality for _, one in of_series] == ["OT"]


ALL_OBJECTS = f"multipart/related; type=application/dicom; {ALL}"


def test_metadata_are_the_header_with_addresses_of_what_is_long(site: Site) -> None:
    sent = site.dataset(4)
    told = site.get(f"{address(sent)}/metadata", "application/dicom+json").json()
    assert told[0]["00100010"] == {"vr": "PN", "Value": [{"Alphabetic": "Müller^Jürgen"}]}
    assert told[0]["00080005"] == {"vr": "CS", "Value": ["ISO_IR 192"]}
    pixels = told[0]["7FE00010"]["BulkDataURI"]
    ((_, frame),) = parts_of(site.client.get(pixels, headers={"Accept": OCTETS}))
    assert frame == site.dataset(0).PixelData
    assert len(site.get("/studies/2.25.1/metadata").json()) == 10
    assert len(site.get("/studies/2.25.1/series/2.25.11/metadata").json()) == 5
    back = Dataset.from_json(told[0], lambda *_: b"")
    assert [back.EchoTime, back.SOPInstanceUID] == [sent.EchoTime, sent.SOPInstanceUID]


def test_addresses_are_those_by_which_the_node_is_called(site: Site) -> None:
    path, port = f"{address(site.dataset(0))}/metadata", site.client.base_url.port
    for host, more, root in (
        ("127.0.0.1", {}, f"http://127.0.0.1:{port}/"),  # as dicomweb-client calls it, without the port
        ("localhost:8080", {}, "http://localhost:8080/"),
        ("127.0.0.1", {"X-Forwarded-For": "10.1.1.1"}, "http://127.0.0.1/"),
    ):
        told = site.get(path, headers={"Host": host, **more}).json()
        assert told[0]["7FE00010"]["BulkDataURI"].startswith(f"{root}dicom-web/studies/2.25.1/"), host


def test_frames_of_an_image_of_many_come_each_for_itself(site: Site) -> None:
    for number, frames in ((9, 13), (10, 10)):
        dataset = site.dataset(number)
        parts = parts_of(site.get(f"{address(dataset)}/frames/1,{frames},2", OCTETS))
        wanted = [one.tobytes() for one in stored_frames(dataset, [1, frames, 2])]
        assert [content for _, content in parts] == wanted
        assert len(parts_of(site.get(f"{address(dataset)}/bulkdata/7FE00010", f"{OCTETS}; {ALL}"))) == frames
        assert site.get(f"{address(dataset)}/frames/{frames + 1}", OCTETS).status_code == 404


# --- pictures ---


def picture(answer: httpx.Response) -> Image.Image:
    assert answer.status_code == 200, answer.text
    return Image.open(io.BytesIO(answer.content))


def test_a_picture_is_of_the_window_and_the_region_that_are_asked_for(site: Site) -> None:
    path = f"{address(site.dataset(8))}/rendered"
    whole = picture(site.get(path, "image/png"))
    pixels = site.dataset(0).pixel_array
    assert (whole.format, whole.size) == ("PNG", pixels.shape[::-1])
    low, high = (float(np.percentile(pixels, share)) for share in (10, 90))
    asked = f"{path}?window={(low + high) / 2:.1f},{high - low:.1f}&viewport=40,30,100,120,40,30"
    crop = np.asarray(picture(site.get(asked, "image/png"))).astype(int)
    assert crop.shape == (30, 40)
    shown = np.clip((pixels[120:150, 100:140].astype(float) - low) / (high - low), 0, 1) * 255
    assert np.abs(crop - shown).max() < 4
    jpeg = [len(site.get(f"{path}?quality={one}", "image/jpeg").content) for one in (10, 95)]
    assert jpeg[0] < jpeg[1] / 3


def test_thumbnails_are_small_and_colours_stay_colours(site: Site) -> None:
    for path in ("/studies/2.25.1", "/studies/2.25.1/series/2.25.10", address(site.dataset(9)) + "/frames/7"):
        small = picture(site.get(f"{path}/thumbnail", "image/*"))
        assert (small.format, max(small.size)) == ("JPEG", 128)
    colour = picture(site.get(f"{address(site.dataset(11))}/rendered", "image/png"))
    wanted = next(iter(stored_frames(site.dataset(11), [1])))
    assert np.abs(np.asarray(colour).astype(int) - wanted).max() <= 1
    palette = np.asarray(picture(site.get(f"{address(site.dataset(10))}/frames/3/rendered", "image/png")))
    assert palette.ndim == 3


@pytest.mark.parametrize("asked", [
    "window=1", "window=1,0", "window=1,2,loud", "window=nan,1", "viewport=0,10", "viewport=99999,1", "viewport=1",
    "quality=0", "quality=101", "viewport=10,10,1,1",
])  # fmt: skip
def test_a_picture_that_cannot_be_drawn_is_refused(site: Site, asked: str) -> None:
    assert site.get(f"{address(site.dataset(0))}/rendered?{asked}").status_code == 400


def test_what_is_not_there_or_not_to_be_had_is_told(site: Site) -> None:
    path = address(site.dataset(5))
    gone = ("/studies/1.2.3", "/studies/1.2.3/metadata", path.replace("2.25.96", "2.25.71"),
            path.replace("2.25.10/", "2.25.11/"), f"{path}/frames/0", f"{path}/frames/2")  # fmt: skip
    assert {one: site.get(one).status_code for one in gone} == dict.fromkeys(gone, 404)
    assert site.get(f"{path}/rendered").headers["Content-Security-Policy"].endswith("script-src 'none'")
    refused = ((path, "text/html"), (f"{path}/frames/1", "image/jp2"), (f"{path}/rendered", "video/mpeg"),
               (path, "multipart/related; type=application/dicom; transfer-syntax=1.2.840.10008.1.2.4.90"),
               (f"{path}/metadata", "multipart/related; type=application/dicom+xml"), ("/studies", "text/csv"),
               (f"{path}/bulkdata/00100010", "*/*"), (f"{path}/bulkdata/00091001", "*/*"))  # fmt: skip
    assert {one: site.get(*one).status_code for one in refused} == dict.fromkeys(refused, 406)
    for one in (f"{path}/frames/1,x", f"{path}/bulkdata/../../x", "/studies/1..2", f"{path}/frames/{'1,' * 3000}1"):
        assert site.get(one).status_code in {404, 422}, one


def test_an_object_whose_bytes_changed_is_not_shown(site: Site) -> None:
    for path in ("/frames/1", "/metadata", "/rendered", ""):
        lost = site.get(f"{DAMAGED}{path}")
        assert (lost.status_code, lost.json()["title"]) == (404, "Object lost"), path
    assert values(site.get("/studies?StudyInstanceUID=2.25.5"), "00100010") == [None], "its header is not read"


# --- who looks ---


def test_a_look_at_a_study_leaves_one_record_however_many_images_are_looked_at(site: Site) -> None:
    before = records(site)
    for number in range(9):
        assert site.get(f"{address(site.dataset(number))}/frames/1", OCTETS).status_code == 200
    other = {"Authorization": f"Bearer {key_of_viewer(site)}"}
    for number in range(9):
        assert site.get(f"{address(site.dataset(number))}/frames/1", OCTETS, headers=other).status_code == 200
    assert site.get("/studies?PatientName=M*", headers=other).status_code == 200
    fresh = records(site)[len(before) :]
    looks = [(one.act, one.actor, one.study_instance_uid) for one in fresh if one.actor == "key:viewer"]
    assert looks == [("images-read", "key:viewer", "2.25.1"), ("query", "key:viewer", "")]
    assert "M*" not in str(fresh[-1]), "what was looked for may be a name"
    let_in = [one.actor for one in records(site) if (one.act, one.study_instance_uid, one.outcome) == LOOKED_AT]
    assert sorted(let_in) == ["api-token", "key:viewer"]
    assert httpx.get(site.client.base_url.join("/dicom-web/studies")).status_code == 401


LOOKED_AT = ("images-read", "2.25.1", "0")


def records(site: Site) -> list[Any]:
    with site.place.parts.database.read() as connection:
        return list(connection.execute(select(audit_records).order_by(audit_records.c.number)))


def key_of_viewer(site: Site) -> str:
    secret, _ = Keys(site.place.parts.database).add("viewer", [UserRole.VIEWER], 1, NODE)
    return secret


def test_what_somebody_sends_under_the_uid_of_a_result_never_takes_its_place(site: Site) -> None:
    """The last test here: the forged object stays in the study."""
    address = "/studies/2.25.1/series/2.25.70/instances/2.25.70"

    def given() -> list[object]:
        frames = parts_of(site.get(f"{address}/frames/1", OCTETS))
        return [site.get(f"{address}/metadata").json(), site.get(f"{address}/rendered").content, frames]

    before = given()
    forged = site.dataset(0)
    forged.SOPInstanceUID = forged.file_meta.MediaStorageSOPInstanceUID = "2.25.70"
    forged.SeriesInstanceUID, forged.SeriesDescription = "2.25.70", "FORGED"
    forged.PixelData = b"\xff" * len(forged.PixelData)
    into = io.BytesIO()
    forged.save_as(into)
    headers = {"Content-Type": RELATED}
    site.client.post("/dicom-web/studies", content=multipart([into.getvalue()]), headers=headers)
    assert given() == before
    for path in (address, "/studies/2.25.1", "/studies/2.25.1/series/2.25.70"):
        assert b"FORGED" not in site.get(path).content
