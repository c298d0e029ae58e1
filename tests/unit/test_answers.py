"""What a child process gives back: whole when it is what was asked for, and refused, told and harmless otherwise."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dicom_node.analysis.written import NotMade
from dicom_node.core.entities import ArtifactKind, InstanceRole, JobState
from dicom_node.core.errors import InferenceError
from dicom_node.core.received.versions import Difference, PixelVerdict
from dicom_node.headers.header import Header
from dicom_node.inspect import ContentItem, Description
from dicom_node.jobs.tasks import Performed, ProducedFile
from dicom_node.sandbox.answers import LARGEST_FILE_BYTES, decoded, encoded, file_left
from dicom_node.sandbox.child import Answer, Returned

FILE = ProducedFile(
    name="0001.dcm", uid="2.25.1", kind=ArtifactKind.STRUCTURED_REPORT, media_type="application/dicom",
    description="“Bericht” \\udx", order=1, output_keys=("a",),
)  # fmt: skip
PERFORMED = Performed(
    state=JobState.DONE, reason="", message="Lösung\n", summary={"findings": [{"key": "x", "value": 0.1}], "n": None},
    files=(FILE,), not_made=(NotMade(kind=ArtifactKind.SEGMENTATION, name="segmentation", error="E", where="m:1"),),
)  # fmt: skip
HEADER = Header(
    sop_class_uid="1.2", sop_instance_uid="1.2.3", study_instance_uid="1.2.4", series_instance_uid="1.2.5",
    role=InstanceRole.SOURCE, attributes={"modality": "CT"},
)  # fmt: skip


@dataclass(frozen=True)
class Seen:
    when: datetime
    where: Path
    content: bytes
    share: float


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (PERFORMED, Performed | None),
        (None, Performed | None),
        ([HEADER, HEADER], list[Header]),
        (Difference(("PatientName",), PixelVerdict.CHANGED), Difference | None),
        (Description(kind="SR", facts=(("a", "b"),), tree=ContentItem(name="x", children=(ContentItem(name="y"),))),
         Description),
        (Seen(datetime(2026, 1, 1, tzinfo=UTC), Path("/a/b"), b"\0\xff", 2.0), Seen),
        (Returned([Returned(PERFORMED)]), Answer[list[Answer[Performed]]]),  # type: ignore[valid-type]
        ({"plain": [1, 2.5, "x", None, True]}, object),
    ],
)  # fmt: skip
def test_an_answer_comes_back_as_it_was_given(value: object, kind: object) -> None:
    assert decoded(encoded(value), kind) == value


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def altered(**fields: object) -> bytes:
    """Return PERFORMED as it comes, with other fields."""
    told: list[Any] = json.loads(encoded(PERFORMED))
    names = ["kind", "state", "reason", "message", "summary", "files", "not_made", "features"]
    return json.dumps([fields.get(name, value) for name, value in zip(names, told, strict=True)]).encode()


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(PERFORMED),
        pickle.dumps(print),
        b"",
        b"\xff\xfe",
        b"null trailing",
        nested(100_000).encode(),
        b"9" * 100_000,
        altered(summary={"deep": json.loads(nested(200))}),
        altered(kind="Header"),
        altered(state="SOMEWHERE"),
        altered(state=["DONE"]),
        altered(reason=7),
        altered(reason="\0"),
        altered(message="\udc80"),
        altered(summary=[]),
        altered(files=[["ProducedFile", "0001.dcm"]]),
        altered(files=[["Header", 1, 2, 3, 4, 5, 6]]),
        altered(files="0001.dcm"),
    ],
    ids=lambda content: repr(content[:24]),
)
def test_anything_else_is_refused_with_what_to_do(content: bytes) -> None:
    with pytest.raises(InferenceError, match="models verify"):
        decoded(content, Performed)


def test_a_number_is_no_truth_and_no_text() -> None:
    for content, kind in ((b"1", bool), (b"true", int), (b"1", str), (b'"1"', float), (b'{"a": 1}', Mapping[str, str])):
        with pytest.raises(InferenceError):
            decoded(content, kind)


def test_what_is_no_part_of_an_answer_does_not_leave_the_child() -> None:
    for value in (print, {1: "a number names nothing"} | {(1, 2): 3}, object()):
        with pytest.raises(TypeError):
            encoded(value)


# --- files -----------------------------------------------------------------------------------------------------------


def test_a_file_left_in_the_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "0001.dcm").write_bytes(b"content")

    assert file_left(tmp_path, "0001.dcm") == b"content"


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """A folder of a child, in it what leads elsewhere, hangs or is too large; beside it a secret."""
    secret, folder = tmp_path / "secret", tmp_path / "out"
    secret.write_text("token")
    folder.mkdir()
    (folder / "symlink").symlink_to(secret)
    (folder / "hard-link").hardlink_to(secret)
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    with (folder / "huge").open("wb") as file:
        file.truncate(LARGEST_FILE_BYTES + 1)
    return folder


@pytest.mark.parametrize(
    "name",
    ["symlink", "hard-link", "folder", "pipe", "huge", "nothing", "../secret", "folder/..", ".", "..", "", "a\0b",
     "x" * 300, "/etc/hostname"],
)  # fmt: skip
def test_no_name_leads_to_anything_but_a_plain_file_of_the_folder(left: Path, name: str) -> None:
    with pytest.raises(InferenceError, match="nothing of it was kept"):
        file_left(left, name)
