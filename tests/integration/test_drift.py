"""Drift from received images to a stopped route: features kept with results, looked at, told, and what follows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from unittest import mock

import pytest
from alembic import command
from alembic.config import Config
from pydicom.dataset import Dataset
from sqlalchemy import inspect, select

from dicom_node.index.database import SCHEMA_HEAD, Database
from dicom_node.index.drift.recording import forget_features
from dicom_node.index.tables import drift_features, drift_streams, metadata, results
from dicom_node.jobs import worker_process
from dicom_node.jobs.tasks import Task
from tests.integration import step_by_step_node
from tests.integration.step_by_step_node import Site, site
from tests.support.studies.data_factories import small_chest_ct


class RealModel:
    """The worker process's work in this process, by the model itself."""

    def run(self, task: Task) -> object:
        return worker_process.perform(task)


def scanned(seed: str = "1") -> list[Dataset]:
    images, _ = small_chest_ct(seed)
    for one in images:
        one.StationName, one.ManufacturerModelName = "ROOM2", "Phantom 64"
        one.KVP, one.ConvolutionKernel = 120, ["Br40", "3"]
        one.PatientName, one.PatientID = "Secret^Name", "SECRET-1"
    return images


@pytest.fixture(scope="module")
def analysed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A node that has analysed one chest CT with the model it is for."""
    folder = tmp_path_factory.mktemp("analysed")
    destinations = [{"kind": "folder", "name": "archive", "path": str(folder / "archive")}]
    with mock.patch.object(step_by_step_node, "Teller", RealModel), site(folder / "data", destinations) as one:
        one.run(scanned())
        yield one


def test_how_images_were_made_how_they_look_and_what_was_said_is_kept_with_a_result(analysed: Site) -> None:
    (stream,) = analysed.rows(drift_streams)
    row = analysed.rows(drift_features)[0]
    assert (stream.route, stream.scanner) == ("chest", f"{stream.ae_title} / ROOM2 / Phantom 64")
    assert (stream.model, row.stream_id) == ("ct-lung-density", stream.id)
    kept = row.features
    assert (kept["tag.KVP"], kept["tag.ConvolutionKernel"]) == (120.0, "Br40\\3")
    assert kept["outcome"] in {"DONE", "PARTIAL"}
    assert kept["images"] == len(scanned())
    assert -1024 <= kept["pixels.p05"] < kept["pixels.p50"] <= kept["pixels.p95"] < 3000
    assert 0.1 < kept["framing.fill"] < 0.9
    assert 0 <= kept["framing.rim"] <= 1
    volumes = [name for name in kept if name.startswith("measure.")]
    assert volumes
    assert all(math.isfinite(kept[name]) for name in volumes)
    assert "SECRET" not in f"{kept}{stream}".upper()


def test_a_refused_study_is_kept_as_that_until_its_results_are_deleted(analysed: Site) -> None:
    few = scanned("2")[:3]
    few[0].BurnedInAnnotation = "YES"
    before = {row.job_key for row in analysed.rows(drift_features)}
    analysed.run(few)
    (refused,) = [row for row in analysed.rows(drift_features) if row.job_key not in before]
    (result,) = [row for row in analysed.rows(results) if row.job_key == refused.job_key]
    assert result.state == "NOT_ANALYSABLE"
    assert refused.features["outcome"] == result.reason
    assert not [name for name in refused.features if name.startswith(("pixels.", "measure."))]
    assert len(analysed.rows(drift_streams)) == 1
    with analysed.database.write() as connection:
        forget_features(connection, result.study_instance_uid)
    assert {row.job_key for row in analysed.rows(drift_features)} == before


# --- an index from before -------------------------------------------------------------------------------------------

_TABLES = {"drift_streams", "drift_features", "drift_comparisons", "stopped_routes"}


def test_an_index_from_before_gets_the_tables_and_keeps_its_results(index: Database) -> None:
    config = Config()
    config.set_main_option("script_location", "dicom_node.index:migrations")
    with index.write() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0023")
        assert not _TABLES & set(inspect(connection).get_table_names())
    index.migrate()
    assert index.schema_version() == SCHEMA_HEAD
    with index.read() as connection:
        for name in _TABLES:
            assert connection.execute(select(metadata.tables[name])).all() == []
