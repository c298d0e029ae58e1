"""A PACS proves that it has what it took: by storage commitment or by a query; real PACSs, and odd ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pynetdicom import AE, build_role
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)
from sqlalchemy import select, update

from dicom_node.core.entities import DeliveryState
from dicom_node.core.errors import DeliveryRefused, IllegalTransition
from dicom_node.deliver.dispatch.proof import Prover
from dicom_node.deliver.kinds import destinations_of
from dicom_node.deliver.kinds.kind import ProofQuestions, caller_of
from dicom_node.deliver.outgoing import SentObject
from dicom_node.dimse import commitment_scu
from dicom_node.index.database import Database
from dicom_node.index.decided import actions
from dicom_node.index.outbox.proofs import ProofTimes
from dicom_node.index.outbox.withdrawals import withdraw_results
from dicom_node.index.tables import deliveries
from dicom_node.index.transitions import Change
from dicom_node.index.views.lists import list_deliveries
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
from tests.peers.process import free_port, wait_until
from tests.support.results.arrivals import opened_database
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
    return Prover("pacs", questions, owing.database, owing.spool, ProofTimes(TIMES.after_s, TIMES.within_s, again_days))


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
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports that do not come are waited for a moment only."""
    monkeypatch.setattr(commitment_scu, "_REPORTED_WITHIN_S", 0.1)


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


def test_an_orthanc_that_does_not_know_where_the_node_is_proves_by_a_query(pacs: Orthanc, owing: Owing) -> None:
    """It could not report, and refuses the request."""
    for name in pacs.get("/modalities"):
        pacs.http.delete(f"/modalities/{name}").raise_for_status()
    owing.add("unknown-node")
    prove(owing, over_dimse(pacs))
    assert [(row.state, row.proof) for row in rows(owing)] == [(COMMITTED, "QUERY")] * 2


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
    damaged, _whole = sorted((tmp_path / "out").glob("*.dcm"))
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
@pytest.mark.usefixtures("impatient")
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


# --- what goes wrong ---


def uid_of(row: Any) -> str:
    return str(row.artifact_uid)


def test_what_is_not_committed_is_sent_again_and_parked_when_that_does_not_help(
    odd: CommittingPacs, owing: Owing
) -> None:
    """It commits itself to three of four; what it says why is kept."""
    owing.add("four", "four-a", "four-b")
    owing.deliver(to(odd))
    failing = rows(owing)[1]
    odd.fails = {uid_of(failing): 0x0110}
    asking = prover(owing, to(odd))
    asking.ask_once()
    assert states(owing) == [COMMITTED, PENDING, COMMITTED, COMMITTED]
    said = f"pacs does not have it: PACS@127.0.0.1:{odd.port} says processing failure (0x0110)."
    assert owing.told("missing") == [f"SR: {said} It is sent again."]
    for _ in range(2):
        owing.deliver(to(odd))
        asking.ask_once()
    assert states(owing) == [COMMITTED, PARKED, COMMITTED, COMMITTED]
    assert odd.stores.count(uid_of(failing)) == 3, "sent, and twice more"
    assert len({str(request.TransactionUID) for request in odd.requests}) == 3, "a new transaction for each try"
    (parked,) = [row for row in rows(owing) if row.state == PARKED]
    assert (parked.proof_note, parked.proof) == (said, "")
    assert "retry" in parked.note
    odd.fails.clear()
    owing.retry("four")
    owing.deliver(to(odd))
    asking.ask_once()
    assert states(owing) == [COMMITTED] * 4


@pytest.mark.parametrize("odd", [{"reports": Reports.NEVER}], indirect=True)
@pytest.mark.usefixtures("impatient")
def test_who_never_reports_is_asked_by_a_query_in_time(odd: CommittingPacs, owing: Owing) -> None:
    owing.add("silent")
    asking = prove(owing, to(odd))
    assert states(owing) == [SENT, SENT]
    assert not asking.ask_once(), "its report may still come"
    time_passes(owing, timedelta(seconds=TIMES.within_s))
    asking.ask_once()
    assert [(row.state, row.proof) for row in rows(owing)] == [(COMMITTED, "QUERY")] * 2
    assert len(odd.requests) == 1


@pytest.mark.parametrize("odd", [{"mentions": False}], indirect=True)
def test_who_reports_on_nothing_is_not_asked_without_a_pause(odd: CommittingPacs, owing: Owing) -> None:
    owing.add("evasive")
    asking = prove(owing, to(odd, verify="commitment"))
    asking.ask_once()
    assert not asking.ask_once()
    assert states(owing) == [SENT, SENT]
    assert len(odd.requests) == 2


