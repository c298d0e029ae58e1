"""Whatever the source and the words: all text is on the canvas, on no other text, and never on the anatomy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset

from dicom_node.analysis.answer import Analysis, Histogram, NotAnalysed, Saliency
from dicom_node.analysis.written import Picture
from dicom_node.core import codes
from dicom_node.core.entities import Measurement, Presence, Region
from dicom_node.sr_writer.pictures.frame import layout_for
from dicom_node.sr_writer.pictures.pen import RED
from dicom_node.sr_writer.pictures.pictures import MOST_HEATMAPS, pictures_of
from tests.support.results import analysis_examples as examples

LONG = "Enlargement of the cardiomediastinal silhouette with a very long explanatory name, unspecified"
Box = tuple[float, float, float, float]


@dataclass
class Canvas:
    """What was drawn on one canvas: its size, the boxes of its texts, and where the first image was pasted."""

    size: tuple[int, int]
    texts: list[tuple[str, Box]] = field(default_factory=list)
    anatomy: Box | None = None


@pytest.fixture
def canvases(monkeypatch: pytest.MonkeyPatch) -> dict[int, Canvas]:
    """Let Pillow note where it writes and pastes, and do it as ever."""
    noted: dict[int, Canvas] = {}
    keep: list[Image.Image] = []
    write, paste = ImageDraw.ImageDraw.text, Image.Image.paste

    def canvas_of(image: Image.Image) -> Canvas:
        keep.append(image)
        return noted.setdefault(id(image), Canvas(image.size))

    def noting_text(draw: Any, xy: tuple[float, float], text: str, **options: Any) -> None:
        if text:
            box = draw.textbbox(xy, text, font=options["font"], anchor=options.get("anchor"))
            canvas_of(draw._image).texts.append((text, box))
        write(draw, xy, text, **options)

    def noting_paste(image: Image.Image, pasted: Any, box: Any = None, mask: Any = None) -> None:
        if isinstance(pasted, Image.Image) and isinstance(box, tuple) and len(box) == 2:
            canvas = canvas_of(image)
            canvas.anatomy = canvas.anatomy or (*box, box[0] + pasted.width, box[1] + pasted.height)
        paste(image, pasted, box, mask)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", noting_text)
    monkeypatch.setattr(Image.Image, "paste", noting_paste)
    return noted


def _overlap(one: Box, other: Box) -> bool:
    """Whether two boxes share more than a pixel's width; the box of a letter is a little wider than its ink."""
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    return across > 1 and down > 1


def _check(canvases: dict[int, Canvas], at_least: int) -> None:
    assert sum(bool(canvas.texts) for canvas in canvases.values()) >= at_least
    for canvas in canvases.values():
        width, height = canvas.size
        for text, (left, top, right, bottom) in canvas.texts:
            assert text.isascii()
            assert left >= 0, (canvas.size, text)
            assert top >= 0, (canvas.size, text)
            assert right <= width, (canvas.size, text)
            assert bottom <= height, (canvas.size, text)
            assert canvas.anatomy is None or not _overlap((left, top, right, bottom), canvas.anatomy), text
        for one, other in combinations(canvas.texts, 2):
            assert not _overlap(one[1], other[1]), (canvas.size, one, other)


def _source(rows: int, columns: int, **changes: Any) -> Dataset:
    """Return a source whose header says what stands beside the image: sides and pixel size."""
    return examples.radiograph(rows, columns, **({"PixelSpacing": [0.5, 0.5]} | changes))


