// What the viewer reckons, without a browser: run by test_page_viewer.py.

import assert from "node:assert/strict";
import { test } from "node:test";

import { imagesOf, nameOf } from "./viewer/dataset.js";
import { bodyOf, changeOf, draftOf, reasonsIn } from "./viewer/draft.js";
import { RegionEditor } from "./viewer/editor.js";
import { Frames } from "./viewer/frames.js";
import { edgesOf, fitted, inOrder, lettersOf, nearestTo, rulerOf, toImage, toScreen, zoomed } from "./viewer/geometry.js";
import { partsOf } from "./viewer/multipart.js";
import { byNumbers, greyTable, ownWindows, paintColour, paintGrey, rangeOf, shade, storedValues, valueAt, windowOf } from "./viewer/pixels.js";
import { through, tablesOf } from "./viewer/tables.js";
import { areaOf, closed, contains, cornerAt, isRegion, moved, opened, withCorner, withNewCorner, withoutCorner } from "./viewer/polygon.js";
import { fromLab, labelsOf, isMaskOn, masksOf, paintLabels, segmentsOf, undrawnOf, unpackedBits } from "./viewer/segments.js";

const CT = { rows: 2, columns: 2, samples: 1, bits: 16, stored: 12, high: 11, signed: false, slope: 1, intercept: -1024, photometric: "MONOCHROME2", padding: null, windows: [], look: "" };
const value = (...values) => ({ Value: values });
const bytesOf = (...words) => new Uint16Array(words).buffer;
const close = (a, b, by = 1e-9) => assert.ok(Math.abs(a - b) <= by, `${a} is not ${b}`);

test("a window is as PS3.3 C.11.2.1.2 has it, at its edges too", () => {
  const window = { center: 2048, width: 4096 };
  assert.equal(shade(0, window), 0);
  assert.equal(shade(4095, window), 1);
  close(shade(2047.5, window), 0.5);
  assert.equal(shade(100, { center: 100, width: 1 }), 1);
  assert.equal(shade(99, { center: 100, width: 1 }), 0);
});

test("a window that is exact is half dark at its centre, and a sigmoid never ends", () => {
  close(shade(100, { center: 100, width: 50, shape: "LINEAR_EXACT" }), 0.5);
  close(shade(75, { center: 100, width: 50, shape: "LINEAR_EXACT" }), 0);
  close(shade(100, { center: 100, width: 50, shape: "SIGMOID" }), 0.5);
  assert.ok(shade(200, { center: 100, width: 50, shape: "SIGMOID" }) < 1);
});

test("bits that are not of the pixel are cut off, and the sign is extended", () => {
  assert.deepEqual([...storedValues(bytesOf(0xf001, 0x0fff), CT)], [1, 4095]);
  const signed = { ...CT, signed: true };
  assert.deepEqual([...storedValues(bytesOf(0x0fff, 0x0800, 0x07ff), signed)], [-1, -2048, 2047]);
  assert.deepEqual([...storedValues(bytesOf(0xffff, 0x8000), { ...signed, stored: 16, high: 15 })], [-1, -32768]);
  assert.deepEqual([...storedValues(bytesOf(0xfff0), { ...CT, high: 15 })], [4095]);
});

test("padding has no part in the window that is made, whether it was written signed or not", () => {
  const image = { ...CT, signed: true, stored: 16, high: 15, padding: [63536, 63536], intercept: 0 };
  assert.deepEqual(rangeOf(new Int16Array([-2000, -1000, 500]), image), [-1000, 500]);
  const window = windowOf(image, new Int16Array([-2000, -1000, 500]));
  assert.equal(shade(-1000, window), 0);
  close(shade(500, window), 1, 1e-3);
  assert.equal(rangeOf(new Int16Array([-2000]), image), null);
  assert.equal(greyTable(image, window, true)[63536] & 255, 0);
});

