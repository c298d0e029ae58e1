"""STOW-RS: what a client sends is streamed in, and what it is told of each object is true."""

from __future__ import annotations

import base64
import shutil
import struct
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from dicom_node.headers.file_meta import file_head
from tests.integration.retrieving import held_by, named
from tests.peers.node import Node
from tests.peers.orthanc import Orthanc
from tests.peers.process import wait_until
from tests.support.api_client import TOKEN
from tests.support.ingesting import (
    RELATED,
    Children,
    Place,
    as_file,
    break_off,
    child_processes,
    connected,
    multipart,
    opened_place,
    served,
)
from tests.support.studies.data_factories import small_chest_ct
from tests.support.studies.small_images import (
    CT_IMAGE,
    EXPLICIT_LITTLE,
    element,
    header,
    image_module,
    small_image,
    uid,
)

STORED, FAILED, OTHER_FAILURES = "00081199", "00081198", "0008119A"
STUDIES = "/dicom-web/studies"


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


def store(client: httpx.Client, *files: bytes, path: str = STUDIES, content_type: str = RELATED) -> httpx.Response:
    return client.post(path, content=multipart(files), headers={"Content-Type": content_type})


def names(answer: httpx.Response, sequence: str = STORED) -> list[str]:
    items = answer.json().get(sequence, {}).get("Value", [])
    return [item["00081155"]["Value"][0] for item in items]


def reasons(answer: httpx.Response, sequence: str = FAILED) -> list[int]:
    items = answer.json().get(sequence, {}).get("Value", [])
    return [item["00081197"]["Value"][0] for item in items]


IMAGES = [small_image(name) for name in ("a", "b", "c")]
STUDY = IMAGES[0].study_instance_uid


def test_ever_so_many_bad_parts_make_a_few_lines_of_the_log(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    answer = store(client, *[b"no DICOM"] * 200, as_file(IMAGES[0]))

    assert (answer.status_code, len(reasons(answer, OTHER_FAILURES)), len(names(answer))) == (202, 200, 1)
    lines = [record for record in caplog.records if record.message.startswith("file")]
    assert [record.message for record in lines].count("file refused") == 10
    [summary] = [record for record in lines if record.message == "files refused"]
    assert (summary.files, summary.by_status) == (200, {"0xC000": 200})  # type: ignore[attr-defined]
    assert len(caplog.records) < 20


# --- what is stored ---


def test_all_objects_of_a_body_are_stored_and_named(place: Place, client: httpx.Client) -> None:
    answer = store(client, *map(as_file, IMAGES))

    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/dicom+json"
    assert names(answer) == [image.sop_instance_uid for image in IMAGES]
    assert answer.json()[STORED]["Value"][0]["00081150"] == {"vr": "UI", "Value": [CT_IMAGE]}
    assert place.stored() == {image.sop_instance_uid: as_file(image) for image in IMAGES}
    assert place.leftovers() == []


def test_a_request_is_an_association_that_is_over_when_it_is_answered(place: Place, client: httpx.Client) -> None:
    store(client, as_file(IMAGES[0]), as_file(small_image("x", "other study")))

    ended = [(row["calling_ae_title"], row["source_host"], row["outcome"]) for row in place.associations()]
    assert ended == [("STOW", "127.0.0.1", "released")] * 2
    assert len({row["association_id"] for row in place.associations()}) == 1
    assert all(row["closed_at"] is not None for row in place.associations())


def test_the_preamble_and_the_meta_information_are_not_the_senders(place: Place, client: httpx.Client) -> None:
    program = b"MZ" + b"\x90" * 126
    assert store(client, as_file(IMAGES[0], preamble=program)).status_code == 200
    assert place.stored() == {IMAGES[0].sop_instance_uid: as_file(IMAGES[0])}


def test_a_file_that_names_another_object_is_kept_under_the_name_in_its_data_set(
    place: Place, client: httpx.Client
) -> None:
    named_wrongly = as_file(IMAGES[0]).replace(IMAGES[0].sop_instance_uid.encode(), uid("other").encode(), 1)
    assert names(store(client, named_wrongly)) == [IMAGES[0].sop_instance_uid]
    assert place.stored() == {IMAGES[0].sop_instance_uid: as_file(IMAGES[0])}
    assert place.leftovers() == []


def test_the_same_objects_again_are_success_and_nothing_new(place: Place, client: httpx.Client) -> None:
    for _ in range(2):
        assert store(client, *map(as_file, IMAGES)).status_code == 200
    assert len(place.rows()) == len(IMAGES)


def test_a_bare_data_set_comes_in_by_the_transfer_syntax_of_its_part(place: Place, client: httpx.Client) -> None:
    part = b"content-TYPE: application/dicom; transfer-syntax=" + EXPLICIT_LITTLE.encode()
    body = multipart([IMAGES[0].data_set], part)
    assert client.post(STUDIES, content=body, headers={"Content-Type": RELATED}).status_code == 200
    assert place.stored() == {IMAGES[0].sop_instance_uid: as_file(IMAGES[0])}


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/related; boundary=plain; type=application/dicom",
        'Multipart/Related; Type="application/dicom"; Boundary="plain"',
        "multipart/related;type=application/dicom;boundary=plain;start=x",
        "multipart/related; boundary=plain",
    ],
)
def test_the_boundary_may_be_quoted_or_not(place: Place, client: httpx.Client, content_type: str) -> None:
    body = b"--plain\r\n\r\n" + as_file(IMAGES[0]) + b"\r\n--plain--"
    assert client.post(STUDIES, content=body, headers={"Content-Type": content_type}).status_code == 200
    assert len(place.rows()) == 1


