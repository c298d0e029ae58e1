// Look-up tables of an image (PS3.3 C.11.1.1, C.11.2.1.1): read from its header, asked for where they are long, and applied.

import { textOf, valuesOf } from "./dataset.js";

/** No tables: values are scaled and windowed by numbers alone. */
export const NO_TABLES = { key: 0, modality: null, voi: [] };

const read = new Map(); // modality and VOI items → their tables: frames of one image have the same
const MOST_READ = 400;
let keys = 0;

/** The tables of an image; `fetchBytes` brings what its header does not hold itself. */
export function tablesOf(image, fetchBytes) {
  const [modalityItem] = [image.modalityItem].filter(isTable);
  const voiItems = (image.voiItems ?? []).filter(isTable);
  const of = modalityItem ?? voiItems[0];
  if (!of) return NO_TABLES;
  if (!read.has(of)) {
    if (read.size >= MOST_READ) read.delete(read.keys().next().value);
    read.set(of, bothOf(modalityItem, voiItems, fetchBytes));
    read.get(of).catch(() => read.delete(of)); // asked for again with the next image
  }
  return read.get(of);
}

const isTable = (item) => valuesOf(item, "00283002").length === 3 && Boolean(item["00283006"]);

async function bothOf(modalityItem, voiItems, fetchBytes) {
  const [modality, ...voi] = await Promise.all([modalityItem && tableOf(modalityItem, fetchBytes), ...voiItems.map((one) => tableOf(one, fetchBytes))]);
  keys += 1;
  return { key: keys, modality: modality ?? null, voi };
}

async function tableOf(item, fetchBytes) {
  const [entries, first, bits] = valuesOf(item, "00283002").map(Number);
  return { first, most: 2 ** bits - 1, name: textOf(item, "00283003"), values: await valuesIn(item, entries || 65536, fetchBytes) };
}

/** Words of bytes hold one entry each, or two of eight bits. */
async function valuesIn(item, entries, fetchBytes) {
  const { Value, InlineBinary, BulkDataURI } = item["00283006"];
  if (Value) return Uint16Array.from(Value.slice(0, entries));
  const bytes = InlineBinary ? Uint8Array.from(atob(InlineBinary), (one) => one.charCodeAt(0)).buffer : await fetchBytes(BulkDataURI);
  return bytes.byteLength < 2 * entries ? new Uint8Array(bytes) : new Uint16Array(bytes.slice(0, 2 * entries));
}

/** What lies before a table has its first value, what lies behind it the last. */
export function through(table, value) {
  const place = Math.trunc(value) - table.first;
  return table.values[Math.min(table.values.length - 1, Math.max(0, place))];
}

/** The linear window over the values that a table tells apart: where windowing by hand begins. */
export const windowOver = (table) => (
  { center: table.first + table.values.length / 2, width: table.values.length, shape: "LINEAR", name: "" });
