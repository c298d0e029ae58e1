// The detail of one study: results, why this series, deliveries, series, timeline.

import { may } from "./api.js";
import { bytes, chip, dicomDate, el, more, table, when } from "./dom.js";
import { exportButtons } from "./exports.js";
import { resultCard } from "./result.js";
import { STRINGS } from "./strings.js";
import { tried } from "./tries.js";
import { readingButtons } from "./viewer/open.js";

const SAY = STRINGS.study;
const TRIES = STRINGS.tries;
const SENDING = STRINGS.deliveries;
const VERSIONS = STRINGS.versions;

/** `act(path, question, done)` asks the operator, posts, and says what happened. */
export function studyView(view, timeline, act) {
  const { study } = view;
  return [
    el("a", { class: "back", href: "#/" }, STRINGS.common.back),
    head(study, view, act),
    view.viewer && viewerLink(view.viewer, study.study_instance_uid),
    exportButtons(view.links, SAY.exportOf),
    study.reason && study.state !== "REPORTED" && el("p", { class: "notice", data: { tone: study.state === "FAILED" ? "bad" : "warn" } }, study.reason),
    retention(view),
    wanted(view),
    view.results.map((result) => resultCard(result, readingButtons(view))),
    !view.results.length && el("section", { class: "card empty" }, el("p", {}, waitingText(study))),
    view.jobs.length > 0 && decisions(view),
    view.deliveries.length > 0 && section(SENDING.title, deliveries(view.deliveries, act)),
    section(SAY.received, seriesTable(view.series), view.versions.total > 0 && versions(view.versions)),
    section(SAY.timeline, timelineList(timeline, namesOf(view))),
  ];
}

const section = (title, ...children) => el("section", { class: "card" }, el("h2", {}, title), children);

function head(study, view, act) {
  const uid = study.study_instance_uid;
  const waits = study.deliveries.pending + study.deliveries.parked;
  const finished = view.jobs.some((j) => j.revision === study.revision && ["DONE", "PARTIAL", "NOT_ANALYSABLE", "FAILED"].includes(j.state));
  const standing = view.results.some((r) => r.standing === "CURRENT");
  const facts = [study.modalities.join(", "), dicomDate(study.study_date), SAY.series(study.series), STRINGS.common.images(study.instances),
    study.revision > 1 && SAY.revision(study.revision)].filter(Boolean);
  return el("header", { class: "study-head" },
    el("div", {}, el("h1", {}, study.description || SAY.noDescription, " ", chip(study.state)),
      el("p", { class: "dim" }, facts.join(" · ")), el("p", { class: "uid" }, uid)),
    may("operate") && el("div", { class: "actions" },
      waits > 0 && el("button", { type: "button", class: "quiet", id: "retry-study",
        onclick: () => act(`/api/v1/studies/${uid}/retry`, SAY.askSend(waits), SAY.sending) }, SAY.sendAgain),
      standing && el("button", { type: "button", class: "quiet", id: "withdraw-study",
        onclick: () => act(`/api/v1/studies/${uid}/withdraw`, SAY.askTakeBack, SAY.takenBack, { needsReason: true }) }, SAY.takeBack),
      view.hold
        ? el("button", { type: "button", class: "quiet", id: "release-study",
          onclick: () => act(`/api/v1/studies/${uid}/release`, SAY.askRelease, SAY.released) }, SAY.release)
        : el("button", { type: "button", class: "quiet", id: "hold-study",
          onclick: () => act(`/api/v1/studies/${uid}/hold`, SAY.askHold, SAY.held, { needsReason: true }) }, SAY.hold),
      finished && el("button", { type: "button", id: "rerun-study",
        onclick: () => act(`/api/v1/studies/${uid}/rerun`, SAY.askAnalyse, SAY.queued, { none: SAY.routesDecide }) }, SAY.analyseAgain)));
}

/** What of it was deleted here, by which rule; and who keeps the rest. */
function retention({ deletions, hold }) {
  return [
    deletions.map((one) => el("p", { class: "notice deleted", data: { tone: "warn" } }, one.text)),
    hold && el("p", { class: "notice", id: "held", data: { tone: "warn" } }, SAY.heldBy(hold.held_by, hold.reason), " ", when(hold.since)),
  ];
}