def test_one_file_may_be_the_whole_body(place: Place, client: httpx.Client) -> None:
    answer = client.post(STUDIES, content=as_file(IMAGES[0]), headers={"Content-Type": "application/dicom"})
    assert (answer.status_code, names(answer)) == (200, [IMAGES[0].sop_instance_uid])


def test_a_body_of_unknown_length_is_taken(place: Place, client: httpx.Client) -> None:
    body = multipart([as_file(image) for image in IMAGES])
    pieces = (body[start : start + 700] for start in range(0, len(body), 700))
    assert client.post(STUDIES, content=pieces, headers={"Content-Type": RELATED}).status_code == 200
    assert len(place.rows()) == len(IMAGES)


# --- what fails, alone ---


def cut_off() -> bytes:
    return as_file(IMAGES[1])[:-10]


def test_one_bad_object_does_not_keep_the_others_away(place: Place, client: httpx.Client) -> None:
    answer = store(client, as_file(IMAGES[0]), cut_off(), as_file(IMAGES[2]))

    assert answer.status_code == 202
    assert names(answer) == [IMAGES[0].sop_instance_uid, IMAGES[2].sop_instance_uid]
    assert (names(answer, FAILED), reasons(answer)) == ([IMAGES[1].sop_instance_uid], [0xC000])
    assert len(place.rows()) == 2
    assert place.leftovers() == []


def test_nothing_stored_is_a_conflict(place: Place, client: httpx.Client) -> None:
    answer = store(client, cut_off(), b"no DICOM at all")
    assert answer.status_code == 409
    assert (reasons(answer), reasons(answer, OTHER_FAILURES)) == ([0xC000], [0xC000])
    assert (place.rows(), place.leftovers()) == ([], [])


def test_an_object_of_another_study_than_the_address_names_fails(place: Place, client: httpx.Client) -> None:
    other = small_image("x", "other study")
    answer = store(client, as_file(IMAGES[0]), as_file(other), path=f"{STUDIES}/{STUDY}")
    assert answer.status_code == 202
    assert (names(answer), names(answer, FAILED)) == ([IMAGES[0].sop_instance_uid], [other.sop_instance_uid])
    assert reasons(answer) == [43264]
    assert len(place.rows()) == 1


def test_what_is_no_storage_object_fails(place: Place, client: httpx.Client) -> None:
    directory = as_file(IMAGES[0]).replace(CT_IMAGE.encode() + b"\0", b"1.2.840.10008.1.3.10\0\0\0\0\0\0"[:26])
    answer = store(client, directory)
    assert (answer.status_code, reasons(answer)) == (409, [0x0122])


