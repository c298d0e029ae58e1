"""Where every attribute of the objects the node makes comes from, found out by making them (PS3.2 Annex N).

Sources carry a value of their own in every attribute that says something about patient, study, series and equipment;
what of it turns up in an object was copied. The names and numbers of model and configuration are words that occur
nowhere else, and are found again in the same way. What stays equal whatever goes in is fixed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

from highdicom._standard_utils import get_iod_module_map, get_module_attribute_map, get_sop_class_iod_map
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import Tag
from pydicom.uid import UID
from pynetdicom.sop_class import _STORAGE_CLASSES

from dicom_node.analysis.answer import Analysis
from dicom_node.analysis.context import ReportContext, WithdrawnObject
from dicom_node.analysis.written import WrittenObject
from dicom_node.core.entities import ArtifactKind
from dicom_node.core.outputs.artifact_kinds import ARTIFACT_KINDS
from dicom_node.sr_writer import write_objects
from tests.support.results import analysis_examples as examples
from tests.support.results import result_answers
from tests.support.results import reviewed_examples as reviewed
from tests.support.studies.crowded_sources import crowded, header_keywords

#: Told by their names even where there are several.
_CHOSEN = frozenset({"SOPClassUID", "SeriesDescription", "CompletionFlagDescription"})
_TIMES = frozenset({"DA", "TM", "DT"})
_WORDS = {
    "INSTITUTION": ("`<node.institution>`", "CONFIG"),
    "AETITLE": ("`<node.ae_title>`", "CONFIG"),
    "2.25.777": ("`<UID of the node>`", "CONFIG"),
    "ROUTE": ("`<name of the route>`", "CONFIG"),
    "MODELNAME": ("`<model>`", "MODEL"),
    "MODELVERSION": ("`<version>`", "MODEL"),
    "MODELMAKER": ("`<manufacturer>`", "MODEL"),
    "2.25.888": ("`<UID of the model>`", "MODEL"),
    "d1" * 32: ("`<digest>`", "MODEL"),
}
_MODEL = replace(
    examples.CXR_MODEL, name="MODELNAME", version="MODELVERSION", manufacturer="MODELMAKER", digest="d1" * 32,
    device_uid="2.25.888",
)  # fmt: skip
#: What an object can not do without and still be one.
_NEEDED = frozenset(
    {"SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Modality"}
)
#: Names that the dictionary of pydicom does not have yet.
_SOP_CLASS_KEYWORDS = {uid: keyword for keyword, uid in _STORAGE_CLASSES.items()}
_ABBREVIATIONS = frozenset({"sc", "sr", "sop", "lut", "voi", "icc"})


@dataclass(frozen=True, slots=True)
class _Made:
    """One object, and the source it was made from."""

    dataset: Dataset
    source: Dataset


@dataclass(frozen=True, slots=True, order=True)
class Row:
    """What the statement says of one attribute of an object."""

    module: str
    keyword: str
    value: str
    presence: str
    origin: str

    def cells(self, module: str) -> list[str]:
        tag = Tag(tag_for_keyword(self.keyword) or 0)
        vr = dictionary_VR(tag)
        return [
            module,
            self.keyword,
            f"({tag.group:04X},{tag.element:04X})",
            vr,
            self.value,
            self.presence,
            self.origin,
        ]


def attribute_tables() -> str:
    """One table of what all objects have, and one for each kind of object of what it has besides."""
    made = _made()
    rows = {kind: list(_rows(objects)) for kind, objects in made.items()}
    common = set.intersection(*(set(found) for found in rows.values()))
    first = next(iter(rows.values()))
    parts = [_section("All objects", [row for row in first if row in common])]
    for kind, found in rows.items():
        parts.append(_section(ARTIFACT_KINDS[kind].title, [row for row in found if row not in common]))
    return "\n\n".join(parts)


def _section(title: str, rows: Sequence[Row]) -> str:
    lines = [
        f"## {title}",
        "",
        "| module | attribute | tag | VR | value | presence | origin |",
        "|---|---|---|---|---|---|---|",
    ]
    last = ""
    for row in rows:
        lines.append(f"| {' | '.join(row.cells('' if row.module == last else row.module))} |")
        last = row.module
    return "\n".join(lines)


# --- making the objects -----------------------------------------------------------------------------------------


def _made() -> Mapping[ArtifactKind, list[_Made]]:
    """Make every kind of object of full, bare and declined sources, in place of an earlier result, and reviewed."""
    found: dict[ArtifactKind, list[_Made]] = {}
    for job, answer in enumerate(_answers()):
        source = answer.sources[0]
        context = _context(f"job {job}", "INSTITUTION" if "PatientID" in source else "")
        if job > 0:
            earlier = found[ArtifactKind.STRUCTURED_REPORT][-1].dataset
            context = replace(context, predecessor=examples.predecessor(earlier, 1))
        written = write_objects(answer, context)
        if isinstance(answer, Analysis) and answer.partial:
            written = (*written, *_reviewed(answer, context, written))
        for one in written:
            found.setdefault(one.kind, []).append(_Made(one.dataset, source))
    return {kind: found[kind] for kind in ArtifactKind if kind in found}


def _reviewed(answer: Analysis, context: ReportContext, written: Sequence[WrittenObject]) -> tuple[WrittenObject, ...]:
    """Make what is made of an answer when somebody has reviewed it."""
    review = reviewed.modified(answer, of_job_key=context.job_key, decided_at=examples.STARTED_AT, second_reader=None)
    kept = tuple(reviewed.kept(one, review) for one in written)
    told = replace(context, job_key="reviewed", review=replace(review, second_decided_at=None), kept=kept, withdrawn=())
    return write_objects(reviewed.rebuilt(answer), told)


def _answers() -> Iterator[result_answers.Answer]:
    for sources in _sources():
        yield replace(result_answers.marked(sources), model=_MODEL)
    yield replace(result_answers.partial(sources), model=_MODEL)
    yield replace(result_answers.declined(sources), model=_MODEL)


def _sources() -> Iterator[tuple[Dataset, ...]]:
    """Yield images and volumes, of both two full ones and a bare one: not every kind is made of every source."""
    hand = {"BodyPartExamined": "HAND", "Laterality": "L", "PatientOrientation": ["A", "F"]}
    other = examples.radiograph(SpecificCharacterSet="ISO_IR 192", **hand)
    yield (crowded(examples.radiograph(), "ONE", 1),)
    yield (crowded(other, "TWO", 2),)
    yield (_bare(examples.radiograph()),)
    yield tuple(crowded(source, "ONE", 1) for source in examples.ct_volume(slices=3))
    others = examples.ct_volume(slices=3, size=48)
    for number, source in enumerate(others):
        source.SpecificCharacterSet, source.BodyPartExamined = "ISO_IR 192", "LUNG"
        source.StudyInstanceUID, source.FrameOfReferenceUID = "2.25.91", "2.25.92"
        source.SOPInstanceUID = f"2.25.93{number}"
    yield tuple(crowded(source, "TWO", 2) for source in others)
    yield tuple(_bare(source) for source in examples.ct_volume(slices=3))


def _bare(source: Dataset) -> Dataset:
    for keyword in header_keywords() - _NEEDED:
        source.pop(keyword, None)
    return source


def _context(job: str, institution: str) -> ReportContext:
    sets = result_answers.every_output_set()
    earlier = WithdrawnObject(
        sop_class_uid="1.2.840.10008.5.1.4.1.1.7", sop_instance_uid="2.25.1", series_instance_uid="2.25.2",
        output_keys=tuple(one.key for one in sets),
    )  # fmt: skip
    return examples.context(
        job_key=job, route_name="ROUTE", ae_title="AETITLE", node_uid="2.25.777", institution=institution,
        withdrawn=(earlier,), output_sets=sets,
    )  # fmt: skip


# --- looking at them --------------------------------------------------------------------------------------------


def _rows(objects: Sequence[_Made]) -> Iterator[Row]:
    modules = _modules_of(objects[0].dataset.SOPClassUID)
    keywords = {element.keyword for one in objects for element in one.dataset if element.keyword}
    places = {keyword: _place(keyword, modules) for keyword in keywords}
    for keyword in sorted(keywords, key=lambda keyword: (places[keyword], tag_for_keyword(keyword) or 0)):
        name = modules[places[keyword][0]][0] if places[keyword][0] < len(modules) else "extension"
        yield Row(_title(name), keyword, *_said(keyword, objects))


def _modules_of(sop_class: str) -> list[tuple[str, frozenset[str]]]:
    iod = get_sop_class_iod_map()[str(sop_class)]
    attributes = get_module_attribute_map()
    return [
        (module["key"], frozenset(one["keyword"] for one in attributes[module["key"]] if not one["path"]))
        for module in get_iod_module_map()[iod]
    ]


def _title(name: str) -> str:
    words = (word.upper() if word in _ABBREVIATIONS else word.capitalize() for word in name.split("-"))
    return " ".join(words)


def _place(keyword: str, modules: Sequence[tuple[str, frozenset[str]]]) -> tuple[int]:
    found = (index for index, (_, keywords) in enumerate(modules) if keyword in keywords)
    return (next(found, len(modules)),)


def _said(keyword: str, objects: Sequence[_Made]) -> tuple[str, str, str]:
    """Return value, presence and origin of one attribute."""
    present = [one for one in objects if keyword in one.dataset]
    filled = [one for one in present if one.dataset[keyword].value not in (None, "", [])]
    if len(filled) == len(objects):
        presence = "ALWAYS"
    elif not filled:
        presence = "EMPTY"
    else:
        presence = "VNAP" if len(present) == len(objects) else "ANAP"
    if not filled:
        return "", presence, "FIXED"
    if _is_copied(keyword, filled, always=presence == "ALWAYS"):
        return "of the source", presence, "COPY"
    value, origin = _value_and_origin(keyword, [one.dataset[keyword] for one in filled])
    return value, presence, origin


def _value_and_origin(keyword: str, elements: Sequence[DataElement]) -> tuple[str, str]:
    texts = {_text(element) for element in elements}
    named = [word for word in _WORDS if any(word in text for text in texts)]
    if elements[0].VR == "SQ":
        return _inside(keyword, elements), _origins(named, fixed=len(texts) == 1)
    if elements[0].VR in _TIMES and _tells_when(elements):
        return "start of the analysis", "AUTO"
    plain = {_with_names(text) for text in texts}
    if len(plain) == 1:
        return plain.pop(), _origins(named, fixed=True)
    if elements[0].VR == "CS" or keyword in _CHOSEN:
        return " or ".join(sorted(plain)), _origins(named, fixed=False)
    return "generated UID" if elements[0].VR == "UI" else "", _origins(named, fixed=False)


def _inside(keyword: str, elements: Sequence[DataElement]) -> str:
    """Return the templates of a content tree, and the attributes of the items of any other sequence."""
    items = [item for element in elements for item in element.value]
    if keyword == "ContentSequence":
        templates = {str(one.TemplateIdentifier) for item in items for one in _templates(item)}
        return f"content tree{''.join(f', TID {one}' for one in sorted(templates, key=int))}"
    inside = dict.fromkeys(child.keyword for item in items for child in item if child.keyword)
    return f"items of {', '.join(inside)}"


def _templates(item: Dataset) -> Iterator[Dataset]:
    yield from item.get("ContentTemplateSequence") or ()
    for child in item.get("ContentSequence") or ():
        yield from _templates(child)


def _tells_when(elements: Sequence[DataElement]) -> bool:
    """Whether these are dates or times of the analysis; the zone is that of the source."""
    started = examples.STARTED_AT
    return all(text.startswith(f"{started:%Y%m%d}") or f"{started:%M%S}" in text for text in map(_text, elements))


def _is_copied(keyword: str, filled: Sequence[_Made], *, always: bool) -> bool:
    """Whether all who have it have it from the source: of sources that differ, or that have it or not."""
    pairs = [(one.dataset[keyword], one.source[keyword]) for one in filled if one.source.get(keyword)]
    if not pairs or any(_text(made) != _text(given) for made, given in pairs):
        return False
    return len({_text(given) for _, given in pairs}) > 1 or (not always and len(pairs) == len(filled))


def _origins(named: Iterable[str], *, fixed: bool) -> str:
    found = sorted({_WORDS[word][1] for word in named})
    return ", ".join(found if fixed and found else ["FIXED"] if fixed else ["AUTO", *found])


def _with_names(text: str) -> str:
    for word, (name, _) in _WORDS.items():
        text = text.replace(word, name)
    return text


def _text(element: DataElement) -> str:
    if element.VR == "SQ":
        return "\n".join(str(item) for item in element.value)
    if isinstance(element.value, bytes):
        return sha256(element.value).hexdigest()
    values = element.value if isinstance(element.value, MultiValue) else [element.value]
    return "\\".join(_sop_class_name(value) if element.VR == "UI" else str(value) for value in values)


def _sop_class_name(uid: str) -> str:
    """Return the name of a SOP class, and any other UID as it is."""
    name = UID(uid).name
    if name != uid or uid not in _SOP_CLASS_KEYWORDS:
        return name
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", _SOP_CLASS_KEYWORDS[uid])
