"""A PACS that took the class of the unreviewed report and refuses it for the verified one: it gets another class."""

from __future__ import annotations

from pathlib import Path

from dicom_node.core.entities import ReviewState
from dicom_node.core.outputs.artifact_kinds import REPORTS
from dicom_node.core.principal import Principal, UserRole
from dicom_node.headers.image_size import image_size
from dicom_node.index.tables import deliveries, results
from dicom_node.people.review.reviews import AskedDecision, ReviewRules, Reviews
from tests.integration.step_by_step_node import site
from tests.integration.test_fickle_peers import Fickle, pacs_at
from tests.support.studies.data_factories import small_chest_ct


class Changing(Fickle):
    """Takes everything until it is told to refuse a class."""

    refused = ""

    def refuses(self, sop_class_uid: str) -> bool:
        return sop_class_uid == self.refused


def test_a_verified_report_whose_class_is_refused_is_sent_in_another(tmp_path: Path) -> None:
    changing, images = Changing(), small_chest_ct()[0]
    with changing.serving() as port, site(tmp_path / "node", [pacs_at(port)]) as node:
        node.ask()
        node.run(images)
        (first,) = (one for one in changing.received if one.Modality == "SR")
        changing.refused = first.SOPClassUID
        reviews = Reviews(node.database, ReviewRules(), lambda key: image_size(node.spool.path(key)))
        anna = Principal("anna", frozenset({UserRole.REVIEWER}))
        reviews.decide(node.rows(results)[0].job_key, AskedDecision(state=ReviewState.ACCEPTED), anna)
        for _ in range(3):
            node.settle()

        first, *others = (one for one in changing.received if one.Modality == "SR")
        (verified,) = others
        assert verified.SOPClassUID in set(REPORTS.values()) - {first.SOPClassUID}
        assert (first.VerificationFlag, verified.VerificationFlag) == ("UNVERIFIED", "VERIFIED")
        assert {row.state for row in node.rows(deliveries)} <= {"SENT", "COMMITTED", "PARKED"}
        assert [row.standing for row in sorted(node.rows(results), key=lambda one: one.sequence)] == [
            "SUPERSEDED", "CURRENT",
        ]  # fmt: skip
        assert any("takes no" in line and "gets" in line for line in node.told("outputs"))
