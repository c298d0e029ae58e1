"""Presentation states: judged by DCMTK and dicom3tools, and to the pixel what the pictures show."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedMRImageStorage
from scipy import ndimage

from dicom_node.analysis.answer import Analysis, Segment, SourceFrame
from dicom_node.core.entities import ArtifactKind, Region
from dicom_node.core.outputs.artifact_kinds import OutputSet
from dicom_node.sr_writer import to_part10, write_objects
from dicom_node.sr_writer.pictures.frame import layout_for
from tests.support import needs
from tests.support.results import analysis_examples as examples
from tests.support.validators import objects as validators

WITH_PICTURES = OutputSet(structured_report="off", segmentation="off", presentation_state=True)
ALONE = replace(WITH_PICTURES, secondary_capture=False)
Mask = NDArray[np.bool_]


def written(analysis: Analysis, wanted: OutputSet = ALONE) -> list[Any]:
    return list(write_objects(analysis, examples.context(output_sets=(wanted,))))


def states(analysis: Analysis) -> list[Dataset]:
    return [one.dataset for one in written(analysis)]


def pixels_of(picture: Dataset) -> NDArray[np.uint8]:
    """Return what a reader of the object's bytes sees: (rows, columns, 3)."""
    return np.asarray(dcmread(BytesIO(to_part10(picture))).pixel_array)


def saved(dataset: Dataset, path: Path) -> Path:
    path.write_bytes(to_part10(dataset))
    return path


def windowed(source: Dataset) -> Dataset:
    source.WindowCenter, source.WindowWidth = 1800, 2500
    return source


def drawn(state: Dataset, source: Dataset, layer_word: str) -> Mask:
    """Draw the polygons of one layer for one source as PS3.3 C.10.5 says, filled, without any code of ours."""
    rows, columns = int(source.Rows), int(source.Columns)
    crossings = np.zeros((rows, columns + 1), dtype=int)
    for annotation in state.GraphicAnnotationSequence:
        named = [reference.ReferencedSOPInstanceUID for reference in annotation.ReferencedImageSequence]
        if layer_word not in annotation.GraphicLayer or source.SOPInstanceUID not in named:
            continue
        for graphic in annotation.get("GraphicObjectSequence", []):
            assert (graphic.GraphicType, graphic.GraphicAnnotationUnits) == ("POLYLINE", "PIXEL")
            points = np.array(graphic.GraphicData).reshape(-1, 2).astype(int)
            for (x, y), (next_x, next_y) in pairwise(points):
                if x == next_x:
                    crossings[min(y, next_y) : max(y, next_y), x] += 1
    return np.asarray(np.cumsum(crossings, axis=1)[:, :columns] % 2 == 1)


def rendered(source: Path, out: Path, state: Path | None = None) -> NDArray[np.uint8]:
    """Return the picture DCMTK makes of an image, under a presentation state or its own default."""
    chosen = ["-p", str(state)] if state is not None else []
    subprocess.run([needs.tool("dcmp2pgm", "dcmtk"), *chosen, str(source), str(out)], check=True, capture_output=True)
    return np.asarray(Image.open(out))


def judged(analysis: Analysis, folder: Path) -> list[Path]:
    """Write the states; dciodvfy, dcentvfy and dcmpschk have nothing to say about them."""
    paths = [saved(state, folder / f"state{number}.dcm") for number, state in enumerate(states(analysis))]
    sources = []
    for number, source in enumerate(analysis.sources):
        sources.append(folder / f"source{number}.dcm")
        source.save_as(sources[-1], enforce_file_format=True)
    for path in paths:
        validators.assert_valid_dicom(path, sources[0])
        validators.assert_valid_presentation_state(path)
    validators.assert_consistent(sources, paths)
    return paths


@pytest.mark.parametrize(
    "make",
    [
        examples.radiograph_analysis,
        lambda: examples.radiograph_analysis(examples.digital_radiograph()),
        lambda: examples.radiograph_analysis(examples.radiograph(BodyPartExamined=None, PatientOrientation=None)),
        lambda: examples.ct_analysis(examples.ct_volume(row=(0.8, 0.6, 0.0), column=(-0.48, 0.64, -0.6))),
    ],
    ids=["cr", "monochrome1", "bare", "oblique-ct"],
)
def test_a_presentation_state_is_valid(make: Any, tmp_path: Path) -> None:
    assert len(judged(make(), tmp_path)) == 1


