"""Sources as they are configured: what is missing, doubled or unsafe is refused at the start."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from dicom_node.retrieve.dimse import DimseSource
from dicom_node.retrieve.kinds import make_sources
from dicom_node.roles.settings import SiteSettings

PACS = {"name": "pacs", "kind": "dimse", "ae_title": "PACS", "host": "pacs.local"}


def configured(*sources: dict[str, Any]) -> SiteSettings:
    return SiteSettings.model_validate({"node": {"ae_title": "NODE7"}, "source": sources})


@pytest.mark.parametrize(
    ("source", "missing"),
    [
        ({"name": "a", "kind": "dimse"}, {"ae_title", "host"}),
        ({"name": "a", "kind": "dicomweb"}, {"url"}),
        ({"name": "a", "kind": "orthanc"}, {"url"}),
    ],
)
def test_a_source_without_what_its_kind_needs_is_refused(source: dict[str, Any], missing: set[str]) -> None:
    with pytest.raises(ValidationError) as refused:
        configured(source)

    assert {one["loc"][-1] for one in refused.value.errors() if one["type"] == "missing"} == missing


def test_two_sources_of_one_name_are_refused() -> None:
    with pytest.raises(ValidationError, match="two sources are named pacs"):
        configured(PACS, PACS)


@pytest.mark.parametrize("kind", ["dicomweb", "orthanc"])
@pytest.mark.parametrize(
    "url", ["https://me:secret@pacs.local/", "file:///etc/passwd", "pacs.local", "https://", "https://pacs.local:port"]
)
def test_an_address_that_is_none_or_holds_a_password_is_refused(kind: str, url: str) -> None:
    with pytest.raises(ValidationError, match="it must begin with https://") as refused:
        configured({"name": "a", "kind": kind, "url": url})

    assert "secret" not in str(refused.value)


def test_a_move_goes_to_the_node_itself_unless_told_otherwise() -> None:
    sources = make_sources(
        configured(
            {**PACS, "name": "get"},
            {**PACS, "name": "move", "retrieve": "move"},
            {**PACS, "name": "other", "retrieve": "move", "move_destination": "OTHER"},
        )
    )

    assert {name: one.move_destination for name, one in sources.items() if isinstance(one, DimseSource)} == {
        "get": "", "move": "NODE7", "other": "OTHER"
    }  # fmt: skip
    assert (sources["get"].ae_title, sources["get"].host) == ("PACS", "pacs.local")


def test_a_secret_is_not_shown_with_the_settings() -> None:
    settings = configured({"name": "a", "kind": "dicomweb", "url": "https://pacs.local", "token": "a-secret"})

    assert "a-secret" not in repr(settings)
