"""Delivery into a folder."""

import hashlib
import json
from dataclasses import replace

import pytest

from dicom_node.core.entities import AboutResult, Artifact, ArtifactKind, JobState, ObjectName, ResultState
from dicom_node.core.errors import DeliveryDeferred, DeliveryRefused, DestinationAway
from dicom_node.deliver.checks import check_folder
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


def test_a_folder_that_cannot_be_made_is_away_for_all(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for place in ("file", "file/out"):
        sent = list(FolderSender(tmp_path / place).send([item(tmp_path), item(tmp_path, "1.2.4")]))
        assert [one.artifact_uid for one in sent] == ["1.2.3", "1.2.4"]
        assert all(isinstance(one.error, DestinationAway) for one in sent)
        assert "is not there and cannot be made: " in str(sent[0].error)
        assert not check_folder(tmp_path / place).ok


def test_a_file_that_cannot_be_written_is_tried_again(tmp_path):
    long = item(tmp_path, kind="X" * 300)
    first, second = FolderSender(tmp_path / "out").send([long, item(tmp_path, "1.2.4")])
    assert isinstance(first.error, DeliveryDeferred)
    assert not isinstance(first.error, DestinationAway)
    assert second.error is None


@pytest.mark.parametrize("uid", ["../../etc/passwd", "", "1.2/3", "x" * 10])
def test_a_name_never_comes_from_what_is_no_uid(tmp_path, uid):
    (sent,) = FolderSender(tmp_path / "out").send([item(tmp_path, uid)])
    assert isinstance(sent.error, DeliveryRefused)
    assert not (tmp_path / "out").exists()


# --- the sidecar ---

ABOUT = AboutResult(
    study_instance_uid="1.2.9", revision=1, route="chest", model="ct-lung-density", model_version="1.2.0",
    model_digest="ab" * 32, result="c" * 64, sequence=1, state=JobState.DONE, reason="",
    standing=ResultState.CURRENT, accession_number="ACC-77",
)  # fmt: skip


def told(folder, uid="1.2.3"):
    return json.loads((folder / f"SEG-{uid}.dcm.json").read_text())


def deliver(tmp_path, uid="1.2.3", *, include=(), is_withdrawal=False, **about):
    one = replace(item(tmp_path, uid), about=replace(ABOUT, **about), is_withdrawal=is_withdrawal)
    (sent,) = FolderSender(tmp_path / "out", include).send([one])
    assert sent.error is None
    return told(tmp_path / "out", uid)


def test_a_sidecar_says_what_the_object_is_and_names_no_patient_unless_it_is_to(tmp_path):
    said = deliver(tmp_path)
    written = (tmp_path / "out" / said["file"]).read_bytes()
    assert said["sha256"] == hashlib.sha256(written).hexdigest()
    assert {key: said[key] for key in ("sop_instance_uid", "study_instance_uid", "route", "state", "standing")} == {
        "sop_instance_uid": "1.2.3", "study_instance_uid": "1.2.9", "route": "chest", "state": "DONE",
        "standing": "CURRENT",
    }  # fmt: skip
    assert said["model"] == {"name": "ct-lung-density", "version": "1.2.0", "digest": "ab" * 32}
    assert "ACC-77" not in json.dumps(said)
    assert deliver(tmp_path, include=("accession_number",))["accession_number"] == "ACC-77"


def test_what_a_later_object_replaces_says_so_in_its_own_sidecar(tmp_path):
    deliver(tmp_path)
    later = deliver(tmp_path, "1.2.4", result="d" * 64, replaces=(ObjectName(ArtifactKind.SEGMENTATION, "1.2.3"),))
    assert later["replaces"] == [{"file": "SEG-1.2.3.dcm", "sop_instance_uid": "1.2.3"}]
    earlier = told(tmp_path / "out")
    assert (earlier["standing"], earlier["replaced_by"]) == ("SUPERSEDED", "d" * 64)


def test_what_is_taken_back_says_so_and_stays_so(tmp_path):
    deliver(tmp_path)
    name = (ObjectName(ArtifactKind.SEGMENTATION, "1.2.3"),)
    note = deliver(tmp_path, "1.2.5", is_withdrawal=True, standing=ResultState.WITHDRAWN, taken_back=name)
    assert (note["standing"], note["takes_back"]) == (
        "CURRENT", [{"file": "SEG-1.2.3.dcm", "sop_instance_uid": "1.2.3"}],
    )  # fmt: skip
    deliver(tmp_path, "1.2.6", replaces=name)
    assert told(tmp_path / "out")["standing"] == "WITHDRAWN"


def test_a_sidecar_follows_its_object_and_is_made_up_for_after_a_crash_between_them(tmp_path):
    deliver(tmp_path)
    (tmp_path / "out" / "SEG-1.2.3.dcm.json").unlink()
    said = deliver(tmp_path)
    before = (tmp_path / "out" / "SEG-1.2.3.dcm.json").stat().st_mtime_ns
    assert said == deliver(tmp_path)
    assert (tmp_path / "out" / "SEG-1.2.3.dcm.json").stat().st_mtime_ns == before
    assert not list((tmp_path / "out").glob(".*"))


@pytest.mark.parametrize("content", [b"", b"[]", b"not JSON", b"\xff"])
def test_a_file_that_is_no_sidecar_any_more_is_left_alone(tmp_path, content):
    deliver(tmp_path)
    (tmp_path / "out" / "SEG-1.2.3.dcm.json").write_bytes(content)
    deliver(tmp_path, "1.2.4", replaces=(ObjectName(ArtifactKind.SEGMENTATION, "1.2.3"),))
    assert (tmp_path / "out" / "SEG-1.2.3.dcm.json").read_bytes() == content


def test_what_was_replaced_and_taken_away_by_its_reader_is_not_missed(tmp_path):
    deliver(tmp_path, "1.2.4", replaces=(ObjectName(ArtifactKind.SEGMENTATION, "1.2.3"),))
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == ["SEG-1.2.4.dcm", "SEG-1.2.4.dcm.json"]


def test_a_bundle_says_itself_what_it_is(tmp_path):
    bundle = item(tmp_path, "1.2.4", b"{}", kind=ArtifactKind.FHIR_BUNDLE, media_type="application/fhir+json")
    (sent,) = FolderSender(tmp_path / "out").send([replace(bundle, about=ABOUT)])
    assert (sent.error, [path.name for path in (tmp_path / "out").iterdir()]) == (None, ["FHIR-1.2.4.json"])