def test_a_transfer_syntax_that_unfolds_fails(place: Place, client: httpx.Client) -> None:
    deflated = as_file(IMAGES[0]).replace(EXPLICIT_LITTLE.encode() + b"\0", b"1.2.840.10008.1.2.1.99", 1)
    deflated = deflated.replace(struct.pack("<HH2sH", 2, 16, b"UI", 20), struct.pack("<HH2sH", 2, 16, b"UI", 22))
    answer = store(client, deflated)
    assert (answer.status_code, reasons(answer)) == (409, [0xC122])


def test_an_object_above_the_cap_fails_and_is_not_kept(place: Place) -> None:
    small = place.with_limits(max_object_bytes=3000)
    large = as_file(small_image("large", rows=300))
    with served(small.api_parts()) as client:
        answer = store(client, as_file(IMAGES[0]), large)
    assert answer.status_code == 202
    assert reasons(answer) + reasons(answer, OTHER_FAILURES) == [0xC000]
    assert place.leftovers() == []


@pytest.mark.parametrize(
    "hostile",
    [
        header("deep") + element(0x00081115, b"SQ", b"")[:8] + b"\xff\xff\xff\xff" * 300,
        header("x", sop_instance_uid="../../x") + element(0x7FE00010, b"OW", b"\0" * 64),
        header("x", study_uid="") + element(0x7FE00010, b"OW", b"\0" * 64),
        b"\x08\x00\x05\x00CS\xff\xff",
    ],
    ids=["nested", "path in a UID", "no study", "length beyond the end"],
)
def test_hostile_objects_are_refused_and_nothing_is_left(place: Place, client: httpx.Client, hostile: bytes) -> None:
    answer = store(client, file_head(CT_IMAGE, uid("x"), EXPLICIT_LITTLE) + hostile)
    assert answer.status_code == 409
    assert (place.rows(), place.leftovers()) == ([], [])


# --- bodies that are wrong ---


def refused(client: httpx.Client, body: bytes = b"", **headers: str) -> httpx.Response:
    headers = {"Content-Type": RELATED, **{name.replace("_", "-"): value for name, value in headers.items()}}
    answer = client.post(STUDIES, content=body or multipart([as_file(IMAGES[0])]), headers=headers)
    assert answer.headers["content-type"] == "application/problem+json"
    return answer


def test_metadata_apart_from_pixels_is_not_taken(client: httpx.Client) -> None:
    for kind in ('multipart/related; type="application/dicom+json"; boundary=x', "text/plain", "multipart/form-data"):
        assert refused(client, Content_Type=kind).status_code == 415


def test_a_body_that_is_no_multipart_body_is_told_so(place: Place, client: httpx.Client) -> None:
    assert refused(client, Content_Type="multipart/related; type=application/dicom").status_code == 400
    assert refused(client, b"--other--\r\n").status_code == 400
    assert refused(client, multipart([])).status_code == 400
    assert refused(client, b"x" * 100000).status_code == 400
    assert place.leftovers() == []


def test_what_came_before_a_body_broke_is_kept_and_told(place: Place, client: httpx.Client) -> None:
    broken = multipart([as_file(IMAGES[0]), as_file(IMAGES[1])])[:-200]
    answer = client.post(STUDIES, content=broken, headers={"Content-Type": RELATED})
    assert (answer.status_code, names(answer)) == (202, [IMAGES[0].sop_instance_uid])
    assert reasons(answer, OTHER_FAILURES) == [0xC000]
    assert [row["outcome"] for row in place.associations()] == ["aborted"]
    assert place.leftovers() == []


def test_an_answer_nobody_wants_is_told_before_anything_is_stored(place: Place, client: httpx.Client) -> None:
    assert refused(client, Accept="application/dicom+xml").status_code == 406
    assert place.rows() == []


def test_a_client_that_hangs_up_leaves_nothing_half_written(place: Place, client: httpx.Client) -> None:
    first = multipart([as_file(IMAGES[0])]).removesuffix(b"--\r\n") + b"\r\n\r\n"
    break_off(client, first + as_file(IMAGES[1])[:1500], lambda: len(place.rows()) == 1)

    wait_until(lambda: [row["outcome"] for row in place.associations()] == ["aborted"], 60, "the association to end")
    wait_until(lambda: not place.leftovers(), 60, "the end of what is half written")
    assert list(place.stored()) == [IMAGES[0].sop_instance_uid]