def test_one_that_cannot_be_asked_for_keeps_no_other_from_being_proved(odd: CommittingPacs, owing: Owing) -> None:
    owing.add("one")
    owing.add("two")
    owing.deliver(to(odd))
    poison = rows(owing)[1].artifact_uid

    def has(objects: Sequence[SentObject]) -> set[str]:
        if poison in {one.uid for one in objects}:
            raise DeliveryRefused("The stored bundle cannot be read.")
        return {one.uid for one in objects}

    assert Prover("pacs", ProofQuestions(has), owing.database, owing.spool, TIMES).ask_once()
    assert len(rows(owing)) > 2
    told = {row.artifact_uid: (row.state, row.proof_note) for row in rows(owing)}
    assert told.pop(poison) == (SENT, "The stored bundle cannot be read.")
    assert {state for state, _ in told.values()} == {COMMITTED}


@pytest.mark.parametrize("odd", [{"reports": Reports.NEVER, "finds": False}], indirect=True)
@pytest.mark.usefixtures("impatient")
def test_who_neither_reports_nor_answers_queries_is_asked_daily_for_a_week(odd: CommittingPacs, owing: Owing) -> None:
    owing.add("mute")
    asking = prove(owing, to(odd))
    time_passes(owing, timedelta(seconds=TIMES.within_s))
    for _ in range(9):
        asking.ask_once()
        assert states(owing) == [SENT, SENT]
        assert not asking.ask_once()
        time_passes(owing, timedelta(days=1))
    (line,) = owing.told("unproved")
    assert line.startswith("pacs: Without proof after 7 days. ")
    assert not asking.ask_once()
    assert len({str(one.TransactionUID) for one in odd.requests}) == len(odd.requests) >= 4


@pytest.mark.parametrize("odd", [{"commits": False}, {"action_status": 0x0122}], indirect=True)
def test_who_refuses_commitment_is_asked_by_a_query_at_once(odd: CommittingPacs, owing: Owing) -> None:
    owing.add("modest")
    prove(owing, to(odd))
    assert [(row.state, row.proof) for row in rows(owing)] == [(COMMITTED, "QUERY")] * 2


@pytest.mark.parametrize("odd", [{"commits": False}], indirect=True)
def test_who_wants_a_commitment_is_not_content_with_a_query(odd: CommittingPacs, owing: Owing) -> None:
    owing.add("insisting")
    prove(owing, to(odd, verify="commitment"))
    assert states(owing) == [SENT, SENT]
    assert {row.proof_note for row in rows(owing)} == {
        f"PACS@127.0.0.1:{odd.port} does not accept Storage Commitment Push Model SOP Class."
    }


def test_a_pacs_that_is_away_when_asked_is_asked_again(odd: CommittingPacs, owing: Owing) -> None:
    owing.add("away")
    owing.deliver(to(odd))
    away = prover(owing, to(odd) | {"port": free_port()})
    away.ask_once()
    time_passes(owing, timedelta(seconds=TIMES.within_s))
    away.ask_once()
    assert states(owing) == [SENT, SENT]
    assert all("cannot be reached" in row.proof_note for row in rows(owing))
    time_passes(owing, timedelta(seconds=TIMES.within_s))
    prover(owing, to(odd)).ask_once()
    assert states(owing) == [COMMITTED, COMMITTED]


def test_what_was_replaced_or_taken_back_is_asked_for_no_more(odd: CommittingPacs, owing: Owing) -> None:
    """A PACS may hide it by then; to send it again would bring it back."""
    owing.add("replaced")
    owing.deliver(to(odd))
    with owing.database.write() as connection:
        withdraw_results(connection, study_of("replaced"), "Wrong.", Change(datetime.now(UTC)))
    assert not prover(owing, to(odd)).ask_once()
    assert states(owing) == [SENT, SENT]


def test_what_is_withdrawn_while_it_is_asked_for_is_not_sent_again(odd: CommittingPacs, owing: Owing) -> None:
    """The PACS has hidden it by the time it answers, and says that it does not have it."""
    owing.add("hidden")
    owing.deliver(to(odd))
    odd.fails = {uid_of(row): 0x0112 for row in rows(owing)}

    def withdraw() -> None:
        with owing.database.write() as connection:
            withdraw_results(connection, study_of("hidden"), "Wrong.", Change(datetime.now(UTC)))

    odd.at_request = withdraw
    prover(owing, to(odd)).ask_once()
    assert odd.answers == [0x0000]
    assert states(owing) == [SENT, SENT]
    assert owing.told("missing") == []