test("the image's own window goes before one of its values", () => {
  assert.equal(windowOf({ ...CT, windows: [{ center: 40, width: 400, shape: "LINEAR", name: "" }] }, new Uint16Array([0])).center, 40);
});

test("stored values become greys by rescale and window; MONOCHROME1 is dark where it is high", () => {
  const window = { center: 0, width: 2048 };
  const pixels = new Uint32Array(2);
  paintGrey(new Uint16Array([0, 4095]), greyTable(CT, window), pixels);
  assert.deepEqual([...pixels].map((one) => one & 255), [0, 255]);
  paintGrey(new Uint16Array([0, 4095]), greyTable({ ...CT, photometric: "MONOCHROME1" }, window), pixels);
  assert.deepEqual([...pixels].map((one) => one & 255), [255, 0]);
  paintGrey(new Uint16Array([0, 4095]), greyTable({ ...CT, photometric: "MONOCHROME1", look: "INVERSE" }, window), pixels);
  assert.deepEqual([...pixels].map((one) => one >>> 0), [0xffffffff, 0xff000000], "the two say one thing");
  paintGrey(new Uint16Array([0, 4095]), greyTable({ ...CT, photometric: "MONOCHROME1", look: "IDENTITY" }, window), pixels);
  assert.deepEqual([...pixels].map((one) => one & 255), [0, 255]);
  paintGrey(new Uint16Array([0, 4095]), greyTable({ ...CT, look: "INVERSE" }, window), pixels);
  assert.deepEqual([...pixels].map((one) => one & 255), [255, 0]);
});

const table = (data, entries, first, bits, name = "") => ({ "00283002": value(entries, first, bits), "00283003": value(name), "00283006": data });

test("tables are read as numbers, as bytes in the header, and as bytes that are asked for", async () => {
  const words = new Uint16Array([7, 8, 4095]), base64 = btoa(String.fromCharCode(...new Uint8Array(words.buffer)));
  const asked = [];
  const image = { modalityItem: null, voiItems: [table(value(7, 8, 4095), 3, -1, 12, "FLAT"), table({ InlineBinary: base64 }, 3, 0, 12),
    table({ BulkDataURI: "there" }, 3, 0, 12), table({ InlineBinary: btoa("\x01\x02\xff") }, 3, 0, 8), {}] };
  const read = () => tablesOf(image, async (uri) => { asked.push(uri); return words.buffer; });
  const { voi } = await read();
  assert.deepEqual(voi.map((one) => [...one.values]), [[7, 8, 4095], [7, 8, 4095], [7, 8, 4095], [1, 2, 255]]);
  assert.deepEqual(voi.map((one) => [one.first, one.most, one.name])[0], [-1, 4095, "FLAT"]);
  assert.equal((await read()).voi, voi, "once for all frames");
  assert.deepEqual(asked, ["there"]);
});

test("a table that could not be had is asked for again", async () => {
  const image = { voiItems: [table({ BulkDataURI: "there" }, 1, 0, 8)] };
  await assert.rejects(tablesOf(image, async () => { throw new Error("away"); }), /away/);
  assert.equal((await tablesOf(image, async () => new Uint8Array([5]).buffer)).voi.length, 1);
});

test("before a table lies its first value and behind it its last", () => {
  const one = { first: -2, most: 9, name: "", values: new Uint16Array([3, 5, 9]) };
  assert.deepEqual([-100, -2, -1, 0, 100].map((at) => through(one, at)), [3, 3, 5, 9, 9]);
});

