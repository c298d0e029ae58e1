"""A watched folder: whole files come in once, everything else waits or is put aside with a reason, nothing is lost."""

from __future__ import annotations

import os
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dicom_node.config.incoming import UploadSettings, WatchSettings
from dicom_node.ingest.archive import archive_limits
from dicom_node.ingest.watch import WatchFolder
from tests.peers.node import Node
from tests.peers.process import wait_until
from tests.support.ingesting import Children, Place, as_file, child_processes, opened_place
from tests.support.studies.data_factories import small_chest_ct
from tests.support.studies.small_images import small_image

IMAGES = [small_image(name) for name in ("a", "b", "c")]
SETTLE_S = 0.05
Opened = Callable[..., WatchFolder]


@pytest.fixture(scope="module")
def children() -> Iterator[Children]:
    with child_processes() as one:
        yield one


@pytest.fixture
def place(tmp_path: Path, children: Children) -> Iterator[Place]:
    with opened_place(tmp_path, children) as one:
        yield one


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "watched"
    path.mkdir()
    return path


@pytest.fixture
def opened(place: Place, folder: Path) -> Opened:
    def open_(place: Place = place, **settings: object) -> WatchFolder:
        chosen = WatchSettings.model_validate({"path": folder, "settle_s": SETTLE_S, **settings})
        return WatchFolder(place.parts, chosen, archive_limits(UploadSettings()))

    return open_


def settle(watch: WatchFolder, times: int = 1) -> None:
    """Let it see what is there, and look again when that has settled."""
    watch.look()
    for _ in range(times):
        time.sleep(SETTLE_S * 8)
        watch.look()


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


@pytest.mark.parametrize(
    ("after", "left"),
    [("delete", set()), ("keep", {"a.dcm", "sub/b"}), ("move", {"done/a.dcm", "done/sub/b"})],
)
def test_files_are_taken_in_and_then_treated_as_configured(
    place: Place, folder: Path, opened: Opened, after: str, left: set[str]
) -> None:
    (folder / "sub").mkdir()
    (folder / "a.dcm").write_bytes(as_file(IMAGES[0]))
    (folder / "sub" / "b").write_bytes(as_file(IMAGES[1]))
    watch = opened(after=after)
    settle(watch, 3)

    assert place.stored() == {image.sop_instance_uid: as_file(image) for image in IMAGES[:2]}
    assert tree(folder) == left
    assert place.leftovers() == []
    ended = [(row["calling_ae_title"], row["outcome"], row["instances"]) for row in place.associations()]
    assert ended == [("WATCH", "released", 2)]


def test_a_file_that_still_grows_is_left_alone_and_its_study_stays_open(
    place: Place, folder: Path, opened: Opened
) -> None:
    (folder / "a").write_bytes(as_file(IMAGES[0]))
    content = as_file(IMAGES[1])
    (folder / "b").write_bytes(content[:1000])
    watch = opened(settle_s=0.2)
    watch.look()
    for end in range(1100, 1500, 100):
        time.sleep(0.15)
        (folder / "b").write_bytes(content[:end])
        watch.look()
    assert list(place.stored()) == [IMAGES[0].sop_instance_uid]
    assert [row["closed_at"] for row in place.associations()] == [None]

    (folder / "b").write_bytes(content)
    watch.look()
    time.sleep(0.25)
    watch.look()
    assert len(place.rows()) == 2
    assert tree(folder) == {"done/a", "done/b"}
    assert [row["outcome"] for row in place.associations()] == ["released"]


def test_a_copy_that_stalled_is_taken_when_it_is_whole(place: Place, folder: Path, opened: Opened) -> None:
    (folder / "a").write_bytes(as_file(IMAGES[0])[:-100])
    watch = opened(settle_s=0.3)
    watch.look()
    time.sleep(0.35)
    watch.look()
    assert tree(folder) == {"a"}
    (folder / "a").write_bytes(as_file(IMAGES[0]))
    watch.look()
    time.sleep(0.35)
    watch.look()
    assert tree(folder) == {"done/a"}
    assert len(place.rows()) == 1


