// One result: findings, pictures, objects, and where the answer comes from.

import { bytes, chip, el, more, numberText, table, unitOf, words } from "./dom.js";
import { exportButtons } from "./exports.js";
import { STRINGS } from "./strings.js";
import { reviewTag, standsBehind } from "./verified.js";

const SAY = STRINGS.result;

const pictures = new Map(); // an <img> already loaded is moved, not loaded again

/** `readingButtons(result)` leads to its images and its review. */
export function resultCard(result, readingButtons) {
  const summary = result.summary;
  const findings = summary.findings ?? [];
  return el("section", { class: result.current ? "card result" : "card result old" },
    el("header", { class: "result-head" },
      el("h2", {}, summary.model?.name ?? result.model, el("small", {}, ` ${summary.model?.version ?? ""}`)),
      chip(result.state),
      reviewTag(result),
      result.review_failed && el("span", { class: "tag", title: result.review_failed }, SAY.reviewFailedTag),
      result.review_waits && el("span", { class: "tag plain", title: result.review_waits }, SAY.reviewWaitsTag),
      result.shadow_of && el("span", { class: "tag plain" }, SAY.shadowTag(result.shadow_of)),
      standingTag(result),
      readingButtons(result)),
    result.message && el("p", { class: "notice", data: { tone: "warn" } }, el("strong", {}, `${words(result.reason || "NOTE")}. `), result.message),
    findings.length > 0 && findingsTable(findings, summary.model, result.review_of ? SAY.presence : SAY.modelSays),
    (summary.notes ?? []).length > 0 && el("ul", { class: "notes" }, summary.notes.map((note) => el("li", {}, note))),
    gallery(result.artifacts, standsBehind(result)),
    objects(result.artifacts),
    exportButtons(result.links, SAY.exportOf(summary.model?.name ?? result.model, result.route)),
    provenance(result));
}

/** Why it does not hold any more; what was taken back says so more loudly than what was replaced. */
function standingTag(result) {
  if (result.current) return null;
  const takenBack = { WITHDRAWN: SAY.withdrawnTag, REJECTED: SAY.rejectedTag }[result.standing];
  return takenBack ? el("span", { class: "tag" }, takenBack(result.standing_reason)) : el("span", { class: "tag plain" }, SAY.replacedTag);
}

/** `judgement` heads what is said of presence: a person stands behind it, or a model says so. */
function findingsTable(findings, model, judgement) {
  const names = [...new Set(findings.flatMap((f) => (f.measurements ?? []).map(columnOf)))];
  const judged = findings.some((f) => f.presence);
  const scored = findings.some((f) => f.probability !== null && f.probability !== undefined);
  const heads = [SAY.finding, judged && judgement, scored && (model?.calibrated ? SAY.score : SAY.uncalibrated), ...names].filter(Boolean);
  const rows = findings.map((finding) => {
    const values = new Map((finding.measurements ?? []).map((m) => [columnOf(m), m.value]));
    return [
      el("th", { scope: "row" }, finding.label),
      judged && el("td", {}, finding.presence ? presence(finding.presence) : "–"),
      scored && el("td", {}, score(finding)),
      ...names.map((name) => el("td", { class: "number" }, values.has(name) ? measuredText(values.get(name)) : "–")),
    ].filter(Boolean);
  });
  return table(SAY.findings, heads, rows);
}

function columnOf(measurement) {
  const unit = unitOf(measurement.unit);
  return (measurement.label || measurement.name.meaning) + (unit ? ` [${unit}]` : "");
}

function presence(value) {
  return el("span", { class: "presence", data: { value } }, value === "UNDETERMINED" ? SAY.cannotTell : words(value));
}

function score(finding) {
  if (finding.probability === null || finding.probability === undefined) return "–";
  const text = percent(finding.probability);
  const threshold = finding.threshold ?? null;
  return [
    el("meter", { min: 0, max: 1, value: finding.probability, "aria-label": SAY.scoreOf(finding.label, text) }),
    el("span", { class: "number" }, ` ${text}`),
    threshold !== null && el("small", {}, ` ${SAY.threshold(percent(threshold))}`),
    finding.score && el("small", {}, ` ${finding.score.meaning.toLowerCase()}`),
  ];
}

const percent = STRINGS.common.percent;
const measuredText = (value) => (value === null || value === undefined ? SAY.notMeasurable : numberText(value));

/** `standing` says who stands behind the pictures. */
function gallery(artifacts, standing) {
  const shown = artifacts.filter((a) => a.has_preview);
  if (!shown.length) return null;
  return el("ul", { class: "gallery" }, shown.map((a) => el("li", {}, el("figure", {},
    el("a", { href: `/api/v1/artifacts/${a.uid}/preview.png`, target: "_blank", rel: "noopener" }, picture(a, standing)),
    el("figcaption", {}, a.description || a.kind, " ",
      el("a", { href: `/api/v1/artifacts/${a.uid}`, download: "", "aria-label": SAY.download(a.description || a.kind) }, SAY.downloadShort))))));
}

function picture(artifact, standing) {
  if (!pictures.has(artifact.uid)) pictures.set(artifact.uid, el("img", { src: `/api/v1/artifacts/${artifact.uid}/preview.png` }));
  const image = pictures.get(artifact.uid);
  image.alt = `${artifact.description || artifact.kind} (${standing})`; // which a review changes
  return image;
}

/** Objects without a picture; pictures have their download below them. */
function objects(artifacts) {
  const others = artifacts.filter((a) => !a.has_preview);
  if (!others.length) return null;
  return el("div", { class: "downloads" }, others.map((a) =>
    el("a", { class: "download", href: `/api/v1/artifacts/${a.uid}`, download: "" },
      el("b", {}, SAY.kindOf[a.kind] ?? a.kind), el("span", {}, a.description || a.uid), el("small", {}, bytes(a.size_bytes)))));
}

function provenance(result) {
  const summary = result.summary;
  const model = summary.model ?? {};
  const names = SAY.facts;
  const facts = [
    [names.route, result.route], [names.revision, result.revision], [names.sequence, result.sequence],
    [names.use, model.intended_use], [names.limits, model.limits], [names.parameters, (model.parameters ?? []).join(", ")],
    [names.digest, model.digest], [names.device, model.device_uid], [names.version, summary.node_version],
    [names.images, (summary.source_sop_instance_uids ?? []).length || ""],
    [names.seconds, Object.entries(summary.stage_times_s ?? {}).map(([k, v]) => `${k} ${v}`).join(", ")],
    [names.job, result.job_key],
  ].filter(([, value]) => value !== "" && value !== undefined && value !== null);
  return more(`result-${result.job_key}`, SAY.origin(facts.length),
    el("dl", { class: "facts" }, facts.map(([name, value]) => [el("dt", {}, name), el("dd", {}, String(value))])));
}
