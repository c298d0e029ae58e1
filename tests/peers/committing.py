"""A PACS that stores, answers queries and commits itself to keeping objects, as well as a test has it do so."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pydicom import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, AllStoragePresentationContexts, build_role, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)

#: How long anything may take on a busy machine.
_PATIENCE_S = 60


class Reports(StrEnum):
    """When and where it reports on a request."""

    BEFORE_THE_RESPONSE = "before"
    ON_THE_SAME_ASSOCIATION = "same"
    ON_A_NEW_ASSOCIATION = "new"
    NEVER = "never"


@dataclass
class CommittingPacs:
    """What it does is changed by its fields while it runs; what it was told and what it heard stands there, too."""

    reports: Reports = Reports.ON_THE_SAME_ASSOCIATION
    #: Where it reports to on a new association.
    node_port: int = 0
    #: SOP Instance UIDs that it says it has not, and why.
    fails: dict[str, int] = field(default_factory=dict)
    #: Whether its reports mention any object.
    mentions: bool = True
    #: Under which Transaction UID it reports, given the one it was asked under.
    transaction: Callable[[str], str] = str
    #: How often it reports.
    times: int = 1
    finds: bool = True
    commits: bool = True
    #: Answer to each C-STORE, and to an N-ACTION.
    store_status: int = 0x0000
    action_status: int = 0x0000
    #: Called when an association for storage commitment is asked for, and at an N-ACTION, before anything is said.
    at_association: Callable[[], object] = lambda: None
    at_request: Callable[[], object] = lambda: None
    #: Called when a report on an association of its own has been sent, before it is answered.
    at_report: Callable[[], object] = lambda: None

    aet: str = "PACS"
    host: str = "127.0.0.1"
    port: int = 0
    #: What it has, by SOP Instance UID.
    stored: dict[str, Dataset] = field(default_factory=dict)
    stores: list[str] = field(default_factory=list)
    requests: list[Dataset] = field(default_factory=list)
    #: Statuses with which its reports were answered; None: there was no answer.
    answers: list[int | None] = field(default_factory=list)
    reported: threading.Event = field(default_factory=threading.Event)

    # --- what it is asked

    def on_association(self, event: Any) -> None:
        proposed = {context.abstract_syntax for context in event.assoc.requestor.requested_contexts}
        if StorageCommitmentPushModel in proposed:
            self.at_association()

    def on_store(self, event: Any) -> int:
        dataset = event.dataset
        self.stored[str(dataset.SOPInstanceUID)] = dataset
        self.stores.append(str(dataset.SOPInstanceUID))
        return self.store_status

    def on_find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        keys = event.identifier
        for dataset in list(self.stored.values()):
            if str(keys.get("StudyInstanceUID") or "") in {"", dataset.StudyInstanceUID}:
                answer = Dataset()
                answer.QueryRetrieveLevel = keys.QueryRetrieveLevel
                for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
                    if keyword in keys:
                        setattr(answer, keyword, dataset[keyword].value)
                yield 0xFF00, answer

    def on_action(self, event: Any) -> tuple[int, None]:
        request = event.action_information
        self.requests.append(request)
        self.at_request()
        if self.action_status or self.reports is Reports.NEVER:
            return self.action_status, None
        if self.reports is Reports.BEFORE_THE_RESPONSE:
            self._report(request, event.assoc)
        else:
            threading.Thread(target=self._report_later, args=(request, event.assoc), daemon=True).start()
        return 0x0000, None

    # --- what it says

    def _report_later(self, request: Dataset, association: Any) -> None:
        if self.reports is Reports.ON_A_NEW_ASSOCIATION:
            self.report_anew(request)
        else:
            self._report(request, association)

    def report_anew(self, request: Dataset) -> None:
        """Report to the listener of the node."""
        ae = AE(ae_title=self.aet)
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = _PATIENCE_S
        ae.add_requested_context(StorageCommitmentPushModel)
        role = build_role(StorageCommitmentPushModel, scu_role=False, scp_role=True)
        sent = [(evt.EVT_DIMSE_SENT, lambda _event: self.at_report())]
        association = ae.associate(self.host, self.node_port, ae_title="AINODE", ext_neg=[role], evt_handlers=sent)
        if not association.is_established:
            self.answers.append(None)
            self.reported.set()
            return
        self._report(request, association)
        association.release()

    def _report(self, request: Dataset, association: Any) -> None:
        for _ in range(self.times):
            status, _ = association.send_n_event_report(
                self.report_on(request), 2 if self.fails else 1, StorageCommitmentPushModel,
                StorageCommitmentPushModelInstance,
            )  # fmt: skip
            self.answers.append(int(status.Status) if "Status" in status else None)
        self.reported.set()

    def report_on(self, request: Dataset) -> Dataset:
        """Return the data set of the report."""
        report = Dataset()
        report.TransactionUID = self.transaction(str(request.TransactionUID))
        committed, failed = [], []
        for asked in request.ReferencedSOPSequence if self.mentions else ():
            uid = str(asked.ReferencedSOPInstanceUID)
            item = Dataset()
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = asked.ReferencedSOPClassUID, uid
            reason = self.fails.get(uid, 0x0000 if uid in self.stored else 0x0112)
            if reason:
                item.FailureReason = reason
            (failed if reason else committed).append(item)
        if committed:
            report.ReferencedSOPSequence = committed
        if failed:
            report.FailedSOPSequence = failed
        return report


def another_transaction(_asked: str) -> str:
    """The Transaction UID of one who mistakes whose request it was."""
    return str(generate_uid())


@contextmanager
def running_committing_pacs(pacs: CommittingPacs) -> Iterator[CommittingPacs]:
    """Run it on a free port of loopback."""
    ae = AE(ae_title=pacs.aet)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = _PATIENCE_S
    for context in AllStoragePresentationContexts:
        ae.add_supported_context(context.abstract_syntax or "", context.transfer_syntax or [])
    ae.add_supported_context(Verification)
    if pacs.finds:
        ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    if pacs.commits:
        ae.add_supported_context(StorageCommitmentPushModel)
    handlers = [
        (evt.EVT_REQUESTED, pacs.on_association),
        (evt.EVT_C_STORE, pacs.on_store),
        (evt.EVT_C_FIND, pacs.on_find),
        (evt.EVT_N_ACTION, pacs.on_action),
    ]
    server = ae.start_server((pacs.host, 0), block=False, evt_handlers=handlers)
    assert server is not None
    pacs.port = server.server_address[1]
    try:
        yield pacs
    finally:
        server.shutdown()
