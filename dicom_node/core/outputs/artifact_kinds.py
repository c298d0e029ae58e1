"""Every kind of object the node makes, in one table: its words for people, its media type and SOP classes, and the
option of an output set that asks for it. The order is the order of sending.

Whatever must know the kinds derives from it: what a destination takes (`capability_match`), who makes what
(`sr_writer.write`), the conformance statement. To add one: docs/how-to/extend.md, "A result kind".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Literal

from dicom_node.core.entities import ArtifactKind, MediaType

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
#: Label Map Segmentation Storage (PS3.4 B.5), younger than pydicom's dictionary.
LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"
PARAMETRIC_MAP = "1.2.840.10008.5.1.4.1.1.30"
PRESENTATION_STATE = "1.2.840.10008.5.1.4.1.1.11.1"
KEY_OBJECTS = "1.2.840.10008.5.1.4.1.1.88.59"
ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"
#: The classes of report, the one that says most first.
REPORTS: dict[SrClass, str] = {
    "comprehensive3d": "1.2.840.10008.5.1.4.1.1.88.34",
    "comprehensive": "1.2.840.10008.5.1.4.1.1.88.33",
    "enhanced": "1.2.840.10008.5.1.4.1.1.88.22",
}

#: What an option is set to; `False` and ``off`` ask for nothing.
Choice = str | bool


@dataclass(frozen=True, slots=True)
class SopClass:
    """A storage SOP class, and its name for operators."""

    uid: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KindOfArtifact:
    """One kind: `title` is its name in full, `readers_say` what readers of a result call its objects.

    `option` names the field of `OutputSet` that asks for it, `sop_classes` the SOP class for each choice of it; a kind
    without option is always made, one without SOP class is no DICOM object and not negotiated.
    """

    kind: ArtifactKind
    title: str
    readers_say: str
    option: str = ""
    sop_classes: Mapping[Choice, SopClass] = field(default_factory=dict)
    #: Its objects are images (an Image Information Entity, PS3.3 A.1.2), and not documents or states.
    is_image: bool = False
    #: Where two kinds share a SOP class, what operators read of the second instead of its name.
    short: str = ""
    #: That of its objects (RFC 3240; FHIR R4 3.1.0.1.9).
    media_type: MediaType = MediaType.DICOM

    def choice(self, outputs: OutputSet) -> Choice:
        """Return what an output set says of it; `False` or ``off``: not wanted."""
        wanted: Choice = getattr(outputs, self.option) if self.option else True
        return wanted

    def words(self, choice: Choice) -> str:
        """Name what a choice asks for, as operators read of it: ``KOS``, ``SEG binary``."""
        name = self.short or str(self.kind)
        return name if isinstance(choice, bool) else f"{name} {choice}"


def is_off(choice: Choice) -> bool:
    """Tell whether an option asks for nothing."""
    return choice is False or choice == "off"


_SEG, _KOS = SopClass(SEGMENTATION, "SEG"), SopClass(KEY_OBJECTS, "KOS")
_ALL = (
    KindOfArtifact(
        kind=ArtifactKind.SECONDARY_CAPTURE,
        title="Secondary Capture",
        readers_say="pictures",
        option="secondary_capture",
        sop_classes={True: SopClass(SECONDARY_CAPTURE, "SC")},
        is_image=True,
    ),
    KindOfArtifact(
        kind=ArtifactKind.SEGMENTATION,
        title="Segmentation",
        readers_say="segmentation",
        option="segmentation",
        sop_classes={"binary": _SEG, "fractional": _SEG, "labelmap": SopClass(LABEL_MAP, "label map SEG")},
        is_image=True,
    ),
    KindOfArtifact(
        kind=ArtifactKind.PARAMETRIC_MAP,
        title="Parametric Map",
        readers_say="parametric maps",
        option="parametric_map",
        sop_classes={True: SopClass(PARAMETRIC_MAP, "PM")},
        is_image=True,
    ),
    KindOfArtifact(
        kind=ArtifactKind.PRESENTATION_STATE,
        title="Grayscale Softcopy Presentation State",
        readers_say="presentation states",
        option="presentation_state",
        sop_classes={True: SopClass(PRESENTATION_STATE, "GSPS")},
    ),
    KindOfArtifact(
        kind=ArtifactKind.KEY_OBJECTS,
        title="Key Object Selection",
        readers_say="key images",
        option="key_objects",
        sop_classes={True: _KOS},
    ),
    KindOfArtifact(
        kind=ArtifactKind.ENCAPSULATED_PDF,
        title="Encapsulated PDF",
        readers_say="report as PDF",
        option="encapsulated_pdf",
        sop_classes={True: SopClass(ENCAPSULATED_PDF, "PDF")},
    ),
    KindOfArtifact(
        kind=ArtifactKind.STRUCTURED_REPORT,
        title="Structured Report (Enhanced, Comprehensive, Comprehensive 3D)",
        readers_say="report",
        option="structured_report",
        sop_classes={name: SopClass(uid, f"SR {name}") for name, uid in REPORTS.items()},
    ),
    KindOfArtifact(
        kind=ArtifactKind.REJECTION_NOTE,
        title="Rejection Note (Key Object Selection)",
        readers_say="rejection note",
        option="rejection_note",
        sop_classes={True: _KOS},
        short="rejection notes",
    ),
    KindOfArtifact(
        kind=ArtifactKind.FHIR_BUNDLE,
        title="FHIR R4 transaction Bundle",
        readers_say="FHIR report",
        media_type=MediaType.FHIR,
    ),
    KindOfArtifact(
        kind=ArtifactKind.HL7_MESSAGE,
        title="HL7 v2.5.1 ORU^R01",
        readers_say="HL7 message",
        option="hl7_message",
        media_type=MediaType.HL7,
    ),
)
ARTIFACT_KINDS: Mapping[ArtifactKind, KindOfArtifact] = {one.kind: one for one in _ALL}


#: Those that an output set switches on and off.
OPTIONAL_KINDS = tuple(one for one in _ALL if one.option)
#: Every SOP class a result may have, and its name for operators.
RESULT_CLASSES: Mapping[str, str] = {each.uid: each.name for one in _ALL for each in one.sop_classes.values()}
#: Those of them that are images.
IMAGE_CLASSES = frozenset(each.uid for one in _ALL if one.is_image for each in one.sop_classes.values())


#: Metadata of an option that came after 0.1.0: while it has its default, keys stay those of before it came, and so do
#: the UIDs that come from them.
ADDED: Mapping[str, bool] = MappingProxyType({"added": True})
SrClass = Literal["comprehensive3d", "comprehensive", "enhanced", "off"]
SegmentationType = Literal["binary", "fractional", "labelmap", "off"]
#: How heat maps are drawn: as the model asks for, over the image alone, or in three panels, also with its contrast
#: raised by CLAHE.
HeatMaps = Literal["model", "overlay", "panels", "panels_clahe"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputSet:
    """What one destination gets, already fitted to what it accepts. The defaults are what every PACS should take."""

    #: SOP class of the structured report.
    structured_report: SrClass = "comprehensive3d"
    secondary_capture: bool = True
    segmentation: SegmentationType = "binary"
    #: GSPS: outlines, boxes and texts that a viewer can switch on and off.
    presentation_state: bool = False
    #: Heat maps as numbers, for viewers that colour them themselves.
    parametric_map: bool = False
    #: KOS: the images worth opening first.
    key_objects: bool = False
    encapsulated_pdf: bool = False
    #: An IOCM rejection note for the objects that a new result replaces.
    rejection_note: bool = False
    #: The result as HL7 v2 ORU^R01, with the PDF where the set has one.
    hl7_message: bool = field(default=False, metadata=ADDED)
    #: Key of the set of which this is a part, and where it goes: what a review makes anew of it. Empty: whole.
    part_of: str = field(default="", metadata=ADDED)

    @property
    def key(self) -> str:
        """Return the set as one line of text, of a part that of its set: equal sets have equal keys. It seeds UIDs and
        stands in the index."""
        if self.part_of:
            return self.part_of
        told = ((one, getattr(self, one.name)) for one in fields(self))
        return ",".join(
            f"{one.name}={_word(value)}"
            for one, value in told
            if not (one.metadata.get("added") and value == one.default)
        )


def of_review(outputs: OutputSet) -> OutputSet:
    """Return what a review makes anew of a set: report, PDF and messages. Pictures, masks and maps stay as they are."""
    return replace(
        outputs, secondary_capture=False, segmentation="off", presentation_state=False, parametric_map=False,
        key_objects=False, rejection_note=False, part_of=outputs.key,
    )  # fmt: skip


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)
