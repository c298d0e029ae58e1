"""From an answer to the DICOM objects that carry it, in the order in which they must be sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from dicom_node.analysis import Analysis, NotAnalysed, ReportContext, WrittenObject
from dicom_node.model import ArtifactKind
from dicom_node.outputs import OutputSet
from dicom_node.sr_writer.documents.encapsulated_pdf import encapsulated_pdfs
from dicom_node.sr_writer.documents.key_objects import key_object_selections
from dicom_node.sr_writer.documents.rejection_note import rejection_notes
from dicom_node.sr_writer.identity import identity_of
from dicom_node.sr_writer.overlays.parametric_map import parametric_maps
from dicom_node.sr_writer.overlays.presentation_state import presentation_states
from dicom_node.sr_writer.overlays.segmentation import segmentations
from dicom_node.sr_writer.pictures.pictures import pictures_of
from dicom_node.sr_writer.report.document import structured_report
from dicom_node.sr_writer.secondary_capture import secondary_captures
from dicom_node.sr_writer.sound_headers import with_sound_headers
from dicom_node.sr_writer.writing import Build, Writing

_ORDER = tuple(ArtifactKind)


@dataclass(frozen=True, slots=True)
class _Kind:
    """One kind of object: what an output set says of it (``off`` or ``False``: not wanted), and who makes it."""

    variant_of: Callable[[OutputSet], object]
    build: Build


#: Objects that several output sets can share. Reports and rejection notes belong to one set each.
_SHARED = (
    _Kind(lambda wanted: wanted.secondary_capture, secondary_captures),
    _Kind(lambda wanted: wanted.segmentation, segmentations),
    _Kind(lambda wanted: wanted.parametric_map, parametric_maps),
    _Kind(lambda wanted: wanted.presentation_state, presentation_states),
    _Kind(lambda wanted: wanted.key_objects, key_object_selections),
    _Kind(lambda wanted: wanted.encapsulated_pdf, encapsulated_pdfs),
)


def write_objects(answer: Analysis | NotAnalysed, context: ReportContext) -> tuple[WrittenObject, ...]:
    """Return what the output sets of the context ask for, reports after all they refer to.

    Equal inputs give equal objects. Raises `NotAnalysable` (``PATIENT_MISMATCH``, ``STUDY_MISMATCH``) when the images
    belong to more than one patient or study: then nothing may be written, not even a refusal.
    """
    answer = with_sound_headers(answer)
    identity = identity_of(answer, context)
    shown = any(wanted.secondary_capture or wanted.encapsulated_pdf for wanted in context.output_sets)
    pictures = pictures_of(answer, context) if shown else []
    writing = Writing(answer=answer, identity=identity, pictures=pictures)
    shared = list(_shared(writing, context.output_sets))
    own = [one for wanted in context.output_sets for one in _own(writing, wanted, shared)]
    written = sorted([*shared, *own], key=lambda one: _ORDER.index(one.kind))
    return tuple(replace(one, order=order) for order, one in enumerate(written, start=1))


def _shared(writing: Writing, output_sets: Sequence[OutputSet]) -> Iterator[WrittenObject]:
    """Make every variant that is wanted once, for all sets that want it."""
    for kind in _SHARED:
        variants = dict.fromkeys(kind.variant_of(wanted) for wanted in output_sets)
        for variant in variants:
            if variant in {False, "off"}:
                continue
            keys = tuple(wanted.key for wanted in output_sets if kind.variant_of(wanted) == variant)
            for one in kind.build(writing, variant):
                yield replace(one, output_keys=keys)


def _own(writing: Writing, wanted: OutputSet, shared: Sequence[WrittenObject]) -> Iterator[WrittenObject]:
    """Make what refers to the other objects of one set, and only to those."""
    made = [one for one in shared if wanted.key in one.output_keys]
    if wanted.structured_report != "off":
        made.append(replace(structured_report(writing, wanted, made), output_keys=(wanted.key,)))
        yield made[-1]
    if wanted.rejection_note:
        for one in rejection_notes(writing, wanted, {str(one.dataset.SOPInstanceUID) for one in made}):
            yield replace(one, output_keys=(wanted.key,))