test("an image is shown by its tables before its windows, and by hand from where the table lies", () => {
  const tables = { key: 1, modality: null, voi: [{ first: -1024, most: 255, name: "FLAT", values: new Uint8Array(2048).map((_, at) => (at < 1024 ? 10 : 200)) }] };
  const image = { ...CT, windows: [{ center: 40, width: 0.5, shape: "LINEAR", name: "" }, { center: 40, width: 0.5, shape: "SIGMOID", name: "" }] };
  assert.deepEqual(ownWindows(image, tables), [{ table: 0, name: "FLAT" }, image.windows[1]]);
  const window = windowOf(image, new Uint16Array([0]), tables);
  const greys = greyTable(image, window, false, tables);
  assert.deepEqual([0, 1023, 1024, 4095].map((at) => greys[at] & 255), [10, 10, 200, 200]);
  assert.equal(greyTable({ ...image, look: "INVERSE" }, window, false, tables)[0] & 255, 245);
  assert.deepEqual(byNumbers(window, tables), { center: 0, width: 2048, shape: "LINEAR", name: "" });
  assert.equal(byNumbers({ center: 1, width: 2 }, tables).center, 1);
});

test("the modality may be a table, and a value is told in what it makes", () => {
  const tables = { key: 2, modality: { first: 10, most: 255, name: "", values: new Uint8Array([5, 50, 100]) }, voi: [] };
  assert.equal(valueAt(new Uint16Array([11, 0]), CT, 0, 0, tables), 50);
  assert.deepEqual(windowOf(CT, new Uint16Array([10, 12]), tables), { center: 53, width: 96, shape: "LINEAR", name: "" });
  assert.equal(greyTable(CT, { center: 50, width: 101 }, false, tables)[12] & 255, 255);
});

test("eight bits that nobody scaled are shown as they are", () => {
  const image = { ...CT, bits: 8, stored: 8, high: 7, intercept: 0 };
  const greys = greyTable(image, windowOf(image, new Uint8Array([100, 200])));
  assert.deepEqual([0, 100, 255].map((at) => greys[at] & 255), [0, 100, 255]);
  assert.equal(windowOf({ ...image, isScaled: true }, new Uint8Array([100, 200])).width, 101);
});

test("negative stored values are found in the table of greys", () => {
  const image = { ...CT, signed: true, stored: 16, high: 15, intercept: 0 };
  const pixels = new Uint32Array(3);
  paintGrey(new Int16Array([-1000, 0, 1000]), greyTable(image, { center: 0.5, width: 2001 }), pixels);
  assert.deepEqual([...pixels].map((one) => one & 255), [0, 128, 255]);
});

test("colour is read interleaved and in planes", () => {
  const pixels = new Uint32Array(2);
  paintColour(new Uint8Array([1, 2, 3, 4, 5, 6]), { rows: 1, columns: 2, planar: false }, pixels);
  assert.deepEqual([...pixels], [0xff030201, 0xff060504]);
  paintColour(new Uint8Array([1, 4, 2, 5, 3, 6]), { rows: 1, columns: 2, planar: true }, pixels);
  assert.deepEqual([...pixels], [0xff030201, 0xff060504]);
});

test("a value is told in modality units", () => assert.equal(valueAt(new Uint16Array([0, 24, 1024, 2048]), CT, 1, 1), 1024));

test("a header becomes images with the groups of each frame", () => {
  const [first, second] = imagesOf({
    "0020000D": value("1"), "0020000E": value("1.1"), "00080018": value("1.1.1"), "00280008": value("2"), "00280010": value(4), "00280011": value(8),
    "00280100": value(16), "00280101": value(16), "00280103": value(1), "00280004": value("MONOCHROME2"),
    "52009229": value({ "00209116": value({ "00200037": value(1, 0, 0, 0, 1, 0) }), "00289110": value({ "00280030": value(2, 0.5) }) }),
    "52009230": value(
      { "00209113": value({ "00200032": value(0, 0, 5) }), "00289145": value({ "00281053": value(2), "00281052": value(-7) }) },
      { "00209113": value({ "00200032": value(0, 0, 9) }), "00289132": value({ "00281050": value(10), "00281051": value(20) }) }),
  });
  assert.deepEqual([first.position, first.slope, first.intercept, first.spacing, first.aspect, first.windows], [[0, 0, 5], 2, -7, [2, 0.5], 4, []]);
  assert.deepEqual([second.frame, second.position, second.slope, second.windows[0].width, second.high], [2, [0, 0, 9], 1, 20, 15]);
  assert.ok(first.signed && first.isNative);
});

