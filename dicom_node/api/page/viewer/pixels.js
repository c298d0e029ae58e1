// From stored pixel values to what the screen shows: sign and unused bits, modality scale or table, window or table, inversion.

import { NO_TABLES, through, windowOver } from "./tables.js";

/** What one window makes of a value in modality units, 0..1 (PS3.3 C.11.2.1.2 and C.11.2.1.3). */
export function shade(value, { center, width, shape = "LINEAR" }) {
  if (shape === "SIGMOID") return 1 / (1 + Math.exp((-4 * (value - center)) / width));
  const [middle, range] = shape === "LINEAR_EXACT" ? [center, width] : [center - 0.5, width - 1];
  if (range <= 0) return value <= middle ? 0 : 1;
  return Math.min(1, Math.max(0, (value - middle) / range + 0.5));
}

/** Read the little-endian bytes of one frame: (rows · columns) stored values, with their sign and without foreign bits. */
export function storedValues(bytes, image) {
  const isWide = image.bits === 16;
  const raw = isWide ? new Uint16Array(bytes) : new Uint8Array(bytes);
  if (image.stored === image.bits) return image.signed ? asSigned(bytes, isWide) : raw;
  const left = 31 - image.high, right = 32 - image.stored;
  const values = image.signed ? (isWide ? new Int16Array(raw.length) : new Int8Array(raw.length)) : raw;
  for (let i = 0; i < raw.length; i++) values[i] = image.signed ? (raw[i] << left) >> right : (raw[i] << left) >>> right;
  return values;
}

const asSigned = (bytes, isWide) => (isWide ? new Int16Array(bytes) : new Int8Array(bytes));

/** Lowest and highest stored value that is no padding; `null` where all is. */
export function rangeOf(values, image) {
  const [from, to] = paddingAs(image) ?? [NaN, NaN];
  let lowest = Infinity, highest = -Infinity;
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    if (value >= from && value <= to) continue;
    if (value < lowest) lowest = value;
    if (value > highest) highest = value;
  }
  return lowest <= highest ? [lowest, highest] : null;
}

/** The padding of an image with the sign of its pixels: a writer may say 63536 for -2000. */
function paddingAs(image) {
  if (!image.padding) return null;
  const half = 2 ** (image.stored - 1);
  const fit = (value) => (image.signed && value >= half ? value - 2 * half : !image.signed && value < 0 ? value + 2 * half : value);
  const [from, to] = image.padding.map(fit);
  return [Math.min(from, to), Math.max(from, to)];
}

/** What the modality makes of a stored value. */
const modalityOf = (image, { modality }) => (modality ? (stored) => through(modality, stored) : (stored) => stored * image.slope + image.intercept);

/** The ways in which an image asks to be shown: its tables, then its windows; each linear one is at least 1 wide. */
export const ownWindows = (image, { voi } = NO_TABLES) => [
  ...voi.map(({ name }, table) => ({ table, name })),
  ...image.windows.filter((one) => one.width >= (one.shape === "LINEAR" ? 1 : 0) && one.width > 0),
];

/** What an image asks for first, or a window that holds all its values; eight bits that nobody scaled are shown as they are. */
export function windowOf(image, values, tables = NO_TABLES) {
  const [given] = ownWindows(image, tables);
  if (given) return { ...given };
  if (image.stored === 8 && !image.signed && !image.isScaled && !tables.modality) return { center: 128, width: 256, shape: "LINEAR", name: "" };
  const shown = (rangeOf(values, image) ?? [0, 1]).map(modalityOf(image, tables));
  const [lowest, highest] = shown.sort((a, b) => a - b);
  const width = Math.max(1, highest - lowest + 1);
  return { center: lowest + width / 2, width, shape: "LINEAR", name: "" };
}

/** A window by centre and width, of which one can be changed by hand. */
export const byNumbers = (window, { voi } = NO_TABLES) => (window.table === undefined ? window : windowOver(voi[window.table]));

/** Whether the lowest value is white: the Presentation LUT Shape says so, and where there is none MONOCHROME1 (PS3.3 C.7.6.3.1.2). */
const isDarkHigh = ({ look, photometric }) => (["IDENTITY", "INVERSE"].includes(look) ? look === "INVERSE" : photometric === "MONOCHROME1");

/** For each stored value its grey as a pixel of the screen; a negative value stands at its two's complement. */
export function greyTable(image, window, isInverted = false, tables = NO_TABLES) {
  const size = image.bits === 16 ? 65536 : 256;
  const table = new Uint32Array(size);
  const isDark = isDarkHigh(image) !== Boolean(isInverted);
  const [from, to] = paddingAs(image) ?? [NaN, NaN];
  const inUnits = modalityOf(image, tables);
  const voi = tables.voi[window.table];
  const share = voi ? (value) => Math.min(1, through(voi, value) / voi.most) : (value) => shade(value, window);
  for (let i = 0; i < size; i++) {
    const stored = image.signed && i >= size / 2 ? i - size : i;
    const unit = share(inUnits(stored));
    const grey = stored >= from && stored <= to ? 0 : Math.round(255 * (isDark ? 1 - unit : unit));
    table[i] = OPAQUE | (grey << 16) | (grey << 8) | grey;
  }
  return table;
}

const OPAQUE = 0xff000000;

/** Write the greys of one frame as pixels of the screen (little-endian RGBA). */
export function paintGrey(values, table, pixels) {
  const mask = table.length - 1;
  for (let i = 0; i < values.length && i < pixels.length; i++) pixels[i] = table[values[i] & mask];
}

/** Write a frame of RGB, interleaved or in planes, as pixels of the screen. */
export function paintColour(values, image, pixels) {
  const [step, next] = image.planar ? [1, image.rows * image.columns] : [3, 1];
  for (let i = 0, at = 0; i < pixels.length; i++, at += step) {
    pixels[i] = OPAQUE | (values[at + 2 * next] << 16) | (values[at + next] << 8) | values[at];
  }
}

/** The value at a pixel in modality units. */
export const valueAt = (values, image, column, row, tables = NO_TABLES) => modalityOf(image, tables)(values[row * image.columns + column]);
