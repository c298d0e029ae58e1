// Whose a study is and what keeps its result, above the study; what was found on the patient before, below it.

import { chip, dicomDate, el, table } from "/page/dom.js";
import { STRINGS } from "/page/strings.js";
import { personName } from "/page/worklist.js";

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

/** The other studies of the patient, each with the results that hold. */
export function historyView(history, uid) {
  const others = history.filter(({ study }) => study.study_instance_uid !== uid);
  return el("section", { class: "card", id: "history" }, el("h2", {}, SAY.title),
    others.length ? table(SAY.title, ["Date", "Study", "State", "What was found"], others.map(earlier)) : el("p", { class: "dim" }, SAY.none));
}

function earlier({ study, results }) {
  const holding = results.filter((result) => result.current && !result.shadow_of);
  return [
    dicomDate(study.study_date) || "–",
    el("a", { href: `#/study/${study.study_instance_uid}` }, study.description || STRINGS.worklist.noDescription),
    chip(study.state),
    holding.length ? el("ul", {}, holding.map((result) => el("li", {}, `${result.model}: ${told(result)}`))) : SAY.noResult,
  ];
}

function told(result) {
  const findings = result.summary.findings ?? [];
  const said = findings.map((finding) => {
    if (finding.presence === "ABSENT") return `${finding.label} ${SAY.absent}`;
    const measured = (finding.measurements ?? []).filter((one) => one.value !== null).slice(0, 1)
      .map((one) => `${one.label || one.name.meaning} ${one.value.toLocaleString()} ${one.unit.value === "1" ? "" : one.unit.value}`.trim());
    return [finding.label, ...measured].join(" ");
  });
  return said.join("; ") || result.message || SAY.noResult;
}