/** Why it was made and is analysed, by its order and by the word of people; nothing where nobody said so. */
function wanted({ order, requests }) {
  const facts = [
    [SAY.procedure, order?.procedure], [SAY.orderIndication, order?.reason], [SAY.priority, order?.priority],
    [SAY.requested, order?.requested_at.replace("T", " ")],
    ...requests.flatMap(({ route, indication, purpose }) => [[SAY.indication(route), indication], [SAY.purpose(route), purpose]]),
  ].filter(([, value]) => value);
  return facts.length > 0 && section(SAY.wanted,
    el("dl", { class: "facts" }, facts.map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])));
}

/** OHIF, where the node serves it: the study with its results, in a window of its own. */
const viewerLink = (address, uid) => el("p", {},
  el("a", { class: "button quiet small", id: "open-viewer", href: `${address}?StudyInstanceUIDs=${uid}`, target: "_blank", rel: "noopener" }, SAY.openViewer));

function waitingText(study) {
  if (study.state === "RECEIVING") return SAY.arriving;
  if (study.state === "COMPLETE" || study.state === "ANALYSING") return SAY.underWay;
  return SAY.noResult;
}

function decisions(view) {
  const names = namesOf(view);
  return section(SAY.whySeries, view.jobs.map((job) => el("div", { class: "decision" },
    el("h3", {}, job.route, " → ", job.model, " ", chip(job.state),
      job.study_partial && el("span", { class: "tag" }, SAY.incomplete),
      (job.attempts > 1 || job.next_attempt_at) && el("small", {}, " ", tried(job.attempts, job.next_attempt_at))),
    el("p", {}, named(job.decision.reason ?? job.message ?? "", names)),
    (job.decision.candidates ?? []).length > 0 && table(SAY.candidates, SAY.candidateColumns,
      job.decision.candidates.map((c) => [
        c.series_instance_uid === job.decision.chosen ? el("b", { class: "yes" }, SAY.chosen) : "",
        names.get(c.series_instance_uid) ?? c.series_instance_uid, el("td", { class: "number" }, c.instances),
        yesNo(c.meets_route), yesNo(c.meets_model), (c.rank_values ?? []).join(", ")])),
    more(`clauses-${job.id}`, SAY.everyCondition, (job.decision.candidates ?? []).map((c) => [
      el("h4", {}, names.get(c.series_instance_uid) ?? c.series_instance_uid),
      table(SAY.conditions, SAY.conditionColumns,
        (c.clauses ?? []).map((clause) => [clause.asked_by, clause.attribute, clause.condition, clause.actual, yesNo(clause.holds)]))])))));
}

const namesOf = (view) => new Map(view.series.map((s) => [s.series_instance_uid, s.description || s.series_instance_uid]));

/** Say series by their description where the text says them by UID. */
function named(text, names) {
  let told = text;
  for (const [uid, name] of names) told = told.replaceAll(uid, SAY.quoted(name));
  return told;
}

const yesNo = (yes) => el("span", { class: yes ? "yes" : "no" }, yes ? SAY.yes : SAY.no);

/** What waits is shown; what has arrived or was discarded is counted, and listed on demand. */
function deliveries(all, act) {
  const waiting = all.filter((d) => d.state === "PENDING" || d.state === "PARKED");
  const arrived = all.filter((d) => d.state === "SENT" || d.state === "COMMITTED");
  const discarded = all.filter((d) => d.state === "DISCARDED");
  const perDestination = [...new Set(arrived.map((d) => d.destination))].map((name) => {
    const there = arrived.filter((d) => d.destination === name);
    return SENDING.took(name, there.length, there.filter((d) => d.state === "COMMITTED").length);
  });
  return [
    waiting.length > 0 && deliveriesTable(waiting, act),
    arrived.length > 0 && more("arrived", SENDING.arrived(perDestination.join(", ")), deliveriesTable(arrived, act)),
    discarded.length > 0 && more("discarded", SENDING.discarded(discarded.length), deliveriesTable(discarded, act)),
  ];
}

/** What is never sent again. */
const FINAL = new Set(["COMMITTED", "DISCARDED"]);

/** What a person may give up. */
const OWED = new Set(["PENDING", "PARKED"]);

