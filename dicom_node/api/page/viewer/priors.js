// Earlier studies of the same patient of which the node still holds images to compare with.

import { get } from "../api.js";
import { textOf } from "./dataset.js";
import { describes, seriesOf } from "./dicomweb.js";

const MOST = 5;

/** For each prior the series that is most like the one with this header; newest first. */
export async function priorsOf(header, study) {
  const patient = textOf(header, "00100020");
  if (!patient) return [];
  const issuer = textOf(header, "00100021");
  const asked = issuer ? `?issuer=${encodeURIComponent(issuer)}` : "";
  const history = await get(`/api/v1/patients/${encodeURIComponent(patient)}/history${asked}`);
  const before = history.map((one) => one.study).filter((one) => one.study_instance_uid !== study && one.instances > 0)
    .sort((a, b) => b.study_date.localeCompare(a.study_date)).slice(0, MOST);
  const found = await Promise.all(before.map((one) => likest(one, header).catch(() => null)));
  return found.filter(Boolean);
}

async function likest(prior, header) {
  const modality = textOf(header, "00080060"), words = textOf(header, "0008103E");
  const alike = (await seriesOf(prior.study_instance_uid)).map(describes).filter((one) => one.modality === modality);
  if (!alike.length) return null;
  const [best] = alike.sort((a, b) => Number(b.description === words) - Number(a.description === words) || b.images - a.images);
  return { study: prior.study_instance_uid, series: best.uid, date: prior.study_date, description: prior.description };
}
