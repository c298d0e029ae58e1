"""A PACS that speaks DIMSE: C-FIND tells what there is, C-GET or C-MOVE brings it (PS3.4 C.4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydicom.uid import UID

from dicom_node.core.errors import SourceFault, SourceRefused, SourceUnavailable, StoreStatus
from dicom_node.dimse.command_set import Element, Field
from dicom_node.dimse.dicom_file import UNCOMPRESSED
from dicom_node.dimse.find_scu import find, identifier, status_of
from dicom_node.dimse.negotiation import Proposal, Remote
from dicom_node.dimse.retrieve_scu import (
    STUDY_ROOT_FIND,
    STUDY_ROOT_GET,
    STUDY_ROOT_MOVE,
    Message,
    RetrieveAssociation,
    request,
    storage_classes,
    storage_proposals,
    store_response,
)
from dicom_node.retrieve.query import Holdings, Listed, found_study, holdings, listed, study_keys
from dicom_node.retrieve.sink import Names, RetrieveSink, WantedStudy, fetch_singly, require_room
from dicom_node.retrieve.source import FoundStudy, StudyQuery

_MESSAGE_ID = 1
_PENDING = 0xFF00
_SUBOPERATIONS_FAILED = 0xA702
_C_STORE_RQ = int(Field.C_STORE_RQ).to_bytes(2, "little")
_MEANINGS = {
    0x0122: "it does not offer this retrieval",
    0x0124: "it does not allow this node to retrieve",
    0xA701: "it could not count the matches",
    0xA702: "it could not send: out of resources, or it cannot reach the move destination",
    0xA900: "it did not understand the request",
    0xFE00: "it cancelled the retrieval",
}


@dataclass(frozen=True, slots=True)
class DimseSource:
    """A PACS reached by DIMSE. With a `move_destination` it is asked to send there, else it answers C-GET."""

    name: str
    remote: Remote
    move_destination: str = ""

    @property
    def ae_title(self) -> str:
        """Its AE title."""
        return self.remote.called_ae_title

    @property
    def host(self) -> str:
        """Its address."""
        return self.remote.host

    def find_studies(self, query: StudyQuery, limit: int) -> list[FoundStudy]:
        """Ask by C-FIND at study level. Raises `SourceUnavailable` and `SourceRefused`."""
        keys = study_keys() | {
            "PatientID": query.patient_id, "AccessionNumber": query.accession_number, "StudyDate": query.date,
        }  # fmt: skip
        with RetrieveAssociation(self.remote, _FIND) as association:
            return [found_study(dataset) for dataset in find(self.remote, association, keys, limit)]

    def fetch(self, wanted: WantedStudy, arrivals: RetrieveSink) -> None:
        """Ask what there is, then have it sent. Raises `NotFound`, `SourceUnavailable`, `SourceRefused`."""
        with RetrieveAssociation(self.remote, _FIND) as association:
            there = holdings(self.remote, association, wanted)
        arrivals.counts.expect(there.count)
        if self.move_destination:
            self._move(wanted, arrivals)
            return
        try:
            self._get(_keys(wanted), there, arrivals)
        except SourceUnavailable as error:
            self._get_missing(wanted, there, arrivals)
            if not arrivals.counts.progress.received:
                raise SourceUnavailable(str(error)) from error

    def _get_missing(self, wanted: WantedStudy, there: Holdings, arrivals: RetrieveSink) -> None:
        """Fetch one by one what is not here yet: some PACSs break off at an object they cannot read."""
        with RetrieveAssociation(self.remote, _FIND) as association:
            named = listed(self.remote, association, wanted)
        missing = [one for one in named if not arrivals.has(one.sop_instance_uid)]

        def fetch(one: Listed) -> None:
            self._get(_keys_of_one(wanted, one), there, arrivals)
            if not arrivals.has(one.sop_instance_uid):
                arrivals.counts.refuse(one.sop_instance_uid, f"{self.name} names an object that it does not send.")

        fetch_singly(missing, lambda one: one.sop_instance_uid, fetch, arrivals.counts)

    # --- one request -------------------------------------------------------------------------------------------

    def _get(self, keys: Mapping[str, str], there: Holdings, arrivals: RetrieveSink) -> None:
        sop_classes = storage_classes(there.sop_classes, there.modalities)
        proposals = [*_only(STUDY_ROOT_GET), *storage_proposals(sop_classes, 1)]
        with RetrieveAssociation(self.remote, proposals, sorted({uid for uid, _ in proposals[1:]})) as association:
            self._ask(association, keys, (Field.C_GET_RQ, STUDY_ROOT_GET))
            while True:
                message = association.next_message()
                if message.command.elements.get(Element.COMMAND_FIELD) == _C_STORE_RQ:
                    require_room(self._store(association, message, arrivals), self.name)
                elif self._is_end(message, Field.C_GET_RSP, arrivals):
                    return

    def _store(self, association: RetrieveAssociation, message: Message, arrivals: RetrieveSink) -> StoreStatus:
        _, transfer_syntax_uid = association.contexts[message.context_id]
        names = Names(
            sop_class_uid=message.command.text(Element.AFFECTED_SOP_CLASS_UID),
            sop_instance_uid=message.command.text(Element.AFFECTED_SOP_INSTANCE_UID),
            transfer_syntax_uid=transfer_syntax_uid,
        )
        status = arrivals.take(names, message.pieces)
        association.send(message.context_id, store_response(message.command, status))
        return status

    def _move(self, wanted: WantedStudy, arrivals: RetrieveSink) -> None:
        with RetrieveAssociation(self.remote, _only(STUDY_ROOT_MOVE)) as association:
            self._ask(association, _keys(wanted), (Field.C_MOVE_RQ, STUDY_ROOT_MOVE))
            while not self._is_end(association.next_message(), Field.C_MOVE_RSP, arrivals):
                arrivals.check_stopped()

    def _ask(self, association: RetrieveAssociation, keys: Mapping[str, str], how: tuple[Field, str]) -> None:
        field, sop_class_uid = how
        found = association.context_of(sop_class_uid)
        if found is None:
            other = "move" if field is Field.C_GET_RQ else "get"
            raise SourceRefused(
                f"{self.remote} does not accept {UID(sop_class_uid).name}. Enable it there for this node, or set "
                f'retrieve = "{other}" for source {self.name}.'
            )
        destination = self.move_destination if field is Field.C_MOVE_RQ else ""
        command = request(field, sop_class_uid, _MESSAGE_ID, destination)
        association.send(found[0], command, identifier(keys, found[1]))

    # --- the answers -------------------------------------------------------------------------------------------

    def _is_end(self, message: Message, field: Field, arrivals: RetrieveSink) -> bool:
        """Read a response: note its counts, tell whether it is the last. Raises when the retrieval failed."""
        status = status_of(self.remote, message, field)
        counts = _Counts.of(message)
        arrivals.counts.count_failed_there(counts.failed)
        if field is Field.C_MOVE_RSP:
            arrivals.counts.count_sent_elsewhere(counts.completed)
        if status == _PENDING:
            return False
        if status == 0x0000 or 0xB000 <= status <= 0xBFFF:
            return True
        if status == _SUBOPERATIONS_FAILED and arrivals.counts.progress.reason:
            return True  # they failed because the node refused them, and that is the reason to tell
        raise self._failure(status, field)

    def _failure(self, status: int, field: Field) -> SourceRefused | SourceUnavailable:
        verb = field.name.removesuffix("_RSP").replace("_", "-")
        if status == 0xA801:
            return SourceRefused(
                f"{self.remote} does not know the move destination {self.move_destination}: register this node there "
                f'with its address and DICOM port, or set retrieve = "get" for source {self.name}.'
            )
        meaning = _MEANINGS.get(status, "it could not process the request")
        text = f"{self.remote} answered {verb} with 0x{status:04X}: {meaning}. Its log may say more."
        may_pass = 0xA700 <= status <= 0xA702 or 0xC000 <= status <= 0xCFFF
        return SourceFault(text) if may_pass else SourceRefused(text)


@dataclass(frozen=True, slots=True)
class _Counts:
    """The sub-operations of a response (PS3.7 9.1.3.1): `completed` includes those with a warning."""

    completed: int
    failed: int

    @classmethod
    def of(cls, message: Message) -> _Counts:
        try:
            done, failed, warned = (
                message.command.count(one) for one in (Element.COMPLETED, Element.FAILED, Element.WARNING)
            )
        except ValueError as error:
            raise SourceUnavailable("The PACS sent a malformed number of sub-operations.") from error
        return cls(done + warned, failed)


def _only(sop_class_uid: str) -> list[Proposal]:
    return [(sop_class_uid, tuple(map(str, UNCOMPRESSED)))]


_FIND = _only(STUDY_ROOT_FIND)


def _keys(wanted: WantedStudy) -> dict[str, str]:
    keys = {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": wanted.study_instance_uid}
    if wanted.series_instance_uids:
        keys |= {"QueryRetrieveLevel": "SERIES", "SeriesInstanceUID": "\\".join(wanted.series_instance_uids)}
    return keys


def _keys_of_one(wanted: WantedStudy, one: Listed) -> dict[str, str]:
    return {
        "QueryRetrieveLevel": "IMAGE",
        "StudyInstanceUID": wanted.study_instance_uid,
        "SeriesInstanceUID": one.series_instance_uid,
        "SOPInstanceUID": one.sop_instance_uid,
    }
