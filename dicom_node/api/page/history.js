// Whose a study is and what keeps its result, above the study; what was found on the patient before, below it.

import { chip, dicomDate, el, numberText, table, when } from "./dom.js";
import { STRINGS } from "./strings.js";
import { reviewTag } from "./verified.js";
import { ANALYSED, personName } from "./worklist.js";

const SAY = STRINGS.history;

/** Patient and cause, each in one line: the first things to know of a study. */
export function caseHead(entry) {
  const said = entry.patient;
  const rest = said && [said.patient_id, said.birth_date && `${STRINGS.worklist.born} ${dicomDate(said.birth_date)}`, said.sex, said.accession_number].filter(Boolean);
  const waits = entry.undelivered.length > 0 || entry.study.state !== "REPORTED";
  return el("section", { class: "case", id: "case" },
    said && el("p", { class: "patient" }, el("b", {}, personName(said.name) || STRINGS.worklist.nobody), el("span", { class: "dim" }, ` ${rest.join(" · ")}`)),
    entry.says && el("p", { id: "cause", class: waits ? "notice" : "dim", data: { tone: entry.undelivered.length ? "bad" : "warn" } }, entry.says));
}

/** The other studies of the patient, each with the results that hold or that a person has taken back. */
export function historyView(history, uid) {
  const others = history.filter(({ study }) => study.study_instance_uid !== uid);
  return el("section", { class: "card", id: "history" }, el("h2", {}, SAY.title),
    others.length ? table(SAY.title, SAY.columns, others.map(earlier)) : el("p", { class: "dim" }, SAY.none));
}

function earlier({ study, results }) {
  const shown = results.filter((result) => !result.shadow_of && (result.current || isTakenBack(result, results)));
  return [
    dicomDate(study.study_date) || "–",
    el("a", { href: `#/study/${study.study_instance_uid}` }, study.description || STRINGS.worklist.noDescription),
    chip(study.state),
    shown.length ? el("ul", {}, shown.map(line)) : SAY.noResult,
  ];
}

/** Rejected by a person, and no later answer of its route is in its place. */
const isTakenBack = (result, all) =>
  result.standing === "REJECTED" && !all.some((other) => other.route === result.route && other.sequence > result.sequence);

/** What was found and who has reviewed it, and when; of what was taken back only that. */
function line(result) {
  return el("li", {}, `${result.model}: ${result.current ? told(result) : SAY.takenBack}`, " ",
    (ANALYSED.has(result.state) || result.reviewer) && reviewTag(result),
    result.reviewed_at && el("small", { class: "dim" }, " ", when(result.reviewed_at, "full")));
}

function told(result) {
  const findings = result.summary.findings ?? [];
  const said = findings.map((finding) => {
    if (finding.presence === "ABSENT") return `${finding.label} ${SAY.absent}`;
    const measured = (finding.measurements ?? []).filter((one) => one.value !== null).slice(0, 1)
      .map((one) => `${one.label || one.name.meaning} ${numberText(one.value)} ${one.unit.value === "1" ? "" : one.unit.value}`.trim());
    return [finding.label, ...measured].join(" ");
  });
  return said.join("; ") || result.message || SAY.noResult;
}