def _ultrasound(rows: int, columns: int) -> Dataset:
    source = _source(rows, columns, PhotometricInterpretation="RGB", SamplesPerPixel=3, PlanarConfiguration=0)
    source.BitsAllocated = source.BitsStored = 8
    source.HighBit = 7
    color = np.zeros((rows, columns, 3), dtype=np.uint8)
    color[: rows // 2, :, 0], color[rows // 2 :, :, 2] = 200, 200
    source.PixelData = color.tobytes()
    source["PixelData"].VR = "OB"
    return source


def _inverted(rows: int, columns: int) -> Dataset:
    return _source(rows, columns, PhotometricInterpretation="MONOCHROME1")


def _tall_pixels(rows: int, columns: int) -> Dataset:
    return _source(rows, columns, PixelSpacing=[1.0, 0.5])


def _large(rows: int, columns: int) -> Dataset:
    source = _source(64, 64, Rows=rows, Columns=columns)
    source.PixelData = bytes(rows * columns * 2)
    return source


def _classified(source: Dataset) -> Analysis:
    analysis = examples.radiograph_analysis(source)
    findings = tuple(replace(finding, label=LONG) for finding in analysis.findings)
    saliency = replace(analysis.saliencies[0], method=f"Grad-CAM, {LONG}")
    return replace(analysis, findings=findings, saliencies=(saliency,))


SOURCES: dict[str, tuple[Callable[[int, int], Dataset], int, int]] = {
    "even": (_source, 512, 512),
    "odd": (_source, 511, 513),
    "tiny": (_source, 64, 64),
    "flat": (_source, 64, 500),
    "narrow": (_source, 500, 64),
    "tall pixels": (_tall_pixels, 301, 400),
    "inverted": (_inverted, 333, 222),
    "colour": (_ultrasound, 240, 321),
    "large": (_large, 4096, 3001),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_text_stays_on_the_canvas_and_off_the_anatomy(kind: str, canvases: dict[int, Canvas]) -> None:
    make, rows, columns = SOURCES[kind]
    source = make(rows, columns)
    research = examples.context(intended_use="research")
    analysis = _classified(source)
    pictures_of(analysis, research)
    pictures_of(replace(analysis, saliencies=(replace(analysis.saliencies[0], in_three_panels=True),)), research)
    pictures_of(replace(analysis, saliencies=()), research)
    _check(canvases, at_least=6)
    answers = [text for canvas in canvases.values() for text, _ in canvas.texts if "PRESENT, score 83.2 %" in text]
    assert len(answers) == 2, "a long name must not push the answer off the picture"
    layout = layout_for(source)
    shape = layout.image_height / layout.image_width
    expected = rows / columns * (2.0 if kind == "tall pixels" else 1.0)
    assert shape == pytest.approx(expected, rel=0.03)


def test_a_slice_with_more_structures_than_room_says_how_many_are_left_out(canvases: dict[int, Canvas]) -> None:
    volume = examples.ct_volume(9, 65, row=(0, 1, 0), column=(0, 0, -1))
    analysis = examples.ct_analysis(volume, key_slices=(4,))
    many = tuple(
        replace(analysis.segments[n % 2], number=n + 1, label=f"{n} {LONG}", finding_key=f"s{n}") for n in range(40)
    )
    pictures_of(replace(analysis, segments=many), examples.context())
    _check(canvases, at_least=2)
    texts = [text for canvas in canvases.values() for text, _ in canvas.texts]
    assert any(text.startswith("and ") and text.endswith(" more") for text in texts)


def test_a_summary_with_much_of_everything_overlaps_nowhere(canvases: dict[int, Canvas]) -> None:
    base = examples.ct_analysis()
    measured = tuple(
        replace(
            base.findings[0], key=f"m{n}", label=f"{n} {LONG}", presence=Presence.PRESENT, probability=1.0,
            threshold=0.0,
            measurements=tuple(
                Measurement(replace(codes.VOLUME, meaning=f"{m} {LONG[:58]}"), 123456789.125 + m, codes.MILLILITER)
                for m in range(7)
            ),
        )
        for n in range(18)
    )  # fmt: skip
    marks = {f"mark {n} at its place": -950.0 + 9 * n for n in range(9)}
    histogram = Histogram(
        title=LONG * 2, x_label="HU", bin_edges=np.linspace(-1024, -200, 60), counts=np.zeros(59), marks=marks
    )
    model = replace(base.model, name="model-" * 12, manufacturer=LONG * 3, limits=LONG * 9, intended_use=LONG * 5)
    answer = replace(base, findings=measured, histogram=histogram, notes=(LONG * 3,) * 9, model=model, partial=True)
    pages = [one for one in pictures_of(answer, examples.context()) if one.key.startswith("summary")]
    assert len(pages) > 3
    _check(canvases, at_least=len(pages))


def test_the_page_of_a_study_not_analysed_is_framed_in_red_and_no_other_is(canvases: dict[int, Canvas]) -> None:
    nothing = replace(examples.radiograph_analysis(), findings=examples.radiograph_analysis().findings[2:3])
    found_nothing = pictures_of(replace(nothing, saliencies=()), examples.context())[0].rgb
    refused = pictures_of(examples.not_analysed(), examples.context())[0].rgb
    border = [(500, 3), (500, 1020), (1020, 500), (5, 500)]
    assert all(tuple(refused[at]) == RED for at in border)
    assert all(tuple(found_nothing[at]) != RED for at in border)
    words = [{text for text, _ in canvas.texts} for canvas in canvases.values()]
    _check(canvases, at_least=2)
    assert any("NOTHING FOUND of what was looked for" in one for one in words)
    assert any("NO RESULT. The images were NOT assessed." in one for one in words)


def test_no_word_of_the_header_reaches_the_pixels(canvases: dict[int, Canvas]) -> None:
    """Every text value of the header becomes a name; none may be written."""
    for answer in (examples.radiograph_analysis(), examples.ct_analysis(), examples.not_analysed()):
        named = tuple(_named(source) for source in answer.sources)
        renamed: Analysis | NotAnalysed = replace(answer, sources=named)
        pictures_of(renamed, examples.context())
    written = " ".join(text for canvas in canvases.values() for text, _ in canvas.texts)
    assert "AI - NOT VERIFIED" in written
    assert "Doe" not in written


def _named(source: Dataset) -> Dataset:
    for element in source:
        if element.VR in {"PN", "LO", "SH", "LT", "ST", "UT", "DA", "AS"} and element.keyword != "Modality":
            value = {"DA": "19870605", "AS": "087Y", "PN": "Doe^Jane"}.get(element.VR, "Doe Jane")
            setattr(source, element.keyword, value)
    for keyword in ("PatientComments", "ImageComments", "SeriesDescription", "ProtocolName", "InstitutionName"):
        setattr(source, keyword, "Doe Jane")
    return source


def test_letters_and_ruler_tell_where_the_patient_is(canvases: dict[int, Canvas]) -> None:
    pictures_of(examples.radiograph_analysis(_source(600, 600)), examples.context())
    heatmap = next(canvas for canvas in canvases.values() if canvas.anatomy is not None)
    at = dict(heatmap.texts)
    assert heatmap.anatomy is not None
    assert at["R"][2] <= heatmap.anatomy[0], "PatientOrientation L\\F: the left edge is the right side"
    assert at["H"][3] <= heatmap.anatomy[1]
    assert "5 cm" in at, "30 cm wide: the longest ruler below a third is 5 cm"


def test_a_size_known_at_the_detector_only_is_named_so(canvases: dict[int, Canvas]) -> None:
    source = examples.radiograph(700, 700, ImagerPixelSpacing=[0.4, 0.4])
    pictures_of(examples.radiograph_analysis(source), examples.context())
    assert any("cm at detector" in text for canvas in canvases.values() for text, _ in canvas.texts)


def _eighteen() -> Analysis:
    """Return 18 classes with a heat map each; every second is present, the later the surer."""
    base = examples.radiograph_analysis()
    findings = tuple(
        replace(base.findings[0], key=f"f{n}", label=f"Class {n}", probability=0.05 + 0.05 * n, threshold=0.5,
                presence=Presence.PRESENT if n % 2 else Presence.ABSENT, explanation_key=None)
        for n in range(18)
    )  # fmt: skip
    maps = tuple(replace(base.saliencies[0], finding_key=finding.key) for finding in findings)
    return replace(base, findings=findings, saliencies=maps)


def test_of_many_heat_maps_the_most_telling_are_drawn_and_the_rest_are_named(canvases: dict[int, Canvas]) -> None:
    drawn = [one.description for one in pictures_of(_eighteen(), examples.context()) if one.source is not None]
    assert drawn == [f"Influence map: Class {n}" for n in (17, 15, 13, 11, 9, 7, 5, 3)]
    assert len(drawn) == MOST_HEATMAPS
    summary = " ".join(text for canvas in canvases.values() if canvas.anatomy is None for text, _ in canvas.texts)
    assert "the 8 most telling of 18 are drawn" in summary
    assert "Without a picture: Class 1, Class 16, Class 14" in summary


def test_a_colour_source_keeps_its_colours_under_the_heat() -> None:
    source = _ultrasound(240, 320)
    cold = Saliency(finding_key="pneumonia", sop_instance_uid=str(source.SOPInstanceUID),
                    map=np.zeros((240, 320), dtype=np.float32), method="none")  # fmt: skip
    answer = replace(examples.radiograph_analysis(source), saliencies=(cold,))
    picture: Picture = pictures_of(answer, examples.context())[1]
    layout = layout_for(source)
    shown = picture.rgb[layout.image_top + 20 : layout.image_top + layout.image_height - 20, layout.image_left + 50]
    assert shown[0].tolist() == [200, 0, 0]
    assert shown[-1].tolist() == [0, 0, 200]


def test_a_region_lies_where_its_pixels_are() -> None:
    """A box of whole source pixels, drawn on a picture twice as large: its line runs along their outer edges."""
    source = _source(512, 512)
    box = ((100.0, 200.0), (300.0, 200.0), (300.0, 400.0), (100.0, 400.0), (100.0, 200.0))
    region = Region(sop_instance_uid=str(source.SOPInstanceUID), points_xy_px=box)
    base = examples.radiograph_analysis(source, saliencies=())
    with_box = replace(base, findings=(replace(base.findings[1], region=region),))
    elsewhere = tuple((x + 512, y) for x, y in box)
    without = replace(base, findings=(replace(base.findings[1], region=replace(region, points_xy_px=elsewhere)),))
    one, other = (pictures_of(answer, examples.context())[1].rgb.astype(int) for answer in (with_box, without))
    layout = layout_for(source, 0.24)
    area = np.s_[
        layout.image_top : layout.image_top + layout.image_height,
        layout.image_left : layout.image_left + layout.image_width,
    ]
    rows, columns = np.nonzero((one[area] != other[area]).any(axis=2))
    scale = layout.image_width / 512
    assert columns.min() == pytest.approx(100 * scale, abs=3)
    assert columns.max() == pytest.approx(300 * scale, abs=3)
    assert rows.min() == pytest.approx(200 * scale, abs=3)
    assert rows.max() == pytest.approx(400 * scale, abs=3)


def test_a_long_name_is_written_whole_beside_its_answer(canvases: dict[int, Canvas]) -> None:
    analysis = examples.radiograph_analysis()
    name = "Enlargement of the cardiomediastinal silhouette"
    named = tuple(replace(one, label=name) for one in analysis.findings)

    pictures_of(replace(analysis, findings=named), examples.context())

    written = [text for canvas in canvases.values() if canvas.anatomy for text, _ in canvas.texts]
    assert any(text.startswith(name) for text in written)
    assert any("PRESENT, score 83.2 % (threshold 50.0 %)" in text for text in written)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"ImageLaterality": "L", "ViewPosition": "MLO"}, "left MLO"),
        ({"Laterality": "R", "ViewPosition": None}, "right cranio-caudal"),
    ],
    ids=str,
)
def test_the_picture_of_a_mammogram_names_its_side_and_view(
    canvases: dict[int, Canvas], said: dict[str, Any], told: str
) -> None:
    view = Dataset()
    view.CodeValue, view.CodingSchemeDesignator, view.CodeMeaning = "399162004", "SCT", "cranio-caudal"
    source = examples.radiograph(Modality="MG", ViewCodeSequence=[view], **said)

    drawn = [one.description for one in pictures_of(examples.radiograph_analysis(source), examples.context())]

    assert any(one.startswith("Influence map: ") and one.endswith(f", {told}") for one in drawn)
    assert any(told in text for canvas in canvases.values() if canvas.anatomy for text, _ in canvas.texts)
