"""A worker process whose model says what it likes: the study is told of, nothing else is touched, the node goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from sqlalchemy import select, update

from dicom_node.core.entities import ArtifactKind, JobState
from dicom_node.core.errors import SourceDamaged
from dicom_node.core.uids import derived_uid
from dicom_node.fhir.builders.verification import sealed
from dicom_node.fhir.json_types import to_json_bytes
from dicom_node.index.tables import artifacts, damaged_objects, jobs
from dicom_node.jobs.tasks import GAVE_UP, Performed, Task
from dicom_node.sr_writer import to_part10
from tests.integration.step_by_step_node import Site, Teller, site
from tests.support.results import analysis_examples as examples

Lie = Callable[[Performed, Task], object]


class Liar:
    """Performs a task honestly and says something else; a notice of a failed study comes from a fresh process."""

    def __init__(self, lie: Lie) -> None:
        self._lie = lie

    def run(self, task: Task) -> object:
        performed = Teller().run(task)
        assert isinstance(performed, Performed)
        return performed if task.declined else self._lie(performed, task)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path / "node", [{"name": "files", "kind": "folder", "path": str(tmp_path / "files")}]) as made:
        yield made


def analyse_to_the_end(node: Site) -> None:
    """Work off the queue with the notice that follows the last attempt; nobody waits between attempts."""
    for _ in range(2):
        node.analyse()
        with node.database.write() as connection:
            connection.execute(update(jobs).values(not_before=datetime.now(UTC) - timedelta(seconds=1)))
    node.analyse()


def renamed(name: str) -> Lie:
    """Name another file for the first object."""

    def lie(performed: Performed, _: Task) -> Performed:
        first, *others = performed.files
        return replace(performed, files=(replace(first, name=name), *others))

    return lie


def linked(performed: Performed, task: Task) -> Performed:
    """Leave a link to what only the node may read."""
    (task.request.out_dir / "link.dcm").symlink_to(task.request.out_dir.parents[1] / "node.sqlite")
    return cast_name(performed, task)


def cast_name(performed: Performed, task: Task) -> Performed:
    answer = renamed("link.dcm")(performed, task)
    assert isinstance(answer, Performed)
    return answer


def damaging(_: Performed, task: Task) -> object:
    """Say that images are damaged that are whole."""
    raise SourceDamaged([file.path for file in task.request.files])


# --- speaking for a physician ----------------------------------------------------------------------------------------


def rewritten(kind: ArtifactKind, change: Callable[[bytes], bytes]) -> Lie:
    """Write other bytes into the first object of a kind."""

    def lie(performed: Performed, task: Task) -> Performed:
        name = next(file.name for file in performed.files if file.kind is kind)
        path = task.request.out_dir / name
        path.write_bytes(change(path.read_bytes()))
        return performed

    return lie


def verified(content: bytes) -> bytes:
    """Have a report say that somebody has verified it."""
    report = dcmread(BytesIO(content))
    report.VerificationFlag = "VERIFIED"
    return to_part10(report)


def made_final(content: bytes) -> bytes:
    """Have all of a bundle be final, sealed, and by a reader: the seal is no secret."""
    bundle = json.loads(content)
    final = {"status": "final", "resultsInterpreter": [{"display": "Dr. Nobody"}]}
    for entry in bundle["entry"]:
        if entry["resource"]["resourceType"] in {"DiagnosticReport", "Observation"}:
            entry["resource"] = sealed(entry["resource"] | final)
    return to_json_bytes(bundle)


LIES: dict[str, Lie] = {
    "verified": rewritten(ArtifactKind.STRUCTURED_REPORT, verified),
    "final": rewritten(ArtifactKind.FHIR_BUNDLE, made_final),
    "path": renamed("../../node.sqlite"),
    "absolute": renamed("/etc/hostname"),
    "link": linked,
    "nothing": lambda performed, task: None,  # noqa: ARG005
    "state": lambda performed, task: replace(performed, state=JobState.SUPERSEDED),  # noqa: ARG005
    "time": lambda performed, task: replace(performed, summary=dict(performed.summary) | {"finished_at": "now"}),  # noqa: ARG005
    "findings": lambda performed, task: replace(performed, summary=dict(performed.summary) | {"findings": [7]}),  # noqa: ARG005
    "twice": lambda performed, task: replace(performed, files=performed.files[:1] * 2),  # noqa: ARG005
    "damage": damaging,
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_an_answer_that_is_none_costs_its_study_an_attempt_and_ends_in_a_coded_notice(
    node: Site, lie: Lie, caplog: pytest.LogCaptureFixture
) -> None:
    node._job_runner._worker = Liar(lie)
    node.receive(examples.ct_volume())
    analyse_to_the_end(node)

    with node.database.read() as connection:
        (job,) = connection.execute(select(jobs)).all()
        kinds = set(connection.execute(select(artifacts.c.kind)).scalars())
        damaged = connection.execute(select(damaged_objects)).all()
    assert (job.state, job.reason) == ("FAILED", GAVE_UP)
    assert "worker process" in job.message
    assert ArtifactKind.STRUCTURED_REPORT in kinds
    assert not damaged
    assert not [record for record in caplog.records if record.exc_info]


def test_an_object_with_the_uid_of_another_result_is_not_kept(node: Site) -> None:
    first, second = examples.ct_volume(), examples.ct_volume()
    for image in second:
        image.StudyInstanceUID, image.SOPInstanceUID = "2.25.7", derived_uid("second", image.SOPInstanceUID)
    node.receive(first)
    analyse_to_the_end(node)
    with node.database.read() as connection:
        taken = connection.execute(select(artifacts.c.uid)).scalars().first()
    assert taken is not None
    node._job_runner._worker = Liar(
        lambda performed, _: replace(performed, files=(replace(performed.files[0], uid=taken), *performed.files[1:]))
    )
    node.receive(second)
    analyse_to_the_end(node)

    with node.database.read() as connection:
        states = [row.state for row in connection.execute(select(jobs).order_by(jobs.c.id))]
    assert states == ["DONE", "FAILED"]
