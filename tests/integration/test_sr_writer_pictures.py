"""What the pictures show: the right grays, the anatomy untouched, and never the patient."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from dicom_node.analysis.written import Picture
from dicom_node.core import codes
from dicom_node.core.entities import ArtifactKind
from dicom_node.sr_writer import write_objects
from dicom_node.sr_writer.geometry import patient_orientation
from dicom_node.sr_writer.pictures.display import LUNG_WINDOW_HU, display_rgb, preferred_window
from dicom_node.sr_writer.pictures.frame import layout_for
from dicom_node.sr_writer.pictures.pen import (
    MAX_HEAT_ALPHA,
    blended,
    clipped,
    draw_outline,
    heat_colors,
    text_width,
    wrapped,
)
from dicom_node.sr_writer.pictures.pictures import MOST_PICTURES, pictures_of
from dicom_node.sr_writer.text import ascii_text, long_string
from tests.support.results import analysis_examples as examples


def test_a_monochrome1_image_looks_like_its_monochrome2_twin() -> None:
    twin = examples.radiograph(rows=320, columns=400)
    inverted = examples.digital_radiograph()
    difference = display_rgb(inverted).astype(int) - display_rgb(twin).astype(int)
    assert np.abs(difference).max() <= 1


def test_the_window_of_the_header_is_used() -> None:
    source = examples.ct_volume()[4]
    gray = display_rgb(source)[:, :, 0]
    assert gray[32, 32] == round((40 - 39.5) / 399 * 255 + 127.5)
    assert gray[0, 0] == 0


def test_lungs_are_shown_in_a_lung_window() -> None:
    analysis = examples.ct_analysis()
    source = analysis.sources[4]
    assert preferred_window(source, analysis.findings) == LUNG_WINDOW_HU
    lung = display_rgb(source, LUNG_WINDOW_HU)[analysis.segments[0].mask[4]]
    assert 60 < lung.min() <= lung.max() < 110


def test_a_radiograph_of_the_lung_keeps_its_own_window() -> None:
    analysis = examples.radiograph_analysis()
    assert preferred_window(analysis.sources[0], analysis.findings) is None


def test_a_window_that_hides_everything_is_not_used() -> None:
    shown = display_rgb(examples.radiograph(WindowCenter=60000, WindowWidth=100))
    assert shown.min() < 10
    assert shown.max() > 245


def test_eight_bits_without_a_window_are_shown_as_they_are() -> None:
    source = examples.radiograph(rows=2, columns=2, BitsAllocated=8, BitsStored=8, HighBit=7)
    source.PixelData = bytes([10, 60, 120, 200])
    assert display_rgb(source)[:, :, 0].tolist() == [[10, 60], [120, 200]]


def test_a_palette_is_shown_in_its_colours() -> None:
    source = examples.radiograph(rows=2, columns=2, PhotometricInterpretation="PALETTE COLOR", WindowCenter=1)
    source.BitsAllocated = source.BitsStored = 8
    source.HighBit = 7
    source.PixelData = bytes([0, 1, 1, 0])
    for color, entries in (("Red", [0, 0xFF00]), ("Green", [0x8000, 0]), ("Blue", [0, 0])):
        setattr(source, f"{color}PaletteColorLookupTableDescriptor", [2, 0, 16])
        setattr(source, f"{color}PaletteColorLookupTableData", np.array(entries, dtype="<u2").tobytes())
    assert display_rgb(source).tolist() == [[[0, 128, 0], [255, 0, 0]], [[255, 0, 0], [0, 128, 0]]]


def test_padding_is_black_whatever_the_polarity() -> None:
    source = examples.digital_radiograph(PixelPaddingValue=0)
    pixels = source.pixel_array.copy()
    pixels[:20] = 0
    source.PixelData = pixels.tobytes()
    assert display_rgb(source)[:20].max() == 0


@pytest.mark.parametrize(
    ("rows", "columns", "expected"),
    [
        (1024, 1024, (1024, 1024)),
        (900, 800, (900, 800)),
        (3000, 2400, (1500, 1200)),
        (4664, 3064, (1555, 1022)),
        (512, 512, (1024, 1024)),
        (64, 64, (768, 768)),
    ],
)
def test_pictures_have_the_size_of_the_source_unless_too_big_or_too_small(
    rows: int, columns: int, expected: tuple[int, int]
) -> None:
    layout = layout_for(examples.radiograph(Rows=rows, Columns=columns))
    assert (layout.canvas_height, layout.canvas_width) == expected


def test_pixels_that_are_not_square_are_shown_in_proportion() -> None:
    layout = layout_for(examples.radiograph(600, 600, ImagerPixelSpacing=[0.2, 0.1]))
    assert layout.image_height / layout.image_width == pytest.approx(2.0, rel=0.01)


def test_nothing_is_drawn_over_the_anatomy() -> None:
    layout = layout_for(examples.radiograph(700, 900))
    assert layout.image_top + layout.image_height <= layout.footer_top
    assert layout.image_left + layout.image_width <= layout.legend_left


def test_heat_covers_only_what_is_hot_and_never_hides_the_image() -> None:
    image = np.full((4, 4, 3), 100, dtype=np.uint8)
    heat = np.zeros((4, 4), dtype=np.float32)
    heat[1, 1] = 1.0
    shown = blended(image, heat)
    changed = (shown != image).any(axis=2)
    assert np.argwhere(changed).tolist() == [[1, 1]]
    assert np.allclose(shown[1, 1], 100 * (1 - MAX_HEAT_ALPHA) + heat_colors(heat)[1, 1] * MAX_HEAT_ALPHA, atol=1)
    assert MAX_HEAT_ALPHA <= 0.4


def test_heat_colours_grow_brighter_with_the_value() -> None:
    brightness = heat_colors(np.linspace(0, 1, 50, dtype=np.float32)) @ np.array([0.299, 0.587, 0.114])
    assert np.all(np.diff(brightness) > -0.6)
    assert brightness[-1] > 3 * brightness[0]


def test_an_outline_lies_on_the_border_inside_the_mask() -> None:
    mask = np.zeros((9, 9), dtype=bool)
    mask[2:7, 2:7] = True
    shown = np.zeros((9, 9, 3), dtype=np.uint8)
    draw_outline(shown, mask, (255, 0, 0), 1)
    drawn = shown[:, :, 0] == 255
    assert drawn.sum() == 16
    assert not (drawn & ~mask).any()


def test_pictures_of_two_patients_with_equal_images_are_equal() -> None:
    """The only way for a picture not to depend on the patient is not to show them."""
    other = examples.radiograph(PatientName="Other^Name", PatientID="X-9", AccessionNumber="Z", PatientAge="003Y")
    first, second = (
        [item.dataset.PixelData for item in write_objects(answer, examples.context()) if item.preview_png]
        for answer in (examples.radiograph_analysis(), examples.radiograph_analysis(other))
    )
    assert first == second
    assert len(first) == 2


def test_the_marking_and_the_answer_are_in_the_pixels() -> None:
    def summary(probability: float) -> bytes:
        findings = examples.radiograph_analysis().findings
        answer = examples.radiograph_analysis(findings=(replace(findings[0], probability=probability), *findings[1:]))
        return pictures_of(answer, examples.context())[0].rgb.tobytes()

    assert summary(0.8) != summary(0.2)
    research = pictures_of(examples.radiograph_analysis(), examples.context(intended_use="research"))
    clinical = pictures_of(examples.radiograph_analysis(), examples.context())
    assert all(not np.array_equal(a.rgb, b.rgb) for a, b in zip(research, clinical, strict=True))


def test_a_study_gives_a_summary_then_heatmaps_then_slices() -> None:
    radiograph = [p.key.split(":")[0] for p in pictures_of(examples.radiograph_analysis(), examples.context())]
    assert radiograph == ["summary", "heatmap"]
    assert [p.key.split(":")[0] for p in pictures_of(examples.ct_analysis(), examples.context())] == [
        "summary",
        "slice",
        "slice",
    ]


def test_without_key_slices_those_with_most_to_see_are_chosen() -> None:
    keys = [p.key for p in pictures_of(examples.ct_analysis(key_slices=()), examples.context())]
    assert len(keys) == 4
    empty = f"slice:{examples.ct_volume()[0].SOPInstanceUID}"
    assert empty not in keys


def test_a_region_without_heatmap_gets_a_picture_of_its_own() -> None:
    pictures = pictures_of(examples.radiograph_analysis(saliencies=()), examples.context())
    assert [picture.key.split(":")[0] for picture in pictures] == ["summary", "slice"]


def test_no_study_gives_more_pictures_than_a_reader_can_bear() -> None:
    volume = examples.ct_volume(30, 16)
    pictures = pictures_of(examples.ct_analysis(volume, key_slices=tuple(range(30))), examples.context())
    assert len(pictures) == 1 + MOST_PICTURES


def test_a_summary_of_many_findings_turns_the_page_instead_of_losing_rows() -> None:
    finding = examples.radiograph_analysis().findings[2]

    def pages(count: int) -> list[Picture]:
        many = tuple(replace(finding, key=f"f{n}", label=f"Finding {n}") for n in range(count))
        return pictures_of(examples.radiograph_analysis(findings=many, saliencies=()), examples.context())

    assert [page.key for page in pages(4)] == ["summary"]
    assert [page.key for page in pages(22)] == ["summary", "summary:2"]
    assert {page.rgb.shape for page in pages(100)} == {(1024, 1024, 3)}
    assert not np.array_equal(pages(22)[1].rgb, pages(21)[1].rgb)


def test_every_page_carries_the_banner() -> None:
    notes = tuple(f"Remark {n}." for n in range(60))
    first, second, *_ = pictures_of(examples.radiograph_analysis(notes=notes, saliencies=()), examples.context())
    assert np.array_equal(first.rgb[:60], second.rgb[:60])
    refusal = replace(examples.not_analysed(), notes=notes)
    assert [page.key for page in pictures_of(refusal, examples.context())][:2] == ["not-analysed", "not-analysed:2"]


def test_secondary_captures_are_single_rgb_frames_marked_as_burned_in() -> None:
    objects = write_objects(examples.radiograph_analysis(), examples.context())
    captures = [item for item in objects if item.kind is ArtifactKind.SECONDARY_CAPTURE]
    for number, item in enumerate(captures, start=1):
        dataset = item.dataset
        assert (dataset.Modality, dataset.ConversionType, dataset.BurnedInAnnotation) == ("OT", "WSD", "YES")
        assert (dataset.PhotometricInterpretation, dataset.PlanarConfiguration) == ("RGB", 0)
        assert dataset.InstanceNumber == number
        assert len(dataset.PixelData) == dataset.Rows * dataset.Columns * 3
        assert item.preview_png is not None
        assert Image.open(BytesIO(item.preview_png)).format == "PNG"


def test_a_heatmap_names_its_source_image_and_its_orientation() -> None:
    heatmap = write_objects(examples.radiograph_analysis(), examples.context())[1].dataset
    reference = heatmap.SourceImageSequence[0]
    assert reference.ReferencedSOPInstanceUID == examples.radiograph().SOPInstanceUID
    assert reference.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
    assert list(heatmap.PatientOrientation) == ["L", "F"]


def test_a_picture_of_a_lossy_image_says_it_was_lossy() -> None:
    source = examples.radiograph(LossyImageCompression="01", LossyImageCompressionRatio="12")
    heatmap = write_objects(examples.radiograph_analysis(source), examples.context())[1].dataset
    assert (heatmap.LossyImageCompression, heatmap.LossyImageCompressionRatio) == ("01", 12)


def test_orientation_letters_come_from_the_direction_vectors() -> None:
    assert patient_orientation(examples.ct_volume()[0]) == ["L", "P"]
    assert patient_orientation(examples.ct_volume(row=(0, 1, 0), column=(0, 0, -1))[0]) == ["P", "F"]
    assert patient_orientation(examples.ct_volume(row=(0.8, 0.6, 0), column=(-0.48, 0.64, -0.6))[0])[0] == "LP"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("≥ 5 µm – ok", ">= 5 um - ok"), ("Müller", "Muller"), ("胸", "?"), ("two\nlines", "two lines")],
)
def test_written_text_is_ascii_on_one_line(text: str, expected: str) -> None:
    assert ascii_text(text) == expected


def test_text_is_shortened_visibly() -> None:
    assert long_string("x" * 70) == "x" * 61 + "..."
    assert clipped("a long line of text", 20, 90).endswith("...")
    lines = wrapped("several words that need more than one line", 20, 150)
    assert len(lines) > 1
    assert all(text_width(line, 20) <= 150 for line in lines)


def test_a_site_other_than_lung_in_ct_uses_the_header_window() -> None:
    findings = tuple(replace(f, site=codes.IMAGING_PROCEDURE) for f in examples.ct_analysis().findings)
    assert preferred_window(examples.ct_volume()[0], findings) is None


def test_a_value_that_differs_in_one_structure_changes_the_table() -> None:
    analysis = examples.ct_analysis()
    left = analysis.findings[1]
    thinner = replace(left, measurements=(replace(left.measurements[0], value=1.0), left.measurements[1]))
    changed = replace(analysis, findings=(analysis.findings[0], thinner))
    first, second = (pictures_of(answer, examples.context())[0].rgb for answer in (analysis, changed))
    columns = np.flatnonzero((first != second).any(axis=(0, 2)))
    assert columns.size
    assert columns.min() > first.shape[1] * 0.75, "only the last column of the table may change"
