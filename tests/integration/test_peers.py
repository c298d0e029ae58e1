"""The peers themselves: what the other tests stand on."""

from __future__ import annotations

import tomllib
from collections.abc import Callable

import sqlalchemy

from tests.peers import dcmtk
from tests.peers.dcmtk import Receiver
from tests.peers.node import Node, to_toml
from tests.peers.orthanc import Orthanc


def test_orthanc_answers_echo_under_its_own_ae_title_only(orthanc: Orthanc) -> None:
    assert dcmtk.echoscu(orthanc.dicom_port, called=orthanc.aet).returncode == 0
    assert dcmtk.echoscu(orthanc.dicom_port, called="OTHER").returncode != 0


def test_storescp_and_dcmqrscp_answer_echo(storescp: Receiver, dcmqrscp: Receiver) -> None:
    assert dcmtk.echoscu(storescp.port, called=storescp.aet).returncode == 0
    assert dcmtk.echoscu(dcmqrscp.port, called=dcmqrscp.aet).returncode == 0


def test_each_test_gets_an_empty_postgres_database(postgres_url: str) -> None:
    engine = sqlalchemy.create_engine(postgres_url)
    tables = sqlalchemy.inspect(engine).get_table_names()
    engine.dispose()

    assert tables == []


def test_settings_are_written_as_toml_that_reads_back() -> None:
    settings = {
        "dicom": {"port": 0, "on": True},
        "route": [{"name": "a", "when": {"modality": ["CT"]}}, {"name": "b"}],
        "peer": [],
    }

    assert tomllib.loads(to_toml(settings)) == settings


def test_the_node_listens_and_comes_back_after_a_power_cut(node: Callable[..., Node]) -> None:
    one = node(node={"ae_title": "NODE1"}, route=[])
    assert dcmtk.echoscu(one.dicom_port, called="NODE1").returncode == 0

    one.kill9()
    one.start()

    assert dcmtk.echoscu(one.dicom_port, called="NODE1").returncode == 0
    with one.api() as api:
        assert api.get("/readyz").status_code == 200
    assert one.stop() == 0
