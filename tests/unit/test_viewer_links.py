"""The link to the images in the site's viewer: made from a template, and never one that leads elsewhere."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from dicom_node.config.outgoing import DestinationSettings
from dicom_node.config.settings import Settings
from dicom_node.deliver.kinds.kind import caller_of
from dicom_node.deliver.viewer_links import viewer_link

TEMPLATE = "https://viewer.example/open?study={study_instance_uid}&acc={accession_number}&pid={patient_id}"


def test_every_value_is_quoted_as_a_whole_so_that_none_adds_a_part_to_the_address() -> None:
    link = viewer_link(
        TEMPLATE, study_instance_uid="1.2.3", accession_number="A/1&x=2", patient_id="Ä {study_instance_uid}#"
    )
    assert link == "https://viewer.example/open?study=1.2.3&acc=A%2F1%26x%3D2&pid=%C3%84%20%7Bstudy_instance_uid%7D%23"


def test_without_template_or_without_a_value_that_it_needs_there_is_no_link() -> None:
    assert viewer_link(None, study_instance_uid="1.2.3") == ""
    assert viewer_link(TEMPLATE, study_instance_uid="1.2.3", accession_number="A1") == ""


@pytest.mark.parametrize(
    "template",
    [
        "https://viewer.example/{study}",
        "https://viewer.example/{}",
        "https://viewer.example/{study_instance_uid.__class__}",
        "https://viewer.example/{study_instance_uid!r}",
        "https://viewer.example/{study_instance_uid:>99999999}",
        "https://viewer.example/{study_instance_uid",
        "https://{patient_id}/open",
        "https://user:password@viewer.example/{study_instance_uid}",
        "javascript:alert({patient_id})",
        "https://viewer.example/ {study_instance_uid}",
    ],
)
def test_a_template_that_is_no_web_address_or_asks_for_something_else_is_refused(template: str) -> None:
    with pytest.raises(ValidationError):
        DestinationSettings(name="ehr", kind="fhir", viewer_url=template)


def test_a_template_with_the_known_names_is_taken() -> None:
    assert DestinationSettings(name="ehr", kind="fhir", viewer_url=TEMPLATE).viewer_url == TEMPLATE


def test_the_nodes_own_viewer_stands_for_one_that_is_not_named() -> None:
    served = {"ohif": "/opt/ohif", "public_url": "https://ai.example/"}
    own = caller_of(Settings.model_validate({"viewer": served})).viewer_url
    assert viewer_link(own, study_instance_uid="1.2.3") == "https://ai.example/viewer?StudyInstanceUIDs=1.2.3"
    for unknown in ({}, {"ohif": "/opt/ohif"}, {"public_url": "https://ai.example"}):
        assert caller_of(Settings.model_validate({"viewer": unknown})).viewer_url is None
