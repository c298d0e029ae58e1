"""The coded words of the node: reviewed tables in `config/terminology`, read once, and names for those that code uses.

Meanings are at most 64 characters (PS3.3 8.8). Models name their findings in `model_card.toml`.
Sources: DCM = DICOM PS3.16 Annex D, SCT = SNOMED CT, LN = LOINC, UCUM = units, 99AINODE = this project.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

from dicom_node.core.entities import Code, Finding, ModelIdentity, Presence

FOLDER = Path(__file__).resolve().parents[1] / "config" / "terminology"
TABLES = ("findings", "anatomy", "measurements", "units", "report")


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One entry; `reviewed` says where value and meaning were checked, and is honest where they were not."""

    key: str
    code: Code
    reviewed: str
    equivalents: tuple[Code, ...] = ()


@cache
def table(name: str) -> Mapping[str, Term]:
    """Return one of `TABLES`, in the order of its file."""
    with (FOLDER / f"{name}.toml").open("rb") as file:
        entries = tomllib.load(file)
    return MappingProxyType({key: _term(key, entry) for key, entry in entries.items()})


def term_code(name: str, key: str) -> Code:
    """Return the code under `key` of the table `name`. Raises `KeyError` for a key it lacks."""
    return table(name)[key].code


def _term(key: str, entry: Mapping[str, object]) -> Term:
    equivalents = entry.get("equivalents", [])
    assert isinstance(equivalents, list)
    return Term(
        key=key,
        code=_code(entry),
        reviewed=str(entry["reviewed"]),
        equivalents=tuple(_code(one) for one in equivalents),
    )


def _code(entry: Mapping[str, object]) -> Code:
    return Code(str(entry["value"]), str(entry["scheme"]), str(entry["meaning"]))


# --- the concepts that code names ---------------------------------------------------------------------------------

#: Scheme of this project's own codes (PS3.3 8.2: private designators begin with 99).
PRIVATE_SCHEME = "99AINODE"
PRIVATE_SCHEME_NAME = "DICOM AI Node codes"

# --- units (UCUM) ---
PERCENT = term_code("units", "percent")
MILLILITER = term_code("units", "milliliter")
MILLIMETER = term_code("units", "millimeter")
GRAM = term_code("units", "gram")
GRAM_PER_LITER = term_code("units", "gram-per-liter")
HOUNSFIELD_UNIT = term_code("units", "hounsfield-unit")
NO_UNITS = term_code("units", "no-units")
PIXELS = term_code("units", "pixels")
DIRECTION_COSINE = term_code("units", "direction-cosine")

# --- presence of a finding (CID 240) ---
PRESENT = term_code("report", "present")
ABSENT = term_code("report", "absent")
UNDETERMINED = term_code("report", "undetermined")
PRESENCE_CODES = {Presence.PRESENT: PRESENT, Presence.ABSENT: ABSENT, Presence.UNDETERMINED: UNDETERMINED}

# --- structure of a report ---
CERTAINTY_OF_FINDING = term_code("measurements", "certainty")
MODEL_SCORE = term_code("measurements", "model-score")
SHARE_OF_NORMALS = term_code("measurements", "share-of-normals")
PRESENCE_OF_PROPERTY = term_code("report", "presence-of-property")
VISUAL_EXPLANATION = term_code("report", "visual-explanation")
SUPPLEMENTARY_DATA = term_code("report", "supplementary-data")
QUALITATIVE_EVALUATIONS = term_code("report", "qualitative-evaluations")
SOURCE = term_code("report", "source")
ARTIFICIAL_INTELLIGENCE = term_code("report", "artificial-intelligence")
IMAGING_PROCEDURE = term_code("report", "imaging-procedure")
DIAGNOSTIC_IMAGING_STUDY = term_code("report", "diagnostic-imaging-study")
#: Members of CID 100, which TID 1500 names. Radiography joined it so late that validators do not know it yet.
PROCEDURES = {
    "CT": term_code("report", "ct-procedure"),
    "MR": term_code("report", "mr-procedure"),
    "NM": term_code("report", "nm-procedure"),
    "PT": term_code("report", "pet-procedure"),
}

