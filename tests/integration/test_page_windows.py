"""The page's viewer shows an image by its own windows and tables, as pydicom reckons them and as the node draws it."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi, apply_windowing

from dicom_node.api.server import ApiServer, create_app
from dicom_node.core.principal import UserRole
from dicom_node.decoding.stored import stored_values
from dicom_node.index.database import Database
from dicom_node.people.directory import People
from dicom_node.sr_writer import to_part10
from dicom_node.sr_writer.pictures.display import display_rgb
from dicom_node.viewing.described import StoredFrame, View
from dicom_node.viewing.frames import drawn
from dicom_node.viewing.headers import header_json
from dicom_node.viewing.readers import ImageReaders
from tests.integration.test_reading_page import PASSWORD, Reader
from tests.peers.axe import violations
from tests.peers.browser import Browser, running_browser
from tests.support import needs
from tests.support.api_client import Client, client_of, parts_over
from tests.support.results import analysis_examples as examples
from tests.support.results.kept_study import KeptStudy, keep_study

_PAGE = needs.REPOSITORY / "dicom_node" / "api" / "page"
_BLOCKS, _BLOCK_PX = 4, 16
_GREYS = """
import { imagesOf } from './viewer/dataset.js';
import { greyTable, ownWindows, windowOf } from './viewer/pixels.js';
import { tablesOf } from './viewer/tables.js';
import { readFileSync } from 'node:fs';
const { header, stored } = JSON.parse(readFileSync('asked.json', 'utf8'));
const [image] = imagesOf(header);
const tables = await tablesOf(image, async () => Uint8Array.from(readFileSync('bulk')).buffer);
const greys = (window) => {
  const table = greyTable(image, window, false, tables);
  return stored.map((one) => table[one & (table.length - 1)] & 255);
};
console.log(JSON.stringify({
  native: image.isNative, first: greys(windowOf(image, Int32Array.from(stored), tables)),
  own: ownWindows(image, tables).map((one) => [one.name, greys(one)]),
  given: greys({ center: 900, width: 700, shape: 'LINEAR' }),
}));
"""


def _radiograph(**changes: Any) -> Dataset:
    """Return a DX image of 16 flat squares from dark to bright, with two windows and two tables of its own."""
    levels = np.linspace(0, 4095, _BLOCKS**2).astype(np.uint16).reshape(_BLOCKS, _BLOCKS)
    pixels = np.kron(levels, np.ones((_BLOCK_PX, _BLOCK_PX), np.uint16))
    bright = (4095 * np.linspace(0, 1, 3000) ** 0.5).astype("<u2")
    hard = np.repeat([20, 230], 256).astype("<u2")
    source = examples.digital_radiograph(
        RescaleSlope=1, RescaleIntercept=-1024, RescaleType="US", PresentationLUTShape="INVERSE",
        WindowCenter=[1000, 500], WindowWidth=[2000, 300], WindowCenterWidthExplanation=["NORMAL", "HARDER"],
        VOILUTFunction="SIGMOID",
        VOILUTSequence=[_table(bright, -1000, 12, "BRIGHT"), _table(hard, 1000, 8, "HARD")],
    )  # fmt: skip
    source.Rows, source.Columns = pixels.shape
    source.PixelData = pixels.tobytes()
    for keyword, value in changes.items():
        setattr(source, keyword, value)
    return source


def _table(values: np.ndarray, first: int, bits: int, name: str) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "SS", [len(values), first, bits])
    item.LUTExplanation = name
    item.add_new("LUTData", "OW", values.tobytes())
    return item


# --- what the page reckons, tried by Node.js


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The modules where Node.js takes them for what they are in a browser."""
    folder = tmp_path_factory.mktemp("page")
    shutil.copytree(_PAGE / "viewer", folder / "viewer")
    (folder / "package.json").write_text('{"type": "module"}', encoding="utf-8")
    (folder / "greys.js").write_text(_GREYS, encoding="utf-8")
    return folder


