"""What differs between two readings of the settings, as it is told to people."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from dicom_node.config.changes import LIVE, changes_between, renamed, revision_of
from dicom_node.roles.settings import SiteSettings

PACS: dict[str, Any] = {"name": "pacs", "kind": "dicom", "ae_title": "PACS", "host": "10.0.0.1", "port": 104}
EHR: dict[str, Any] = {"name": "ehr", "kind": "fhir", "url": "https://ehr.local/fhir", "token": "s3cret"}
HOOK: dict[str, Any] = {"name": "chat", "kind": "webhook", "url": "https://chat.local/T0P/S3CRET",
                        "secret": f"whsec_{base64.b64encode(bytes(24)).decode()}"}  # fmt: skip


def site(**sections: Any) -> SiteSettings:
    return SiteSettings.model_validate(sections)


def told(before: SiteSettings, after: SiteSettings) -> list[tuple[str, bool]]:
    return [(one.in_words, one.is_live) for one in changes_between(before, after)]


def test_equal_settings_differ_in_nothing() -> None:
    assert told(site(destination=[PACS, EHR]), site(destination=[PACS, EHR])) == []


def test_every_kind_of_difference_is_told_with_what_it_was_and_is() -> None:
    before = site(peer=[{"ae_title": "CT1", "host": "10.1.0.0/16"}, {"ae_title": "MR1"}], destination=[PACS])
    after = site(
        node={"log_level": "DEBUG"},
        dicom={"port": 104},
        peer=[{"ae_title": "CT1", "host": "10.1.0.0/16", "tls": True}, {"ae_title": "CT2", "host": "10.2.0.1"}],
        destination=[{**PACS, "port": 105, "outputs": {"segmentation": "off"}}],
    )

    assert told(before, after) == [
        ("node.log_level INFO → DEBUG", True),
        ("dicom.port 11112 → 104", False),
        ("peer MR1 any is gone", True),
        ("peer CT1 10.1.0.0/16: tls false → true", True),
        ("peer CT2 10.2.0.1 is new", True),
        ("destination pacs: outputs.segmentation none → off, port 104 → 105", True),
    ]


def test_neither_secrets_nor_what_may_hold_one_are_told() -> None:
    words = told(
        site(destination=[EHR, HOOK]),
        site(destination=[{**EHR, "token": "an0ther"}, {**HOOK, "url": "https://chat.local/T0P/AN0THER"}]),
    )
    moved = told(site(destination=[HOOK]), site(destination=[{**HOOK, "url": "https://chat2.local/T0P/S3CRET"}]))

    assert words == [("destination ehr: token changed", True), ("destination chat: url changed", True)]
    assert moved == [("destination chat: url https://chat.local → https://chat2.local", True)]


def test_a_secret_that_is_given_for_the_first_time_is_told_without_it() -> None:
    without = {key: value for key, value in EHR.items() if key != "token"}

    assert told(site(destination=[without]), site(destination=[EHR])) == [("destination ehr: token changed", True)]


def test_one_title_from_two_networks_is_two_peers() -> None:
    both = [{"ae_title": "CT1", "host": "10.1.0.1"}, {"ae_title": "CT1", "host": "10.1.0.2"}]

    assert told(site(peer=both), site(peer=both[:1])) == [("peer CT1 10.1.0.2 is gone", True)]


def test_another_order_is_told() -> None:
    second = {**PACS, "name": "archive"}

    assert told(site(destination=[PACS, second]), site(destination=[second, PACS])) == [
        ("destination: the entries stand in another order", True)
    ]


def test_another_name_for_the_same_destination_is_noticed() -> None:
    before, after = site(destination=[PACS, EHR]), site(destination=[{**PACS, "name": "archive"}, EHR])

    assert renamed(before, after) == [("pacs", "archive")]
    assert renamed(before, site(destination=[{**PACS, "name": "archive", "port": 105}, EHR])) == []


def test_a_revision_changes_with_a_secret_and_with_the_node_that_tells_it() -> None:
    before, after = site(destination=[EHR]), site(destination=[{**EHR, "token": "an0ther"}])

    assert revision_of(before, b"k" * 32) == revision_of(site(destination=[EHR]), b"k" * 32)
    assert len({revision_of(before, b"k" * 32), revision_of(after, b"k" * 32), revision_of(before, b"l" * 32)}) == 3


@pytest.mark.parametrize("setting", sorted(LIVE))
def test_what_is_said_to_be_live_is_a_setting(setting: str) -> None:
    section, _, key = setting.partition(".")
    kind = SiteSettings.model_fields[section].annotation

    assert not key or key in kind.model_fields  # type: ignore[union-attr]
