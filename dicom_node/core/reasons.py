"""Every reason why a study is not analysed, or a result is held: its code, what it means, and what to do about it.

`NotAnalysable` and `NotAnalysed` carry the codes; reports, log and API show them. A code never changes its meaning.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby


@dataclass(frozen=True, slots=True)
class Reason:
    """One code; `group` is what it is about, `remedy` what to do, by whoever can."""

    group: str
    code: str
    meaning: str
    remedy: str


_STUDY, _IMAGES, _STACK, _PIXELS, _ANSWER, _MODEL = (
    "the study",
    "single images and frames",
    "how slices lie together",
    "pixels",
    "the answer",
    "the model",
)
_RESEND = "Send the study again from where it is whole."
_OTHER_SERIES = "Route another series: see the candidates in `dicom-node rules explain`."

REASONS: tuple[Reason, ...] = (
    Reason(_STUDY, "NO_SUITABLE_SERIES", "No series meets both the route and the model.", _OTHER_SERIES),
    Reason(_STUDY, "NO_IMAGES", "The job names no image, or the series holds none.", _RESEND),
    Reason(_STUDY, "WRONG_MODALITY", "The images are of a modality the model does not take.", _OTHER_SERIES),
    Reason(_STUDY, "AGE_UNKNOWN", "The model is made for certain ages and the images state none.",
           "Send PatientAge, or PatientBirthDate and StudyDate."),
    Reason(_STUDY, "AGE_OUT_OF_RANGE", "The patient is younger or older than those the model is made for.",
           "None: use another model."),
    Reason(_STUDY, "TEST_SUBJECT", "A phantom, a quality control image or a test patient.",
           "Set `[gate] test_subjects_allowed` in the model card to analyse them."),
    Reason(_STUDY, "NOT_HUMAN", "Images of an animal, and the model is for people.",
           "None; for a model of animals, set `[gate] animals_allowed` in the model card."),
    Reason(_STUDY, "PATIENT_MISMATCH", "The images of one study name more than one patient.",
           "Correct the study at its source and send it again."),
    Reason(_STUDY, "STUDY_MISMATCH", "The images of one study disagree in study UID or accession number.",
           "Correct the study at its source and send it again."),
    Reason(_STUDY, "ROUTE_GONE", "The route or model that the study waited for is not configured any more.",
           "None: the present routes decided anew, or `dicom-node rerun` once there is one."),
    Reason(_STUDY, "FILE_MISSING", "`dicom-node evaluate`: the labels name a file that is not there.",
           "Correct the labels or the folder."),
    Reason(_STUDY, "UNREADABLE_FILE", "A stored object is not readable DICOM.", _RESEND),
    Reason(_STUDY, "SOURCE_DAMAGED", "The node's disk holds other bytes of an image than came (sha256 differs).",
           "Send the images that the message names again: the analysis then runs by itself. Look at the disk."),
    Reason(_STUDY, "CHANNELS_MISSING", "The model reads several images at once, and the study holds fewer.", _RESEND),
    Reason(_STUDY, "CHANNELS_APART", "Series that the model reads together show different places.",
           _OTHER_SERIES),
    Reason(_IMAGES, "LOCALIZER_ONLY", "Only localizers (scouts, topograms, surveys).", _OTHER_SERIES),
    Reason(_IMAGES, "WRONG_SOP_CLASS", "Neither CT nor MR image objects, such as secondary captures.", _OTHER_SERIES),
    Reason(_IMAGES, "DERIVED_ONLY", "Images computed from others: reformats, projections, maps.",
           "Route the original series, or set `[gate] derived_allowed` in the model card."),
    Reason(_IMAGES, "SPECTRAL_IMAGE", "Values that spectral CT computed: far monoenergetic images, maps of materials.",
           "Route the conventional series, or set `[gate] spectral_allowed` in the model card."),
    Reason(_IMAGES, "MOSAIC_IMAGES", "Many slices tiled into one image.", "Send the unpacked or the enhanced object."),
    Reason(_IMAGES, "LOSSY_COMPRESSION", "Compressed with more loss, or by another method, than the model takes.",
           "Send the images as they were before, or set `[gate] max_lossy_ratio`, `lossy_methods` in the model card."),
    Reason(_IMAGES, "BURNED_IN_ANNOTATION", "Text is burned into the pixels.",
           "Send the images without it, or set `[gate] burned_in_allowed` in the model card."),
    Reason(_IMAGES, "NO_POSITION", "The images do not say where they lie in the patient.", _OTHER_SERIES),
    Reason(_IMAGES, "BAD_ORIENTATION", "Image directions are not two perpendicular unit vectors.",
           "Correct the images at their source."),
    Reason(_IMAGES, "BAD_FUNCTIONAL_GROUPS", "An enhanced object lacks the attributes of its frames.",
           "Send classic images, or correct the object at its source."),
    Reason(_IMAGES, "UNREADABLE_ATTRIBUTE", "A value of the header that the answer depends on cannot be read.",
           "Correct the attribute that the message names at its source."),
    Reason(_IMAGES, "NO_PIXELS", "The objects hold no image.", _OTHER_SERIES),
    Reason(_IMAGES, "MULTI_FRAME", "More than one frame where the model takes single images.", _OTHER_SERIES),
    Reason(_IMAGES, "NOT_T1_WEIGHTED",
           "MR whose header does not say that it is T1-weighted; the model takes no other.",
           "Route the T1-weighted series; its description or Acquisition Contrast must say so."),
    Reason(_IMAGES, "ATTENUATION_CORRECTION",
           "CT made to correct the attenuation of PET or SPECT, and the model takes none.", _OTHER_SERIES),
    Reason(_IMAGES, "ECHO_PLANAR", "Echo-planar MR, and the model takes none.", _OTHER_SERIES),
    Reason(_IMAGES, "CONTRAST_MEDIUM", "Made after contrast medium, and the model takes no such images.",
           "Route the series before contrast medium."),
    Reason(_IMAGES, "FOR_PROCESSING_ONLY", "Raw detector data, not the image for reading.",
           "Send the images FOR PRESENTATION."),
    Reason(_IMAGES, "LATERAL_VIEW_ONLY", "Only lateral views, and the model takes frontal ones.", "None."),
    Reason(_IMAGES, "NOT_FRONTAL", "Only views that are neither AP nor PA.",
           'Correct View Position, or set `[gate] views = "any"` in the model card.'),
    Reason(_IMAGES, "NOT_FRONTAL_CHEST", "Not a frontal chest radiograph, by its pixels or the region it names.",
           "Look at the image: is it a chest from the front, upright, bright on dark?"),
    Reason(_IMAGES, "NOT_MAMMOGRAM", "Not a digital mammogram for presentation: another object, a specimen.",
           _OTHER_SERIES),
    Reason(_IMAGES, "TOMOSYNTHESIS_ONLY", "Only tomosynthesis, or pictures computed from it.",
           "Route the exposed 2-D mammograms."),
    Reason(_IMAGES, "NOT_CC_OR_MLO", "Only views that are neither CC nor MLO of a whole breast, or say no view.",
           "Correct View Code Sequence and View Position at the source, or send the standard views."),
    Reason(_IMAGES, "BREAST_SIDE_UNKNOWN", "The images do not say which breast they show, or contradict themselves.",
           "Correct Image Laterality at the source."),
    Reason(_IMAGES, "BREAST_IMPLANT", "Only mammograms of breasts with an implant.", "None."),
    Reason(_STACK, "TOO_FEW_SLICES", "Fewer slices than the model card asks for.", _RESEND),
    Reason(_STACK, "GAP_IN_SERIES", "Slices are missing inside the series.", _RESEND),
    Reason(_STACK, "DUPLICATE_POSITION", "Slices share a position and nothing tells them apart.",
           "Send the acquisitions as series of their own."),
    Reason(_STACK, "UNEVEN_SPACING", "Slice distances vary.", "Route an evenly reconstructed series."),
    Reason(_STACK, "SLICES_TOO_FAR_APART", "Slices are further apart than the model card allows.",
           "Route a thinner reconstruction."),
    Reason(_STACK, "PIXELS_TOO_LARGE", "Pixels are further apart than the model card allows.",
           "Route a series of finer pixels."),
    Reason(_STACK, "GANTRY_TILT", "The gantry was tilted: slices are sheared.", "Route a reformatted, upright series."),
    Reason(_STACK, "SHIFTED_SLICES", "Slices are shifted against each other within their plane.",
           "Route a series of one reconstruction."),
    Reason(_STACK, "MIXED_SIZES", "Slices have different rows or columns.", "Route a series of one reconstruction."),
    Reason(_STACK, "MIXED_PIXEL_SPACING", "Slices have different pixel spacing.",
           "Route a series of one reconstruction."),
    Reason(_STACK, "MIXED_FRAMES_OF_REFERENCE", "Slices belong to different frames of reference.",
           "Send what was scanned apart as series of their own."),
    Reason(_STACK, "MIXED_PHOTOMETRIC", "Slices have different photometric interpretations.",
           "Correct the images at their source."),
    Reason(_STACK, "MIXED_KVP", "Slices were made with different tube voltages.",
           "Send what was scanned with each voltage as a series of its own."),
    Reason(_STACK, "MIXED_KERNELS", "Slices were reconstructed with different kernels.",
           "Send each reconstruction as a series of its own."),
    Reason(_STACK, "IMPLAUSIBLE_SIZE", "The slices together hold no voxel, or more than can be read.", _OTHER_SERIES),
    Reason(_PIXELS, "UNREADABLE_PIXELS", "Pixels are cut off, or do not decode.", _RESEND),
    Reason(_PIXELS, "PIXELS_CONTRADICT_HEADER", "The pixels are of another size, depth or number than the header says.",
           "Correct the image that the message names at its source: sending it again does not help."),
    Reason(_PIXELS, "ENCODING_NOT_READ", "The images are in a transfer syntax that the node does not decode.",
           "Send them uncompressed, or in a transfer syntax of the conformance statement."),
    Reason(_PIXELS, "NOT_CT_HU", "CT values without the rescale that makes them Hounsfield units.",
           "Send images with Rescale Slope and Intercept in HU."),
    Reason(_PIXELS, "NOT_MONOCHROME", "Colour, or MR where bright stands for low values.", _OTHER_SERIES),
    Reason(_PIXELS, "EMPTY_IMAGE", "All pixels have the same value.", "Look at the image: was it exposed?"),
    Reason(_PIXELS, "NO_CONTRAST", "Nearly all values of the input are the same.", "Look at the images."),
    Reason(_PIXELS, "WRONG_DIMENSIONS", "The model takes inputs of another number of dimensions.", _OTHER_SERIES),
    Reason(_PIXELS, "WRONG_CHANNELS", "The model takes another number of channels.", _OTHER_SERIES),
    Reason(_PIXELS, "VOLUME_TOO_LARGE", "The volume is larger than the model can take at the spacing it needs.",
           "Route a shorter or coarser series."),
    Reason(_PIXELS, "VOLUME_TOO_SMALL", "The volume is smaller than the model can fill its window from.",
           "Route a longer or finer series, or use a model for smaller patients."),
    Reason(_ANSWER, "NO_LUNGS", "Nothing in the images looks like an air-filled lung.", _OTHER_SERIES),
    Reason(_ANSWER, "LUNGS_TRUNCATED", "The scan cuts a lung off: no volume of it, or nothing, can be measured.",
           _OTHER_SERIES),
    Reason(_ANSWER, "NO_BRAIN", "Next to nothing in the images looks like brain.", _OTHER_SERIES),
    Reason(_ANSWER, "BRAIN_TRUNCATED", "The brain reaches an edge of the images: it was not scanned whole.",
           _OTHER_SERIES),
    Reason(_ANSWER, "UNSURE_OUTLINES", "The model is less sure of its outlines than in images it was made for.",
           "Look at the images: do they show a whole head, upright, T1-weighted, without large lesions?"),
    Reason(_ANSWER, "SCATTERED_OUTLINES", "What was outlined lies in many pieces.",
           "Look at the images; the model failed or they show something else."),
    Reason(_ANSWER, "SIDES_UNKNOWN", "Too few structures come in pairs to tell left from right.",
           "Look at the images; the model failed or they show something else."),
    Reason(_ANSWER, "HEAD_TILTED", "The head lies further from upright than the model takes.",
           "Look at the images: is their orientation right? Route a reformatted, upright series."),
    Reason(_ANSWER, "UNEQUAL_SIDES", "Left and right differ more than those of a brain.",
           "Look at the images: a large lesion, or the model failed."),
    Reason(_ANSWER, "IMPLAUSIBLE_VOLUME", "What was outlined is too small or too large to be what it should be.",
           "Look at the images; the model failed or they show something else."),
    Reason(_ANSWER, "IMPLAUSIBLE_VALUE", "What was computed is outside what the model card holds possible.",
           "Look at the images; the model failed or they show something else."),
    Reason(_ANSWER, "SHARP_KERNEL", "A number that a sharp kernel or strong noise makes wrong; other numbers stand.",
           "Route a series with a softer kernel."),
    Reason(_ANSWER, "ANALYSIS_FAILED", "The model crashed, ran out of time or out of memory in every attempt.",
           "See the timeline; `dicom-node rerun` once the cause is gone."),
    Reason(_MODEL, "MODEL_UNUSABLE", "The model's files are missing, damaged, or not those its card names.",
           "`dicom-node models verify` says what is wrong."),
    Reason(_MODEL, "MODEL_NOT_ACCEPTED", "Nobody has accepted the model's files.",
           "Look at them, then `dicom-node models accept`, and `dicom-node rerun`."),
    Reason(_MODEL, "MODEL_ALTERED", "The model's files are not those that were accepted.",
           "Put them back, or look at them and accept them anew."),
    Reason(_MODEL, "MODEL_NOT_CONFINED", "Models must be confined here, and this system cannot do it.",
           "`dicom-node doctor` says what it lacks; or set `inference.confine`."),
    Reason(_MODEL, "MODEL_NOT_ACTIVATED", "The model's golden studies have not held on this machine.",
           "`dicom-node models activate` runs them and shows what differs."),
)  # fmt: skip


#: Why a result that is ready is held and not sent (`deliver.dispatch.identity_check`).
IDENTITY_CHANGED = Reason(
    "what is sent", "IDENTITY_CHANGED",
    "The destination has the study under another patient than the result: it was corrected or merged there.",
    "Correct the study at its source and send the images again: then the result is made anew. Or, once the archive is "
    "right, `dicom-node retry`; or `dicom-node discard`.",
)  # fmt: skip
HOLDS: tuple[Reason, ...] = (IDENTITY_CHANGED,)


_BY_CODE = {one.code: one for one in REASONS}


def reason_of(code: str) -> Reason | None:
    """Return the reason of a code; a model's own code has none here."""
    return _BY_CODE.get(code)


def meaning_of(code: str) -> str:
    """Return what a reason means, in a sentence for people; a model's own code has none here and gives ""."""
    reason = reason_of(code)
    return reason.meaning if reason else ""


def reason_table() -> str:
    """Return the reasons why a study is not analysed as a Markdown table, for the documentation."""
    return _table(REASONS)


def hold_table() -> str:
    """Return the reasons why a result is held as a Markdown table, for the documentation."""
    return _table(HOLDS)


def _table(reasons: Iterable[Reason]) -> str:
    lines = ["| about | code | meaning | what to do |", "|---|---|---|---|"]
    for group, members in groupby(reasons, key=lambda one: one.group):
        for place, one in enumerate(members):
            lines.append(f"| {group if place == 0 else ''} | `{one.code}` | {one.meaning} | {one.remedy} |")
    return "\n".join(lines)
