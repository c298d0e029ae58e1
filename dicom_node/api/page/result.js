// One result: findings, pictures, objects, and where the answer comes from.

import { bytes, chip, count, el, more, table, unitOf, words } from "/page/dom.js";
import { exportButtons } from "/page/exports.js";
import { STRINGS } from "/page/strings_viewer.js";
import { reviewTag, standsBehind } from "/page/verified.js";

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
      result.review_failed && el("span", { class: "tag", title: result.review_failed }, STRINGS.reviewFailedTag),
      result.review_waits && el("span", { class: "tag plain", title: result.review_waits }, STRINGS.reviewWaitsTag),
      result.shadow_of && el("span", { class: "tag plain" }, `shadow of ${result.shadow_of}, not delivered`),
      standingTag(result),
      readingButtons(result)),
    result.message && el("p", { class: "notice", data: { tone: "warn" } }, el("strong", {}, `${words(result.reason || "NOTE")}. `), result.message),
    findings.length > 0 && findingsTable(findings, summary.model, result.review_of ? "Presence" : "Model says"),
    (summary.notes ?? []).length > 0 && el("ul", { class: "notes" }, summary.notes.map((note) => el("li", {}, note))),
    gallery(result.artifacts, standsBehind(result)),
    objects(result.artifacts),
    exportButtons(result.links, `${summary.model?.name ?? result.model}, route ${result.route}`),
    provenance(result));
}

/** Why it does not hold any more; what was taken back says so more loudly than what was replaced. */
function standingTag(result) {
  if (result.current) return null;
  const takenBack = { WITHDRAWN: STRINGS.withdrawnTag, REJECTED: STRINGS.rejectedTag }[result.standing];
  return takenBack ? el("span", { class: "tag" }, takenBack(result.standing_reason)) : el("span", { class: "tag plain" }, STRINGS.replacedTag);
}

/** `judgement` heads what is said of presence: a person stands behind it, or a model says so. */
function findingsTable(findings, model, judgement) {
  const names = [...new Set(findings.flatMap((f) => (f.measurements ?? []).map(columnOf)))];
  const judged = findings.some((f) => f.presence);
  const scored = findings.some((f) => f.probability !== null && f.probability !== undefined);
  const heads = ["Finding", judged && judgement, scored && (model?.calibrated ? "Score" : "Score (uncalibrated)"), ...names].filter(Boolean);
  const rows = findings.map((finding) => {
    const values = new Map((finding.measurements ?? []).map((m) => [columnOf(m), m.value]));
    return [
      el("th", { scope: "row" }, finding.label),
      judged && el("td", {}, finding.presence ? presence(finding.presence) : "–"),
      scored && el("td", {}, score(finding)),
      ...names.map((name) => el("td", { class: "number" }, values.has(name) ? values.get(name)?.toLocaleString() ?? "not measurable" : "–")),
    ].filter(Boolean);
  });
  return table("Findings and measurements", heads, rows);
}

function columnOf(measurement) {
  const unit = unitOf(measurement.unit);
  return (measurement.label || measurement.name.meaning) + (unit ? ` [${unit}]` : "");
}

function presence(value) {
  return el("span", { class: "presence", data: { value } }, value === "UNDETERMINED" ? "Cannot tell" : words(value));
}

function score(finding) {
  if (finding.probability === null || finding.probability === undefined) return "–";
  const text = percent(finding.probability);
  const threshold = finding.threshold ?? null;
  return [
    el("meter", { min: 0, max: 1, value: finding.probability, "aria-label": `${finding.label}: score ${text}` }),
    el("span", { class: "number" }, ` ${text}`),
    threshold !== null && el("small", {}, ` threshold ${percent(threshold)}`),
    finding.score && el("small", {}, ` ${finding.score.meaning.toLowerCase()}`),
  ];
}

const percent = (share) => `${(share * 100).toFixed(1)} %`;

/** `standing` says who stands behind the pictures. */
function gallery(artifacts, standing) {
  const shown = artifacts.filter((a) => a.has_preview);
  if (!shown.length) return null;
  return el("ul", { class: "gallery" }, shown.map((a) => el("li", {}, el("figure", {},
    el("a", { href: `/api/v1/artifacts/${a.uid}/preview.png`, target: "_blank", rel: "noopener" }, picture(a, standing)),
    el("figcaption", {}, a.description || a.kind, " ",
      el("a", { href: `/api/v1/artifacts/${a.uid}`, download: "", "aria-label": `Download ${a.description || a.kind} as DICOM` }, "↓ DICOM"))))));
}

function picture(artifact, standing) {
  if (!pictures.has(artifact.uid)) pictures.set(artifact.uid, el("img", { src: `/api/v1/artifacts/${artifact.uid}/preview.png` }));
  const image = pictures.get(artifact.uid);
  image.alt = `${artifact.description || artifact.kind} (${standing})`; // which a review changes
  return image;
}

const KINDS = {
  SC: "Picture", SEG: "Segmentation", PM: "Parametric map", GSPS: "Presentation state", KOS: "Key images",
  PDF: "Report to print", SR: "Structured report", REJECT: "Rejection note", FHIR: "FHIR bundle",
};

/** Objects without a picture; pictures have their download below them. */
function objects(artifacts) {
  const others = artifacts.filter((a) => !a.has_preview);
  if (!others.length) return null;
  return el("div", { class: "downloads" }, others.map((a) =>
    el("a", { class: "download", href: `/api/v1/artifacts/${a.uid}`, download: "" },
      el("b", {}, KINDS[a.kind] ?? a.kind), el("span", {}, a.description || a.uid), el("small", {}, bytes(a.size_bytes)))));
}

function provenance(result) {
  const summary = result.summary;
  const model = summary.model ?? {};
  const facts = [
    ["Route", result.route], ["Study revision", result.revision], ["Result number", result.sequence],
    ["Intended use", model.intended_use], ["Limits", model.limits], ["Parameters", (model.parameters ?? []).join(", ")],
    ["Model digest (sha256)", model.digest], ["Device UID", model.device_uid], ["Node version", summary.node_version],
    ["Images used", (summary.source_sop_instance_uids ?? []).length || ""],
    ["Seconds per stage", Object.entries(summary.stage_times_s ?? {}).map(([k, v]) => `${k} ${v}`).join(", ")],
    ["Job key", result.job_key],
  ].filter(([, value]) => value !== "" && value !== undefined && value !== null);
  return more(`result-${result.job_key}`, `Where this answer comes from (${count(facts.length, "fact")})`,
    el("dl", { class: "facts" }, facts.map(([name, value]) => [el("dt", {}, name), el("dd", {}, String(value))])));
}
