// The detail of one study: results, why this series, deliveries, series, timeline.

import { may } from "/page/api.js";
import { bytes, chip, count, dicomDate, el, more, table, when } from "/page/dom.js";
import { exportButtons } from "/page/exports.js";
import { resultCard } from "/page/result.js";
import { STRINGS as WORDS } from "/page/strings.js";
import { STRINGS } from "/page/strings_viewer.js";
import { tried } from "/page/tries.js";
import { readingButtons } from "/page/viewer/open.js";

const TRIES = WORDS.tries;

/** `act(path, question, done)` asks the operator, posts, and says what happened. */
export function studyView(view, timeline, act) {
  const { study } = view;
  return [
    el("a", { class: "back", href: "#/" }, "← All studies"),
    head(study, view, act),
    view.viewer && viewerLink(view.viewer, study.study_instance_uid),
    exportButtons(view.links, "study"),
    study.reason && study.state !== "REPORTED" && el("p", { class: "notice", data: { tone: study.state === "FAILED" ? "bad" : "warn" } }, study.reason),
    wanted(view),
    view.results.map((result) => resultCard(result, readingButtons(view))),
    !view.results.length && el("section", { class: "card empty" }, el("p", {}, waitingText(study))),
    view.jobs.length > 0 && decisions(view),
    view.deliveries.length > 0 && section("Deliveries", deliveries(view.deliveries, act)),
    section("Received series", seriesTable(view.series), view.versions.total > 0 && versions(view.versions)),
    section("Timeline", timelineList(timeline, namesOf(view))),
  ];
}

const section = (title, ...children) => el("section", { class: "card" }, el("h2", {}, title), children);

function head(study, view, act) {
  const uid = study.study_instance_uid;
  const waits = study.deliveries.pending + study.deliveries.parked;
  const finished = view.jobs.some((j) => j.revision === study.revision && ["DONE", "PARTIAL", "NOT_ANALYSABLE", "FAILED"].includes(j.state));
  const standing = view.results.some((r) => r.standing === "CURRENT");
  const facts = [study.modalities.join(", "), dicomDate(study.study_date), count(study.series, "series", "series"), count(study.instances, "image"),
    study.revision > 1 && `revision ${study.revision}`].filter(Boolean);
  return el("header", { class: "study-head" },
    el("div", {}, el("h1", {}, study.description || "No description", " ", chip(study.state)),
      el("p", { class: "dim" }, facts.join(" · ")), el("p", { class: "uid" }, uid)),
    may("operate") && el("div", { class: "actions" },
      waits > 0 && el("button", { type: "button", class: "quiet", id: "retry-study",
        onclick: () => act(`/api/v1/studies/${uid}/retry`, `Send ${count(waits, "waiting object")} of this study now?`, "Sending again.") }, "Send again"),
      standing && el("button", { type: "button", class: "quiet", id: "withdraw-study",
        onclick: () => act(`/api/v1/studies/${uid}/withdraw`, "Take the results of this study back at every destination? All who read them are told why.", "Withdrawn; every destination is told.", { needsReason: true }) }, "Take back"),
      finished && el("button", { type: "button", id: "rerun-study",
        onclick: () => act(`/api/v1/studies/${uid}/rerun`, "Analyse this study again? With the same images, model and settings the same objects come out.", "Queued for analysis.", { none: "The present routes decide again." }) }, "Analyse again")));
}

/** Why it was made and is analysed, by its order and by the word of people; nothing where nobody said so. */
function wanted({ order, requests }) {
  const facts = [
    ["Procedure", order?.procedure], ["Indication of the order", order?.reason], ["Priority", order?.priority],
    ["Requested", order?.requested_at.replace("T", " ")],
    ...requests.flatMap(({ route, indication, purpose }) => {
      const about = route && `, route ${route}`;
      return [[`Indication${about}`, indication], [`Purpose${about}`, purpose]];
    }),
  ].filter(([, value]) => value);
  return facts.length > 0 && section("Why it is wanted",
    el("dl", { class: "facts" }, facts.map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])));
}