def test_a_silent_client_is_let_go(place: Place) -> None:
    with served(place.api_parts(stow={"silence_s": 0.3})) as client, connected(client) as connection:
        connection.sendall(b"Content-Length: 100000\r\n\r\n" + multipart([as_file(IMAGES[0])])[:1000])
        assert connection.recv(100).startswith(b"HTTP/1.1 408 ")
    assert (place.rows(), place.leftovers()) == ([], [])


def test_a_client_that_sends_a_letter_now_and_then_is_silent(place: Place) -> None:
    with served(place.api_parts(stow={"silence_s": 0.3})) as client, connected(client) as connection:
        connection.sendall(b"Content-Length: 100000\r\n\r\n")
        connection.settimeout(0.1)
        answer = b""
        for _ in range(500):
            connection.sendall(b"-")
            with suppress(TimeoutError):
                answer = connection.recv(100)
                break
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_only_so_many_bodies_are_read_at_once(place: Place, client: httpx.Client) -> None:
    with ExitStack() as stack:

        def another_is_refused() -> bool:
            # One more that never ends each time: the one asked about may have held the last one's place.
            stack.enter_context(connected(client)).sendall(b"Content-Length: 100000\r\n\r\n--x")
            return store(client, as_file(IMAGES[0])).status_code == 503

        wait_until(another_is_refused, 60, "all places to be taken")
        assert store(client, as_file(IMAGES[0])).headers["retry-after"] == "5"
        assert client.get("/api/status").status_code == 200
    wait_until(lambda: store(client, as_file(IMAGES[0])).status_code == 200, 60, "a place to be free")


def test_a_body_above_the_limit_is_refused_before_it_is_read(place: Place) -> None:
    with served(place.api_parts(stow={"max_request_mb": 1})) as client:
        with connected(client) as connection:
            connection.sendall(f"Content-Length: {2 << 20}\r\n\r\n".encode())
            assert connection.recv(100).startswith(b"HTTP/1.1 413 ")
        pieces = (bytes(65536) for _ in range(64))
        try:
            status = client.post(STUDIES, content=pieces, headers={"Content-Type": RELATED}).status_code
        except (httpx.NetworkError, httpx.RemoteProtocolError):
            status = 413  # it hung up on us while we were still sending
        assert status in {400, 413}


# --- who may, and when ---


def test_a_body_of_too_many_parts_is_refused(place: Place) -> None:
    body = multipart([b""] * 31)
    with served(place.api_parts(stow={"max_parts": 30})) as client:
        answer = client.post(STUDIES, content=body, headers={"Content-Type": RELATED})
    assert answer.status_code == 413
    assert "stow.max_parts" in answer.json()["detail"]
    assert place.leftovers() == []


def test_without_the_token_nothing_is_read(place: Place, client: httpx.Client) -> None:
    for credentials in ("", "Bearer wrong", "Basic " + base64.b64encode(b"user:wrong").decode(), "Basic ?"):
        answer = client.post(STUDIES, headers={"Authorization": credentials, "Content-Type": RELATED})
        assert answer.status_code == 401
    assert place.rows() == []


def test_the_token_may_be_the_password_of_basic_authentication(place: Place, client: httpx.Client) -> None:
    credentials = "Basic " + base64.b64encode(f"orthanc:{TOKEN}".encode()).decode()
    body = multipart([as_file(IMAGES[0])])
    answer = client.post(STUDIES, content=body, headers={"Content-Type": RELATED, "Authorization": credentials})
    assert answer.status_code == 200
    elsewhere = {"Content-Type": RELATED, "Authorization": credentials, "Origin": "http://evil.example"}
    assert client.post(STUDIES, content=body, headers=elsewhere).status_code == 403


def test_a_full_disk_is_said_and_passes(place: Place) -> None:
    full = place.with_limits(min_free_bytes=1 << 60)
    with served(full.api_parts()) as client:
        answer = store(client, as_file(IMAGES[0]))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
    assert (place.rows(), place.leftovers()) == ([], [])


