"""Fetching studies from real PACSs: everything comes, as it is stored there; what does not come is said."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pydicom
import pytest

from dicom_node.core.errors import SourceUnavailable, StoreStatus
from dicom_node.index.database import Database
from dicom_node.retrieve.retrieval import RetrievalState, Watch
from dicom_node.retrieve.sink import Names, RetrieveSink
from dicom_node.retrieve.source import StudyQuery
from dicom_node.storage.spool import Buffer
from tests.integration.retrieving import WAYS, Place, dimse, held_by, named, opened_place, source
from tests.integration.test_orthanc_routing import an_image
from tests.peers.dcmtk import Receiver, running_storescp, storescu
from tests.peers.orthanc import Orthanc, running_orthanc
from tests.peers.process import free_port
from tests.support.needs import real_data
from tests.support.results.arrivals import opened_database
from tests.support.studies.data_factories import small_chest_ct

NOT_THERE = "1.2.826.0.1.3680043.8.498.404"


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """A PACS with the small chest CT, and the node known to it."""
    folder = tmp_path_factory.mktemp("pacs")
    with running_orthanc(folder) as orthanc:
        orthanc.know("AINODE", free_port(), "test")
        for image in small_chest_ct()[0]:
            orthanc.upload_dataset(image)
        yield orthanc


@pytest.fixture
def study() -> str:
    return str(small_chest_ct()[0][0].StudyInstanceUID)


@pytest.fixture
def empty_database(tmp_path: Path) -> Iterator[Database]:
    with opened_database(f"sqlite:///{tmp_path / 'node.sqlite'}") as opened:
        yield opened


@pytest.fixture
def place(tmp_path: Path, empty_database: Database) -> Place:
    return opened_place(tmp_path, empty_database)


# --- all of it, as it is stored ---


@pytest.mark.parametrize("way", WAYS)
def test_every_object_comes_as_the_pacs_stores_it(pacs: Orthanc, place: Place, study: str, way: str) -> None:
    done = place.fetch(source(WAYS[way](pacs)), study)

    assert (done.state, done.expected, done.received, done.failed) == (RetrievalState.DONE, 32, 32, 0), done.reason
    assert place.data_sets() == held_by(pacs)


@pytest.mark.parametrize("way", WAYS)
def test_no_encoding_is_changed_on_the_way(tmp_path: Path, place: Place, way: str) -> None:
    files = sorted(real_data("mr_9_transfer_syntaxes").glob("*.dcm"))
    with running_orthanc(tmp_path) as orthanc:
        orthanc.know("AINODE", free_port(), "test")
        for file in files:
            orthanc.upload(file)
        done = place.fetch(source(WAYS[way](orthanc)), str(pydicom.dcmread(files[0]).StudyInstanceUID))

        assert (done.state, done.received) == (RetrievalState.DONE, 9), done.reason
        came, held = place.data_sets(), held_by(orthanc)
    assert {syntax for syntax, _ in came.values()} == {syntax for syntax, _ in held.values()}
    assert len({syntax for syntax, _ in came.values()}) == 7
    assert came == held


def test_the_second_make_of_pacs_counts_nothing_and_yet_all_is_known_beforehand(
    dcmqrscp: Receiver, place: Place, study: str, tmp_path: Path
) -> None:
    fill(dcmqrscp, tmp_path)

    done = place.fetch(source(dimse(dcmqrscp)), study)

    assert (done.state, done.expected, done.received) == (RetrievalState.DONE, 32, 32), done.reason
    assert place.data_sets() == named(path.read_bytes() for path in dcmqrscp.files())


@pytest.mark.parametrize("make", ["Orthanc", "dcmqrscp"])
def test_a_study_of_many_kinds_of_object_comes_whole(
    make: str, dcmqrscp: Receiver, place: Place, tmp_path: Path, orthanc: Orthanc
) -> None:
    kinds = {"CT": "2", "MR": "4", "SC": "7", "SR": "88.33", "KO": "88.59", "PR": "11.1", "SEG": "66.4", "DOC": "104.1"}
    folder = tmp_path / "images"
    folder.mkdir()
    for number, (modality, suffix) in enumerate(kinds.items()):
        image = an_image(f"1.2.3.4.{number}", 1, modality, f"1.2.840.10008.5.1.4.1.1.{suffix}")
        image.save_as(folder / f"{modality}.dcm", enforce_file_format=True)
    if make == "Orthanc":
        orthanc.know("AINODE", free_port(), "test")
        orthanc.upload(folder)
        settings = dimse(orthanc)
    else:
        assert storescu(dcmqrscp.port, folder, called=dcmqrscp.aet).returncode == 0
        settings = dimse(dcmqrscp)

    done = place.fetch(source(settings), "1.2.3.4")

    assert (done.state, done.expected, done.received) == (RetrievalState.DONE, len(kinds), len(kinds)), done.reason


def test_what_comes_is_the_pacs_s_and_its_association_is_closed(pacs: Orthanc, place: Place, study: str) -> None:
    place.fetch(source(dimse(pacs)), study)

    (association,) = place.associations()
    assert (association["calling_ae_title"], association["called_ae_title"]) == (pacs.aet, "AINODE")
    assert (association["outcome"], association["instances"], association["source_host"]) == (
        "released", 32, "127.0.0.1"
    )  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_only_the_series_asked_for_come(place: Place, tmp_path: Path, way: str) -> None:
    images = small_chest_ct()[0][:6]
    for image in images[:2]:
        image.SeriesInstanceUID = f"{image.SeriesInstanceUID}.2"
    with running_orthanc(tmp_path) as orthanc:
        orthanc.know("AINODE", free_port(), "test")
        for image in images:
            orthanc.upload_dataset(image)
        chosen = str(images[0].SeriesInstanceUID)
        done = place.fetch(source(WAYS[way](orthanc)), str(images[0].StudyInstanceUID), chosen)

    assert (done.state, done.expected, done.received) == (RetrievalState.DONE, 2, 2), done.reason
    assert {row["series_instance_uid"] for row in place.rows()} == {chosen}


def test_a_study_fetched_twice_is_kept_once(pacs: Orthanc, place: Place, study: str) -> None:
    for way in WAYS.values():
        assert place.fetch(source(way(pacs)), study).state is RetrievalState.DONE

    assert len(place.rows()) == 32


def test_a_move_that_ends_elsewhere_is_not_taken_for_done(
    pacs: Orthanc, place: Place, study: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.retrieve.sink._SETTLING_S", 0.5)
    with running_storescp(tmp_path, aet="ELSEWHERE") as elsewhere:
        pacs.know("ELSEWHERE", elsewhere.port, "elsewhere")
        done = place.fetch(source(dimse(pacs, retrieve="move", move_destination="ELSEWHERE")), study)
        assert len(elsewhere.files()) == 32

    assert (done.state, done.expected, done.received) == (RetrievalState.PARTIAL, 32, 0)
    assert "sent 32 objects, 0 are here" in done.reason


# --- what does not come ---


@pytest.mark.parametrize("way", WAYS)
def test_a_study_the_pacs_does_not_have_is_not_found(pacs: Orthanc, place: Place, way: str) -> None:
    done = place.fetch(source(WAYS[way](pacs)), NOT_THERE)

    assert (done.state, done.received) == (RetrievalState.NOT_FOUND, 0)
    assert NOT_THERE in done.reason


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "dimse", "ae_title": "AWAY", "host": "127.0.0.1"},
        {"kind": "dicomweb", "url": "http://127.0.0.1:{port}/dicom-web"},
        {"kind": "orthanc", "url": "http://127.0.0.1:{port}"},
    ],
    ids=["dimse", "dicomweb", "orthanc"],
)
def test_a_pacs_that_is_away_is_named(place: Place, study: str, settings: dict[str, object]) -> None:
    port = free_port()
    settings = {key: value.format(port=port) if isinstance(value, str) else value for key, value in settings.items()}
    done = place.fetch(source({**settings, "port": port}), study)

    assert done.state is RetrievalState.FAILED
    assert f"127.0.0.1:{port}" in done.reason or "(127.0.0.1)" in done.reason
    assert "cannot be reached" in done.reason


def test_a_wrong_called_ae_title_is_told_with_what_to_do(pacs: Orthanc, place: Place, study: str) -> None:
    done = place.fetch(source({**dimse(pacs), "ae_title": "WRONG"}), study)

    assert done.state is RetrievalState.FAILED
    assert "does not answer to called AE title WRONG" in done.reason


def test_a_pacs_that_does_not_know_the_node_is_told_so(tmp_path: Path, place: Place, study: str) -> None:
    with running_orthanc(tmp_path) as orthanc:
        orthanc.upload_dataset(small_chest_ct()[0][0])
        done = place.fetch(source(dimse(orthanc)), study)

    assert done.state is RetrievalState.FAILED
    assert "Does it know this node" in done.reason


def test_a_move_destination_the_pacs_does_not_know_is_told_with_what_to_do(
    pacs: Orthanc, place: Place, study: str
) -> None:
    done = place.fetch(source(dimse(pacs, retrieve="move", move_destination="NOBODY")), study)

    assert done.state is RetrievalState.FAILED
    assert done.received == 0


@pytest.mark.parametrize("way", ["C-GET", "REST"])
def test_objects_the_pacs_has_lost_are_counted_and_the_others_kept(
    tmp_path: Path, place: Place, study: str, way: str
) -> None:
    (tmp_path / "o").mkdir()
    with running_orthanc(tmp_path / "o") as orthanc:
        ids = [orthanc.upload_dataset(image) for image in small_chest_ct()[0][:5]]
        for lost in ids[:4]:
            lose(orthanc, tmp_path / "o" / "storage", lost)
        orthanc.kill9()  # it remembers what it was given last
        orthanc.start()
        orthanc.know("AINODE", free_port(), "test")
        done = place.fetch(source(WAYS[way](orthanc)), study)

    assert (done.state, done.expected, done.received, done.failed) == (RetrievalState.PARTIAL, 5, 1, 4), done.reason
    assert "log may say" in done.reason
    assert len(place.rows()) == 1


@pytest.mark.parametrize("way", WAYS)
def test_a_full_disk_ends_the_retrieval_with_that_reason(
    pacs: Orthanc, tmp_path: Path, empty_database: Database, study: str, way: str
) -> None:
    full = opened_place(tmp_path, empty_database, min_free_bytes=1 << 60)

    done = full.fetch(source(WAYS[way](pacs)), study)

    assert (done.state, done.received) == (RetrievalState.FAILED, 0)
    assert "disk is full" in done.reason
    assert full.rows() == []


@pytest.mark.parametrize("way", WAYS)
def test_an_object_above_the_cap_is_refused_alone(
    pacs: Orthanc, tmp_path: Path, empty_database: Database, study: str, way: str
) -> None:
    small = opened_place(tmp_path, empty_database, max_object_bytes=10_000)

    done = small.fetch(source(WAYS[way](pacs)), study)

    assert (done.state, done.expected, done.received, done.failed) == (RetrievalState.PARTIAL, 32, 0, 32)
    assert "dicom.max_object_mb" in done.reason


@pytest.mark.parametrize("way", ["C-GET", "REST"])
def test_a_pacs_killed_in_the_middle_fails_the_retrieval_and_what_came_is_kept(
    tmp_path: Path, place: Place, study: str, way: str
) -> None:
    (tmp_path / "o").mkdir()
    with running_orthanc(tmp_path / "o") as orthanc:
        orthanc.know("AINODE", free_port(), "test")
        for image in small_chest_ct()[0]:
            orthanc.upload_dataset(image)
        done = place.fetch(source(WAYS[way](orthanc)), study, watch=Watch(begun=when_received(5, orthanc.kill9)))

    assert done.state is RetrievalState.FAILED
    assert 5 <= done.received < 32
    assert len(place.rows()) == done.received
    assert place.associations()[0]["outcome"] == "aborted"


# --- looking for studies ---


@pytest.mark.parametrize("way", WAYS)
def test_a_search_tells_the_study_and_not_the_patient(
    pacs: Orthanc, study: str, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    image = small_chest_ct()[0][0]
    with caplog.at_level(logging.DEBUG):
        found = source(WAYS[way](pacs)).find_studies(StudyQuery(patient_id=str(image.PatientID)), 10)

    assert [one.study_instance_uid for one in found] == [study]
    assert found[0].study_date == str(image.StudyDate)
    assert str(image.PatientName) not in repr(found)
    own = [record.getMessage() + repr(record.__dict__) for record in caplog.records if "dicom_node" in record.name]
    assert not [line for line in own if str(image.PatientID) in line]


@pytest.mark.parametrize("way", WAYS)
def test_a_search_for_a_patient_the_pacs_does_not_know_finds_nothing(pacs: Orthanc, way: str) -> None:
    assert source(WAYS[way](pacs)).find_studies(StudyQuery(patient_id="NOBODY"), 10) == []


@pytest.mark.parametrize("way", WAYS)
def test_a_search_stops_at_its_limit(tmp_path: Path, way: str) -> None:
    with running_orthanc(tmp_path) as orthanc:
        orthanc.know("AINODE", free_port(), "test")
        for number in range(8):
            image = small_chest_ct()[0][0]
            image.StudyInstanceUID = f"{image.StudyInstanceUID}.{number}"
            image.SeriesInstanceUID = f"{image.SeriesInstanceUID}.{number}"
            image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = f"{image.SOPInstanceUID}.{number}"
            orthanc.upload_dataset(image)
        asked = source(WAYS[way](orthanc))
        found = asked.find_studies(StudyQuery(date=str(image.StudyDate)), 3)
        assert len(asked.find_studies(StudyQuery(date=str(image.StudyDate)), 100)) == 8

    assert len(found) == 3


def test_a_search_in_a_pacs_that_is_away_says_so() -> None:
    away = source({"kind": "dimse", "ae_title": "AWAY", "host": "127.0.0.1", "port": free_port()})

    with pytest.raises(SourceUnavailable, match="cannot be reached"):
        away.find_studies(StudyQuery(patient_id="1"), 10)


# --- how the tests do it ---


def fill(pacs: Receiver, folder: Path) -> None:
    for image in small_chest_ct()[0]:
        image.save_as(folder / f"{image.SOPInstanceUID}.dcm", enforce_file_format=True)
    assert storescu(pacs.port, *sorted(folder.glob("*.dcm")), called=pacs.aet).returncode == 0


def lose(orthanc: Orthanc, storage: Path, id_: str) -> None:
    """Delete the file of an instance behind Orthanc's back."""
    size = int(orthanc.http.get(f"/instances/{id_}/attachments/dicom/size").text)
    content = orthanc.http.get(f"/instances/{id_}/attachments/dicom/data").content
    (file,) = [
        path for path in storage.rglob("*") if path.is_file() and path.stat().st_size == size
        and path.read_bytes() == content
    ]  # fmt: skip
    file.unlink()


def when_received(count: int, act: Callable[[], None]) -> Callable[[RetrieveSink], None]:
    """Return a watcher that acts once so many objects have come, before the next one is taken."""

    def begun(arrivals: RetrieveSink) -> None:
        take = arrivals.take

        def take_and_act(names: Names, pieces: Iterable[Buffer]) -> StoreStatus:
            status = take(names, pieces)
            if arrivals.counts.progress.received == count:
                act()
            return status

        arrivals.take = take_and_act  # type: ignore[method-assign]

    return begun