/** OHIF, where the node serves it: the study with its results, in a window of its own. */
const viewerLink = (address, uid) => el("p", {},
  el("a", { class: "button quiet small", id: "open-viewer", href: `${address}?StudyInstanceUIDs=${uid}`, target: "_blank", rel: "noopener" }, STRINGS.openViewer));

function waitingText(study) {
  if (study.state === "RECEIVING") return "Images are still arriving. The analysis starts when the sender has been quiet for a while.";
  if (study.state === "COMPLETE" || study.state === "ANALYSING") return "The analysis is under way. Results appear here by themselves.";
  return "There is no result. The reason is in the timeline below.";
}

function decisions(view) {
  const names = namesOf(view);
  return section("Why this series", view.jobs.map((job) => el("div", { class: "decision" },
    el("h3", {}, job.route, " → ", job.model, " ", chip(job.state),
      job.study_partial && el("span", { class: "tag" }, "study may be incomplete"),
      (job.attempts > 1 || job.next_attempt_at) && el("small", {}, " ", tried(job.attempts, job.next_attempt_at))),
    el("p", {}, named(job.decision.reason ?? job.message ?? "", names)),
    (job.decision.candidates ?? []).length > 0 && table("Candidate series", ["", "Series", "Images", "Route", "Model", "Order"],
      job.decision.candidates.map((c) => [
        c.series_instance_uid === job.decision.chosen ? el("b", { class: "yes" }, "chosen") : "",
        names.get(c.series_instance_uid) ?? c.series_instance_uid, el("td", { class: "number" }, c.instances),
        yesNo(c.meets_route), yesNo(c.meets_model), (c.rank_values ?? []).join(", ")])),
    more(`clauses-${job.id}`, "Every condition", (job.decision.candidates ?? []).map((c) => [
      el("h4", {}, names.get(c.series_instance_uid) ?? c.series_instance_uid),
      table("Conditions", ["Asked by", "Attribute", "Condition", "Found", "Holds"],
        (c.clauses ?? []).map((clause) => [clause.asked_by, clause.attribute, clause.condition, clause.actual, yesNo(clause.holds)]))])))));
}

const namesOf = (view) => new Map(view.series.map((s) => [s.series_instance_uid, s.description || s.series_instance_uid]));

/** Say series by their description where the text says them by UID. */
function named(text, names) {
  let told = text;
  for (const [uid, name] of names) told = told.replaceAll(uid, `“${name}”`);
  return told;
}

const yesNo = (yes) => el("span", { class: yes ? "yes" : "no" }, yes ? "yes" : "no");

/** What waits is shown; what has arrived or was discarded is counted, and listed on demand. */
function deliveries(all, act) {
  const waiting = all.filter((d) => d.state === "PENDING" || d.state === "PARKED");
  const arrived = all.filter((d) => d.state === "SENT" || d.state === "COMMITTED");
  const discarded = all.filter((d) => d.state === "DISCARDED");
  const perDestination = [...new Set(arrived.map((d) => d.destination))].map((name) => {
    const there = arrived.filter((d) => d.destination === name);
    return `${name} took ${count(there.length, "object")}, ${there.filter((d) => d.state === "COMMITTED").length} proved to be there`;
  });
  return [
    waiting.length > 0 && deliveriesTable(waiting, act),
    arrived.length > 0 && more("arrived", `Delivered: ${perDestination.join(", ")}`, deliveriesTable(arrived, act)),
    discarded.length > 0 && more("discarded", `Discarded: ${count(discarded.length, "object")}`, deliveriesTable(discarded, act)),
  ];
}

/** What is never sent again. */
const FINAL = new Set(["COMMITTED", "DISCARDED"]);

/** What a person may give up. */
const OWED = new Set(["PENDING", "PARKED"]);