# --- what a report says as a whole (CID 6047, CID 6042) ---
FINDINGS_SUMMARY = term_code("report", "findings-summary")
#: By whether all that was wanted could be evaluated, and whether anything was found.
SUMMARIES = {
    (True, False): term_code("report", "all-evaluated-nothing-found"),
    (True, True): term_code("report", "all-evaluated-something-found"),
    (False, False): term_code("report", "part-evaluated-nothing-found"),
    (False, True): term_code("report", "part-evaluated-something-found"),
}
SUMMARY_OF_ANALYSES = term_code("report", "summary-of-analyses")
INDICATIONS = term_code("report", "indications-for-procedure")
PURPOSE_OF_ANALYSIS = term_code("report", "purpose-of-analysis")
NOT_ATTEMPTED = term_code("report", "not-attempted")
REASON_NOT_ANALYSED = term_code("report", "reason-not-analysed")
REVIEW_REASON = term_code("report", "review-reason")
SAID_BY_MODEL = term_code("report", "said-by-model")

# --- kinds of objects ---
PRESENTATION_STATE = term_code("report", "presentation-state")
KEY_OBJECT_SELECTION = term_code("report", "key-object-selection")
DOCUMENT = term_code("report", "document")

# --- anatomy ---
LUNG = term_code("anatomy", "lung")
LEFT_LUNG = term_code("anatomy", "left-lung")
RIGHT_LUNG = term_code("anatomy", "right-lung")
LEFT = term_code("anatomy", "left")
RIGHT = term_code("anatomy", "right")
ANATOMICAL_STRUCTURE = term_code("anatomy", "anatomical-structure")

# --- measurements ---
VOLUME = term_code("measurements", "volume")
MEAN = term_code("measurements", "mean")
MAXIMUM = term_code("measurements", "maximum")
DIAMETER = term_code("measurements", "diameter")
DECISION_THRESHOLD = term_code("measurements", "decision-threshold")
ATTENUATION_COEFFICIENT = term_code("measurements", "attenuation-coefficient")
LOW_ATTENUATION_AREA_950 = term_code("measurements", "low-attenuation-area-950")
LOW_ATTENUATION_AREA_910 = term_code("measurements", "low-attenuation-area-910")
LOW_ATTENUATION_AREA_856 = term_code("measurements", "low-attenuation-area-856")
LUNG_DENSITY_PERCENTILE_15 = term_code("measurements", "lung-density-percentile-15")
LUNG_DENSITY_PERCENTILE_15_ADJUSTED = term_code("measurements", "lung-density-percentile-15-adjusted")
LUNG_WEIGHT = term_code("measurements", "lung-weight")
LOW_ATTENUATION_HETEROGENEITY = term_code("measurements", "low-attenuation-heterogeneity")
GODDARD_LIKE_SCORE = term_code("measurements", "goddard-like-score")
#: From head to feet.
THIRDS = ("upper", "middle", "lower")
LOW_ATTENUATION_THIRDS = tuple(term_code("measurements", f"low-attenuation-area-950-{one}-third") for one in THIRDS)
PERCENTILE_15_THIRDS = tuple(term_code("measurements", f"lung-density-percentile-15-{one}-third") for one in THIRDS)


def score_code(finding: Finding, model: ModelIdentity) -> Code:
    """Return what the score of a finding is: what the finding says of it; else how certain the finding is, where the
    model was shown to be calibrated; else a score, which says nothing of how often the finding is true."""
    return finding.score or (CERTAINTY_OF_FINDING if model.calibrated else MODEL_SCORE)


#: FHIR code system address for each public coding scheme; private ones get an OID (`uids.coding_scheme_uid`).
FHIR_SYSTEMS = {
    "SCT": "http://snomed.info/sct",
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    "LN": "http://loinc.org",
    "UCUM": "http://unitsofmeasure.org",
    "RADLEX": "http://radlex.org",
}
