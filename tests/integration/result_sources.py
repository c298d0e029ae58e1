"""Studies of every kind for the matrix of results: complete ones, and one fault of the header at a time.

Each is what a scanner could send: saved, and read back as the node reads it. Multi-frame objects become frames.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import (
    DigitalMammographyXRayImageStorageForPresentation,
    PositronEmissionTomographyImageStorage,
    SecondaryCaptureImageStorage,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
)

from dicom_node.analysis.answer import SourceFrame
from dicom_node.inference.images.frames import frames_of, with_pixels
from dicom_node.sr_writer.copied import TYPE_2
from tests.support.results import analysis_examples as examples
from tests.support.studies import volumes
from tests.support.studies.crowded_sources import crowded

OBLIQUE = {"row": (0.8, 0.6, 0.0), "column": (-0.48, 0.64, -0.6)}
FLIPPED = {"row": (-1.0, 0.0, 0.0), "column": (0.0, 1.0, 0.0)}
#: What old senders and careless exports leave out.
BARE = (*TYPE_2, "SpecificCharacterSet", "PatientOrientation", "BodyPartExamined", "ViewPosition", "Manufacturer")
_SPACING = ("PixelSpacing", "ImagerPixelSpacing", "SliceThickness", "WindowCenter", "WindowWidth")

Make = Callable[[], Sequence[Dataset]]


@dataclass(frozen=True, slots=True)
class Received:
    """A study on disk and as the node holds it: `sources` are whole images, or the frames of an object of many."""

    paths: tuple[Path, ...]
    sources: tuple[Dataset, ...]


def received(name: str, folder: Path) -> Received:
    """Save the study of this name and read it back."""
    paths = []
    for index, dataset in enumerate(STUDIES[name]()):
        paths.append(folder / f"{name}-source{index:02}.dcm")
        dataset.save_as(paths[-1], enforce_file_format=True)
    read = [dcmread(path) for path in paths]
    return Received(tuple(paths), tuple(part for dataset in read for part in parts_of(dataset)))


def parts_of(dataset: Dataset) -> list[Dataset]:
    """Return what a model is given of an object: itself, all its frames if they have places, else a middle one."""
    frames = int(dataset.get("NumberOfFrames") or 1)
    if "PerFrameFunctionalGroupsSequence" in dataset:
        pixels = dataset.pixel_array.reshape(frames, dataset.Rows, dataset.Columns)
        return [with_pixels(frame, pixels[frame.frame_number - 1]) for frame in frames_of(dataset)]
    return [_middle_frame(dataset, frames)] if frames > 1 else [dataset]


def _middle_frame(dataset: Dataset, frames: int) -> SourceFrame:
    frame = SourceFrame({element.tag: element for element in dataset if element.keyword != "NumberOfFrames"})
    frame.frame_number = frames // 2 + 1
    frame.file_meta = dataset.file_meta
    pixels = dataset.pixel_array[frame.frame_number - 1]
    frame.add_new("PixelData", "OB" if pixels.itemsize == 1 else "OW", pixels.tobytes())
    return frame


# --- one study of every modality --------------------------------------------------------------------------------


def _odd_radiograph() -> Sequence[Dataset]:
    source = examples.radiograph(rows=301, columns=277)
    source.BitsAllocated, source.BitsStored, source.HighBit = 8, 8, 7
    source.PixelData = (np.arange(301 * 277) % 251).astype(np.uint8).tobytes() + b"\0"
    source["PixelData"].VR = "OB"
    return (source,)


def _monochrome1_radiograph() -> Sequence[Dataset]:
    return (examples.radiograph(PhotometricInterpretation="MONOCHROME1", PixelSpacing=[0.15, 0.15]),)


def _captured_radiograph() -> Sequence[Dataset]:
    """Return a radiograph that a digitiser wrapped as Secondary Capture."""
    source = examples.radiograph(Modality="DX", ConversionType="DF")
    source.SOPClassUID = SecondaryCaptureImageStorage
    return (source,)


def _mammogram() -> Sequence[Dataset]:
    source = examples.radiograph(rows=400, columns=300, BodyPartExamined="BREAST", ViewPosition=None)
    source.SOPClassUID, source.Modality = DigitalMammographyXRayImageStorageForPresentation, "MG"
    source.PresentationIntentType, source.ImageLaterality = "FOR PRESENTATION", "R"
    source.ImagerPixelSpacing, source.PatientOrientation = [0.07, 0.07], ["P", "F"]
    source.PatientSex = "F"
    return (source,)


def _mr() -> Sequence[Dataset]:
    values = volumes.asymmetric(slices=5, rows=48, columns=48)
    return volumes.classic(values, volumes.affine(), modality="MR", BodyPartExamined="BRAIN", MagneticFieldStrength=3.0)


def _enhanced(modality: str) -> Sequence[Dataset]:
    values = volumes.asymmetric(slices=6, rows=48, columns=40)[np.newaxis]
    source = volumes.enhanced(values, volumes.affine(), modality=modality, order=[3, 0, 1, 2, 5, 4])
    source.BodyPartExamined = "BRAIN"
    return (source,)


def _pet() -> Sequence[Dataset]:
    values = volumes.asymmetric(slices=5, rows=32, columns=32)
    slices = volumes.classic(values, volumes.affine(), modality="CT", BodyPartExamined="CHEST")
    for one in slices:
        one.SOPClassUID, one.Modality, one.Units = PositronEmissionTomographyImageStorage, "PT", "BQML"
    return slices


def _ultrasound(photometric: str = "MONOCHROME2", frames: int = 1, rows: int = 120, columns: int = 161) -> Dataset:
    samples = 3 if photometric in {"RGB", "YBR_FULL"} else 1
    source = examples.radiograph(rows=rows, columns=columns, PatientOrientation=None, ViewPosition=None)
    source.SOPClassUID = UltrasoundImageStorage if frames == 1 else UltrasoundMultiFrameImageStorage
    source.Modality, source.BodyPartExamined = "US", "THYROID"
    source.SamplesPerPixel, source.PhotometricInterpretation = samples, photometric
    source.BitsAllocated, source.BitsStored, source.HighBit = 8, 8, 7
    count = frames * rows * columns * samples
    pixels = (np.arange(count) % 249).astype(np.uint8).tobytes()
    source.PixelData = pixels + b"\0" * (count % 2)
    source["PixelData"].VR = "OB"
    if samples == 3:
        source.PlanarConfiguration = 0
    if frames > 1:
        source.NumberOfFrames, source.FrameTime, source.FrameIncrementPointer = frames, 33.3, 0x00181063
    return source


def _palette_ultrasound() -> Dataset:
    source = _ultrasound("PALETTE COLOR")
    for index, color in enumerate(("Red", "Green", "Blue")):
        setattr(source, f"{color}PaletteColorLookupTableDescriptor", [256, 0, 16])
        table = (np.roll(np.arange(256), index * 80) * 257).astype("<u2").tobytes()
        setattr(source, f"{color}PaletteColorLookupTableData", table)
    return source


MODALITIES: Mapping[str, Make] = {
    "cr": lambda: (examples.radiograph(),),
    "cr-monochrome1": _monochrome1_radiograph,
    "cr-odd-8-bit": _odd_radiograph,
    "dx-monochrome1": lambda: (examples.digital_radiograph(),),
    "dx-captured": _captured_radiograph,
    "mg": _mammogram,
    "ct": examples.ct_volume,
    "ct-oblique": lambda: examples.ct_volume(slices=5, **OBLIQUE),
    "ct-flipped": lambda: examples.ct_volume(slices=5, size=51, **FLIPPED),
    "ct-single": lambda: examples.ct_volume(slices=1),
    "ct-enhanced": lambda: _enhanced("CT"),
    "mr": _mr,
    "mr-enhanced": lambda: _enhanced("MR"),
    "pt": _pet,
    "us": lambda: (_ultrasound(),),
    "us-rgb": lambda: (_ultrasound("RGB"),),
    "us-ybr": lambda: (_ultrasound("YBR_FULL"),),
    "us-palette": lambda: (_palette_ultrasound(),),
    "us-multi-frame": lambda: (_ultrasound(frames=5),),
    "us-rgb-multi-frame": lambda: (_ultrasound("RGB", frames=3),),
}

_SHORT_CT: Make = lambda: examples.ct_volume(slices=3)  # noqa: E731 - named beside the other makers

# --- one fault of the header at a time --------------------------------------------------------------------------

_CHANGES: Mapping[str, Mapping[str, Any]] = {
    "bare": dict.fromkeys((*BARE, *_SPACING)),
    "no-body-part": {"BodyPartExamined": None},
    "paired-part": {"BodyPartExamined": "HAND", "Laterality": "L"},
    "paired-part-no-side": {"BodyPartExamined": "KNEE"},
    "odd-part": {"BodyPartExamined": "THORAX"},
    "empty-orientation": {"PatientOrientation": ""},
    "zone": {"TimezoneOffsetFromUTC": "+0530"},
    "utf-8": {"SpecificCharacterSet": "ISO_IR 192", "PatientName": "山田^太郎", "StudyDescription": "胸部"},
    "japanese": {
        "SpecificCharacterSet": ["", "ISO 2022 IR 87"],
        "PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう",
        "ReferringPhysicianName": "Suzuki^Ichirou=鈴木^一郎",
        "StudyDescription": "胸部",
    },
    "korean": {"SpecificCharacterSet": ["", "ISO 2022 IR 149"], "PatientName": "Hong^Gildong=洪^吉洞=홍^길동"},
    "chinese": {
        "SpecificCharacterSet": "GB18030",
        "PatientName": "Wang^XiaoDong=王^小东",
        "StudyDescription": "胸部正位",
    },
    "greek": {"SpecificCharacterSet": "ISO_IR 126", "PatientName": "Διονυσιος", "StudyDescription": "Θώρακας"},
    "arabic": {"SpecificCharacterSet": "ISO_IR 127", "PatientName": "قباني^لنزار", "StudyDescription": "صدر"},
    "cyrillic": {"SpecificCharacterSet": "ISO_IR 144", "PatientName": "Люкceмбypг", "StudyDescription": "Грудь"},
    "undeclared-latin-1": {"SpecificCharacterSet": None, "PatientName": b"M\xfcller^J\xf6rg", "StudyDescription": None},
    "lossy": {
        "LossyImageCompression": "01",
        "LossyImageCompressionRatio": [10.0, 2.0],
        "LossyImageCompressionMethod": ["ISO_10918_1", "ISO_15444_1"],
    },
    "anonymous": {
        "PatientIdentityRemoved": "YES",
        "DeidentificationMethod": "Basic",
        "PatientName": "",
        "PatientID": "A",
    },
}


def _changed(make: Make, changes: Mapping[str, Any]) -> Make:
    def changed() -> Sequence[Dataset]:
        sources = make()
        # A name in another script would not fit into the character set.
        names = {"ReferringPhysicianName": ""} if "SpecificCharacterSet" in changes else {}
        for source in sources:
            for keyword, value in (names | dict(changes)).items():
                if value is not None:
                    setattr(source, keyword, value)
                elif keyword in source:
                    del source[keyword]
        return sources

    return changed


#: Values as bytes, whatever the attribute asks for: (keyword, VR, bytes).
_HOSTILE: Mapping[str, Sequence[tuple[str, bytes, bytes]]] = {
    "wrong-numbers": (
        ("PatientWeight", b"DS", b"70 kg"),
        ("SeriesNumber", b"IS", b"three"),
        ("InstanceNumber", b"IS", b"99999999999999"),
        ("WindowCenter", b"DS", b"40\\bad"),
        ("WindowWidth", b"DS", b"400\\"),
        ("PixelSpacing", b"DS", b"0.5\\x"),
        ("PixelAspectRatio", b"IS", b"1\\0"),
        ("RescaleSlope", b"DS", b"zero"),
        ("RescaleIntercept", b"DS", b""),
        ("LossyImageCompressionRatio", b"DS", b"ten"),
    ),
    "wrong-texts": (
        ("PatientID", b"LO", b"X" * 200),
        ("PatientName", b"PN", b"A" * 200 + b"^B^C^D^E^F=G=H=I"),
        ("PatientAge", b"AS", b"56"),
        ("PatientSex", b"CS", b"male"),
        ("AccessionNumber", b"SH", b"9" * 60),
        ("StudyDescription", b"LO", b"a very long text that a scanner wrote all the same " * 6),
        ("StudyDate", b"DA", b"14 March"),
        ("StudyTime", b"TM", b"9:15"),
        ("BodyPartExamined", b"CS", b"Chest PA 2 views of it"),
        ("Laterality", b"CS", b"LEFT"),
        ("PatientOrientation", b"CS", b"left\\foot"),
        ("TimezoneOffsetFromUTC", b"SH", b"bogus"),
        ("PatientComments", b"LT", b"\x01\x02 odd"),
    ),
    "wrong-kinds": (
        ("ProcedureCodeSequence", b"SH", b"junk"),
        ("RequestAttributesSequence", b"LO", b"junk"),
        ("PatientID", b"UN", b"P-1 "),
        ("StudyDate", b"LO", b"20260314"),
        ("WindowCenter", b"UN", b"40"),
        ("ImagerPixelSpacing", b"LO", b"0.1\\0.1"),
    ),
    "two-byte-letters-first": (("SpecificCharacterSet", b"CS", b"ISO 2022 IR 87"),),
    "unknown-letters": (("SpecificCharacterSet", b"CS", b"ISO_IR 999"), ("PatientName", b"PN", b"M\xfcller^J")),
}


def _with_bytes(make: Make, values: Sequence[tuple[str, bytes, bytes]]) -> Make:
    def spoilt() -> Sequence[Dataset]:
        sources = make()
        for source in sources:
            for keyword, vr, value in values:
                tag, even = Tag(keyword), value + b" " * (len(value) % 2)
                source[tag] = RawDataElement(tag, vr.decode(), len(even), even, 0, False, True)
        return sources

    return spoilt


def _private() -> Sequence[Dataset]:
    """Return an image with private attributes, in the open and deep inside, of a creator and of none."""
    source = examples.radiograph()
    block = source.private_block(0x0009, "SCANNER WORKS", create=True)
    block.add_new(0x01, "LO", "Private^Patient")
    deep, deeper = Dataset(), Dataset()
    deeper.add_new(0x00110010, "LO", "OTHER WORKS")
    deeper.add_new(0x00111001, "UN", b"\x00\x01")
    deep.add_new(0x00081140, "SQ", [deeper])
    block.add_new(0x02, "SQ", [deep])
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "CHEST2", "99HOSPITAL", "Chest in 2 planes"
    code.private_block(0x0009, "SCANNER WORKS", create=True).add_new(0x01, "LO", "inside a code")
    source.ProcedureCodeSequence = [code]
    source.RequestAttributesSequence = [Dataset()]
    source.add_new(0x00091199, "LO", "without a creator")
    return (source,)


def _all_values(name: str) -> Make:
    return lambda: [crowded(source, "ONE", 1) for source in MODALITIES[name]()]


FAULTS: Mapping[str, Make] = {
    **{f"cr-{fault}": _changed(MODALITIES["cr"], changes) for fault, changes in _CHANGES.items()},
    **{f"cr-{fault}": _with_bytes(MODALITIES["cr"], values) for fault, values in _HOSTILE.items()},
    **{f"ct-{fault}": _changed(_SHORT_CT, _CHANGES[fault]) for fault in ("bare", "no-body-part", "japanese", "lossy")},
    **{f"ct-{fault}": _with_bytes(_SHORT_CT, _HOSTILE[fault]) for fault in ("wrong-numbers", "wrong-kinds")},
    **{f"us-{fault}": _changed(MODALITIES["us"], _CHANGES[fault]) for fault in ("bare", "chinese")},
    "cr-private": _private,
    "cr-all-values": _all_values("cr"),
    "mr-all-values": _all_values("mr"),
}
STUDIES: Mapping[str, Make] = MODALITIES | FAULTS
#: What of a study about the patient or the study nobody can read, so that no result can repeat it.
UNREADABLE = {
    "cr-wrong-numbers": ("PatientWeight",),
    "ct-wrong-numbers": ("PatientWeight",),
    "cr-wrong-kinds": ("ProcedureCodeSequence",),
    "ct-wrong-kinds": ("ProcedureCodeSequence",),
}