export function deliveriesTable(deliveries, act, withStudy = false) {
  return table("Deliveries", ["Object", "To", "State", "Tries", "Last answer", ""], deliveries.map((d) => [
    withStudy ? el("a", { href: `#/study/${d.study_instance_uid}` }, `${d.artifact_kind} ${d.artifact_description}`) : `${d.artifact_kind} ${d.artifact_description}`,
    d.destination, chip(d.state), el("td", { class: "number" }, d.attempts),
    [d.note || "–", d.state === "PENDING" && el("small", { class: "dim" }, " ", tried(d.attempts, d.next_attempt_at, TRIES.nextWhenTaken)),
      d.warning && el("span", { class: "tag" }, `warning ${d.warning}`),
      d.sent_at && el("small", { class: "dim" }, " sent ", when(d.sent_at)),
      d.proof_note && el("small", { class: "dim" }, ` ${d.proof ? "proved" : "not proved"}: ${d.proof_note}`)],
    [may("operate") && !FINAL.has(d.state) && el("button", { type: "button", class: "quiet small", id: `retry-${d.id}`, "aria-label": `Retry ${d.artifact_kind} to ${d.destination}`,
      onclick: () => act(`/api/v1/deliveries/${d.id}/retry`, `Send ${d.artifact_kind} to ${d.destination} again now?`, "Sending again.") }, "Retry"),
    may("operate") && OWED.has(d.state) && el("button", { type: "button", class: "quiet small", id: `discard-${d.id}`, "aria-label": `Discard ${d.artifact_kind} for ${d.destination}`,
      onclick: () => act(`/api/v1/deliveries/${d.id}/discard`, `Never send ${d.artifact_kind} to ${d.destination}?`, "Discarded.", { needsReason: true }) }, "Discard")],
  ]));
}

const ROLES = { SOURCE: "Source", REJECTED: "Rejected at its source", EVIDENCE: "Evidence of others", OWN_RESULT: "Result of this node" };

function seriesTable(series) {
  return table("Received series", ["Series", "Modality", "Body part", "Images", "Size", "Kind"], series.map((s) => [
    s.description || el("span", { class: "uid" }, s.series_instance_uid), s.modality, s.body_part_examined,
    el("td", { class: "number" }, s.instances, s.superseded > 0 && el("small", { class: "dim" }, ` + ${count(s.superseded, "other version")}`)),
    el("td", { class: "number" }, bytes(s.size_bytes)), ROLES[s.role] ?? s.role]));
}

const CAME = { received: "first", corrected: "corrected", "moved-here": "moved here", encoded: "other encoding", unused: "not used", replaced: "replaced" };

/** Images that came again with other content: who sent which version, and which one is in use. */
function versions({ total, instances }) {
  const shown = instances.length < total ? `, the first ${instances.length}` : "";
  return more("versions", `${count(total, "image")} in more than one version${shown}`,
    table("Versions", ["Image", "Came", "How", "From", "Changed", ""], instances.flatMap((one) => one.versions.map((v, place) => [
      place === 0 ? el("span", { class: "uid" }, one.sop_instance_uid) : "", when(v.received_at), CAME[v.came] ?? v.came,
      v.calling_ae_title ? `${v.calling_ae_title} at ${v.source_host}` : "unknown",
      [v.changed.join(", "), v.flags.map((flag) => el("span", { class: "tag" }, flag))],
      v.in_use ? el("b", { class: "yes" }, "in use") : "kept"]))));
}

const FOLDED = 4; // a run of at least so many deliveries becomes one line
const FOLDING = { sent: "sent", committed: "proved to be there" };
const KINDS = { "attempt-failed": "failed" }; // in the words of people, where the kind is none

function timelineList(entries, names) {
  const runs = [];
  for (const entry of entries) {
    const last = runs.at(-1);
    if (last && entry.kind in FOLDING && entry.kind === last[0].kind) last.push(entry);
    else runs.push([entry]);
  }
  return el("ol", { class: "timeline" }, runs.flatMap((run) => (run.length < FOLDED
    ? run.map((entry) => timelineLine(entry, named(entry.text, names)))
    : timelineLine(run[0], more(`run-${run[0].at}`, `${run.length} objects ${FOLDING[run[0].kind]}`,
      el("ul", {}, run.map((entry) => el("li", {}, when(entry.at), " ", entry.text))))))));
}

function timelineLine(entry, said) {
  const by = entry.actor && entry.actor !== "node" && el("small", { class: "dim" }, ` by ${entry.actor}`);
  return el("li", { data: { kind: entry.kind } }, when(entry.at), el("span", { class: "kind" }, KINDS[entry.kind] ?? entry.kind), el("span", { class: "said" }, said, by));
}