def _greys(modules: Path, source: Dataset, stored: np.ndarray) -> dict[str, Any]:
    """Return what the page makes of these stored values: by what the image asks for first, and by each of its own."""
    header = json.loads(header_json(source, "7FE00010"))
    told = {"header": header, "stored": stored.tolist()}
    (modules / "asked.json").write_text(json.dumps(told), encoding="utf-8")
    for item in _voi_items(source):
        if isinstance(item.LUTData, bytes) and len(item.LUTData) > 1024:
            (modules / "bulk").write_bytes(item.LUTData)
    command = [needs.tool("node", "nodejs"), "greys.js"]
    done = subprocess.run(command, cwd=modules, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def _voi_items(source: Dataset) -> Sequence[Dataset]:
    groups = (source.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    frame = (groups.get("FrameVOILUTSequence") or [source])[0]
    return list(frame.get("VOILUTSequence") or [])


def _by_pydicom(source: Dataset, stored: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Return name and greys (0..255) by each table, then by each window, of an image."""
    units = apply_modality_lut(stored, source)
    found = []
    for index, item in enumerate(source.get("VOILUTSequence") or []):
        unit = apply_voi(units.astype(np.int32), source, index) / (2.0 ** item.LUTDescriptor[2] - 1)
        found.append((str(item.get("LUTExplanation") or ""), unit))
    ends = apply_modality_lut(np.array([0, 2**source.BitsStored - 1]), source)
    for index, name in enumerate(source.get("WindowCenterWidthExplanation") or []):
        shown = apply_windowing(units.astype(np.float64), source, index)
        found.append((name, (shown - ends[0]) / (ends[1] - ends[0])))
    dark = source.PhotometricInterpretation == "MONOCHROME1"
    return [(name, 255 * (1 - unit if dark else unit)) for name, unit in found]


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_tables_and_windows_are_those_of_pydicom(modules: Path, function: str) -> None:
    source = _radiograph(VOILUTFunction=function)
    # pydicom counts the place in a table of 8 bits by 8 bits: here no value lies farther than 255 behind its first one.
    stored = np.array([0, 1, 23, 24, 1023, 1024, 2000, 2023, 2024, 2025, 2100, 2279])
    told = _greys(modules, source, stored)
    due = _by_pydicom(source, stored)
    assert [name for name, _ in told["own"]] == [name for name, _ in due] == ["BRIGHT", "HARD", "NORMAL", "HARDER"]
    for (name, ours), (_, theirs) in zip(told["own"], due, strict=True):
        assert np.abs(np.array(ours) - theirs).max() <= 1, name
    assert told["first"] == told["own"][0][1]


@pytest.mark.parametrize(
    "change", [{}, {"VOILUTSequence": None}, {"PresentationLUTShape": "IDENTITY"}], ids=["table", "window", "identity"]
)
def test_the_page_and_the_node_show_the_same_greys(modules: Path, change: dict[str, Any]) -> None:
    source = _radiograph(**change)
    stored = np.unique(stored_values(source))
    told = _greys(modules, source, stored)
    for ours, theirs in ((told["first"], display_rgb(source)), (told["given"], display_rgb(source, (900.0, 700.0)))):
        assert np.abs(np.array(ours) - _of_levels(source, theirs, stored)).max() <= 1


@pytest.mark.parametrize("name", ["vlut_04.dcm", "mlut_18.dcm"])
def test_a_real_image_with_a_table_is_shown_as_pydicom_and_the_node_show_it(modules: Path, name: str) -> None:
    source = dcmread(needs.real_data("odd_encoding") / name)
    stored = np.unique(stored_values(source))
    told = _greys(modules, source, stored)
    assert told["native"]
    for (_, ours), (_, theirs) in zip(told["own"], _by_pydicom(source, stored), strict=True):
        assert np.abs(np.array(ours) - theirs).max() <= 1
    shown = [(told["given"], display_rgb(source, (900.0, 700.0)))]
    shown += [(told["first"], display_rgb(source))] if told["own"] else []
    for ours, theirs in shown:
        assert np.abs(np.array(ours) - _of_levels(source, theirs, stored)).max() <= 1


def test_a_table_in_the_groups_of_a_frame_is_applied_by_the_page_and_by_the_node(modules: Path, tmp_path: Path) -> None:
    source = _radiograph(NumberOfFrames=1)
    frame, groups = Dataset(), Dataset()
    frame.VOILUTSequence = source.VOILUTSequence
    groups.FrameVOILUTSequence = [frame]
    source.SharedFunctionalGroupsSequence = [groups]
    for keyword in ("VOILUTSequence", "WindowCenter", "WindowWidth", "WindowCenterWidthExplanation", "VOILUTFunction"):
        delattr(source, keyword)
    stored = np.unique(stored_values(source))
    told = _greys(modules, source, stored)
    file = tmp_path / "frame.dcm"
    file.write_bytes(to_part10(source))
    picture = drawn(StoredFrame(file, 1), View(media_type="image/png"))
    shown = np.asarray(Image.open(io.BytesIO(picture.content)).convert("RGB"))
    assert [name for name, _ in told["own"]] == ["BRIGHT", "HARD"]
    assert np.abs(np.array(told["first"]) - _of_levels(source, shown, stored)).max() <= 1


def _of_levels(source: Dataset, picture: np.ndarray, stored: np.ndarray) -> np.ndarray:
    """Return the grey that each stored value has in a picture of the image."""
    _, first = np.unique(stored_values(source).ravel(), return_index=True)
    assert len(first) == len(stored)
    greys: np.ndarray = picture[..., 0].ravel()[first].astype(int)
    return greys


# --- in a browser


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, KeptStudy, Client]]:
    """A page with the radiograph, for a reader."""
    folder = tmp_path_factory.mktemp("windows")
    objects = folder / "objects"
    objects.mkdir()
    database = Database(f"sqlite:///{folder / 'node.sqlite'}")
    database.migrate()
    answer = examples.radiograph_analysis(_radiograph(SeriesDescription="PA"), saliencies=())
    answer = replace(answer, findings=tuple(replace(one, explanation_key="", region=None) for one in answer.findings))
    study = keep_study(database, objects, "windows", answer=answer, study_date="20260314")
    readers = ImageReaders(folder / "readers", objects)
    parts = replace(parts_over(database, folder), open_object=lambda key: objects / key, images=readers)
    app = create_app(parts)
    people: People = app.state.access.people
    people.accounts.add("reader", [UserRole.REVIEWER], PASSWORD)
    server = ApiServer(app, "127.0.0.1", 0)
    server.start()
    yield f"http://127.0.0.1:{server.port}/", study, client_of(parts)
    server.stop()
    readers.close()
    database.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with running_browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


#: The grey in the middle of each square, row by row: the image fits the canvas and lies in its middle.
_SQUARES = f"""(() => {{
    const canvas = document.querySelector('.viewport canvas'), {{ width, height }} = canvas, count = {_BLOCKS};
    const side = Math.min(width, height) / count, context = canvas.getContext('2d');
    const middle = (all, place) => Math.floor((all - count * side) / 2 + (place + 0.5) * side);
    const grey = (row, column) => context.getImageData(middle(width, column), middle(height, row), 1, 1).data[0];
    return Array.from({{ length: count * count }}, (_, place) => grey(Math.floor(place / count), place % count));
}})()"""
_WORDS = "document.querySelector('.viewport .at-window').textContent"


def _squares(reader: Reader) -> np.ndarray:
    reader.drawn()
    return np.array(reader.browser.run(_SQUARES))


def _choose(reader: Reader, words: str) -> None:
    chosen = (
        f"[...document.querySelectorAll('#reading-window option')].find((one) => one.textContent.includes('{words}'))"
    )
    reader.browser.run(f"document.getElementById('reading-window').value = {chosen}.value")
    reader.browser.run("void document.getElementById('reading-window').dispatchEvent(new Event('change'))")


def test_a_reader_chooses_among_tables_and_windows_and_windows_by_hand(
    browser: Browser, kept: tuple[str, KeptStudy, Client]
) -> None:
    address, study, client = kept
    source = study.answer.sources[0]
    squares = np.linspace(0, 4095, _BLOCKS**2).astype(np.int64)
    due = dict(_by_pydicom(source, squares))
    place = {"BRIGHT": "Table 1: BRIGHT", "HARD": "Table 2: HARD", "NORMAL": "NORMAL (S-curve)", "HARDER": "HARDER"}
    reader = Reader(browser, address, "reader")
    reader.open(study)
    assert browser.run(_WORDS) == place["BRIGHT"]  # what the image asks for first
    assert violations(browser) == []
    for name in ("HARDER", "BRIGHT", "NORMAL"):
        _choose(reader, place[name])
        assert np.abs(_squares(reader) - due[name]).max() <= 1, name
        assert place[name] in browser.run(_WORDS)
    reader.press("0")
    assert np.abs(_squares(reader) - _rendered(client, study, "")).max() <= 1

    reader.press("w")
    reader.drawn()
    assert browser.run(_WORDS) == place["HARD"]
    reader.press("[")  # by hand, from where the table lies
    by_hand = _squares(reader)
    assert browser.run(_WORDS) == "C 1,256 W 486"
    assert np.abs(by_hand - _rendered(client, study, "1256,486.4,linear")).max() <= 1
    reader.drag(60, 0)
    assert (_squares(reader) != by_hand).any()
    assert not browser.complaints


def _rendered(client: Client, study: KeptStudy, window: str) -> np.ndarray:
    """Return the squares as the node draws them."""
    source = study.answer.sources[0]
    address = (
        f"/dicom-web/studies/{source.StudyInstanceUID}/series/{source.SeriesInstanceUID}"
        f"/instances/{source.SOPInstanceUID}/frames/1/rendered"
    )
    answer = client.get(address, headers={"Accept": "image/png"}, params={"window": window} if window else {})
    assert answer.status_code == 200, answer.text
    picture = np.asarray(Image.open(io.BytesIO(answer.content)).convert("L")).astype(int)
    middle = _BLOCK_PX // 2
    return picture[middle::_BLOCK_PX, middle::_BLOCK_PX].ravel()
