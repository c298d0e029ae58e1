// What has changed in inputs and outputs, scanner by scanner, and where a reference is still gathered.

import { may } from "./api.js";
import { el, table, when } from "./dom.js";
import { STRINGS } from "./strings.js";

const SAY = STRINGS.drift;

export function driftView(streams, stops, act) {
  if (!streams.length && !stops.length) return null;
  const drifting = streams.flatMap((one) => one.comparisons.map((compared) => [one, compared]));
  const gathering = streams.filter((one) => !one.compared_from);
  return el("section", { class: "card", id: "drift" }, el("h2", {}, SAY.title), el("p", { class: "dim" }, SAY.says),
    stops.map((one) => stopped(one, act)),
    drifting.length ? table(SAY.title, SAY.columns, drifting.map(row)) : el("p", {}, SAY.nothing),
    gathering.length > 0 && [el("h3", {}, SAY.gathering), el("ul", {}, gathering.map((one) =>
      el("li", {}, SAY.gathered(one.scanner, modelOf(one), one.results))))]);
}

/** A route in shadow, and the way to let it deliver again. */
function stopped({ route, since, reason }, act) {
  return el("div", {}, el("p", { class: "notice", data: { tone: "bad" } }, SAY.inShadow(route, reason), " ", when(since)),
    may("operate") && el("button", { type: "button", class: "quiet small", id: `restore-${route}`, onclick: () =>
      act(`/api/v1/drift/stops/${encodeURIComponent(route)}/restore`, SAY.askRestore(route), SAY.restored, { needsReason: true }) },
    SAY.restore));
}

const number = (value) => el("td", { class: "number" }, value);
const modelOf = (one) => SAY.model(one.model, one.model_version, one.route);

function row([one, compared]) {
  return [one.scanner, modelOf(one), el("code", {}, compared.feature), number(compared.reference_n),
    SAY.window(compared.window_n, compared.window_days), number(compared.shift.toFixed(2)),
    number(compared.corrected_p.toPrecision(2)), el("td", { title: SAY.lasting(compared.looks) }, when(compared.since))];
}
