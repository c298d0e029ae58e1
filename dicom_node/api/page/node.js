// The node itself: models, routes, deliveries that wait.

import { chip, el, table, when } from "./dom.js";
import { destinationStanding } from "./destinations.js";
import { STRINGS } from "./strings.js";

const SAY = STRINGS.node;
const OWED = STRINGS.deliveries;

export function nodeView(models, routes, status, shadows, destinations, act) {
  const names = Object.keys(models);
  return [
    el("section", { class: "card" }, el("h2", {}, SAY.routes), routes.length
      ? table(SAY.routes, SAY.routeColumns, routes.map((r) => [
        r.name, r.model, r.shadow_of ? SAY.shadow(r.shadow_of) : r.destinations.join(", ") || "–", SAY.seconds(r.quiet_period_s)]))
      : el("p", {}, SAY.noRoute)),
    status.refused_contexts.length > 0 && el("section", { class: "card" }, el("h2", {}, SAY.refused),
      el("p", { class: "dim" }, SAY.refusedAre),
      table(SAY.refused, SAY.refusedColumns, status.refused_contexts.map((r) => [
        SAY.peer(r.calling_ae_title, r.host), r.sop_class_name, r.why, r.transfer_syntaxes.join(", "),
        el("td", { class: "number" }, r.count), when(r.last_at)]))),
    destinations.length > 0 && el("section", { class: "card" }, el("h2", {}, SAY.destinations),
      table(SAY.destinations, SAY.destinationColumns, destinations.map((d) => [
        [d.name, destinationStanding(d, act)], d.gets.join(", ") || SAY.getsNothing, [...d.left_out, d.problem, ...d.learned, d.query_refused_at && SAY.cannotBeAsked].filter(Boolean).join("; ") || "–",
        d.heard_at ? when(d.heard_at) : d.is_asked ? SAY.notHeard : "–"]))),
    shadows.length > 0 && el("section", { class: "card" }, el("h2", {}, SAY.shadows),
      table(SAY.shadows, SAY.shadowColumns, shadows.map((s) => [
        `${s.route} (${s.model})`, `${s.shadow_of} (${s.live_model})`, el("td", { class: "number" }, s.compared),
        el("td", { class: "number" }, s.agreed), s.disagreements.length
          ? el("a", { href: `#/study/${s.disagreements[0].study_instance_uid}` }, s.disagreements[0].lines.join("; ")) : "–"]))),
    el("section", { class: "card" }, el("h2", {}, SAY.models), el("p", {}, el("a", { href: "#/agreement" }, SAY.agreement)),
      el("p", {}, el("a", { href: "#/concordance" }, SAY.concordance)), names.length
      ? names.map((name) => model(name, models[name]))
      : el("p", {}, SAY.noModel)),
    status.counts.destinations.length > 0 && el("section", { class: "card" }, el("h2", {}, SAY.deliveries),
      table(SAY.deliveries, SAY.deliveryColumns, status.counts.destinations.map((d) => [
        d.destination, ...[d.pending, d.parked, d.sent + d.committed, d.committed].map((n) => el("td", { class: "number" }, n))]))),
  ];
}

function model(name, identity) {
  return el("div", { class: "decision" },
    el("h3", {}, name, el("small", {}, ` ${identity.version}`), " ", chip(identity.standing)),
    identity.why && el("p", { class: "notice", data: { tone: "bad" } }, SAY.notRun(identity.why)),
    el("p", {}, identity.intended_use, identity.limits && el("span", { class: "dim" }, ` ${SAY.limits(identity.limits)}`)),
    el("p", { class: "uid" }, SAY.digest(identity.digest.slice(0, 16)),
      identity.accepted_by && ` · ${SAY.accepted(identity.accepted_by)}`,
      identity.activated_at && [` · ${SAY.goldenHeld} `, when(identity.activated_at)]));
}

export function deliveriesView(state, deliveries, list) {
  const title = state === "PARKED" ? OWED.parked : OWED.underWay;
  const why = state === "PARKED" ? OWED.parkedAre : OWED.underWayAre;
  return [
    el("a", { class: "back", href: "#/" }, STRINGS.common.back),
    el("header", { class: "study-head" }, el("div", {}, el("h1", {}, title), el("p", { class: "dim" }, why))),
    el("section", { class: "card" }, deliveries.length ? list : el("p", {}, OWED.none)),
    deliveries.length > 99 && el("p", { class: "dim" }, OWED.onlyNewest(deliveries.length)),
  ];
}
