"""Which regions of the body a series shows, by what its headers say of it, and by which of them that is known.

Body Part Examined (0018,0015) is a code string with defined terms (PS3.16 Annex L) that scanners fill with whatever
the protocol is called. So words are looked for, in the languages of those who write them, alone or run together; and
the more exact evidence decides: a word in a description never overrules another region in Body Part Examined.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass

#: What is asked for evidence, the most exact first: the first that names a region decides.
EVIDENCE = (
    "anatomic_region_sequence", "body_part_examined", "series_description", "protocol_name", "study_description",
)  # fmt: skip

#: Codes of Anatomic Region Sequence (PS3.16 CID 4030, 4031), SNOMED CT and the older SRT.
_CODES = {
    "CHEST": "51185008 43799004 816094009 39607008 T-D3000 T-D3050 T-28000",
    "CHEST ABDOMEN": "416550000 R-FAB55",
    "CHEST ABDOMEN PELVIS": "416775004 R-FAB56",
    "NECK CHEST": "417437006 R-FAB52",
    "NECK CHEST ABDOMEN": "416152001 R-FAB53",
    "NECK CHEST ABDOMEN PELVIS": "416319003 R-FAB54",
    "ABDOMEN": "818981001 113345001 818983003 T-D4000",
    "ABDOMEN PELVIS": "416949008 R-FAB57 818982008",
    "PELVIS": "12921003 816092008 T-D6000",
    "HEAD": "69536005 12738006 T-D1100 T-A0100",
    "HEAD NECK": "774007 T-D1000",
    "NECK": "45048000 T-D1600",
    "HEART": "80891009 T-32000",
    "SPINE": "421060004 122494005 122495006 122496007 T-11100 T-11502 T-11503 T-11501",
}
#: Words, by the region they name; without accents, in capitals. Some run together: ``NECKCHESTABDOMEN``.
_WORDS = {
    "CHEST": "CHEST THORAX THORACIC THX THORAKS TORAKS TORAX TORACE TORACICO TORACICA THORACIQUE LUNG LUNGS LUNGE "
    "LUNGEN LUNGA LUNGOR LUNGER PULMONARY POUMON POUMONS PULMON PULMONES PULMONAR PULMAO PULMOES POLMONE POLMONI "
    "POLMONARE LONGEN BRUSTKORB KLATKA PLUCA PLUC HRUDNIK HRUDNIKU PLICE PLIC MELLKAS CTPA HRCT CXR MEDIASTINUM",
    "ABDOMEN": "ABDOMEN ABDOMINAL ABDO ABD ADDOME BAUCH BUK BRZUCH BRICHO BRICHA KARIN LIVER LEBER HEPAR PANCREAS "
    "KIDNEY KIDNEYS NIERE RENAL UROGRAPHY KUB COLON BOWEL",
    "PELVIS": "PELVIS PELV PELVIC BECKEN BASSIN BACINO BEKKEN MIEDNICA PANEV PELVE",
    "NECK": "NECK HALS COU CUELLO COLLO SZYJA KRK PESCOCO LARYNX",
    "HEAD": "HEAD BRAIN SKULL KOPF SCHADEL TETE CRANE CRANIUM CRANEO CRANIO TESTA CABEZA HOOFD GLOWA HLAVA SINUS ORBIT "
    "FACE HIRN CEREBRAL",
    "HEART": "HEART CARDIAC CORONARY CORONARIES HERZ COEUR CUORE CORAZON KORONAR CCTA CALCIUMSCORE",
    "SPINE": "SPINE CSPINE TSPINE LSPINE WIRBELSAULE BWS LWS HWS RACHIS COLUMNA COLONNA SPINAL",
    "LIMB": "ARM LEG HAND FOOT KNEE ANKLE SHOULDER ELBOW WRIST HIP FEMUR TIBIA EXTREMITY KNIE FUSS SCHULTER HUFTE "
    "CLAVICLE SCAPULA HUMERUS FOREARM FINGER THUMB THIGH CALF FIBULA PATELLA CALCANEUS HEEL TOE ACJOINT "
    "SCJOINT SIJOINT",
    "OTHER": "BREAST MAMMA RIB RIBS STERNUM SCOLIOSIS COCCYX SACRUM JAW MANDIBLE MAXILLA TMJ TEETH EYE EAR NOSE ZYGOMA "
    "BLADDER UTERUS PROSTATE ESOPHAGUS THYROID SCROTUM RECTUM",
    "WHOLE BODY": "WHOLEBODY GANZKORPER POLYTRAUMA TRAUMASPIRALE PANSCAN",
    "CHEST ABDOMEN PELVIS": "CAP TAP CHESTABDPELVIS",
}  # fmt: skip
#: Scripts that put no blanks between words: part of the text is enough.
_PARTS = {
    "CHEST": "胸 肺 흉부 폐 صدر ГРУДН ЛЕГКИ ОГК",
    "ABDOMEN": "腹 복부 بطن БРЮШН ОБП ЖИВОТ",
    "PELVIS": "骨盆 骨盤 골반 حوض ТАЗ",
    "HEAD": "头 頭 脑 脳 두부 뇌 رأس ГОЛОВ МОЗГ",
    "NECK": "颈 頸 경부 رقبة ШЕИ ШЕЯ",
    "SPINE": "脊柱 脊椎 척추 ПОЗВОНОЧ",
}
#: Phrases that name no region, or another one than their words would.
_PHRASES = (
    (re.compile(r"\b(?:CHEST|THORACIC|THORAX|ABDOMINAL|ABDO|BACK|NECK) PAIN\b|\bPAIN IN (?:THE )?\w+"), " "),
    (re.compile(r"\b\w+SCHMERZ\w*|\b(?:DOLOR|DOLORE|DOULEUR|DOR) \w+"), " "),
    (re.compile(r"\b(?:THORACIC|THORAKALE?|CERVICAL|LUMBAR) (?:SPINE|WIRBELSAULE|VERTEBRAE?)\b"), " SPINE "),
    (re.compile(r"\b[CTL][ -]SPINE\b"), " SPINE "),
    (re.compile(r"\b(?:NO|WITHOUT|W/O|EXCEPT|OHNE|SANS|SIN|SENZA) (?:CHEST|THORAX|LUNGS?|ABDOMEN|PELVIS|NECK|HEAD)\b"),
     " "),
    (re.compile(r"\bWHOLE[ -]BODY\b|\bCORPS ENTIER\b|\bCUERPO ENTERO\b"), " WHOLEBODY "),
    (re.compile(r"\b(?:CALCIUM|CA) SCOR\w*"), " HEART "),
)  # fmt: skip
_BY_WORD = {
    word: frozenset(_named.split()) if _named != "WHOLE BODY" else frozenset({_named})
    for _named, words in _WORDS.items()
    for word in words.split()
}
_BY_PART = {part: region for region, parts in _PARTS.items() for part in parts.split()}
_BY_CODE = {code: frozenset(regions.split()) for regions, codes in _CODES.items() for code in codes.split()}
#: Words that are met run together, the longest first.
_STEMS = (
    "ABDOMEN", "THORAX", "PELVIS", "ADDOME", "TORACE", "BECKEN", "CHEST", "TORAX", "SPINE", "BAUCH", "NECK", "LUNG",
    "ABDO", "PELV", "HEAD", "HALS", "ABD",
)  # fmt: skip
_RUN_TOGETHER = re.compile(f"(?:{'|'.join(_STEMS)}){{2,}}")
_STEM = re.compile("|".join(_STEMS))
#: Beginnings of compounds: ``Thoraxübersicht``, ``Lungenembolie``.
_BEGINNINGS = {"THORAX": "CHEST", "THORAK": "CHEST", "LUNGEN": "CHEST", "CHEST": "CHEST", "ABDOMEN": "ABDOMEN"}
_WORD = re.compile(r"[^\W\d_]+")
#: ``ThoraxRoutine`` is two words, ``AThorax`` is, too.
_INNER_CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
#: What Body Part Examined says where nobody has said anything.
_SAYS_NOTHING = frozenset({"", "BODY", "DEFAULT", "OTHER", "UNKNOWN", "NONE", "NA", "N/A", "UNSPECIFIED", "TRUNK"})


@dataclass(frozen=True, slots=True)
class BodyRegions:
    """The regions that a series shows, and what says so: ``BodyPartExamined NECKCHESTABDOMEN``."""

    regions: frozenset[str]
    evidence: str


def regions_of(attributes: Mapping[str, Collection[str]]) -> BodyRegions | None:
    """Return the regions by the most exact evidence that names one; `None` where nothing is said.

    A body part that nobody here knows is OTHER. Where the series' own description names other regions only, it is
    CONTRADICTORY: neither is believed.
    """
    told = [one for name in EVIDENCE if (one := _told_by(name, attributes)) is not None]
    if not told:
        parts = {one for one in attributes.get("body_part_examined", ()) if one.strip().upper() not in _SAYS_NOTHING}
        return BodyRegions(frozenset({"OTHER"}), f"BodyPartExamined {', '.join(sorted(parts))}") if parts else None
    best, described = told[0], _told_by("series_description", attributes)
    if described is not None and described.regions.isdisjoint(best.regions | {"LIMB", "OTHER"}):
        return BodyRegions(frozenset({"CONTRADICTORY"}), f"{best.evidence}, but {described.evidence}")
    return best


def _told_by(name: str, attributes: Mapping[str, Collection[str]]) -> BodyRegions | None:
    values = sorted(attributes.get(name, ()))
    found = frozenset(region for value in values for region in regions_in(value))
    keyword = "".join(part.capitalize() for part in name.split("_"))
    return BodyRegions(found, f"{keyword} {', '.join(values)}") if found else None


def regions_in(text: str) -> frozenset[str]:
    """Return the regions that a code or a text names."""
    plain = unicodedata.normalize("NFKD", _INNER_CAPITAL.sub(" ", text)).upper()
    plain = unicodedata.normalize("NFC", "".join(one for one in plain if not unicodedata.combining(one)))
    for phrase, stands_for in _PHRASES:
        plain = phrase.sub(stands_for, plain)
    found: set[str] = set()
    for code in plain.split("\\"):
        found |= _BY_CODE.get(code.strip(), frozenset())
    for word in _WORD.findall(plain):
        found |= _BY_WORD.get(word, frozenset())
        if _RUN_TOGETHER.fullmatch(word):
            found |= {region for stem in _STEM.findall(word) for region in _BY_WORD[stem]}
        found |= {region for beginning, region in _BEGINNINGS.items() if word.startswith(beginning)}
    return frozenset(found | {region for part, region in _BY_PART.items() if part in plain})
