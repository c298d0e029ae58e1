// One result: findings, pictures, objects, and where the answer comes from.

import { bytes, chip, count, el, more, table, unitOf, words } from "/page/dom.js";

const pictures = new Map(); // an <img> already loaded is moved, not loaded again

export function resultCard(result) {
  const summary = result.summary;
  const findings = summary.findings ?? [];
  return el("section", { class: result.current ? "card result" : "card result old" },
    el("header", { class: "result-head" },
      el("h2", {}, summary.model?.name ?? result.model, el("small", {}, ` ${summary.model?.version ?? ""}`)),
      chip(result.state),
      el("span", { class: "tag" }, "AI result – not verified"),
      result.shadow_of && el("span", { class: "tag plain" }, `shadow of ${result.shadow_of}, not delivered`),
      result.standing === "WITHDRAWN" ? el("span", { class: "tag" }, `withdrawn: ${result.standing_reason}`)
        : !result.current && el("span", { class: "tag plain" }, "replaced by a newer result")),
    result.message && el("p", { class: "notice", data: { tone: "warn" } }, el("strong", {}, `${words(result.reason || "NOTE")}. `), result.message),
    findings.length > 0 && findingsTable(findings, summary.model),
    (summary.notes ?? []).length > 0 && el("ul", { class: "notes" }, summary.notes.map((note) => el("li", {}, note))),
    gallery(result.artifacts),
    objects(result.artifacts),
    provenance(result));
}

function findingsTable(findings, model) {
  const names = [...new Set(findings.flatMap((f) => (f.measurements ?? []).map(columnOf)))];
  const judged = findings.some((f) => f.presence);
  const scored = findings.some((f) => f.probability !== null && f.probability !== undefined);
  const heads = ["Finding", judged && "Model says", scored && (model?.calibrated ? "Score" : "Score (uncalibrated)"), ...names].filter(Boolean);
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

function gallery(artifacts) {
  const shown = artifacts.filter((a) => a.has_preview);
  if (!shown.length) return null;
  return el("ul", { class: "gallery" }, shown.map((a) => el("li", {}, el("figure", {},
    el("a", { href: `/api/artifacts/${a.uid}/preview.png`, target: "_blank", rel: "noopener" }, picture(a)),
    el("figcaption", {}, a.description || a.kind, " ",
      el("a", { href: `/api/artifacts/${a.uid}`, download: "", "aria-label": `Download ${a.description || a.kind} as DICOM` }, "↓ DICOM"))))));
}

function picture(artifact) {
  if (!pictures.has(artifact.uid)) {
    pictures.set(artifact.uid, el("img", { src: `/api/artifacts/${artifact.uid}/preview.png`, alt: `${artifact.description || artifact.kind} (AI, not verified)` }));
  }
  return pictures.get(artifact.uid);
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
    el("a", { class: "download", href: `/api/artifacts/${a.uid}`, download: "" },
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
