"""Every kind of result about every kind of study, judged by programs of other makes.

A kind of object joins by itself: every switch of `OutputSet` is on. The studies, the answers and the one list of what
validators may say are in `tests/support`. A usual run holds a sample in which every kind of object meets every
modality, every answer and every fault of the header; a campaign holds every modality against every answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import cycle
from pathlib import Path

import pytest
from pydicom import config, dcmread

from dicom_node.analysis.context import ReportContext, WithdrawnObject
from dicom_node.analysis.written import WrittenObject
from dicom_node.core.entities import ArtifactKind
from dicom_node.sr_writer import to_part10, write_objects
from tests.integration.result_sources import FAULTS, MODALITIES, UNREADABLE, Received, parts_of, received
from tests.support import needs
from tests.support.campaign import amount
from tests.support.results import analysis_examples as examples
from tests.support.results import result_answers
from tests.support.results.result_answers import STORIES
from tests.support.validators import objects as validators

pytestmark = [
    pytest.mark.campaign,
    pytest.mark.timeout(1200),
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
]
#: These get every story; the other modalities get the usual ones, and faults of the header one.
_THOROUGHLY = ("cr", "ct", "mr-enhanced", "us-rgb-multi-frame")
_OTHERS = tuple(name for name in MODALITIES if name not in _THOROUGHLY)
_STORIES, _USUAL = (*STORIES, "successor"), ("classified", "segmented")
_ALL = (
    *((name, story) for name in _THOROUGHLY for story in _STORIES),
    *((name, story) for name in _OTHERS for story in _USUAL),
    *((name, "marked") for name in FAULTS),
)
#: Every modality, every story and every fault once; of faults in several modalities the last one.
_SAMPLE = (
    *zip(cycle(_THOROUGHLY), _STORIES, strict=False),
    *zip(_OTHERS, cycle(_USUAL), strict=False),
    *((name, "marked") for name in {name.partition("-")[2]: name for name in FAULTS}.values()),
)
CELLS = amount(_SAMPLE, campaign=_ALL)
#: Those whose reports are held against the template: stories about one image and about a volume.
_TEMPLATES = amount(
    tuple(zip(cycle(("cr", "ct")), _STORIES, strict=False)),
    campaign=tuple((name, story) for name in ("cr", "ct") for story in _STORIES),
)
#: Odd in encoding, color, geometry or windows; each is one object.
REAL = (
    "us_multiframe_and_colour/US-RGB-8-epicard",
    "us_multiframe_and_colour/NM-MONO2-16-13x-heart",
    "odd_encoding/OBXXXX1A_rle.dcm",
    "odd_encoding/US1_J2KR.dcm",
    "odd_encoding/eCT_Supplemental.dcm",
    "odd_encoding/mlut_18.dcm",
    "odd_encoding/vlut_04.dcm",
    "odd_geometry/S1000__I10",
    "odd_geometry/S4010__I10",
    "mr_9_transfer_syntaxes/1.dcm",
)


@dataclass(frozen=True, slots=True)
class Cell:
    """The objects about one study, on disk in order of sending."""

    sources: tuple[Path, ...]
    outputs: tuple[tuple[ArtifactKind, Path], ...]

    def of(self, *kinds: ArtifactKind) -> list[Path]:
        return [path for kind, path in self.outputs if kind in kinds]


class Results:
    """Writes the objects of a cell when they are first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._studies: dict[str, Received] = {}
        self._cells: dict[tuple[str, str], Cell] = {}

    def cell(self, name: str, story: str) -> Cell:
        if (name, story) not in self._cells:
            study = self._study(name)
            told = STORIES["segmented" if story == "successor" else story](study.sources)
            context = self._context(name, story)
            if story == "successor":
                context = self._replacing(name, context)
            self._cells[name, story] = Cell(study.paths, self._saved(f"{name}-{story}", write_objects(told, context)))
        return self._cells[name, story]

    def _study(self, name: str) -> Received:
        if name not in self._studies:
            self._studies[name] = received(name, self._folder)
        return self._studies[name]

    def _context(self, name: str, story: str) -> ReportContext:
        return examples.context(job_key=sha256(f"{name} {story}".encode()).hexdigest(), **result_answers.options())

    def _replacing(self, name: str, context: ReportContext) -> ReportContext:
        """Let the result replace that of the story ``segmented``, of which every object is withdrawn."""
        keys = tuple(wanted.key for wanted in context.output_sets)
        earlier = self.cell(name, "segmented")
        headers = [dcmread(path, stop_before_pixels=True) for _, path in earlier.outputs]
        return replace(
            context,
            predecessor=examples.predecessor(dcmread(earlier.of(ArtifactKind.STRUCTURED_REPORT)[0]), 1),
            withdrawn=tuple(
                WithdrawnObject(
                    sop_class_uid=str(one.SOPClassUID),
                    sop_instance_uid=str(one.SOPInstanceUID),
                    series_instance_uid=str(one.SeriesInstanceUID),
                    output_keys=keys,
                )
                for one in headers
            ),
        )

    def _saved(self, name: str, written: tuple[WrittenObject, ...]) -> tuple[tuple[ArtifactKind, Path], ...]:
        saved = []
        for one in written:
            path = self._folder / f"{name}-{one.order:02}-{one.kind}.dcm"
            path.write_bytes(to_part10(one.dataset))
            saved.append((one.kind, path))
        return tuple(saved)


