"""Look at a model folder before it is trusted: card, codes, predicates, files, weights, golden studies.

Nothing of the model is run and torch is not loaded here; the weights are read in a worker process with limits, which is
confined as far as this system can: a TorchScript file may run what it likes while it is read.
"""

from __future__ import annotations

import importlib
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from pydicom.dataset import Dataset
from pydicom.uid import UID, CTImageStorage, MRImageStorage, PositronEmissionTomographyImageStorage

from dicom_node.core.entities import Code
from dicom_node.core.errors import ModelUnavailable, NodeError, SettingsError, WorkerDied
from dicom_node.core.series.predicates import check_conditions
from dicom_node.core.series.routing import OWN_ATTRIBUTES, check_rank
from dicom_node.governance.golden import load_cases
from dicom_node.governance.model_code import code_of
from dicom_node.headers.header import ROUTING_KEYWORDS, snake_case
from dicom_node.inference.cards.card import Gate, ModelCard, load_card
from dicom_node.inference.cards.contradictions import contradictions
from dicom_node.inference.images.exclusions import WRONG_CLASS, volume_exclusion
from dicom_node.inference.prediction import Load
from dicom_node.inference.runtimes.table import RUNTIMES, Runtime
from dicom_node.sandbox.confinement import Confine, Confinement, lacking, told
from dicom_node.sandbox.host import ProcessLimits, Sandbox

#: The points that name what of a model is a program.
CODE = "code"
_LIMITS = ProcessLimits(time_s=300.0, address_space_mb=16384)
#: Modalities that come as slices; the gate says of which of them it makes a volume.
_SLICES = {"CT": CTImageStorage, "MR": MRImageStorage, "PT": PositronEmissionTomographyImageStorage}
#: Modalities (PS3.3 C.7.3.1.1.1) whose images are coloured, and those of objects without an image.
_COLORED = frozenset({"DMS", "ES", "GM", "SM", "XC"})
_NO_IMAGES = frozenset({"AU", "DOC", "ECG", "EPS", "HD", "KO", "PLAN", "PR", "REG", "RTPLAN", "RTSTRUCT", "SR"})


@dataclass(frozen=True, slots=True)
class Point:
    """One thing that was looked at: whether it is well, and what was seen."""

    name: str
    ok: bool
    text: str


def verify_folder(folder: Path, confine: Confine = "auto") -> Sequence[Point]:
    """Look at everything that can be known without running the model; each point says what is wrong and what to do.

    What the model brings that runs is named in points ``code``: who accepts a model has read it.
    """
    try:
        card = load_card(folder)
    except (SettingsError, ModelUnavailable) as error:
        return [Point("card", False, str(error))]
    points = [Point("card", True, f"{card.name} {card.version}, {card.runtime}, {card.task}")]
    points += [_point(name, check, card) for name, check in _CHECKS.items()]
    digest_is_right = next(point.ok for point in points if point.name == "weights")
    if card.weights_file is not None and digest_is_right:
        points.append(_point("loading", _loading, card))
    points += [Point(CODE, True, line) for line in code_of(card)]
    return [*points, Point("confinement", confine != "require" or not lacking(), told(confine))]


def _point(name: str, check: Callable[[ModelCard], str], card: ModelCard) -> Point:
    try:
        return Point(name, True, check(card))
    except NodeError as error:
        return Point(name, False, str(error))


def _codes(card: ModelCard) -> str:
    problems = list(code_problems(card))
    if problems:
        raise SettingsError(f"{'; '.join(problems)}. Correct the code; a wrong one names another finding.")
    return f"{len(card.findings) + len(card.segments)} outputs in coded words"


def _accepts(card: ModelCard) -> str:
    known = {snake_case(keyword) for keyword in ROUTING_KEYWORDS} | OWN_ATTRIBUTES
    for conditions in card.accepts:
        check_conditions(conditions, known)
    check_rank(card.rank, known)
    if not card.accepts:
        return "no [[accepts]]: whatever its route gives it"
    return f"{len(card.accepts)} alternatives"


def _images(card: ModelCard) -> str:
    """Refuse a modality of which the node never makes what this model is given, so that it could go live and never
    run."""
    unread = sorted(one for one in card.accepted_modalities if not _can_give(card, one))
    if unread:
        given = "volumes" if card.input == "volume" else "pictures"
        hint = (
            "" if card.input == "volume" or card.color == "rgb" else ', or say color = "rgb" if its images are coloured'
        )
        raise SettingsError(
            f"[[accepts]] modality names {', '.join(unread)}, of which no {given} are made, so that the model could "
            f"never run on it. Take it out{hint}."
        )
    return f"given as {card.input}s" if card.input else "read by its own code"


def _can_give(card: ModelCard, modality: str) -> bool:
    if card.input == "image":
        return modality not in _NO_IMAGES and (card.color == "rgb" or modality not in _COLORED)
    if card.input != "volume":
        return True
    header = Dataset()
    header.SOPClassUID, header.Modality = _SLICES.get(modality, UID("")), modality
    return volume_exclusion(header, Gate()) != WRONG_CLASS


def _answer(card: ModelCard) -> str:
    problems = list(contradictions(card))
    if problems:
        raise SettingsError(f"{'; '.join(problems)}.")
    return "what is known before it runs fits the card; `dicom-node models try` shows what it understands"


def _files(card: ModelCard) -> str:
    return f"folder digest {card.folder_digest}"


