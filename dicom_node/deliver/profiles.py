"""What each destination gets: its preset and overrides from the settings, fitted to what the index knows of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from sqlalchemy import Connection

from dicom_node.config.outgoing import wanted_outputs
from dicom_node.config.settings import Settings
from dicom_node.core.entities import Destination, MediaType
from dicom_node.core.outputs.artifact_kinds import OutputSet, of_review
from dicom_node.core.outputs.capability_match import MatchedOutputs, PeerCapabilities, WantedOutputs, match_capabilities
from dicom_node.deliver.kinds import destinations_of
from dicom_node.index.outbox.destinations import recall

_SITE = WantedOutputs(outputs=OutputSet())


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What one destination is configured to get, and under which address what it takes is remembered, if at all."""

    wanted: WantedOutputs
    address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryPlan:
    """The output sets of one result, that of the first destination first, and who gets which."""

    output_sets: tuple[OutputSet, ...]
    destinations: tuple[Destination, ...]
    #: Sentences on what destinations do not get because they do not take it.
    notes: tuple[str, ...] = ()

    @property
    def output_keys(self) -> tuple[str, ...]:
        """Return the keys of the sets."""
        return tuple(one.key for one in self.output_sets)

    def of_review(self) -> DeliveryPlan:
        """Return who gets what of a reviewed result: the sets keep their keys, and their destinations."""
        return replace(self, output_sets=tuple(map(of_review, self.output_sets)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Profiles:
    """The profiles of all destinations by name; `site` is what a destination without one gets."""

    by_name: Mapping[str, Profile] = field(default_factory=dict)
    site: WantedOutputs = _SITE

    def fitted(self, connection: Connection, name: str) -> MatchedOutputs:
        """Return the set a destination gets now."""
        profile = self.by_name.get(name, Profile(wanted=self.site))
        known = recall(connection, name, profile.address) if profile.address else None
        return match_capabilities(
            profile.wanted, known.capabilities(datetime.now(UTC)) if known else PeerCapabilities()
        )

    def delivery_plan(self, connection: Connection, destinations: Sequence[Destination]) -> DeliveryPlan:
        """Return who of a route's destinations gets what; a FHIR Bundle speaks of the first set of DICOM objects."""
        fitted = {to.name: self.fitted(connection, to.name) for to in destinations if to.accepts(MediaType.DICOM)}
        first = next(iter(fitted.values()), match_capabilities(self.site, PeerCapabilities())).outputs
        messages = [to for to in destinations if to.accepts(MediaType.HL7) and to.name not in fitted]
        fitted |= {to.name: self.fitted(connection, to.name) for to in messages}
        output_sets = tuple(dict.fromkeys([first, *(one.outputs for one in fitted.values())]))
        keys = {name: one.outputs.key for name, one in fitted.items()}
        return DeliveryPlan(
            output_sets=output_sets,
            destinations=tuple(
                replace(to, output_key=keys.get(to.name, ""), bundle_key=first.key) for to in destinations
            ),
            notes=tuple(f"{name} {text}." for name, one in fitted.items() for text in _said(one)),
        )


def profiles_of(settings: Settings) -> Profiles:
    """Return the profiles of a site's destinations."""
    site_report = settings.results.sr_sop_class
    return Profiles(
        by_name={
            one.name: Profile(wanted=one.wanted(site_report), address=one.address) for one in destinations_of(settings)
        },
        site=wanted_outputs("generic-pacs", None, site_report),
    )


def _said(fitted: MatchedOutputs) -> tuple[str, ...]:
    return (*fitted.left_out, fitted.problem) if fitted.problem else fitted.left_out
