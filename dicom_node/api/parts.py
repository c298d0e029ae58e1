"""What the API is given by the composition root, and how routes reach it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, cast

from fastapi import Depends, Request
from fastapi import Path as UrlPath
from pydantic import AfterValidator, Field

from dicom_node.api.front.tls import CertificateState
from dicom_node.api.shown_patients import ShownPatients
from dicom_node.config.settings import Settings
from dicom_node.core.audit import Audit
from dicom_node.core.search_key import SearchKeys
from dicom_node.core.uids import is_valid_uid
from dicom_node.governance.standing import ModelView
from dicom_node.index.database import Database
from dicom_node.index.views.lists import Cursor
from dicom_node.inference.cards.card import ModelCard
from dicom_node.ingest.session import IngestParts
from dicom_node.operate.clock import ClockState
from dicom_node.operate.configuration.reload import Configuration
from dicom_node.operate.metrics.exposition import Exposition
from dicom_node.operate.routes_in_force import RoutesInForce
from dicom_node.receive.refusals import RefusedContexts
from dicom_node.retrieve.retrievals import Retrievals
from dicom_node.viewing.readers import ImageReaders


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiParts:
    """Everything the routes need of the node.

    `open_object` finds the file of an object key; it may raise `NotFound`. `cards` are the models' by name, `models`
    tells of each model by name whether it may run. `wake` tells the sweeps that the operator has asked for something.
    `token_digest` is the sha256 of the API token in hexadecimal. `audit` is where acts are written down.
    `receiver_ready` tells whether the DICOM listener takes associations (always true where no receiver belongs to this
    process). `roles_not_at_work` names the roles of the node that no process does now, and why. `refused_contexts` are
    what peers could not send to this process's receiver. `retrievals` fetches studies and `ingest` takes them in, where
    this process does. `certificate` tells of the certificate that the API shows; `None` where it speaks no TLS. `clock`
    tells of the clock; `None` where no time server is named. `search_keys` are what studies are found by, and
    `patients` tells who the patients of stored objects are. `metrics` tells what is measured. `configuration` reads the
    settings again, and then others take the place of `settings` for later requests; `None`: they stay as they are.
    """

    database: Database
    settings: Settings
    open_object: Callable[[str], Path]
    models: Callable[[], Mapping[str, ModelView]]
    routes: RoutesInForce
    cards: Mapping[str, ModelCard]
    wake: Callable[[], None]
    token_digest: str
    audit: Audit
    receiver_ready: Callable[[], bool]
    version: str
    search_keys: SearchKeys
    patients: ShownPatients
    roles_not_at_work: Callable[[], Mapping[str, str]] = dict
    refused_contexts: Callable[[], Sequence[RefusedContexts]] = tuple
    retrievals: Retrievals | None = None
    ingest: IngestParts | None = None
    certificate: Callable[[], CertificateState | None] = lambda: None
    clock: Callable[[], ClockState | None] = lambda: None
    images: ImageReaders | None = None
    metrics: Exposition = field(default_factory=Exposition)
    configuration: Configuration | None = None


def parts_of(request: Request) -> ApiParts:
    """Return what the application was built with."""
    return cast(ApiParts, request.app.state.parts)


Parts = Annotated[ApiParts, Depends(parts_of)]


# --- parameters ----------------------------------------------------------------------------------------------------


def _uid(text: str) -> str:
    if not is_valid_uid(text):
        raise ValueError("not a UID: digits and single dots, at most 64 characters")
    return text


def _cursor(text: str) -> str:
    Cursor.parse(text)
    return text


#: Cuts white space off the ends of a text that was looked at as it came: pydantic's own way cuts first, and takes then
#: what the description forbids, as a line break at the end.
Stripped = AfterValidator(str.strip)
#: What descriptions say of UIDs and cursors; the validators say the same in words.
_UID = {"pattern": r"^[0-9]+(\.[0-9]+)*$", "minLength": 1}
_A_STUDY, _AN_OBJECT = "1.2.826.0.1.3680043.8.498.101", "2.25.103"

StudyUid = Annotated[
    str,
    UrlPath(alias="uid", max_length=64, description="Study Instance UID", json_schema_extra=_UID, examples=[_A_STUDY]),
    AfterValidator(_uid),
]
InstanceUid = Annotated[str, Field(max_length=64, json_schema_extra=_UID, examples=[_AN_OBJECT]), AfterValidator(_uid)]
ArtifactUid = Annotated[
    str,
    UrlPath(
        alias="uid", max_length=64, description="SOP Instance UID, or the UID of a FHIR report",
        json_schema_extra=_UID, examples=[_AN_OBJECT],
    ),
    AfterValidator(_uid),
]  # fmt: skip
JobKey = Annotated[
    str, UrlPath(pattern=r"^[0-9a-f]{64}$", description="Key of the analysis, as in a result", examples=["3f" * 32])
]
DeliveryId = Annotated[int, UrlPath(alias="id", ge=1, le=2**62, description="Number of the delivery", examples=[1])]
CursorText = Annotated[
    str,
    Field(max_length=82, json_schema_extra={"pattern": r"^[0-9]{1,17}_[0-9]+(\.[0-9]+)*$"},
          examples=[f"1773480000000000_{_A_STUDY}"]),
    AfterValidator(_cursor),
]  # fmt: skip