test("what has other colours or more bits is asked for as a picture, and tables are no reason", () => {
  const header = (more) => imagesOf({ "00280100": value(8), "00280004": value("MONOCHROME2"), ...more })[0].isNative;
  assert.equal(header({}), true);
  assert.equal(header({ "00280004": value("RGB") }), true);
  for (const photometric of ["YBR_FULL_422", "PALETTE COLOR"]) assert.equal(header({ "00280004": value(photometric) }), false);
  assert.equal(header({ "00283000": value({}) }), true);
  assert.equal(header({ "00283010": value({}) }), true);
  assert.equal(header({ "00283010": value({}), "00281050": value(1) }), true);
  assert.equal(header({ "00280100": value(32) }), false);
});

test("a name is read as a person says it", () => {
  assert.equal(nameOf({ "00100010": value({ Alphabetic: "Doe^Jane^^Dr" }) }, "00100010"), "Doe, Jane");
  assert.equal(nameOf({}, "00100010"), "");
});

test("edges are named by the patient's directions", () => {
  assert.deepEqual(edgesOf({ orientation: [1, 0, 0, 0, 1, 0] }), { right: "L", left: "R", bottom: "P", top: "A" });
  assert.deepEqual(edgesOf({ orientation: [0, 1, 0, 0, 0, -1] }), { right: "P", left: "A", bottom: "F", top: "H" });
  assert.deepEqual(edgesOf({ orientation: null, sides: ["L", "F"] }), { right: "L", left: "R", bottom: "F", top: "H" });
  assert.equal(edgesOf({ orientation: null, sides: [] }), null);
  assert.equal(lettersOf([0.8, 0.6, 0.1]), "LP");
});

test("slices lie in order along their normal, others by number", () => {
  const slice = (z, number) => ({ position: [0, 0, z], orientation: [1, 0, 0, 0, 1, 0], number, frame: 1 });
  assert.deepEqual(inOrder([slice(5, 1), slice(-3, 2), slice(1, 3)]).map((one) => one.number), [2, 3, 1]);
  const plain = (number) => ({ position: null, orientation: null, number, frame: 1 });
  assert.deepEqual(inOrder([plain(3), plain(1)]).map((one) => one.number), [1, 3]);
  assert.equal(nearestTo([slice(0, 1), slice(10, 2), slice(20, 3)], 12), 1);
  assert.equal(nearestTo([plain(1)], 12), null);
});

test("what lies under the pointer stays there when one zooms, and pixels have their height", () => {
  const image = { rows: 100, columns: 100, aspect: 2 };
  const view = fitted(image, 400, 400);
  assert.deepEqual([view.scale, view.x, view.y], [2, 100, 0]);
  assert.deepEqual(toScreen(view, [100, 100]), [300, 400]);
  const nearer = zoomed(view, 3, [150, 200]);
  assert.deepEqual(toImage(nearer, [150, 200]), toImage(view, [150, 200]));
});

test("the ruler has a round length and none without spacing", () => {
  assert.deepEqual(rulerOf({ spacing: [1, 0.5] }, { scale: 2 }, 300), { mm: 50, px: 200 });
  assert.equal(rulerOf({ spacing: null }, { scale: 2 }, 300), null);
});

test("bits are unpacked from the least significant on, also where a frame begins within a byte", () => {
  assert.deepEqual([...unpackedBits(new Uint8Array([0b00000101, 0b10000000]), 9)], [1, 0, 1, 0, 0, 0, 0, 0, 0]);
  assert.deepEqual([...unpackedBits(new Uint8Array([0b10000000, 0b00000001]), 3, 7)], [1, 1, 0]);
});

