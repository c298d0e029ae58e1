"""What the header of a radiograph says of its view, in attributes, codes, directions and words: frontal or not.

Words are whole words of several languages, as consoles write them. A text that names a frontal view beside a lateral
one speaks of a study and says nothing of the image.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from pydicom.dataset import Dataset

from dicom_node.inference.images.exclusions import Exclusion
from dicom_node.inference.images.radiographs.upright import directions

LATERAL = Exclusion("LATERAL_VIEW_ONLY", "a lateral view")
NOT_FRONTAL = Exclusion("NOT_FRONTAL", "neither an AP nor a PA view")
OTHER_REGION = Exclusion("NOT_FRONTAL_CHEST", "not of the chest (AnatomicRegionSequence)")

#: View codes of lateral projections (CID 4010): SNOMED CT, and the older SRT values still on the wire.
_LATERAL_VIEWS = frozenset({"399067008", "399173006", "399198007", "R-10236", "R-10232", "R-10228"})
_FRONTAL_WORDS = frozenset({"AP", "PA", "FRONTAL", "ANTEROPOSTERIOR", "POSTEROANTERIOR", "FACE", "FRENTE"})
_LATERAL_WORDS = frozenset(
    {"LATERAL", "LAT", "LLAT", "RLAT", "LATERALE", "LATERALES", "LATEROLATERAL", "SEITLICH", "SEITL", "PROFIL",
     "PERFIL", "PROFILO", "ZIJDELINGS"}
)  # fmt: skip
#: Of View Position alone (PS3.3 C.8.11.5): in a description they mean lobes and sides as well.
_LATERAL_POSITIONS = _LATERAL_WORDS | {"LL", "RL", "LLD", "RLD"}
_OTHER_WORDS = frozenset(
    {"DECUBITUS", "DECUB", "OBLIQUE", "OBL", "LAO", "RAO", "LPO", "RPO", "LORDOTIC", "LORDOTISCH", "SCHRAG", "APICAL"}
)
_DESCRIPTIONS = (
    "SeriesDescription", "ProtocolName", "AcquisitionDeviceProcessingDescription", "PerformedProcedureStepDescription",
)  # fmt: skip
_CODED = ("ViewCodeSequence", "PerformedProtocolCodeSequence")
_REGIONS = ("AnatomicRegionSequence", "PrimaryAnatomicStructureSequence")
#: Codes of the chest and what fills it (CID 4009, CID 4): SNOMED CT and SRT.
_CHEST_CODES = frozenset(
    {"51185008", "43799004", "39607008", "816094009", "113197003", "T-D3000", "T-D3050", "T-28000", "T-11300"}
)
_CHEST_WORD = re.compile(r"CHEST|THORA|LUNG|PULMO|TORAX|TORACE|\bRIB|POITRINE|PECHO", re.IGNORECASE)


def view_exclusion(header: Dataset) -> Exclusion | None:
    """Return why a radiograph is no frontal view; `None` where it is, or says nothing."""
    position = _words(header.get("ViewPosition"))
    views = {str(view.get("CodeValue") or "") for view in header.get("ViewCodeSequence") or []}
    if position & _LATERAL_POSITIONS or views & _LATERAL_VIEWS:
        return LATERAL
    if position and not position & _FRONTAL_WORDS:
        return NOT_FRONTAL
    by_words = [one for text in _texts(header) if (one := _by_words(_words(text))) is not None]
    return LATERAL if LATERAL in by_words else next(iter(by_words), None) or _by_direction(header)


def region_exclusion(header: Dataset) -> Exclusion | None:
    """Return why a radiograph is not of the chest: a coded region that is another; `None` where none is coded."""
    items = [item for keyword in _REGIONS for item in header.get(keyword) or []]
    told = [item for item in items if item.get("CodeValue") or item.get("CodeMeaning")]
    if not told or any(_is_chest(item) for item in told):
        return None
    return OTHER_REGION


def _is_chest(item: Dataset) -> bool:
    return str(item.get("CodeValue") or "") in _CHEST_CODES or bool(_CHEST_WORD.search(str(item.get("CodeMeaning"))))


def _by_words(words: set[str]) -> Exclusion | None:
    if words & _OTHER_WORDS:
        return NOT_FRONTAL
    return LATERAL if words & _LATERAL_WORDS and not words & _FRONTAL_WORDS else None


def _by_direction(header: Dataset) -> Exclusion | None:
    """A row or column that runs to the front or the back shows the patient from the side, or from an end."""
    found = directions(header)
    if found is None or not set(found) & set("AP"):
        return None
    return LATERAL if set(found) & set("HF") else NOT_FRONTAL


def _texts(header: Dataset) -> Iterator[object]:
    for keyword in _DESCRIPTIONS:
        yield header.get(keyword)
    for keyword in _CODED:
        for item in header.get(keyword) or []:
            yield item.get("CodeMeaning")


def _words(value: object) -> set[str]:
    """Return the words of a text in upper case and without accents."""
    plain = unicodedata.normalize("NFKD", str(value or "")).upper()
    return set(re.findall(r"[A-Z]+", "".join(one for one in plain if not unicodedata.combining(one))))


# --- whose it is -----------------------------------------------------------------------------------------------------

_PEOPLE = re.compile(r"human|homo|person", re.IGNORECASE)
#: SNOMED CT and SRT of Homo sapiens (CID 7454).
_PEOPLE_CODES = frozenset({"337915000", "L-85B00"})
_ANIMAL_ATTRIBUTES = (
    "PatientBreedDescription", "PatientBreedCodeSequence", "BreedRegistrationSequence", "PatientSexNeutered",
)  # fmt: skip
_ANIMAL_ROLES = frozenset({"OWNER", "VETERINARIAN"})
_ANIMAL_WORDS = frozenset({"CANINE", "FELINE", "EQUINE", "BOVINE", "PORCINE", "VETERINARY", "VETERINARIAN"})
#: Where the words count; not the patient's name, and not where canines may be teeth.
_ANIMAL_TEXTS = (*_DESCRIPTIONS, "StudyDescription", "InstitutionName")
_TEETH = frozenset({"IO", "PX"})


def is_of_an_animal(header: Dataset) -> bool:
    """Tell whether a header speaks of an animal: by species, breed, who answers for it, or words (PS3.3 C.7.1.1)."""
    species = header.get("PatientSpeciesDescription")
    codes = {str(one.get("CodeValue") or "") for one in header.get("PatientSpeciesCodeSequence") or []} - {""}
    said = (
        bool(species) and not _PEOPLE.search(str(species)),
        bool(codes) and not codes & _PEOPLE_CODES,
        any(header.get(keyword) for keyword in _ANIMAL_ATTRIBUTES),
        str(header.get("ResponsiblePersonRole") or "").strip().upper() in _ANIMAL_ROLES,
        str(header.get("AnatomicalOrientationType") or "").strip().upper() == "QUADRUPED",
    )
    if any(said):
        return True
    texts = [*_texts(header), *(header.get(keyword) for keyword in _ANIMAL_TEXTS)]
    return header.get("Modality") not in _TEETH and any(_words(text) & _ANIMAL_WORDS for text in texts)
