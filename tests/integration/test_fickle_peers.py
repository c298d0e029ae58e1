"""Peers that agree and then refuse, settings that change under way: told as often as it helps, and everything once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, evt
from sqlalchemy import update

from dicom_node.core.outputs.artifact_kinds import REPORTS, SEGMENTATION
from dicom_node.deliver.peer_capabilities import CapabilityProbe
from dicom_node.index.decided import actions
from dicom_node.index.tables import deliveries
from tests.integration.step_by_step_node import Site, site
from tests.support.results.arrivals import after
from tests.support.results.rows import SOMEBODY
from tests.support.studies.data_factories import small_chest_ct


class Fickle:
    """Agrees to everything, and refuses at C-STORE with 0x0122 whatever `refuses` says; keeps what it takes."""

    def __init__(self) -> None:
        self.received, self.asked = list[Dataset](), list[str]()

    def refuses(self, sop_class_uid: str) -> bool:
        """Every class every second time."""
        return self.asked.count(sop_class_uid) % 2 == 1

    @contextmanager
    def serving(self) -> Iterator[int]:
        entity = AE("FICKLE")
        entity.supported_contexts = AllStoragePresentationContexts
        server: Any = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)])
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()

    def _store(self, event: Any) -> int:
        uid = str(event.request.AffectedSOPClassUID)
        self.asked.append(uid)
        if self.refuses(uid):
            return 0x0122
        self.received.append(event.dataset)
        return 0x0000


class Never(Fickle):
    """Refuses every class, always."""

    def refuses(self, sop_class_uid: str) -> bool:
        return bool(sop_class_uid)


class Picky(Fickle):
    """Refuses some classes, always."""

    def __init__(self, *refused: str) -> None:
        super().__init__()
        self._refused = refused

    def refuses(self, sop_class_uid: str) -> bool:
        return sop_class_uid in self._refused


def pacs_at(port: int, name: str = "pacs", **changes: Any) -> dict[str, Any]:
    return {"name": name, "kind": "dicom", "ae_title": "FICKLE", "host": "127.0.0.1", "port": port} | changes


@pytest.fixture(scope="module")
def images() -> Sequence[Dataset]:
    return small_chest_ct()[0]


def assert_settled(node: Site) -> None:
    assert {row.state for row in node.rows(deliveries)} <= {"SENT", "COMMITTED", "PARKED"}


@pytest.mark.parametrize("fickle", [Fickle(), Never()], ids=["every second time", "never"])
def test_a_pacs_that_agrees_and_refuses_is_not_told_again_for_ever(
    tmp_path: Path, images: Sequence[Dataset], fickle: Fickle
) -> None:
    with fickle.serving() as port, site(tmp_path / "node", [pacs_at(port, preset="weasis")]) as node:
        node.ask()
        node.run(images)
        for _ in range(5):
            node.ask()
            node.settle()
        assert_settled(node)
        # Once for all that goes before the report, once for each class of report.
        assert len(node.told("requeued")) == 1 + len(REPORTS)
    uids = [one.SOPInstanceUID for one in fickle.received]
    assert len(set(uids)) == len(uids)


def test_two_names_of_one_archive_get_a_report_each_and_the_run_is_shared(
    tmp_path: Path, images: Sequence[Dataset]
) -> None:
    picky = Picky(SEGMENTATION, REPORTS["comprehensive3d"])
    with picky.serving() as port:
        both = [pacs_at(port, "one", preset="weasis"), pacs_at(port, "two")]
        with site(tmp_path / "node", both) as node:
            node.ask()
            node.run(images)
            assert_settled(node)
            assert not [kind for name in ("one", "two") for kind in node.kinds_of(name) if " " in kind]
            assert len(node.told("requeued")) <= 4
    assert len({one.SOPInstanceUID for one in picky.received if one.Modality == "SR"}) == 2


def test_a_power_cut_right_after_a_refusal_still_has_the_result_told_again(
    tmp_path: Path, images: Sequence[Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    picky = Picky(SEGMENTATION)
    with picky.serving() as port, site(tmp_path / "node", [pacs_at(port)]) as node:
        node.receive(images)
        node.analyse()
        with monkeypatch.context() as cut:
            cut.setattr(CapabilityProbe, "_ask_now", _power_cut)
            with pytest.raises(PowerCut):
                node.deliver()
        with node.database.write() as connection:
            connection.execute(update(deliveries).values(lease_owner="", lease_until=None))
        node.configure([pacs_at(port)])
        node.settle()
        assert_settled(node)
        assert len(node.told("requeued")) == 1
        assert set(node.kinds_of("pacs")) == {"SC", "SR"}
    (report,) = (one for one in picky.received if one.Modality == "SR")
    assert SEGMENTATION not in str(report)


class PowerCut(BaseException):
    """Ends what runs, past every handler of errors."""


def _power_cut(*_: object) -> bool:
    raise PowerCut


def test_running_again_sends_no_set_that_is_not_wanted_any_more_and_owes_nothing_to_who_is_gone(
    tmp_path: Path, images: Sequence[Dataset]
) -> None:
    picky = Picky()
    with picky.serving() as port:
        both = [pacs_at(port, "stays", preset="weasis"), pacs_at(port, "goes")]
        with site(tmp_path / "node", both) as node:
            node.run(images)
            for _ in range(2):
                node.configure([pacs_at(port, "stays")])
                picky.received.clear()
                with node.database.write() as connection:
                    actions.rerun_study(connection, str(images[0].StudyInstanceUID), None, SOMEBODY, after(0))
                node.settle()
            assert_settled(node)
    assert sorted({str(one.Modality) for one in picky.received}) == ["OT", "SEG", "SR"]
    assert len([one for one in picky.received if one.Modality == "SR"]) == 1


def test_a_fault_of_the_nodes_own_in_sending_counts_as_an_attempt_and_stands_in_the_timeline(
    tmp_path: Path, images: Sequence[Dataset]
) -> None:
    """No client can speak to this name, which settings let pass."""
    ehr = {"name": "ehr", "kind": "fhir", "url": "https://\N{SNOWMAN}/fhir"}
    with site(tmp_path, [ehr]) as node:
        node.run(images)
        (owed,) = node.rows(deliveries)
        assert (owed.state, owed.attempts, owed.lease_owner) == ("PENDING", 1, "")
        assert "(InvalidURL)" in owed.note
        assert [text for text in node.told("deferred") if "its log says where" in text]
