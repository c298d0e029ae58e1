"""What others have reported of DICOM nodes in use, tried against this one; each test links the report."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dicom_node.core.uids import derived_uid
from tests.peers import raw
from tests.peers.node import Node
from tests.peers.process import wait_until
from tests.peers.raw import COMMAND, LAST, STORE_CONTEXT, Raw
from tests.support import needs
from tests.support.acceptor_state import logged_errors
from tests.support.results.stored_objects import assert_kept, kept_by
from tests.support.studies.small_images import (
    CT_IMAGE,
    Image,
    element,
    header,
    image_module,
    small_image,
    uid,
)

pytestmark = pytest.mark.timeout(600)

SUCCESS, OUT_OF_RESOURCES, CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xC000


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node that takes everything and analyses nothing."""
    node = Node(tmp_path_factory.mktemp("reports"), {"route": []})
    node.start()
    yield node
    assert logged_errors(node) == []
    node.kill9()


def stored(node: Node, image: Image, **association: Any) -> int:
    """Store one image on an association of its own and return the status."""
    with Raw(node.dicom_port) as peer:
        assert peer.associate(**association).kind == raw.ASSOCIATE_AC
        status = peer.store(image)
        peer.release()
    return status


def image_of(data_set: bytes, sop_instance_uid: str, study_instance_uid: str = "1.2.3") -> Image:
    return Image(CT_IMAGE, sop_instance_uid, study_instance_uid, data_set)


def made_of(name: str, pixels: bytes = b"\1\2", **uids: str) -> Image:
    """A small image whose UIDs are these; without, they follow from its name."""
    made = {"sop_instance_uid": uid(name), "study_uid": derived_uid("test-study", name), **uids}
    data_set = header(name, name, **made) + image_module(16, 16) + element(0x7FE00010, b"OW", pixels * 256)
    return image_of(data_set, made["sop_instance_uid"], made["study_uid"])


# --- identities ---


def test_study_series_and_instance_may_have_one_uid(listener: Node) -> None:
    """Archives had to stop refusing it: github.com/microsoft/dicom-server/pull/3257."""
    one = derived_uid("all-the-same")
    image = made_of("all-the-same", sop_instance_uid=one, study_uid=one, series_uid=one)

    assert stored(listener, image) == SUCCESS
    assert_kept(listener, [image])


def test_uids_that_differ_in_a_leading_zero_are_two(listener: Node) -> None:
    """Senders make such UIDs, and ask whether they are equal: github.com/fo-dicom/fo-dicom/issues/859."""
    images = [
        made_of("zeros", pixels, sop_instance_uid=f"1.2.826.0.{last}", study_uid=f"1.2.826.1.{last}")
        for last, pixels in (("04", b"\1\2"), ("4", b"\3\4"))
    ]

    assert [stored(listener, image) for image in images] == [SUCCESS, SUCCESS]
    assert_kept(listener, images)
    assert all(one.is_used for one in kept_by(listener) if one.sop_instance_uid.startswith("1.2.826.0."))


@pytest.mark.parametrize("padding", [" ", "  ", "\0", "\0\0 "], ids=["blank", "blanks", "zero", "all"])
def test_uids_may_be_padded_as_other_texts_are(listener: Node, padding: str) -> None:
    """UIDs padded with a blank, not with zero: github.com/microsoft/dicom-server/pull/1795."""
    name = derived_uid("padded", padding)
    padded = made_of("padded", sop_instance_uid=name + padding, study_uid=derived_uid("padded") + padding)

    assert stored(listener, padded) == SUCCESS
    assert stored(listener, image_of(padded.data_set, name)) == SUCCESS
    assert [one.sop_instance_uid for one in kept_by(listener)].count(name) == 1


def test_one_instance_in_two_series_is_kept_twice_and_flagged(listener: Node) -> None:
    """Two series of a study with one SOP Instance UID overwrote each other:
    github.com/GoogleCloudPlatform/healthcare-dicom-dicomweb-adapter/issues/153."""
    name, study = uid("in-two-series"), derived_uid("in-two-series")
    first, second = (
        made_of("two-series", pixels, sop_instance_uid=name, study_uid=study, series_uid=derived_uid("series", str(n)))
        for n, pixels in enumerate((b"\1\2", b"\3\4"))
    )
    with Raw(listener.dicom_port).opened() as peer:
        assert [peer.store(first), peer.store(second)] == [SUCCESS, SUCCESS]
        peer.release()

    assert_kept(listener, [first, second])
    assert [one.is_used for one in kept_by(listener) if one.sop_instance_uid == name] == [False, True]