def _weights(card: ModelCard) -> str:
    card.verify_weights()
    return f"sha256 {card.weights_sha256[:16]}…" if card.weights_file else "none"


def _golden(card: ModelCard) -> str:
    count = len(load_cases(card))
    return f"{count} golden studies" if count else "no golden studies: it can only be activated with --without-golden"


def _loading(card: ModelCard) -> str:
    target = "dicom_node.governance.verify:check_weights"
    with (
        tempfile.TemporaryDirectory(prefix="dicom-node-verify-") as made,
        Sandbox(target, answer=str, limits=_LIMITS, confinement=Confinement(Path(made), (card.folder,))) as sandbox,
    ):
        try:
            return str(sandbox.run(card.folder))
        except WorkerDied as error:
            raise ModelUnavailable(f"Reading the weights ended the process that read them. {error}") from error


def check_weights(folder: Path) -> str:
    """Say what the weights of a model folder are, read the way its runtime reads them; runs in a worker process.

    Where loading would run code of the folder, which nobody may have accepted yet, only the weights are read. Raises
    `ModelUnavailable` for what cannot be read as data alone.
    """
    card = load_card(folder)
    card.verify_weights()
    runtime = RUNTIMES[card.runtime]
    if runtime.verified_by_loading:
        return f"loads on the CPU, {_loader(runtime)(card, 'cpu').size_bytes / 1e6:.1f} MB"
    from dicom_node.inference.runtimes.weights import read_state  # noqa: PLC0415 - torch, in the worker process only

    assert card.weights_file is not None
    return f"{len(read_state(card.weights_file))} tensors, read without running code"


def _loader(runtime: Runtime) -> Load:
    try:
        return cast(Load, importlib.import_module(runtime.module).load)
    except ImportError as error:
        needed = f"Install it: pip install dicom-node[{runtime.extra}]." if runtime.extra else ""
        raise ModelUnavailable(
            f"Models of runtime {runtime.name} need a package that is not here ({error}). {needed}"
        ) from error


_CHECKS: dict[str, Callable[[ModelCard], str]] = {
    "files": _files,
    "codes": _codes,
    "accepts": _accepts,
    "images": _images,
    "answer": _answer,
    "weights": _weights,
    "golden": _golden,
}


# --- codes and their check digits ----------------------------------------------------------------------------------

#: Coding scheme designators a model may answer in (PS3.16 Table 8-1), besides private ones (99…).
SCHEMES = frozenset({"SCT", "DCM", "LN", "UCUM", "RADLEX", "NCIt", "FMA", "UMLS", "MDC", "I10", "ICD10", "UNS"})

_SCTID, _LOINC, _DCM = re.compile(r"[1-9]\d{5,17}"), re.compile(r"\d{1,7}-\d"), re.compile(r"\d{6}")
#: Verhoeff's permutation and the multiplication table of the dihedral group D5 (SNOMED CT Release File Specification).
_PERMUTE = [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 5, 7, 6, 2, 8, 3, 0, 9, 4]]
_TIMES = [
    [(i + j) % 5 if i < 5 and j < 5 else 5 + (i + j) % 5 if i < 5 else 5 + (i - j) % 5 if j < 5 else (i - j) % 5
     for j in range(10)]
    for i in range(10)
]  # fmt: skip


def code_problems(card: ModelCard) -> Iterator[str]:
    """Tell of each code of a card that cannot be one."""
    for place, code in _coded_outputs(card):
        problem = _problem(code)
        if problem:
            yield f"{place}: {code.value} ({code.scheme}) {problem}"


def _coded_outputs(card: ModelCard) -> Iterator[tuple[str, Code]]:
    for finding in card.findings:
        yield f"finding {finding.key} code", finding.code
        yield f"finding {finding.key} site", finding.site
        if finding.unit is not None:
            yield f"finding {finding.key} unit", finding.unit
    for segment in card.segments:
        yield f"segment {segment.key} category", segment.category
        yield f"segment {segment.key} type", segment.type
        if segment.region is not None:
            yield f"segment {segment.key} region", segment.region


def _problem(code: Code) -> str:
    if code.scheme == "SCT" and not (_SCTID.fullmatch(code.value) and _verhoeff_holds(code.value)):
        return "is no SNOMED CT identifier: its check digit does not fit"
    if code.scheme == "LN" and not (_LOINC.fullmatch(code.value) and _luhn_holds(code.value)):
        return "is no LOINC code: its check digit does not fit"
    if code.scheme == "DCM" and not _DCM.fullmatch(code.value):
        return "is no code of DICOM: those have six digits"
    if code.scheme not in SCHEMES and not code.scheme.startswith("99"):
        return f"names a scheme that receivers do not know; known are {', '.join(sorted(SCHEMES))} and private 99…"
    return ""


def _verhoeff_holds(digits: str) -> bool:
    check = 0
    for place, digit in enumerate(map(int, reversed(digits))):
        check = _TIMES[check][_permuted(place % 8, digit)]
    return check == 0


def _permuted(times: int, digit: int) -> int:
    for _ in range(times):
        digit = _PERMUTE[1][digit]
    return digit


def _luhn_holds(code: str) -> bool:
    digits = [int(digit) for digit in code if digit != "-"]
    doubled = [sum(divmod(digit * 2, 10)) if place % 2 else digit for place, digit in enumerate(reversed(digits))]
    return sum(doubled) % 10 == 0