test("masks lie on the images that they name, each with its segment", () => {
  const frame = (sop, segment) => ({
    "00089124": value({ "00082112": value({ "00081155": value(sop), "00081160": value("3") }) }), "0062000A": value({ "0062000B": value(segment) }) });
  const header = { "00620001": value("BINARY"), "00280008": value("2"), "00280010": value(3), "00280011": value(3), "00280100": value(1), "52009230": value(frame("1.1", 1), frame("1.2", 2)),
    "00620002": value({ "00620004": value(1), "00620005": value("Left lung"), "0062000D": value(65535, 32896, 32896) }, { "00620004": value(2), "00620005": value("Right lung") }) };
  const masks = masksOf(header), segments = segmentsOf(header);
  assert.deepEqual(masks.map((one) => [one.onSop, one.onFrame, one.segment]), [["1.1", 3, 1], ["1.2", 3, 2]]);
  assert.equal(segments.get(1).label, "Left lung");
  assert.ok(segments.get(1).colour.every((one) => one >= 253));
  assert.deepEqual([...labelsOf(new Uint8Array([0b00010001, 0]).buffer, masks[1])], [2, 0, 0, 0, 2, 0, 0, 0, 0]);
});

test("label maps hold their segments themselves, fractions count from their half on", () => {
  const mask = { rows: 1, columns: 3, kind: "LABELMAP", bits: 8 };
  assert.deepEqual([...labelsOf(new Uint8Array([0, 2, 1]).buffer, mask)], [0, 2, 1]);
  assert.deepEqual([...labelsOf(bytesOf(0, 300, 1), { ...mask, bits: 16 })], [0, 300, 1]);
  assert.deepEqual([...labelsOf(new Uint8Array([0, 128, 127]).buffer, { ...mask, kind: "FRACTIONAL", most: 255, segment: 4 })], [0, 4, 0]);
});

test("a mask is faint inside and strong at its outline", () => {
  const pixels = new Uint32Array(25);
  paintLabels(new Uint8Array(25).fill(1), { rows: 5, columns: 5 }, new Map([[1, { colour: [10, 20, 30] }]]), pixels);
  assert.deepEqual([pixels[12] >>> 24, pixels[0] >>> 24, pixels[12] & 0xffffff], [70, 230, 0x1e140a]);
});

test("CIELab colours are those of the screen", () => {
  assert.ok(fromLab([0, 32896, 32896]).every((one) => one === 0));
  const [red, green, blue] = fromLab([Math.round(53.2 / 100 * 65535), Math.round((80 + 128) * 257), Math.round((67 + 128) * 257)]);
  assert.ok(red > 240 && green < 60 && blue < 60);
});

test("the parts of an answer are its frames, stated lengths or not", () => {
  const text = (words) => new TextEncoder().encode(words).buffer;
  const read = (answer, type = 'multipart/related; boundary="b1"') => partsOf(text(answer), type).map((one) => new TextDecoder().decode(one));
  assert.deepEqual(read("--b1\r\nContent-Type: x\r\n\r\nfirst\r\n--b1\r\n\r\nsecond\n\r\n--b1--\r\n"), ["first", "second\n"]);
  assert.deepEqual(read("--b1\r\nContent-Length: 6\r\n\r\n--b1--\r\n--b1--"), ["--b1--"]);
  assert.deepEqual(read("plain", "application/octet-stream"), ["plain"]);
});

test("frames are kept up to a bound, what was looked at last the longest, and loaded once", async () => {
  const asked = [];
  const frames = new Frames({ mostBytes: 30, load: async (image) => { asked.push(image.sop); return { size: 10 }; } });
  const image = (sop) => ({ sop, frame: 1, rows: 1, columns: 5, samples: 1 });
  await Promise.all([frames.get(image("a")), frames.get(image("a")), frames.get(image("b")), frames.get(image("c"))]);
  assert.deepEqual(asked, ["a", "b", "c"]);
  frames.peek(image("a"));
  await frames.get(image("d"));
  assert.deepEqual(["a", "b", "c", "d"].map((sop) => Boolean(frames.peek(image(sop)))), [true, false, true, true]);
  assert.equal(frames.bytes, 30);
});