def test_a_database_that_is_away_is_said_and_passes(place: Place, client: httpx.Client, tmp_path: Path) -> None:
    place.parts.database.close()
    (tmp_path / "node.sqlite").rename(tmp_path / "gone")
    (tmp_path / "node.sqlite").mkdir()
    assert store(client, as_file(IMAGES[0])).status_code == 503
    shutil.rmtree(tmp_path / "node.sqlite")
    (tmp_path / "gone").rename(tmp_path / "node.sqlite")
    assert store(client, as_file(IMAGES[0])).status_code == 200
    assert place.leftovers() == []


def test_stow_can_be_switched_off(place: Place) -> None:
    with served(place.api_parts(stow={"enabled": False})) as client:
        assert store(client, as_file(IMAGES[0])).status_code == 404


# --- a real client, a whole node ---


def test_orthanc_stores_in_the_node_and_the_study_is_reported(tmp_path: Path, orthanc: Orthanc) -> None:
    images = small_chest_ct()[0]
    route = {"name": "ct", "model": "ct-lung-density", "quiet_period_s": 1.0, "when": {"modality": "CT"}}
    destination = {"name": "folder", "kind": "folder", "path": str(tmp_path / "results")}
    node = Node(tmp_path / "node", {"route": [route], "destination": [destination]})
    node.start()
    try:
        ids = [orthanc.upload_dataset(image) for image in images]
        server = {"Url": f"http://127.0.0.1:{node.api_port}/dicom-web/", "Username": "orthanc"}
        orthanc.http.put("/dicom-web/servers/node", json=server | {"Password": node.api_token}).raise_for_status()
        answer = orthanc.http.post("/dicom-web/servers/node/stow", json={"Resources": ids}, timeout=120)
        assert answer.status_code == 200, orthanc.log()[-2000:]

        study = str(images[0].StudyInstanceUID)
        with node.api() as api:
            wait_until(lambda: state(api, study) == "REPORTED", 120, "the report", 0.5)
            assert api.get(f"/api/studies/{study}").json()["study"]["instances"] == len(images)
        kept = named(path.read_bytes() for path in (node.data_dir / "spool").rglob("*.dcm"))
        assert kept == held_by(orthanc)
    finally:
        node.kill9()


def test_a_gigabyte_comes_in_with_little_memory(tmp_path: Path) -> None:
    """One multi-frame object, as a client that does not know its length sends it."""
    size = 1 << 30
    head = header("large") + image_module(512, 512, size // (512 * 512 * 2))
    start = head + struct.pack("<HH2sxxL", 0x7FE0, 0x0010, b"OW", size)

    def part(name: str) -> bytes:
        return b"--x\r\nContent-Type: application/dicom\r\n\r\n" + file_head(CT_IMAGE, uid(name), EXPLICIT_LITTLE)

    def body() -> Iterator[bytes]:
        yield part("large") + start
        yield from (bytes(1 << 20) for _ in range(size >> 20))
        yield b"\r\n--x--\r\n"

    node = Node(tmp_path / "node", {"route": [], "destination": []})
    node.start()
    try:
        with node.api() as api:
            first = part("first") + small_image("first").data_set + b"\r\n--x--"
            assert store_as(api, first).status_code == 200
            before_mb = peak_mb(node)
            answer = store_as(api, body())
        assert (answer.status_code, names(answer)) == (200, [uid("large")])
        assert peak_mb(node) - before_mb < 50
        (kept,) = (path for path in (node.data_dir / "spool").rglob("*.dcm") if path.stat().st_size > size)
        with kept.open("rb") as file:
            assert start in file.read(len(part("large")) + len(start))
    finally:
        node.kill9()


def store_as(api: httpx.Client, content: bytes | Iterator[bytes]) -> httpx.Response:
    headers = {"Content-Type": "multipart/related; type=application/dicom; boundary=x"}
    return api.post(STUDIES, content=content, headers=headers, timeout=240)


def peak_mb(node: Node) -> int:
    """The most memory that the node's main process ever had."""
    assert node.process is not None
    told = Path(f"/proc/{node.process.pid}/status").read_text()
    return int(told.partition("VmHWM:")[2].split()[0]) >> 10


def state(api: httpx.Client, study: str) -> str:
    answer = api.get(f"/api/studies/{study}")
    return str(answer.json()["study"]["state"]) if answer.status_code == 200 else ""
