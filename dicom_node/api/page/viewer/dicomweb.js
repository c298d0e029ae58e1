// Asks the node by QIDO-RS and WADO-RS (PS3.18 10.4, 10.6): which series there are, their headers, and frames.

import { Problem } from "../api.js";
import { STRINGS } from "../strings.js";
import { imagesOf, textOf } from "./dataset.js";
import { inOrder } from "./geometry.js";
import { partsOf } from "./multipart.js";
import { storedValues } from "./pixels.js";
import { tablesOf } from "./tables.js";

const SAY = STRINGS.viewer;

const JSON_TYPE = "application/dicom+json";
const NATIVE = 'multipart/related; type="application/octet-stream"; transfer-syntax=1.2.840.10008.1.2.1';

async function ask(path, accept) {
  const answer = await fetch(`/dicom-web/${path}`, { credentials: "same-origin", cache: "no-store", headers: { Accept: accept } });
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => ({}));
  throw new Problem(answer.status, body.detail ?? SAY.notLoaded(answer.status));
}

async function askJson(path) {
  const answer = await ask(path, JSON_TYPE);
  return answer.status === 204 ? [] : answer.json();
}

const seriesPath = (one) => `studies/${one.study}/series/${one.series}`;
const framePath = (one) => `${seriesPath(one)}/instances/${one.sop}/frames/${one.frame}`;

/** Every series that the node holds of a study, results included: one record of DICOM JSON for each. */
export const seriesOf = (study) => askJson(`studies/${study}/series?includefield=SeriesDescription&includefield=NumberOfSeriesRelatedInstances`);

/** The headers of all instances of a series. */
export const headersOf = (study, series) => askJson(`${seriesPath({ study, series })}/metadata`);

/** The images of a series in the order in which one scrolls, with the header of its first instance. */
export async function stackOf(study, series) {
  const headers = (await headersOf(study, series)).filter((one) => one["00280010"]);
  return { header: headers[0] ?? {}, images: inOrder(headers.flatMap(imagesOf)) };
}

export const describes = (record) => ({
  study: textOf(record, "0020000D"), uid: textOf(record, "0020000E"), modality: textOf(record, "00080060"),
  description: textOf(record, "0008103E"), images: Number(textOf(record, "00201209")) || 0,
});

/** The bytes of one frame as stored, decompressed by the node. */
export async function frameBytes(one) {
  const answer = await ask(framePath(one), NATIVE);
  const [part] = partsOf(await answer.arrayBuffer(), answer.headers.get("content-type"));
  return part;
}

/** A long value of a header, by the address that the header gives; the host in it is the one that the node knows itself by. */
async function bulkBytes(uri) {
  const answer = await ask(new URL(uri, location.href).pathname.replace(/^.*?\/dicom-web\//, ""), "application/octet-stream");
  return answer.arrayBuffer();
}

/** One frame, as stored values where the page can window them, else as the picture that the node makes of it. */
export async function loadFrame(image) {
  if (!image.isNative) {
    const answer = await ask(`${framePath(image)}/rendered`, "image/png, image/jpeg;q=0.9");
    return { picture: await createImageBitmap(await answer.blob()), size: image.rows * image.columns * 4 };
  }
  const [bytes, tables] = await Promise.all([frameBytes(image), tablesOf(image, bulkBytes)]);
  const wanted = (image.rows * image.columns * image.samples * image.bits) / 8;
  if (!bytes || bytes.byteLength < wanted) throw new Problem(0, SAY.tooShort);
  return { values: storedValues(bytes.slice(0, wanted), image), tables, size: wanted };
}
