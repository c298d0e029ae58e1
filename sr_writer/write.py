"""From an answer to the DICOM objects that carry it, in the order in which they must be sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from dicom_node.analysis.answer import Analysis, NotAnalysed, NotMade, ReportContext, WrittenObject, WrittenResult
from dicom_node.core.entities import ArtifactKind
from dicom_node.core.outputs import OutputSet
from dicom_node.sr_writer.copied import with_sound_headers
from dicom_node.sr_writer.documents.encapsulated_pdf import encapsulated_pdfs
from dicom_node.sr_writer.documents.key_objects import key_object_selections, rejection_notes
from dicom_node.sr_writer.identity import identity_of
from dicom_node.sr_writer.overlays.parametric_map import parametric_maps
from dicom_node.sr_writer.overlays.presentation_state import presentation_states
from dicom_node.sr_writer.overlays.segmentation import segmentations
from dicom_node.sr_writer.pictures.pictures import drawn_pictures
from dicom_node.sr_writer.report.document import structured_report
from dicom_node.sr_writer.secondary_capture import secondary_captures
from dicom_node.sr_writer.writing import BUILD_ERRORS, Attempt, Build, Writing

_ORDER = tuple(ArtifactKind)


@dataclass(frozen=True, slots=True)
class _Kind:
    """One kind of object: what an output set says of it (``off`` or ``False``: not wanted), and who makes it."""

    kind: ArtifactKind
    variant_of: Callable[[OutputSet], object]
    build: Build


#: Objects that several output sets can share. Reports and rejection notes belong to one set each.
_SHARED = (
    _Kind(ArtifactKind.SECONDARY_CAPTURE, lambda wanted: wanted.secondary_capture, secondary_captures),
    _Kind(ArtifactKind.SEGMENTATION, lambda wanted: wanted.segmentation, segmentations),
    _Kind(ArtifactKind.PARAMETRIC_MAP, lambda wanted: wanted.parametric_map, parametric_maps),
    _Kind(ArtifactKind.PRESENTATION_STATE, lambda wanted: wanted.presentation_state, presentation_states),
    _Kind(ArtifactKind.KEY_OBJECTS, lambda wanted: wanted.key_objects, key_object_selections),
    _Kind(ArtifactKind.ENCAPSULATED_PDF, lambda wanted: wanted.encapsulated_pdf, encapsulated_pdfs),
)


def write_result(answer: Analysis | NotAnalysed, context: ReportContext) -> WrittenResult:
    """Return what the output sets of the context ask for, reports after all they refer to.

    An object that several sets can share and that cannot be made is left out and noted in the answer; nothing refers to
    it. An error in a report is raised. Equal inputs give equal objects. Raises `NotAnalysable` (``PATIENT_MISMATCH``,
    ``STUDY_MISMATCH``) when the images belong to more than one patient or study: then nothing may be written, not even
    a refusal.
    """
    return _write(answer, context, Attempt(BUILD_ERRORS))


def write_objects(answer: Analysis | NotAnalysed, context: ReportContext) -> tuple[WrittenObject, ...]:
    """Return the same objects, or raise the error of the first that cannot be made: for checks of the builders."""
    return _write(answer, context, Attempt(passed_over=())).objects


def _write(answer: Analysis | NotAnalysed, context: ReportContext, attempt: Attempt) -> WrittenResult:
    sound = with_sound_headers(answer)
    identity = identity_of(sound, context)
    shown = any(wanted.secondary_capture or wanted.encapsulated_pdf for wanted in context.output_sets)
    pictures = attempt.made(ArtifactKind.SECONDARY_CAPTURE, drawn_pictures(sound, context)) if shown else []
    writing = Writing(answer=sound, identity=identity, pictures=pictures)
    shared = list(_shared(writing, context.output_sets, attempt))
    told = replace(writing, answer=_noted(sound, attempt.not_made))
    own = [one for wanted in context.output_sets for one in _own(told, wanted, shared)]
    written = sorted([*shared, *own], key=lambda one: _ORDER.index(one.kind))
    return WrittenResult(
        answer=_noted(answer, attempt.not_made),
        objects=tuple(replace(one, order=order) for order, one in enumerate(written, start=1)),
        not_made=tuple(attempt.not_made),
    )


def _noted(answer: Analysis | NotAnalysed, not_made: Sequence[NotMade]) -> Analysis | NotAnalysed:
    """Return the answer with a note for everything that could not be made."""
    return replace(answer, notes=(*answer.notes, *dict.fromkeys(one.sentence for one in not_made)))


def _shared(writing: Writing, output_sets: Sequence[OutputSet], attempt: Attempt) -> Iterator[WrittenObject]:
    """Make every variant that is wanted once, for all sets that want it."""
    for kind in _SHARED:
        variants = dict.fromkeys(kind.variant_of(wanted) for wanted in output_sets)
        for variant in variants:
            if variant in {False, "off"}:
                continue
            keys = tuple(wanted.key for wanted in output_sets if kind.variant_of(wanted) == variant)
            for one in attempt.made(kind.kind, kind.build(writing, variant)):
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