def test_what_is_missing_is_sent_again_on_postgresql_too(
    odd: CommittingPacs, tmp_path: Path, postgres_url: str
) -> None:
    (tmp_path / "node").mkdir()
    with opened_database(postgres_url) as database:
        test_what_is_not_committed_is_sent_again_and_parked_when_that_does_not_help(
            odd, Owing(tmp_path / "node", database)
        )


# --- warnings ---


@pytest.mark.parametrize("odd", [{"store_status": one} for one in (0xB000, 0xB006, 0xB007)], indirect=True)
def test_a_warning_is_kept_with_what_was_stored_under_it(
    odd: CommittingPacs, owing: Owing, caplog: pytest.LogCaptureFixture
) -> None:
    owing.add("warned")
    prove(owing, to(odd))
    with owing.database.read() as connection:
        seen = list_deliveries(connection)
    told = f"0x{odd.store_status:04X}"
    assert [(one.state, one.warning) for one in seen] == [(COMMITTED, told)] * 2
    assert all(told in one.note for one in seen)
    assert [one.levelname for one in caplog.records if one.message == "object sent"] == ["WARNING"] * 2


# --- is it still there? ---


def test_what_vanishes_later_is_noticed_sent_again_once_and_then_parked(
    odd: CommittingPacs, owing: Owing, caplog: pytest.LogCaptureFixture
) -> None:
    owing.add("kept")
    prove(owing, to(odd))
    first, other = map(uid_of, rows(owing))
    asking = prover(owing, to(odd), again_days=1)
    assert not asking.ask_once(), "a day has not passed"

    def a_day_passes() -> None:
        time_passes(owing, timedelta(days=1))
        for _ in range(3):
            asking.ask_once()
            time_passes(owing, timedelta(seconds=TIMES.within_s))

    a_day_passes()
    assert states(owing) == [COMMITTED, COMMITTED]
    assert owing.told("lost") == []
    del odd.stored[first]
    a_day_passes()
    assert states(owing) == [PENDING, COMMITTED]
    assert owing.told("lost") == ["SC: pacs has it no more: A query does not find it. It is sent again."]
    errors = [one.message for one in caplog.records if one.levelname == "ERROR"]
    assert errors == ["destination does not have what it took"]
    owing.deliver(to(odd))
    asking.ask_once()
    assert states(owing) == [COMMITTED, COMMITTED]
    del odd.stored[first]
    a_day_passes()
    assert states(owing) == [PARKED, COMMITTED], "somebody removes it there: that is for a person to settle"
    assert odd.stores.count(first) == 2
    assert odd.stores.count(other) == 1


def test_a_report_that_cannot_be_processed_is_answered_so_and_the_association_goes_on(
    odd: CommittingPacs, proving: Callable[..., Proving]
) -> None:
    """An unknown transaction, none at all, an event that the service does not have; then the one that is awaited."""
    odd.reports = Reports.NEVER
    one = proving(to(odd, verify="commitment"), peer=[{"ae_title": "PACS", "host": "127.0.0.1"}])
    one.owing.add("listening")
    wait_until(lambda: bool(odd.requests), 60, "the request", 0.05)
    (request,) = odd.requests
    ae = AE(ae_title="PACS")
    ae.add_requested_context(StorageCommitmentPushModel)
    role = build_role(StorageCommitmentPushModel, scu_role=False, scp_role=True)
    association = ae.associate("127.0.0.1", one.node.dicom_port, ae_title=one.node.aet, ext_neg=[role])

    def answer_to(report: Dataset, event_type: int = 1) -> int:
        what = StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        status, _ = association.send_n_event_report(report, event_type, *what)
        return int(status.Status)

    good, unknown, without = (odd.report_on(request) for _ in range(3))
    unknown.TransactionUID = another_transaction("")
    del without.TransactionUID
    assert [answer_to(one) for one in (unknown, without)] == [0x0110, 0x0110]
    assert answer_to(good, event_type=3) == 0x0113
    assert states(one.owing) == [SENT, SENT]
    assert [answer_to(good), answer_to(good)] == [0x0000, 0x0000]
    association.release()
    assert states(one.owing) == [COMMITTED, COMMITTED], "what follows is committed before the answer"
    stranger = AE(ae_title="NOBODY")
    stranger.add_requested_context(StorageCommitmentPushModel)
    refused = stranger.associate("127.0.0.1", one.node.dicom_port, ae_title=one.node.aet, ext_neg=[role])
    # On a busy machine pynetdicom may see the end of the connection before the rejection that came with it.
    assert not refused.is_established
    assert refused.is_rejected or refused.is_aborted