def test_what_cannot_be_used_is_put_aside_with_the_reason_and_tried_no_more(
    place: Place, folder: Path, opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    files = {"cut off.dcm": as_file(IMAGES[0])[:-100], "letter.txt": b"Dear colleague", "empty": b""}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    watch = opened()
    settle(watch, 2)

    assert tree(folder) == {f"rejected/{name}{end}" for name in files for end in ("", ".txt")}
    assert {name: (folder / "rejected" / name).read_bytes() for name in files} == files
    assert "cut off" in (folder / "rejected" / "cut off.dcm.txt").read_text()
    assert "neither a DICOM file" in (folder / "rejected" / "letter.txt.txt").read_text()
    caplog.clear()
    settle(watch, 2)
    assert caplog.records == []
    assert place.rows() == []


def test_nothing_that_was_put_aside_is_overwritten(place: Place, folder: Path, opened: Opened) -> None:
    watch = opened()
    for content in (b"first", b"second"):
        (folder / "x").write_bytes(content)
        settle(watch, 2)
    kept = {path.read_bytes() for path in (folder / "rejected").iterdir() if path.suffix != ".txt"}
    assert kept == {b"first", b"second"}


def test_an_archive_comes_in_as_its_files(place: Place, folder: Path, opened: Opened) -> None:
    with zipfile.ZipFile(folder / "study.zip", "w") as archive:
        for number, image in enumerate(IMAGES):
            archive.writestr(f"../{number}", as_file(image))
        archive.writestr("readme.txt", "text")
    settle(opened())
    assert place.stored() == {image.sop_instance_uid: as_file(image) for image in IMAGES}
    assert tree(folder) == {"done/study.zip"}


def test_links_hidden_files_and_other_names_are_left_alone(
    place: Place, folder: Path, opened: Opened, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.dcm").write_bytes(as_file(IMAGES[0]))
    (folder / "link.dcm").symlink_to(outside / "secret.dcm")
    (folder / "folder").symlink_to(outside)
    os.mkfifo(folder / "pipe.dcm")
    (folder / ".a.dcm.X7").write_bytes(as_file(IMAGES[1]))
    (folder / "b.tmp").write_bytes(as_file(IMAGES[1]))
    (folder / "C.DCM").write_bytes(as_file(IMAGES[2]))
    settle(opened(pattern="*.dcm", after="delete"), 2)

    assert list(place.stored()) == [IMAGES[2].sop_instance_uid]
    assert tree(folder) == {"link.dcm", "pipe.dcm", ".a.dcm.X7", "b.tmp"}
    assert (outside / "secret.dcm").exists()


def test_with_a_full_disk_files_wait_where_they_are(place: Place, folder: Path, opened: Opened) -> None:
    (folder / "a").write_bytes(as_file(IMAGES[0]))
    full = opened(place.with_limits(min_free_bytes=1 << 60))
    settle(full, 3)
    assert tree(folder) == {"a"}
    settle(opened())
    assert (tree(folder), len(place.rows())) == ({"done/a"}, 1)


def test_with_the_database_away_files_wait_where_they_are(
    place: Place, folder: Path, opened: Opened, tmp_path: Path
) -> None:
    (folder / "a").write_bytes(as_file(IMAGES[0]))
    watch = opened()
    place.parts.database.close()
    (tmp_path / "node.sqlite").rename(tmp_path / "gone")
    (tmp_path / "node.sqlite").mkdir()
    settle(watch, 3)
    assert tree(folder) == {"a"}
    (tmp_path / "node.sqlite").rmdir()
    (tmp_path / "gone").rename(tmp_path / "node.sqlite")
    settle(watch)
    assert (tree(folder), len(place.rows())) == ({"done/a"}, 1)


def test_a_folder_that_comes_later_is_told_once_and_then_watched(
    place: Place, folder: Path, opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    folder.rmdir()
    watch = opened()
    for _ in range(3):
        watch.look()
    assert [record.getMessage() for record in caplog.records] == ["watched folder cannot be read"]
    folder.mkdir()
    (folder / "a").write_bytes(as_file(IMAGES[0]))
    settle(watch)
    assert len(place.rows()) == 1


# --- a whole node ---


def test_a_study_copied_into_the_folder_is_reported_and_survives_a_crash(tmp_path: Path) -> None:
    watched = tmp_path / "watched"
    watched.mkdir()
    route = {"name": "ct", "model": "ct-lung-density", "quiet_period_s": 1.0, "when": {"modality": "CT"}}
    watch = {"path": str(watched), "settle_s": 0.5}
    node = Node(tmp_path / "node", {"route": [route], "destination": [], "watch": [watch]})
    node.start()
    try:
        images = small_chest_ct()[0]
        for number, image in enumerate(images):
            image.save_as(watched / f"{number}.dcm", enforce_file_format=True)
        wait_until(lambda: len(list((watched / "done").glob("*"))) > 3, 60, "the first files")
        node.kill9()
        node.start()
        url = f"/api/studies/{images[0].StudyInstanceUID}"
        with node.api() as api:

            def is_reported_whole() -> bool:
                # What had come before the kill may be reported first: it was quiet for long enough.
                study = api.get(url).json()["study"]
                return (study["state"], study["instances"]) == ("REPORTED", len(images))

            wait_until(is_reported_whole, 180, "the report", 0.5)
        assert tree(watched) == {f"done/{number}.dcm" for number in range(len(images))}
    finally:
        node.kill9()
