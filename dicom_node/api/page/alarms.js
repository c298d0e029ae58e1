// Alarms: what stands, who knows of it, and what is over.

import { may } from "./api.js";
import { chip, el, more, table, when } from "./dom.js";
import { STRINGS } from "./strings.js";

const SAY = STRINGS.alarms;

export function alarmsView(alarms, act) {
  const standing = alarms.filter((one) => one.standing !== "CLEARED");
  const over = alarms.filter((one) => one.standing === "CLEARED");
  return el("section", { class: "card", id: "alarms" }, el("h2", {}, SAY.title),
    standing.length ? table(SAY.title, SAY.columns, standing.map((one) => row(one, act))) : el("p", {}, SAY.none),
    over.length > 0 && more("alarms-over", SAY.over, table(SAY.over, SAY.overColumns, over.map((one) => [
      titleOf(one), one.text, when(one.since), when(one.cleared_at), one.acknowledged_by || "–"]))));
}

const titleOf = (one) => (one.subject ? `${one.title} (${one.subject})` : one.title);

function row(one, act) {
  return [
    el("th", { scope: "row" }, el("span", { class: "chip", data: { tone: one.severity === "critical" ? "bad" : "warn" } }, SAY.severities[one.severity]), " ", titleOf(one)),
    [one.text, one.study_instance_uid && [" ", el("a", { href: `#/study/${one.study_instance_uid}` }, SAY.study)]],
    when(one.since, "ago"),
    one.advice,
    one.standing === "ACKNOWLEDGED"
      ? [chip(one.standing), el("p", { class: "dim" }, SAY.knownBy(one.acknowledged_by, one.note))]
      : may("operate") && el("button", { type: "button", class: "quiet small", id: `acknowledge-${one.id}`, "aria-label": SAY.acknowledgeNamed(titleOf(one)),
        onclick: () => act(`/api/v1/alarms/${one.id}/acknowledge`, SAY.ask(titleOf(one)), SAY.acknowledged, { needsReason: true }) }, SAY.acknowledge),
  ];
}