@pytest.mark.parametrize("callers", [("MOD1", "MOD1"), ("MOD1", "WORKSTATION")], ids=["one caller", "two callers"])
def test_a_study_on_two_associations_is_one_study(listener: Node, callers: tuple[str, str]) -> None:
    """A study of two classes comes on two associations: github.com/pydicom/pynetdicom/issues/855."""
    study = f"split-{callers[1]}"
    images = [small_image(f"{study}-{number}", study, rows=16) for number in range(2)]

    statuses = [stored(listener, image, calling=caller) for image, caller in zip(images, callers, strict=True)]

    assert statuses == [SUCCESS, SUCCESS]
    assert_kept(listener, images)
    with listener.api() as api:
        assert api.get(f"/api/studies/{images[0].study_instance_uid}").json()["study"]["instances"] == 2


# --- what data sets are made of ---


def unusual() -> dict[str, bytes]:
    pixels = element(0x7FE00010, b"OW", b"\1\2" * 256)
    items = bytes.fromhex("feff00e0ffffffff") + b"\x08\x00\x60\x00" + struct.pack("<L", 2) + b"CT"
    ends = bytes.fromhex("feff0de000000000feffdde000000000")
    un = struct.pack("<HH", 0x0019, 0x1010) + b"UN\0\0" + b"\xff" * 4 + items + ends
    odd = struct.pack("<HH", 0x0020, 0x4000) + b"LT" + struct.pack("<H", 3) + b"odd"
    lo = element(0x00120064, b"LO", b"Header Anonymizer")
    module = image_module(16, 16)
    return {
        "a sequence of unknown kind": un + module + pixels,
        "an odd length": odd + module + pixels,
        "a text where a sequence belongs": lo + module + pixels,
        "padding behind the pixels": module + pixels + element(0xFFFCFFFC, b"OB", bytes(100)),
        "group lengths": struct.pack("<HH", 0x0028, 0) + b"UL" + struct.pack("<HL", 4, len(module)) + module + pixels,
    }


@pytest.mark.parametrize("what", unusual())
def test_an_unusual_data_set_is_kept_as_it_came(listener: Node, what: str) -> None:
    """UN of undefined length: github.com/pydicom/pydicom/issues/1312; odd lengths:
    github.com/fo-dicom/fo-dicom/issues/1403; a sequence as text: github.com/fo-dicom/fo-dicom/issues/2183; padding:
    github.com/dgobbi/vtk-dicom/issues/125; group lengths: github.com/fo-dicom/fo-dicom/issues/378."""
    image = image_of(header(what, what) + unusual()[what], uid(what))

    assert stored(listener, image) == SUCCESS
    assert_kept(listener, [image])


# --- who speaks, and what is answered ---


@pytest.mark.parametrize("title", [b"AINODE".ljust(16, b"\0"), b"AINODE\0".ljust(16), b" AINODE".ljust(16)])
def test_a_title_may_be_padded_with_zeros_or_blanks(listener: Node, title: bytes) -> None:
    """Padded with zeros: github.com/pydicom/pynetdicom/issues/921; blanks: github.com/nroduit/Weasis/issues/192."""
    with Raw(listener.dicom_port) as peer:
        answer = peer.associate(called=title)
        assert answer.kind == raw.ASSOCIATE_AC
        assert peer.echo() == SUCCESS
        peer.release()


@pytest.mark.parametrize(("which", "reason"), [("calling", 3), ("called", 7)])
@pytest.mark.parametrize("title", [b" " * 16, bytes(16)], ids=["blanks", "zeros"])
def test_a_title_that_is_empty_is_rejected_with_the_reason(
    listener: Node, which: str, reason: int, title: bytes
) -> None:
    """An ultrasound machine that names nobody was cut off without a word:
    github.com/pydicom/pynetdicom/issues/646."""
    with Raw(listener.dicom_port) as peer:
        answer = peer.associate(**{which: title})

    assert (answer.kind, tuple(answer.body[1:4])) == (raw.ASSOCIATE_RJ, (1, 1, reason))


@pytest.mark.parametrize("name", ["9" * 65, "1.2." + "3" * 61, "nothing like a UID " * 3])
def test_a_refusal_however_long_its_reason_is_answered(listener: Node, name: str) -> None:
    """A reason of more than 64 characters left the sender without an answer:
    github.com/fo-dicom/fo-dicom/issues/1282."""
    image = made_of("refused", study_uid=name)

    with Raw(listener.dicom_port).opened() as peer:
        peer.send(raw.store_pdus(image))
        answer = peer.receive()
        assert answer is not None
        assert answer.status == CANNOT_UNDERSTAND
        assert 0 < len(answer.element(0x902)) <= 64
        assert answer.element(0x1000).rstrip(b"\0").decode() == image.sop_instance_uid
        assert peer.echo() == SUCCESS
        peer.release()