@pytest.mark.parametrize("kind", ["cr", "monochrome1", "ct", "sigmoid", "anisotropic"])
def test_it_changes_nothing_about_how_the_image_looks(kind: str, tmp_path: Path) -> None:
    if kind == "ct":
        analysis = examples.ct_analysis()
    else:
        source = windowed(examples.digital_radiograph() if kind == "monochrome1" else examples.radiograph())
        if kind == "sigmoid":
            source.VOILUTFunction = "SIGMOID"
        if kind == "anisotropic":
            source.PixelSpacing = [0.4, 0.2]
        analysis = examples.radiograph_analysis(source)
    (state,) = judged(analysis, tmp_path)
    uid = dcmread(state).ReferencedSeriesSequence[0].ReferencedImageSequence[0].ReferencedSOPInstanceUID
    number = [source.SOPInstanceUID for source in analysis.sources].index(uid)
    image = tmp_path / f"source{number}.dcm"
    plain, under_it = rendered(image, tmp_path / "plain.pgm"), rendered(image, tmp_path / "state.pgm", state)
    assert np.ptp(plain) > 100
    assert np.array_equal(plain, under_it)


@pytest.mark.parametrize("bits", [12, 16])
def test_a_lookup_table_of_the_source_is_kept(bits: int, tmp_path: Path) -> None:
    source = examples.radiograph()
    table = Dataset()
    table.LUTDescriptor = [4096, 0, bits]
    table.LUTData = [(4095 - value) * (2**bits // 4096) for value in range(4096)]
    table["LUTData"].VR = "US"
    source.VOILUTSequence = [table]
    (state,) = judged(examples.radiograph_analysis(source), tmp_path)
    image = tmp_path / "source0.dcm"
    plain, under_it = rendered(image, tmp_path / "plain.pgm"), rendered(image, tmp_path / "state.pgm", state)
    assert np.ptp(plain) > 100
    assert np.abs(plain.astype(int) - under_it).max() <= 1


def test_dcmtk_reads_the_same_graphics_and_texts(tmp_path: Path) -> None:
    (state,) = judged(examples.radiograph_analysis(windowed(examples.radiograph())), tmp_path)
    again = tmp_path / "again.dcm"
    subprocess.run(
        [needs.tool("dcmp2pgm", "dcmtk"), "-p", state, "+S", again, tmp_path / "source0.dcm", tmp_path / "out.pgm"],
        check=True,
        capture_output=True,
    )
    assert _marks(dcmread(again)) == _marks(dcmread(state))
    assert len(_marks(dcmread(state))) == 3


def _marks(state: Dataset) -> list[tuple[Any, ...]]:
    return [
        (
            annotation.GraphicLayer,
            [text.UnformattedTextValue for text in annotation.TextObjectSequence],
            [list(graphic.GraphicData) for graphic in annotation.get("GraphicObjectSequence", [])],
        )
        for annotation in state.GraphicAnnotationSequence
    ]


def test_outlines_of_segments_are_the_masks_on_the_key_slices_and_nowhere_else() -> None:
    analysis = examples.ct_analysis()
    (state,) = states(analysis)
    for index, source in enumerate(analysis.sources):
        for segment, word in zip(analysis.segments, ("RIGHT", "LEFT"), strict=True):
            expected = segment.mask[index] if index in analysis.key_slices else np.zeros_like(segment.mask[index])
            assert np.array_equal(drawn(state, source, word), expected)
    named = [one.ReferencedSOPInstanceUID for one in state.ReferencedSeriesSequence[0].ReferencedImageSequence]
    assert named == [analysis.sources[index].SOPInstanceUID for index in sorted(analysis.key_slices)]


def test_it_agrees_with_the_picture_of_the_same_slice_to_the_pixel() -> None:
    analysis = examples.ct_analysis()
    objects = written(analysis, WITH_PICTURES)
    (state,) = [one.dataset for one in objects if one.kind is ArtifactKind.PRESENTATION_STATE]
    pictures = {one.picture_key: pixels_of(one.dataset) for one in objects if one.picture_key}
    for index in analysis.key_slices:
        source = analysis.sources[index]
        picture = pictures[f"slice:{source.SOPInstanceUID}"]
        for segment, word in zip(analysis.segments, ("RIGHT", "LEFT"), strict=True):
            shown = _filled(picture, segment, source)
            expected, seen = _as_in_picture(drawn(state, source, word), shown, source)
            assert seen.any()
            assert np.array_equal(expected, seen)


def _image_area(picture: NDArray[np.uint8], source: Dataset, legend_share: float) -> NDArray[np.uint8]:
    layout = layout_for(source, legend_share)
    return picture[
        layout.image_top : layout.image_top + layout.image_height,
        layout.image_left : layout.image_left + layout.image_width,
    ]


def _filled(picture: NDArray[np.uint8], segment: Segment, source: Dataset) -> Mask:
    """Return what the outline in the segment's colour encloses, in the pixels of the picture."""
    line = (_image_area(picture, source, 0.24) == segment.color_rgb).all(axis=-1)
    assert line.any()
    return np.asarray(ndimage.binary_fill_holes(line))


def _as_in_picture(mask: Mask, picture: Mask, source: Dataset) -> tuple[Mask, Mask]:
    """Return a mask in the pixels of the picture, and the picture; each has what lies under its centre.

    Rows and columns whose centre lies exactly between two source pixels are left out of both.
    """
    rows, columns = (
        (np.arange(length) + 0.5) * of / length
        for length, of in zip(picture.shape, (int(source.Rows), int(source.Columns)), strict=True)
    )
    clear_rows, clear_columns = (~np.isclose(places, np.round(places)) for places in (rows, columns))
    clear = np.ix_(clear_rows, clear_columns)
    return mask[np.ix_(rows.astype(int), columns.astype(int))][clear], picture[clear]


def test_a_box_lies_where_the_picture_shows_it() -> None:
    source = examples.radiograph()
    box = ((40.0, 60.0), (200.0, 60.0), (200.0, 240.0), (40.0, 240.0), (40.0, 60.0))
    region = Region(sop_instance_uid=str(source.SOPInstanceUID), points_xy_px=box)
    given = examples.radiograph_analysis(source, saliencies=())
    finding = replace(given.findings[1], region=region)
    objects = written(replace(given, findings=(finding,)), WITH_PICTURES)
    (state,) = [one.dataset for one in objects if one.kind is ArtifactKind.PRESENTATION_STATE]
    (picture,) = [pixels_of(one.dataset) for one in objects if one.picture_key.startswith("slice:")]
    inside = drawn(state, source, "PLEURAL")
    assert inside.sum() == 160 * 180
    assert inside[60:240, 40:200].all()

    area = _image_area(picture, source, 0.24)
    blue = (area[..., 2].astype(int) - area[..., 0] > 60).nonzero()
    scale_y, scale_x = area.shape[0] / int(source.Rows), area.shape[1] / int(source.Columns)
    middle = [(axis.min() + axis.max() + 1) / 2 for axis in blue]
    extent = [axis.max() + 1 - axis.min() for axis in blue]
    # The line is drawn around the edge, half on either side.
    assert np.allclose(middle, [150 * scale_y, 120 * scale_x], atol=1)
    assert np.allclose(extent, [180 * scale_y, 160 * scale_x], atol=4)


def test_every_text_says_what_it_is_and_that_nobody_looked() -> None:
    (state,) = states(examples.radiograph_analysis())
    texts = [text.UnformattedTextValue for one in state.GraphicAnnotationSequence for text in one.TextObjectSequence]
    assert all(text.endswith("AI - NOT VERIFIED") for text in texts)
    assert texts[0].startswith("cxr-pneumonia 1.0.0")
    assert texts[1].startswith("Pleural effusion: PRESENT, score 61.0 %")
    layers = [layer.GraphicLayer for layer in state.GraphicLayerSequence]
    assert layers == ["AI", "AI 1 PLEURAL EFF", "AI 2 PNEUMONIA"]


def test_texts_lie_inside_the_image_and_not_over_each_other() -> None:
    (state,) = states(examples.ct_analysis())
    boxes: dict[str, list[tuple[float, ...]]] = {}
    for annotation in state.GraphicAnnotationSequence:
        for text in annotation.TextObjectSequence:
            corners = (*text.BoundingBoxTopLeftHandCorner, *text.BoundingBoxBottomRightHandCorner)
            boxes.setdefault(annotation.ReferencedImageSequence[0].ReferencedSOPInstanceUID, []).append(corners)
    for placed in boxes.values():
        assert len(placed) == 3
        for left, top, right, bottom in placed:
            assert 0 <= left < right <= 64
            assert 0 <= top < bottom <= 64
        assert all(_apart(one, other) for number, one in enumerate(placed) for other in placed[:number])


def _apart(one: Sequence[float], other: Sequence[float]) -> bool:
    return one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


def test_slices_with_windows_of_their_own_keep_them() -> None:
    volume = examples.ct_volume()
    for number, source in enumerate(volume):
        source.WindowCenter = 40 + number
    analysis = examples.ct_analysis(volume)
    (state,) = states(analysis)
    centers = {
        item.ReferencedImageSequence[0].ReferencedSOPInstanceUID: item.WindowCenter
        for item in state.SoftcopyVOILUTSequence
    }
    assert centers == {volume[index].SOPInstanceUID: volume[index].WindowCenter for index in analysis.key_slices}


def test_slices_with_different_rescaling_get_states_of_their_own(tmp_path: Path) -> None:
    volume = examples.ct_volume()
    volume[4].RescaleIntercept = -1000
    assert [state.RescaleIntercept for state in map(dcmread, judged(examples.ct_analysis(volume), tmp_path))] == [
        -1024,
        -1000,
    ]


def test_an_image_without_window_is_shown_over_the_range_of_its_values() -> None:
    source = examples.radiograph()
    (state,) = states(examples.radiograph_analysis(source))
    (window,) = state.SoftcopyVOILUTSequence
    low, high = int(source.pixel_array.min()), int(source.pixel_array.max())
    assert window.WindowCenter - 0.5 - (window.WindowWidth - 1) / 2 == low
    assert window.WindowCenter - 0.5 + (window.WindowWidth - 1) / 2 == high


def test_overlay_and_shutter_of_the_source_stay_on(tmp_path: Path) -> None:
    source = windowed(examples.radiograph())
    source.add_new((0x6000, 0x0010), "US", 300)
    source.add_new((0x6000, 0x0011), "US", 280)
    source.add_new((0x6000, 0x0040), "CS", "G")
    source.add_new((0x6000, 0x0050), "SS", [1, 1])
    source.add_new((0x6000, 0x0100), "US", 1)
    source.add_new((0x6000, 0x0102), "US", 0)
    source.add_new((0x6000, 0x3000), "OW", np.packbits(np.ones(300 * 280, np.uint8)).tobytes())
    source.ShutterShape, source.ShutterPresentationValue = "RECTANGULAR", 0
    source.ShutterLeftVerticalEdge, source.ShutterRightVerticalEdge = 20, 260
    source.ShutterUpperHorizontalEdge, source.ShutterLowerHorizontalEdge = 10, 290
    (path,) = judged(examples.radiograph_analysis(source), tmp_path)
    state = dcmread(path)
    assert state[0x6000, 0x1001].value in [layer.GraphicLayer for layer in state.GraphicLayerSequence]
    assert (state.ShutterShape, state.ShutterRightVerticalEdge, state.ShutterPresentationValue) == (
        "RECTANGULAR",
        260,
        0,
    )


def test_frames_of_a_multi_frame_object_are_named() -> None:
    volume = examples.ct_volume()
    frames = []
    for number, source in enumerate(volume, start=1):
        frame = SourceFrame(source)
        frame.frame_number = number
        frame.SOPInstanceUID, frame.SOPClassUID = volume[0].SOPInstanceUID, EnhancedMRImageStorage
        frames.append(frame)
    analysis = examples.ct_analysis(tuple(frames))
    (state,) = states(analysis)
    (reference,) = state.ReferencedSeriesSequence[0].ReferencedImageSequence
    expected = sorted(index + 1 for index in analysis.key_slices)
    assert list(reference.ReferencedFrameNumber) == expected
    named = {int(one.ReferencedImageSequence[0].ReferencedFrameNumber) for one in state.GraphicAnnotationSequence}
    assert sorted(named) == expected


def test_colour_images_refusals_and_answers_without_a_place_get_none() -> None:
    color = examples.radiograph()
    color.SamplesPerPixel, color.PhotometricInterpretation, color.PlanarConfiguration = 3, "RGB", 0
    assert states(examples.radiograph_analysis(color)) == []
    plain = examples.radiograph_analysis(saliencies=())
    assert states(replace(plain, findings=(plain.findings[0],))) == []
    refused = write_objects(examples.not_analysed(), examples.context(output_sets=(ALONE,)))
    assert refused == ()


def test_an_outline_with_very_many_points_is_cut_into_lines_that_meet() -> None:
    rows, columns = 300, 280
    y, x = np.mgrid[:rows, :columns]
    comb = (x % 2 == 0) | (y == 150)
    analysis = examples.ct_analysis((examples.radiograph(rows, columns),), key_slices=(0,), segments=())
    segment = replace(examples.ct_analysis().segments[0], mask=np.repeat(comb[None], 1, axis=0))
    (state,) = states(replace(analysis, segments=(segment,)))
    graphics = state.GraphicAnnotationSequence[1].GraphicObjectSequence
    assert max(int(one.NumberOfGraphicPoints) for one in graphics) * 8 < 2**16
    assert np.array_equal(drawn(state, analysis.sources[0], "RIGHT"), comb)


def test_equal_inputs_give_equal_bytes() -> None:
    first, second = (to_part10(states(examples.ct_analysis())[0]) for _ in range(2))
    assert first == second