@pytest.fixture(scope="module", autouse=True)
def _lenient_reading() -> Iterator[None]:
    """Read as the node reads (`logs.quiet_third_parties`): odd values are taken as they are."""
    before = config.settings.reading_validation_mode
    config.settings.reading_validation_mode = config.IGNORE
    yield
    config.settings.reading_validation_mode = before


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return Results(tmp_path_factory.mktemp("matrix"))


@pytest.mark.parametrize(("name", "story"), CELLS, ids=["-".join(cell) for cell in CELLS])
def test_every_object_about_every_study_is_valid(name: str, story: str, results: Results) -> None:
    cell = results.cell(name, story)
    assert cell.of(ArtifactKind.STRUCTURED_REPORT)
    assert cell.of(ArtifactKind.SECONDARY_CAPTURE)
    for _, path in cell.outputs:
        validators.assert_valid_dicom(path, cell.sources[0])
        validators.assert_parsed(path)
    validators.assert_consistent(cell.sources, [path for _, path in cell.outputs], UNREADABLE.get(name, ()))
    for path in cell.of(ArtifactKind.STRUCTURED_REPORT, ArtifactKind.KEY_OBJECTS, ArtifactKind.REJECTION_NOTE):
        validators.assert_readable_sr(path)
    for path in cell.of(ArtifactKind.PRESENTATION_STATE):
        validators.assert_valid_presentation_state(path)
    for path in cell.of(ArtifactKind.ENCAPSULATED_PDF):
        validators.assert_readable_pdf(path)


def test_the_sample_leaves_out_no_modality_no_story_and_no_fault() -> None:
    assert set(_SAMPLE) <= set(_ALL)
    assert {name for name, _ in _SAMPLE} >= set(MODALITIES)
    assert {story for _, story in _SAMPLE} == set(_STORIES)
    faults = {name.partition("-")[2] for name in FAULTS}
    assert {name.partition("-")[2] for name, _ in _SAMPLE if name in FAULTS} == faults


@pytest.mark.parametrize("name", REAL, ids=[Path(name).name for name in REAL])
def test_results_about_real_images_are_valid(name: str, tmp_path: Path) -> None:
    folder, _, file = name.partition("/")
    source = needs.real_data(folder) / file
    told = STORIES["marked"](parts_of(dcmread(source))[:4])
    outputs = []
    for one in write_objects(told, examples.context(**result_answers.options())):
        outputs.append(tmp_path / f"{one.order:02}-{one.kind}.dcm")
        outputs[-1].write_bytes(to_part10(one.dataset))
        validators.assert_valid_dicom(outputs[-1], source)
        validators.assert_parsed(outputs[-1])
        if one.kind is ArtifactKind.PRESENTATION_STATE:
            validators.assert_valid_presentation_state(outputs[-1])
    validators.assert_consistent([source], outputs)


def test_a_report_of_every_story_holds_the_template(results: Results) -> None:
    """Each SOP class in turn; reports of one shape once, as the template says nothing about texts, numbers and UIDs."""
    told = [results.cell(*cell).of(ArtifactKind.STRUCTURED_REPORT) for cell in _TEMPLATES]
    reports = [reports[index % len(reports)] for index, reports in enumerate(told)]
    shapes = {validators.tree_of(dcmread(path)): path for path in reports}
    assert len(shapes) >= len(STORIES)
    for path in shapes.values():
        validators.assert_valid_sr(path)
