"""A PACS proves that it has what it took: by storage commitment or by a query; real PACSs, and odd ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from dicom_node.core.entities import DeliveryState
from dicom_node.core.errors import IllegalTransition
from dicom_node.deliver.kinds import destinations_of
from dicom_node.deliver.kinds.kind import caller_of
from dicom_node.deliver.proof import Prover
from dicom_node.index import actions
from dicom_node.index.database import Database
from dicom_node.index.outbox.proofs import ProofTimes
from dicom_node.index.tables import deliveries
from dicom_node.roles.settings import SiteSettings
from tests.integration.test_identity_check import (
    WAYS,
    Owing,
    Way,
    over_dimse,
    owing,
    pacs,
    reports_of,
    study_of,
)
from tests.peers.committing import CommittingPacs, Reports, another_transaction, running_committing_pacs
from tests.peers.dcmtk import Receiver
from tests.peers.node import Node
from tests.peers.orthanc import Orthanc
from tests.peers.process import wait_until
from tests.support.results.rows import SOMEBODY

__all__ = ["owing", "pacs"]  # fixtures

#: Asked at once, and again when a test says that the time has come.
TIMES = ProofTimes(0.0, 600.0)
SENT, COMMITTED, PENDING, PARKED = (
    DeliveryState.SENT, DeliveryState.COMMITTED, DeliveryState.PENDING, DeliveryState.PARKED,
)  # fmt: skip


def prover(owing: Owing, there: dict[str, Any], again_days: float = 0) -> Prover:
    settings = SiteSettings.model_validate({"destination": [{"name": "pacs"} | there], "delivery": {"timeout_s": 30}})
    (one,) = destinations_of(settings)
    questions = one.proof_questions(caller_of(settings))
    assert questions is not None
    return Prover("pacs", questions, owing.database, ProofTimes(TIMES.after_s, TIMES.within_s, again_days))


def prove(owing: Owing, there: dict[str, Any]) -> Prover:
    """Send what is owed and ask once for all of it."""
    owing.deliver(there)
    asking = prover(owing, there)
    assert asking.ask_once()
    return asking


def time_passes(owing: Owing, span: timedelta) -> None:
    """Let everything that was noted have happened so much earlier."""
    with owing.database.write() as connection:
        for row in connection.execute(select(deliveries)).all():
            times = ("created_at", "sent_at", "prove_at", "proved_at", "next_attempt_at")
            earlier = {name: getattr(row, name) - span for name in times if getattr(row, name) is not None}
            connection.execute(update(deliveries).where(deliveries.c.id == row.id).values(**earlier))


def rows(owing: Owing) -> list[Any]:
    with owing.database.read() as connection:
        return list(connection.execute(select(deliveries).order_by(deliveries.c.id)).all())


def states(owing: Owing) -> list[str]:
    return [row.state for row in rows(owing)]


@pytest.fixture
def odd(request: pytest.FixtureRequest) -> Iterator[CommittingPacs]:
    with running_committing_pacs(CommittingPacs(**getattr(request, "param", {}))) as one:
        yield one


def to(odd: CommittingPacs, **more: Any) -> dict[str, Any]:
    return {"kind": "dicom", "ae_title": odd.aet, "host": odd.host, "port": odd.port, **more}


# --- by query ---


@WAYS
def test_what_a_real_pacs_finds_is_proved_and_the_timeline_says_how(pacs: Orthanc, owing: Owing, way: Way) -> None:
    name = f"proved-{way.__name__}"
    owing.add(name)
    asking = prove(owing, way(pacs) | {"verify": "query"})
    assert states(owing) == [COMMITTED, COMMITTED]
    assert owing.told("committed") == [f"{kind} is proved to be at pacs: it is found there." for kind in ("SC", "SR")]
    assert {(row.proof, row.transaction_uid) for row in rows(owing)} == {("QUERY", "")}
    assert all(row.proved_at is not None for row in rows(owing))
    assert not asking.ask_once(), "it is asked no more"


@WAYS
def test_what_a_real_pacs_has_lost_is_sent_again_once_it_is_certain(pacs: Orthanc, owing: Owing, way: Way) -> None:
    name = f"lost-{way.__name__}"
    there = way(pacs) | {"verify": "query"}
    owing.add(name)
    owing.deliver(there)
    (study,) = pacs.post("/tools/find", {"Level": "Study", "Query": {"StudyInstanceUID": study_of(name)}})
    pacs.http.delete(f"/studies/{study}").raise_for_status()
    asking = prover(owing, there)
    for _ in range(3):
        assert states(owing) == [SENT, SENT], "archives file late: it is looked for more than once"
        asking.ask_once()
        time_passes(owing, timedelta(seconds=TIMES.within_s))
    assert states(owing) == [PENDING, PENDING]
    assert owing.told("missing")[0] == "SC: pacs does not have it: A query does not find it. It is sent again."
    owing.deliver(there)
    asking.ask_once()
    assert states(owing) == [COMMITTED, COMMITTED]
    assert len(reports_of(pacs, name)) == 2


def test_who_offers_no_proof_is_told_and_asked_no_more(
    storescp: Receiver, owing: Owing, caplog: pytest.LogCaptureFixture
) -> None:
    owing.add("unprovable")
    asking = prove(owing, over_dimse(storescp))
    assert states(owing) == [SENT, SENT]
    (line,) = owing.told("unproved")
    assert line.startswith("pacs: It offers no proof.")
    assert "does not accept Storage Commitment" in line
    assert "does not accept Study Root" in line
    assert [one.message for one in caplog.records if one.levelname == "WARNING"].count(
        "destination offers no proof"
    ) == 1
    time_passes(owing, timedelta(days=8))
    assert not asking.ask_once()


def test_a_folder_proves_files_by_their_digests(owing: Owing, tmp_path: Path) -> None:
    there = {"kind": "folder", "path": str(tmp_path / "out")}
    owing.add("filed")
    owing.deliver(there)
    damaged, _whole = sorted((tmp_path / "out").iterdir())
    damaged.write_bytes(b"other bytes")
    asking = prover(owing, there)
    for _ in range(3):
        asking.ask_once()
        time_passes(owing, timedelta(seconds=TIMES.within_s))
    assert sorted(states(owing)) == [COMMITTED, PENDING]
    owing.deliver(there)
    asking.ask_once()
    assert states(owing) == [COMMITTED, COMMITTED]
    (tmp_path / "out").rename(tmp_path / "unmounted")
    old = prover(owing, there, again_days=1)
    time_passes(owing, timedelta(days=2))
    old.ask_once()
    assert states(owing) == [COMMITTED, COMMITTED], "a folder that is not there has lost nothing"


def test_what_is_proved_is_not_sent_again_by_an_operators_word(pacs: Orthanc, owing: Owing) -> None:
    owing.add("final")
    prove(owing, over_dimse(pacs) | {"verify": "query"})
    with owing.database.write() as connection, pytest.raises(IllegalTransition, match="proved to be at pacs"):
        actions.retry_delivery(connection, rows(owing)[0].id, SOMEBODY, datetime.now(UTC))
    owing.retry("final")
    assert states(owing) == [COMMITTED, COMMITTED]


# --- by storage commitment ---


@pytest.mark.parametrize(
    "odd", [{"reports": Reports.BEFORE_THE_RESPONSE}, {"reports": Reports.ON_THE_SAME_ASSOCIATION}], indirect=True
)
def test_a_report_on_the_association_that_asked_commits(odd: CommittingPacs, owing: Owing) -> None:
    owing.add("committed")
    prove(owing, to(odd))
    assert states(owing) == [COMMITTED, COMMITTED]
    (request,) = odd.requests
    assert {(row.proof, row.transaction_uid) for row in rows(owing)} == {("COMMITMENT", str(request.TransactionUID))}
    assert odd.answers == [0x0000]
    assert f"PACS@127.0.0.1:{odd.port} committed itself to keeping it." in owing.told("committed")[0]


@pytest.mark.parametrize("odd", [{"times": 2}], indirect=True)
def test_a_report_that_comes_twice_changes_nothing_more(odd: CommittingPacs, owing: Owing) -> None:
    owing.add("twice")
    prove(owing, to(odd))
    assert states(owing) == [COMMITTED, COMMITTED]
    assert len(owing.told("committed")) == 2, "one line for each object"
    assert set(odd.answers) <= {0x0000, None}
    assert odd.answers[0] == 0x0000


@pytest.mark.parametrize("odd", [{"transaction": another_transaction}], indirect=True)
def test_a_report_under_another_transaction_proves_nothing(odd: CommittingPacs, owing: Owing) -> None:
    owing.add("mistaken")
    asking = prove(owing, to(odd))
    assert states(owing) == [SENT, SENT]
    assert odd.answers == [0x0110]
    time_passes(owing, timedelta(seconds=TIMES.within_s))
    asking.ask_once()
    assert [(row.state, row.proof) for row in rows(owing)] == [(COMMITTED, "QUERY")] * 2


# --- a node that serves: the report comes to its listener ---


class Proving:
    """A node that serves, and owes results to `pacs`."""

    def __init__(self, one: Node) -> None:
        self.node = one
        self.database = Database(f"sqlite:///{one.data_dir / 'node.sqlite'}")
        self.owing = Owing(one.data_dir, self.database)

    def wait_for(self, *wanted: str) -> None:
        wait_until(lambda: sorted(states(self.owing)) == sorted(wanted), 60, f"deliveries to be {wanted}", 0.1)


@pytest.fixture
def proving(node: Callable[..., Node]) -> Iterator[Callable[..., Proving]]:
    opened: list[Proving] = []

    def started(there: dict[str, Any], within_s: float = 600, **settings: Any) -> Proving:
        times = {"verify_after_s": 0.1, "verify_within_s": within_s, "first_retry_s": 0.2}
        one = Proving(node(route=[], destination=[{"name": "pacs"} | there], delivery=times, **settings))
        opened.append(one)
        return one

    yield started
    for one in opened:
        one.database.close()


def test_orthanc_commits_itself_on_an_association_of_its_own(pacs: Orthanc, proving: Callable[..., Proving]) -> None:
    one = proving(over_dimse(pacs))
    pacs.know(one.node.aet, one.node.dicom_port)
    one.owing.add("orthanc")
    one.wait_for(COMMITTED, COMMITTED)
    told = rows(one.owing)
    assert {row.proof for row in told} == {"COMMITMENT"}
    assert len({row.transaction_uid for row in told}) == 1, "one request for all that was due"
    assert f"{pacs.aet}@127.0.0.1 committed itself to keeping it." in one.owing.told("committed")[0]
