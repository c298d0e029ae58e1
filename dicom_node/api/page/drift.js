// What has changed in inputs and outputs, scanner by scanner, and where a reference is still gathered.

import { el, table, when } from "./dom.js";
import { STRINGS } from "./strings.js";

const SAY = STRINGS.drift;

export function driftView(streams) {
  if (!streams.length) return null;
  const drifting = streams.flatMap((one) => one.comparisons.map((compared) => [one, compared]));
  const gathering = streams.filter((one) => !one.compared_from);
  return el("section", { class: "card", id: "drift" }, el("h2", {}, SAY.title), el("p", { class: "dim" }, SAY.says),
    drifting.length ? table(SAY.title, SAY.columns, drifting.map(row)) : el("p", {}, SAY.nothing),
    gathering.length > 0 && [el("h3", {}, SAY.gathering), el("ul", {}, gathering.map((one) =>
      el("li", {}, SAY.gathered(one.scanner, modelOf(one), one.results))))]);
}

const number = (value) => el("td", { class: "number" }, value);
const modelOf = (one) => SAY.model(one.model, one.model_version, one.route);

function row([one, compared]) {
  return [one.scanner, modelOf(one), el("code", {}, compared.feature), number(compared.reference_n),
    SAY.window(compared.window_n, compared.window_days), number(compared.shift.toFixed(2)),
    number(compared.corrected_p.toPrecision(2)), el("td", { title: SAY.lasting(compared.looks) }, when(compared.since))];
}