test("frames ahead are those around the place, nearest first, no more than fit", async () => {
  const asked = [];
  const frames = new Frames({ mostBytes: 40, atOnce: 1, load: async (image) => { asked.push(image.sop); return { size: 10 }; } });
  const images = [..."abcdefgh"].map((sop) => ({ sop, frame: 1, rows: 1, columns: 5, samples: 1 }));
  frames.prefetch(images, 4);
  await new Promise((done) => { frames.told = () => asked.length === 3 && frames.underWay === 1 && setTimeout(done); });
  assert.deepEqual(asked, ["e", "d", "f"]);
});

test("a frame that could not be loaded is asked for again", async () => {
  let tries = 0;
  const frames = new Frames({ load: async () => { tries += 1; if (tries === 1) throw new Error("away"); return { size: 1 }; } });
  await assert.rejects(frames.get({ sop: "a", frame: 1 }), /away/);
  assert.deepEqual(await frames.get({ sop: "a", frame: 1 }), { size: 1 });
});

const SQUARE = [[10, 10], [20, 10], [20, 20], [10, 20]];
const IMAGE = { sop: "1.2", frame: 1, frames: 1, rows: 100, columns: 100 };

test("a polygon is opened and closed, has an area, and holds points", () => {
  assert.deepEqual(opened(closed(SQUARE)), SQUARE);
  assert.equal(areaOf(SQUARE), 100);
  assert.ok(contains(SQUARE, [15, 15]) && !contains(SQUARE, [25, 15]));
  assert.ok(isRegion(SQUARE) && !isRegion([[0, 0], [5, 5], [10, 10]]));
});

test("corners are taken, moved, added and left out; all stay on the image", () => {
  assert.equal(cornerAt(SQUARE, [11, 11], 3), 0);
  assert.equal(cornerAt(SQUARE, [15, 15], 3), -1);
  assert.deepEqual(moved(SQUARE, [-50, 5], IMAGE)[0], [0, 15]);
  assert.deepEqual(withCorner(SQUARE, 1, [500, -3], IMAGE)[1], [100, 0]);
  assert.deepEqual(withNewCorner(SQUARE, [15, 9])[1], [15, 9]);
  assert.equal(withoutCorner(SQUARE, 0).length, 3);
  assert.equal(withoutCorner(SQUARE.slice(1), 0).length, 3);
});

test("a region is drawn corner by corner and closed at its first one", () => {
  const editor = new RegionEditor(IMAGE, null, () => {});
  for (const point of SQUARE) { editor.down(point, 2, IMAGE); editor.up(); }
  assert.ok(editor.isDrawing);
  editor.down([10.5, 10], 2, IMAGE);
  assert.ok(!editor.isDrawing);
  assert.deepEqual(editor.region(), { sop_instance_uid: "1.2", frame_number: null, points_xy_px: closed(SQUARE) });
});

test("a region is dragged as a whole and by its corners, and not on another image", () => {
  const editor = new RegionEditor(IMAGE, closed(SQUARE), () => {});
  assert.equal(editor.down([15, 15], 2, { ...IMAGE, sop: "other" }), false);
  editor.down([15, 15], 2, IMAGE);
  editor.drag([18, 15]);
  editor.up();
  assert.deepEqual(editor.corners[0], [13, 10]);
  editor.down([13, 10], 2, IMAGE);
  editor.drag([1, 2]);
  assert.deepEqual(editor.corners[0], [1, 2]);
});

test("a region is made and moved by keys alone", () => {
  let changes = 0;
  const editor = new RegionEditor(IMAGE, null, () => { changes += 1; });
  editor.begin([50, 50], 20);
  const press = (key, shiftKey = false) => editor.key({ key, shiftKey }, IMAGE);
  assert.ok(press("ArrowLeft") && press("ArrowDown", true));
  assert.deepEqual(editor.corners[0], [39, 50]);
  press("n");
  press("ArrowUp");
  assert.deepEqual(editor.corners[0], [39, 49]);
  press("Insert");
  assert.equal(editor.corners.length, 5);
  press("Delete");
  assert.equal(editor.corners.length, 4);
  assert.equal(press("x"), false);
  assert.equal(changes, 6 + 1);
});

