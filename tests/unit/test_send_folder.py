"""Delivery into a folder."""

import hashlib
import json

import pytest

from dicom_node.core.entities import Artifact, ArtifactKind
from dicom_node.core.errors import DeliveryDeferred, DeliveryRefused
from dicom_node.deliver.outgoing import Outgoing
from dicom_node.deliver.senders.folder import FolderSender


def item(folder, uid="1.2.3", content=b"bytes of an object", **changes):
    path = folder / f"stored-{uid.replace('/', '_')}"
    path.write_bytes(content)
    values = {
        "uid": uid,
        "kind": ArtifactKind.SEGMENTATION,
        "media_type": "application/dicom",
        "object_key": uid,
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_bytes": len(content),
        "order": 0,
    }
    return Outgoing(Artifact(**{**values, **changes}), path)


def test_objects_are_written_under_their_kind_and_uid(tmp_path):
    bundle = item(
        tmp_path, "1.2.4", json.dumps({}).encode(), kind=ArtifactKind.FHIR_BUNDLE, media_type="application/fhir+json"
    )
    target = tmp_path / "out" / "results"
    sent = list(FolderSender(target).send([item(tmp_path), bundle]))
    assert [(one.error, one.note) for one in sent] == [
        (None, "written as SEG-1.2.3.dcm"),
        (None, "written as FHIR-1.2.4.json"),
    ]
    assert sorted(path.name for path in target.iterdir()) == ["FHIR-1.2.4.json", "SEG-1.2.3.dcm"]
    assert (target / "SEG-1.2.3.dcm").read_bytes() == b"bytes of an object"


def test_the_same_object_again_is_not_written_again(tmp_path):
    target = tmp_path / "out"
    list(FolderSender(target).send([item(tmp_path)]))
    before = (target / "SEG-1.2.3.dcm").stat()
    (sent,) = FolderSender(target).send([item(tmp_path)])
    after = (target / "SEG-1.2.3.dcm").stat()
    assert (sent.error, sent.note) == (None, "already there as SEG-1.2.3.dcm")
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_truncated_file_left_by_others_is_replaced(tmp_path):
    target = tmp_path / "out"
    target.mkdir()
    (target / "SEG-1.2.3.dcm").write_bytes(b"bytes of")
    (sent,) = FolderSender(target).send([item(tmp_path)])
    assert sent.error is None
    assert (target / "SEG-1.2.3.dcm").read_bytes() == b"bytes of an object"


def test_damaged_bytes_are_refused_and_leave_nothing_behind(tmp_path):
    target = tmp_path / "out"
    damaged, sound = item(tmp_path, sha256="0" * 64), item(tmp_path, "1.2.5")
    sent = list(FolderSender(target).send([damaged, sound]))
    assert isinstance(sent[0].error, DeliveryRefused)
    assert sent[1].error is None
    assert [path.name for path in target.iterdir()] == ["SEG-1.2.5.dcm"]


def test_a_folder_that_cannot_be_made_is_tried_again(tmp_path):
    (tmp_path / "file").write_text("in the way")
    (sent,) = FolderSender(tmp_path / "file" / "out").send([item(tmp_path)])
    assert isinstance(sent.error, DeliveryDeferred)
    assert "cannot be written: Not a directory" in str(sent.error)


@pytest.mark.parametrize("uid", ["../../etc/passwd", "", "1.2/3", "x" * 10])
def test_a_name_never_comes_from_what_is_no_uid(tmp_path, uid):
    (sent,) = FolderSender(tmp_path / "out").send([item(tmp_path, uid)])
    assert isinstance(sent.error, DeliveryRefused)
    assert not (tmp_path / "out").exists()