export function deliveriesTable(deliveries, act, withStudy = false) {
  return table(SENDING.title, SENDING.columns, deliveries.map((d) => [
    withStudy ? el("a", { href: `#/study/${d.study_instance_uid}` }, `${d.artifact_kind} ${d.artifact_description}`) : `${d.artifact_kind} ${d.artifact_description}`,
    d.destination, chip(d.state), el("td", { class: "number" }, d.attempts),
    [d.note || "–", d.state === "PENDING" && el("small", { class: "dim" }, " ", tried(d.attempts, d.next_attempt_at, TRIES.nextWhenTaken)),
      d.warning && el("span", { class: "tag" }, SENDING.warning(d.warning)),
      d.sent_at && el("small", { class: "dim" }, ` ${SENDING.sent} `, when(d.sent_at)),
      d.proof_note && el("small", { class: "dim" }, ` ${d.proof ? SENDING.proved(d.proof_note) : SENDING.notProved(d.proof_note)}`)],
    [may("operate") && !FINAL.has(d.state) && el("button", { type: "button", class: "quiet small", id: `retry-${d.id}`, "aria-label": SENDING.retryNamed(d.artifact_kind, d.destination),
      onclick: () => act(`/api/v1/deliveries/${d.id}/retry`, SENDING.askRetry(d.artifact_kind, d.destination), SENDING.sending) }, SENDING.retry),
    may("operate") && OWED.has(d.state) && el("button", { type: "button", class: "quiet small", id: `discard-${d.id}`, "aria-label": SENDING.discardNamed(d.artifact_kind, d.destination),
      onclick: () => act(`/api/v1/deliveries/${d.id}/discard`, SENDING.askDiscard(d.artifact_kind, d.destination), SENDING.isDiscarded, { needsReason: true }) }, SENDING.discard)],
  ]));
}

function seriesTable(series) {
  return table(SAY.received, SAY.seriesColumns, series.map((s) => [
    s.description || el("span", { class: "uid" }, s.series_instance_uid), s.modality, s.body_part_examined,
    el("td", { class: "number" }, s.instances, s.superseded > 0 && el("small", { class: "dim" }, ` + ${SAY.otherVersions(s.superseded)}`)),
    el("td", { class: "number" }, bytes(s.size_bytes)), SAY.roleOf[s.role] ?? s.role]));
}

/** Images that came again with other content: who sent which version, and which one is in use. */
function versions({ total, instances }) {
  return more("versions", VERSIONS.head(total, instances.length),
    table(VERSIONS.title, VERSIONS.columns, instances.flatMap((one) => one.versions.map((v, place) => [
      place === 0 ? el("span", { class: "uid" }, one.sop_instance_uid) : "", when(v.received_at), VERSIONS.cameOf[v.came] ?? v.came,
      v.calling_ae_title ? VERSIONS.from(v.calling_ae_title, v.source_host) : VERSIONS.unknown,
      [v.changed.join(", "), v.flags.map((flag) => el("span", { class: "tag" }, flag))],
      v.in_use ? el("b", { class: "yes" }, VERSIONS.inUse) : VERSIONS.kept]))));
}

const FOLDED = 4; // a run of at least so many deliveries becomes one line

function timelineList(entries, names) {
  const runs = [];
  for (const entry of entries) {
    const last = runs.at(-1);
    if (last && entry.kind in SAY.folded && entry.kind === last[0].kind) last.push(entry);
    else runs.push([entry]);
  }
  return el("ol", { class: "timeline" }, runs.flatMap((run) => (run.length < FOLDED
    ? run.map((entry) => timelineLine(entry, named(entry.text, names)))
    : timelineLine(run[0], more(`run-${run[0].at}`, SAY.folded[run[0].kind](run.length),
      el("ul", {}, run.map((entry) => el("li", {}, when(entry.at), " ", entry.text))))))));
}

function timelineLine(entry, said) {
  const by = entry.actor && entry.actor !== "node" && el("small", { class: "dim" }, ` ${SAY.by(entry.actor)}`);
  return el("li", { data: { kind: entry.kind } }, when(entry.at), el("span", { class: "kind" }, SAY.kindOf[entry.kind] ?? entry.kind), el("span", { class: "said" }, said, by));
}