const FINDINGS = [{ key: "nodule", label: "Nodule", presence: "PRESENT", region: { sop_instance_uid: "1.2", points_xy_px: closed(SQUARE), frame_number: null },
  measurements: [{ name: { value: "81827009" }, value: 7, unit: { value: "mm" } }, { name: { value: "118565006" }, value: null, unit: { value: "ml" } }] }];

test("what nobody has changed is told as unchanged", () => {
  assert.deepEqual(draftOf(FINDINGS).map(changeOf), [null]);
  assert.deepEqual(bodyOf("accept", { findings: draftOf(FINDINGS), reasons: ["OTHER"], text: " " }), { decision: "ACCEPTED", reasons: [], text: "" });
});

test("only what was changed is told, a number by its place and unit", () => {
  const [one] = draftOf(FINDINGS);
  one.measurements[0].value = 6.5;
  one.presence = "ABSENT";
  one.region = null;
  assert.deepEqual(bodyOf("modify", { findings: [one], reasons: ["WRONG_MEASUREMENT"], text: "x" }), { decision: "MODIFIED", reasons: ["WRONG_MEASUREMENT"], text: "x", added: [],
    findings: [{ key: "nodule", presence: "ABSENT", measurements: [{ place: 0, value: 6.5, unit: "mm" }], region: null }] });
  assert.deepEqual(reasonsIn([one], []), ["FALSE_POSITIVE", "WRONG_MEASUREMENT", "WRONG_REGION"]);
});

test("of a finding that should not be there nothing else is told", () => {
  const [one] = draftOf(FINDINGS);
  Object.assign(one, { removed: true, presence: "ABSENT", text: " gone " });
  assert.deepEqual(changeOf(one), { key: "nodule", removed: true, text: "gone" });
});

test("what was missed is added by its codes", () => {
  const site = { key: "lung", value: "39607008", scheme: "SCT", meaning: "Lung" };
  const added = [{ finding: "pneumothorax", site, side: null, label: "", presence: "PRESENT", text: "", region: null }];
  assert.deepEqual(bodyOf("modify", { added, reasons: ["FALSE_NEGATIVE"] }).added, [
    { finding: "pneumothorax", site: { value: "39607008", scheme: "SCT", meaning: "Lung" }, label: "", presence: "PRESENT", text: "" }]);
  assert.deepEqual(reasonsIn([], added), ["FALSE_NEGATIVE"]);
});

test("a segmentation that is not drawn is told with its reason, and one that is drawn is not", () => {
  const segments = new Map([[1, { label: "Nodule" }]]);
  const image = { sop: "1.2", frame: 1, rows: 4, columns: 4, position: [0, 0, 5] };
  const mask = { sop: "1.9", onSop: "1.2", onFrame: 0, rows: 4, columns: 4, position: null, segments };
  assert.deepEqual(undrawnOf([mask], [image]), []);
  assert.deepEqual(undrawnOf([], [image]), []);
  assert.ok(isMaskOn(mask, image));
  const small = { ...mask, rows: 2 };
  assert.ok(!isMaskOn(small, image));
  assert.deepEqual(undrawnOf([small], [image]), [{ labels: ["Nodule"], reason: "size", mask: small, image }]);
  assert.deepEqual(undrawnOf([{ ...mask, onSop: "1.3" }], [image]), [{ labels: ["Nodule"], reason: "elsewhere" }]);
  const byPlace = { ...mask, onSop: "", position: [0, 0, 5] };
  assert.deepEqual(undrawnOf([byPlace, { ...byPlace, position: [0, 0, 9] }], [image]), [], "one frame beside the stack is no fault");
});