def test_a_message_without_priority_or_with_number_nought_is_answered(listener: Node) -> None:
    """A C-STORE without Priority was refused: github.com/PantelisGeorgiadis/dcmjs-dimse/issues/9."""
    image = small_image("no-priority", "no-priority", rows=16)
    command = raw.command_set(
        {2: raw.ui(CT_IMAGE), 0x100: raw.us(1), 0x110: raw.us(0), 0x800: raw.us(1),
         0x1000: raw.ui(image.sop_instance_uid)}
    )  # fmt: skip
    with Raw(listener.dicom_port).opened() as peer:
        peer.send(raw.p_data(STORE_CONTEXT, COMMAND | LAST, command) + b"".join(raw.data_pdus(image.data_set)))
        answer = peer.receive()
        assert answer is not None
        assert (answer.status, answer.element(0x120)) == (SUCCESS, raw.us(0))
        peer.release()
    assert_kept(listener, [image])


@pytest.mark.parametrize("size", [0, 1, 128, 0xFFFFFFFF])
def test_a_peer_may_take_pdus_of_any_length(listener: Node, size: int) -> None:
    """Nought means without limit; tiny ones broke a sender: github.com/Enet4/dicom-rs/pull/281."""
    image = small_image(f"pdu-{size}", "pdus", rows=16)
    with Raw(listener.dicom_port) as peer:
        peer.send(raw.associate_rq(raw.USUAL_CONTEXTS, max_pdu_bytes=size))
        answer = peer.receive()
        assert answer is not None
        assert answer.kind == raw.ASSOCIATE_AC
        assert peer.store(image) == SUCCESS
        peer.release()
    assert_kept(listener, [image])


# --- nodes with settings of their own ---


def test_a_node_on_ipv6_takes_peers_of_both_families_where_they_may_come_from(node: Callable[..., Node]) -> None:
    """Listeners of one family only: github.com/fo-dicom/fo-dicom/issues/588, github.com/DCMTK/dcmtk/pull/128."""
    peers = [{"ae_title": "SIX", "host": "::1"}, {"ae_title": "FOUR", "host": "127.0.0.1"}]
    needs.ipv6()
    one = node(route=[], dicom={"host": "::"}, api={"host": "::"}, peer=peers)
    images = {title: small_image(f"from-{title}", "families", rows=16) for title in ("SIX", "FOUR")}
    for title, host in (("SIX", "::1"), ("FOUR", "127.0.0.1")):
        socket.create_connection((host, one.api_port), timeout=60).close()
        with Raw(one.dicom_port, host=host) as peer:
            assert peer.associate(calling=title).kind == raw.ASSOCIATE_AC
            assert peer.store(images[title]) == SUCCESS
            peer.release()
        with Raw(one.dicom_port, host=host) as peer:
            assert peer.associate(calling="FOUR" if title == "SIX" else "SIX").kind == raw.ASSOCIATE_RJ
    assert_kept(one, images.values())


def test_a_node_whose_log_cannot_be_written_goes_on(node: Callable[..., Node]) -> None:
    """A service stood still when its log's disk was full: github.com/BrightcoveOS/Diamond/issues/322."""
    one = node(route=[], start=False)
    one.launcher = ("sh", "-c", 'exec "$@" >/dev/full 2>&1', "sh")
    one.start()
    images = [small_image(f"unlogged-{number}", "unlogged", rows=16) for number in range(20)]
    with Raw(one.dicom_port).opened() as peer:
        peer.send(raw.store_pdus(made_of("refused", study_uid="no UID")))
        answer = peer.receive()
        assert answer is not None
        assert answer.status == CANNOT_UNDERSTAND
        assert [peer.store(image) for image in images] == [SUCCESS] * len(images)
        peer.release()
    assert_kept(one, images)
    assert one.process is not None
    assert one.process.exit_status is None


def test_a_spool_whose_disk_is_gone_is_answered_out_of_resources_and_the_node_recovers(
    node: Callable[..., Node],
) -> None:
    """A storage that is not mounted must be noticed: github.com/dcm4che/dcm4chee-arc-light/issues/14."""
    one = node(route=[])
    images = [small_image(f"gone-{number}", "gone", rows=16) for number in range(3)]
    with Raw(one.dicom_port).opened() as peer:
        assert peer.store(images[0]) == SUCCESS
        one.wait_until_settled()
        away = (one.data_dir / "spool").rename(one.data_dir / "spool.away")
        wait_until(lambda: peer.store(images[1]) == OUT_OF_RESOURCES, 30, "the refusal")
        with Raw(one.dicom_port) as other:
            answer = other.associate()
            assert (answer.kind, tuple(answer.body[1:4])) == (raw.ASSOCIATE_RJ, (2, 3, 1))
        away.rename(one.data_dir / "spool")
        wait_until(lambda: peer.store(images[1]) == SUCCESS, 30, "success again")
        assert peer.store(images[2]) == SUCCESS
        peer.release()
    assert_kept(one, images)
    assert logged_errors(one) == []
