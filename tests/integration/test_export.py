"""Studies leave into a folder: as they are kept, or without their patient; what was exported is in the audit trail."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_node.__main__ import main
from dicom_node.core.audit import AuditedEvent
from dicom_node.core.errors import AuditUnavailable, SettingsError
from dicom_node.deidentification.profile import BASIC
from dicom_node.deidentification.pseudonyms import read_or_make_key
from dicom_node.index.tables import instances, studies
from dicom_node.operate.exports.export import Export, Exporter
from tests.integration.step_by_step_node import Site, site
from tests.integration.test_deidentification import words_in
from tests.peers.node import to_toml
from tests.support.results import analysis_examples as examples
from tests.support.results.rows import SOMEBODY
from tests.support.studies.marked import WORDS, mark

FOLLOWED = {"name": "followed", "options": ["modified_dates", "clean_structured_content"]}


@dataclass
class Trail:
    """Keeps what is written down, or refuses to."""

    is_there: bool = True
    events: list[AuditedEvent] = field(default_factory=list)

    fault = ""

    def record(self, event: AuditedEvent) -> None:
        if not self.is_there:
            raise AuditUnavailable("The audit trail cannot be written.")
        self.events.append(event)

    def note(self, event: AuditedEvent, key: str = "") -> None:
        assert not key
        self.events.append(event)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A node with one analysed study whose every image is marked."""
    folder = tmp_path_factory.mktemp("exporting")
    with site(folder / "node", []) as one:
        one.run([mark(image, "latin", "reads") for image in examples.ct_volume(slices=4, size=16)])
        settings = {"node": {"data_dir": str(one.folder)}, "deidentification": [FOLLOWED]}
        (folder / "node.toml").write_text(to_toml(settings))
        yield one


def study_of(node: Site) -> str:
    return str(node.rows(studies)[0].study_instance_uid)


def export(node: Site, *words: str) -> int:
    return main(["export", study_of(node), *words, "--config", str(node.folder.parent / "node.toml")])


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_a_study_leaves_as_it_is_kept(node: Site, tmp_path: Path) -> None:
    assert export(node, "--out", str(tmp_path / "out")) == 0
    kept = {node.spool.path(row.object_key).read_bytes() for row in node.rows(instances)}
    files = files_in(tmp_path / "out")
    assert {path.read_bytes() for path in files} == kept
    assert {path.parent.parent.name for path in files} == {study_of(node)}
    assert all(path.stat().st_mode & 0o077 == 0 for path in [tmp_path / "out", *(tmp_path / "out").rglob("*")])


def test_a_study_leaves_without_its_patient_and_its_reports_by_an_option(
    node: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = []
    for profile, reports in (("basic", set()), ("followed", {"SR", "SEG"})):
        out = tmp_path / profile
        assert export(node, "--out", str(out), "--deidentify", profile, "--results", "--json") == 1
        told = json.loads(capsys.readouterr().out)
        files = files_in(out)
        assert sorted(str(path.relative_to(out)) for path in files) == sorted(told["files"])
        assert all("pixels" in why or "report" in why for why in told["left_out"])
        assert {str(dcmread(path).Modality) for path in files} - {"CT"} >= reports
        assert not [word for path in files for word in words_in(path.read_bytes()) if word in WORDS.values()]
        assert study_of(node) not in str(files)
        names.append({path.parent.parent.name for path in files})
    assert names[0] == names[1], "one key gives one pseudonym"


def test_an_unknown_profile_is_refused_by_naming_those_that_are_there(
    node: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(node, "--out", str(tmp_path / "out"), "--deidentify", "other") == 1
    assert "there are: basic, followed" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_is_left_alone(
    node: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a").write_text("mine")
    assert export(node, "--out", str(tmp_path)) == 1
    assert "is not empty" in capsys.readouterr().err
    assert len(files_in(tmp_path)) == 1


def exported(node: Site, trail: Trail, wanted: Export) -> Sequence[str]:
    exporter = Exporter(node.database, node.spool, trail, SOMEBODY)
    return [one.why_not for one in exporter.export([study_of(node)], wanted)]


def test_an_export_is_written_down_before_anything_leaves(node: Site, tmp_path: Path) -> None:
    trail = Trail()
    assert exported(node, trail, Export(folder=tmp_path / "out", profile=BASIC, key=b"k")) == [""] * 4
    (event,) = trail.events
    assert (event.act, event.actor, event.study_instance_uid) == ("export", SOMEBODY, study_of(node))
    assert event.patient_id.startswith(WORDS["PatientID"])
    assert dict(event.detail) == {"objects": 4, "profile": "basic"}
    with pytest.raises(AuditUnavailable):
        exported(node, Trail(is_there=False), Export(folder=tmp_path / "refused"))
    assert files_in(tmp_path / "refused") == []


def test_an_export_that_breaks_off_is_written_down_as_failed(
    node: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    trail = Trail()
    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(SettingsError, match="No space left"):
        exported(node, trail, Export(folder=tmp_path / "out"))
    assert [(one.outcome, one.detail.get("failed")) for one in trail.events] == [("0", None), ("8", "SettingsError")]
    assert files_in(tmp_path / "out") == []


def test_a_damaged_object_is_left_out_and_said_so(node: Site, tmp_path: Path) -> None:
    path = node.spool.path(node.rows(instances)[0].object_key)
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    try:
        why = exported(node, Trail(), Export(folder=tmp_path / "out", profile=BASIC, key=b"k"))
    finally:
        path.write_bytes(whole)
    assert sorted(why) == ["", "", "", "its file is gone or damaged"]


def test_the_key_is_made_once_for_the_node_alone(tmp_path: Path) -> None:
    path = tmp_path / "key"
    key = read_or_make_key(path)
    assert (len(key), path.stat().st_mode & 0o077, read_or_make_key(path)) == (32, 0, key)
    assert [one.name for one in tmp_path.iterdir()] == ["key"]
    path.write_text("00ff")
    with pytest.raises(SettingsError, match="too short"):
        read_or_make_key(path)
