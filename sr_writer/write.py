"""From an answer to the DICOM objects that carry it, in the order in which they must be sent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from dicom_node.analysis.answer import Analysis, NotAnalysed
from dicom_node.analysis.context import ReportContext, as_reviewed
from dicom_node.analysis.written import NotMade, WrittenObject, WrittenResult
from dicom_node.core.entities import ArtifactKind
from dicom_node.core.outputs.artifact_kinds import ARTIFACT_KINDS, OutputSet, is_off
from dicom_node.sr_writer.copied import with_sound_headers
from dicom_node.sr_writer.documents.encapsulated_pdf import encapsulated_pdfs
from dicom_node.sr_writer.documents.key_objects import key_object_selections, rejection_notes
from dicom_node.sr_writer.identity import identity_of
from dicom_node.sr_writer.overlays.parametric_map import parametric_maps
from dicom_node.sr_writer.overlays.presentation_state import presentation_states
from dicom_node.sr_writer.overlays.segmentation import segmentations
from dicom_node.sr_writer.pictures.pictures import drawn_pictures
from dicom_node.sr_writer.report.document import structured_reports
from dicom_node.sr_writer.secondary_capture import secondary_captures
from dicom_node.sr_writer.writing import BUILD_ERRORS, Attempt, Build, BuildForSet, Writing

#: Who makes what several output sets can share, in the order of making.
SHARED_BUILDERS: Mapping[ArtifactKind, Build] = {
    ArtifactKind.SECONDARY_CAPTURE: secondary_captures,
    ArtifactKind.SEGMENTATION: segmentations,
    ArtifactKind.PARAMETRIC_MAP: parametric_maps,
    ArtifactKind.PRESENTATION_STATE: presentation_states,
    ArtifactKind.KEY_OBJECTS: key_object_selections,
    ArtifactKind.ENCAPSULATED_PDF: encapsulated_pdfs,
}
#: What is made anew of a reviewed result: what speaks of the whole of it. Its pictures and masks are kept.
REVIEWED_KINDS = frozenset({ArtifactKind.SECONDARY_CAPTURE, ArtifactKind.ENCAPSULATED_PDF})
#: Who makes what belongs to one output set, since it refers to the set's other objects; later ones to earlier ones too.
OWN_BUILDERS: Mapping[ArtifactKind, BuildForSet] = {
    ArtifactKind.STRUCTURED_REPORT: structured_reports,
    ArtifactKind.REJECTION_NOTE: rejection_notes,
}
_ORDER = tuple(ARTIFACT_KINDS)


def write_result(answer: Analysis | NotAnalysed, context: ReportContext) -> WrittenResult:
    """Return what the output sets of the context ask for, reports after all they refer to.

    An object that several sets can share and that cannot be made is left out and noted in the answer; nothing refers to
    it. An error in a report is raised. Equal inputs give equal objects. Raises `NotAnalysable` (``PATIENT_MISMATCH``,
    ``STUDY_MISMATCH``) when the images belong to more than one patient or study: then nothing may be written, not even
    a refusal. Raises `ValueError` for a review that no report can tell (`as_reviewed`).

    An `answer` about one radiograph, for a destination that wants the least (`context.output_sets`):

    >>> least = OutputSet(structured_report="enhanced", segmentation="off")
    >>> written = write_result(answer, replace(context, output_sets=(least,)))
    >>> [(one.order, str(one.kind)) for one in written.objects]
    [(1, 'SC'), (2, 'SC'), (3, 'SR')]
    >>> written.objects[-1].dataset.VerificationFlag
    'UNVERIFIED'
    """
    return _write(answer, context, Attempt(BUILD_ERRORS))


def write_objects(answer: Analysis | NotAnalysed, context: ReportContext) -> tuple[WrittenObject, ...]:
    """Return the same objects, or raise the error of the first that cannot be made: for checks of the builders."""
    return _write(answer, context, Attempt(passed_over=())).objects


def _write(answer: Analysis | NotAnalysed, context: ReportContext, attempt: Attempt) -> WrittenResult:
    answer = as_reviewed(answer, context)
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
    is_reviewed = writing.identity.context.review is not None
    for kind, build in SHARED_BUILDERS.items():
        if is_reviewed and kind not in REVIEWED_KINDS:
            continue
        choice_of = ARTIFACT_KINDS[kind].choice
        for variant in dict.fromkeys(choice_of(wanted) for wanted in output_sets):
            if is_off(variant):
                continue
            keys = tuple(wanted.key for wanted in output_sets if choice_of(wanted) == variant)
            for one in attempt.made(kind, build(writing, variant)):
                yield replace(one, output_keys=keys)


def _own(writing: Writing, wanted: OutputSet, shared: Sequence[WrittenObject]) -> Iterator[WrittenObject]:
    """Make what refers to the other objects of one set, and only to those."""
    made = [one for one in shared if wanted.key in one.output_keys]
    for kind, build in OWN_BUILDERS.items():
        if is_off(ARTIFACT_KINDS[kind].choice(wanted)):
            continue
        own = [replace(one, output_keys=(wanted.key,)) for one in build(writing, wanted, tuple(made))]
        made += own
        yield from own
