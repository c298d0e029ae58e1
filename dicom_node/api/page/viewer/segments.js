// Segmentations (PS3.3 C.8.20): which frame lies on which source image, its bits, and its colour.

import { firstOf, groupsOf, textOf, valuesOf } from "./dataset.js";
import { isSamePlace } from "./geometry.js";

const WITHOUT_COLOUR = [[230, 159, 0], [86, 180, 233], [0, 158, 115], [240, 228, 66], [213, 94, 0], [204, 121, 167]];

/** The segments of a SEG instance by number: label and colour, red green blue. */
export function segmentsOf(instance) {
  return new Map(valuesOf(instance, "00620002").map((one, place) => {
    const lab = valuesOf(one, "0062000D");
    const colour = lab.length === 3 ? fromLab(lab) : WITHOUT_COLOUR[place % WITHOUT_COLOUR.length];
    return [Number(firstOf(one, "00620004")), { label: textOf(one, "00620005"), colour }];
  }));
}

/** Every frame of a SEG instance: its segment (0: a label map of all) and the source image it is placed on. */
export function masksOf(instance) {
  const kind = textOf(instance, "00620001");
  const size = { rows: Number(firstOf(instance, "00280010")), columns: Number(firstOf(instance, "00280011")) };
  const about = {
    kind, ...size, bits: Number(firstOf(instance, "00280100") ?? 1), most: Number(firstOf(instance, "0062000E") ?? 255),
    study: textOf(instance, "0020000D"), series: textOf(instance, "0020000E"), sop: textOf(instance, "00080018"),
  };
  const frames = Number(firstOf(instance, "00280008") ?? 1);
  return Array.from({ length: frames }, (_, place) => ({ ...about, frame: place + 1, ...placeOf(groupsOf(instance, place + 1)) }));
}

function placeOf(read) {
  const [source] = read("00089124", "00082112");
  const position = read("00209113", "00200032").map(Number);
  return {
    segment: Number(read("0062000A", "0062000B")[0] ?? 0), onSop: textOf(source, "00081155"),
    onFrame: Number(firstOf(source, "00081160") ?? 0), position: position.length === 3 ? position : null,
  };
}

/** By the image that a mask names; one that names none, by its place in the patient. */
function liesOn(mask, image) {
  if (mask.onSop) return mask.onSop === image.sop && (!mask.onFrame || mask.onFrame === image.frame);
  return isSamePlace(mask.position, image.position);
}

const isSameSize = (mask, image) => mask.rows === image.rows && mask.columns === image.columns;

/** Whether a mask is drawn over an image: it lies there, pixel by pixel. */
export const isMaskOn = (mask, image) => isSameSize(mask, image) && liesOn(mask, image);

/**
 * Segmentations of which nothing, or not all, is drawn over these images: their labels, and the reason. "elsewhere": none
 * of them lies on one of the images; "size": `mask` has another size than its `image`.
 */
export function undrawnOf(masks, images) {
  const bySop = new Map();
  for (const mask of masks) bySop.has(mask.sop) ? bySop.get(mask.sop).push(mask) : bySop.set(mask.sop, [mask]);
  return [...bySop.values()].map((frames) => {
    const labels = [...frames[0].segments.values()].map((one) => one.label);
    const placed = frames.flatMap((mask) => images.filter((image) => liesOn(mask, image)).map((image) => ({ mask, image })));
    if (images.length && !placed.length) return { labels, reason: "elsewhere" };
    const odd = placed.find(({ mask, image }) => !isSameSize(mask, image));
    return odd && { labels, reason: "size", ...odd };
  }).filter(Boolean);
}

/** Bits to bytes of 0 and 1, the least significant bit first (PS3.5 8.1.1); `from` is the first bit. */
export function unpackedBits(bytes, number, from = 0) {
  const unpacked = new Uint8Array(number);
  for (let i = 0, bit = from; i < number; i++, bit++) unpacked[i] = (bytes[bit >> 3] >> (bit & 7)) & 1;
  return unpacked;
}

/** One value for each pixel of a mask: the segment it belongs to, 0 for none. A fraction counts from its half on. */
export function labelsOf(bytes, mask) {
  const number = mask.rows * mask.columns;
  if (mask.kind === "LABELMAP") return mask.bits === 16 ? new Uint16Array(bytes.slice(0, 2 * number)) : new Uint8Array(bytes, 0, number);
  if (mask.bits === 1) return unpackedBits(new Uint8Array(bytes), number).map((one) => one * mask.segment);
  return new Uint8Array(bytes, 0, number).map((one) => (2 * one >= mask.most ? mask.segment : 0));
}

/** Lay the labels over pixels of the screen: the inside lightly, the outline strongly. */
export function paintLabels(labels, { rows, columns }, segments, pixels) {
  for (let row = 0, i = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++, i++) {
      const label = labels[i];
      if (!label || !segments.has(label)) continue;
      const isEdge = row === 0 || column === 0 || row === rows - 1 || column === columns - 1
        || labels[i - 1] !== label || labels[i + 1] !== label || labels[i - columns] !== label || labels[i + columns] !== label;
      const [red, green, blue] = segments.get(label).colour;
      pixels[i] = ((isEdge ? 230 : 70) << 24) | (blue << 16) | (green << 8) | red;
    }
  }
}

/** CIELab as DICOM encodes it (PS3.3 C.10.7.1.1) to red, green, blue: white point D50, adapted to sRGB. */
export function fromLab([l, a, b]) {
  const lightness = (l / 65535) * 100, green = (a / 65535) * 255 - 128, blue = (b / 65535) * 255 - 128;
  const y = (lightness + 16) / 116;
  const [X, Y, Z] = [[y + green / 500, 0.9642], [y, 1], [y - blue / 200, 0.8251]]
    .map(([one, white]) => white * (one > 6 / 29 ? one ** 3 : (3 * (6 / 29) ** 2) * (one - 4 / 29)));
  const linear = [3.1339 * X - 1.6169 * Y - 0.4906 * Z, -0.9788 * X + 1.9161 * Y + 0.0335 * Z, 0.0719 * X - 0.229 * Y + 1.4052 * Z];
  return linear.map((one) => Math.round(255 * Math.min(1, Math.max(0, one <= 0.0031308 ? 12.92 * one : 1.055 * one ** (1 / 2.4) - 0.055))));
}
