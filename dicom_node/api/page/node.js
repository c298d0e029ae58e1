// The node itself: tiles, footer, models, routes, deliveries that wait.

import { bytes, chip, count, el, table, toneOf, when, words } from "/page/dom.js";
import { destinationStanding } from "/page/destinations.js";

export function tiles(status, filter) {
  const { studies, jobs, deliveries } = status.counts;
  const states = Object.keys(studies).map((state) =>
    tile(words(state), studies[state], toneOf(state), `#/state/${state}`, filter === state));
  const oldest = status.oldest_pending_s;
  return [
    ...states,
    tile("In queue", jobs.QUEUED, "busy", null, false, jobs.RUNNING ? `${jobs.RUNNING} running` : ""),
    tile("To deliver", deliveries.PENDING, "busy", "#/deliveries/PENDING", false, oldest ? `oldest ${age(oldest)}` : ""),
    tile("Delivered", deliveries.SENT + deliveries.COMMITTED, "good", null, false, `${deliveries.COMMITTED.toLocaleString()} proved`),
    tile("Parked", deliveries.PARKED, "bad", "#/deliveries/PARKED", false, deliveries.PARKED ? "needs a human" : ""),
  ];
}

function tile(label, number, tone, href, active, hint = "") {
  const inside = [el("b", {}, number.toLocaleString()), el("span", {}, label), hint && el("small", {}, hint)];
  const shown = { class: "tile", data: { tone: number ? tone : "idle" } };
  return el("li", {}, href ? el("a", { ...shown, href, "aria-current": active ? "true" : null }, inside) : el("div", shown, inside));
}

function age(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 3600)} h`;
}

export function footer(status) {
  return [`Version ${status.version}`, `${bytes(status.disk_free_bytes)} free`, el("a", { href: "/api/v1/docs" }, "API")]
    .flatMap((part, index) => (index ? [" · ", part] : [part]));
}

export function nodeView(models, routes, status, shadows, destinations, act) {
  const names = Object.keys(models);
  return [
    el("section", { class: "card" }, el("h2", {}, "Routes"), routes.length
      ? table("Routes", ["Route", "Model", "Sends to", "Quiet period"], routes.map((r) => [
        r.name, r.model, r.shadow_of ? `nothing: shadow of ${r.shadow_of}` : r.destinations.join(", ") || "–", `${r.quiet_period_s} s`]))
      : el("p", {}, "No route is configured: studies are kept, but not analysed.")),
    status.refused_contexts.length > 0 && el("section", { class: "card" }, el("h2", {}, "Cannot be sent here"),
      el("p", { class: "dim" }, "Kinds of objects that peers proposed since the receiver's start and that it does not take."),
      table("Cannot be sent here", ["From", "Objects", "Why", "Transfer syntaxes", "Times", "Last"], status.refused_contexts.map((r) => [
        `${r.calling_ae_title} at ${r.host}`, r.sop_class_name, r.why, r.transfer_syntaxes.join(", "),
        el("td", { class: "number" }, r.count), when(r.last_at)]))),
    destinations.length > 0 && el("section", { class: "card" }, el("h2", {}, "Destinations"),
      table("Destinations", ["Destination", "Gets", "Left out", "Asked"], destinations.map((d) => [
        [d.name, destinationStanding(d, act)], d.gets.join(", ") || "nothing", [...d.left_out, d.problem, ...d.learned, d.query_refused_at && "cannot be asked whose study it has"].filter(Boolean).join("; ") || "–",
        d.heard_at ? when(d.heard_at) : d.is_asked ? "not heard yet" : "–"]))),
    shadows.length > 0 && el("section", { class: "card" }, el("h2", {}, "Shadow routes"),
      table("Shadow routes", ["Shadow", "Beside", "Studies", "Agree", "Latest difference"], shadows.map((s) => [
        `${s.route} (${s.model})`, `${s.shadow_of} (${s.live_model})`, el("td", { class: "number" }, s.compared),
        el("td", { class: "number" }, s.agreed), s.disagreements.length
          ? el("a", { href: `#/study/${s.disagreements[0].study_instance_uid}` }, s.disagreements[0].lines.join("; ")) : "–"]))),
    el("section", { class: "card" }, el("h2", {}, "Models"), el("p", {}, el("a", { href: "#/agreement" }, "How often readers agreed with them")), names.length
      ? names.map((name) => model(name, models[name]))
      : el("p", {}, "No usable model. `dicom-node models verify` says why.")),
    status.counts.destinations.length > 0 && el("section", { class: "card" }, el("h2", {}, "Deliveries"),
      table("Deliveries", ["Destination", "Pending", "Parked", "Sent", "Proved"], status.counts.destinations.map((d) => [
        d.destination, ...[d.pending, d.parked, d.sent + d.committed, d.committed].map((n) => el("td", { class: "number" }, n))]))),
  ];
}

function model(name, identity) {
  return el("div", { class: "decision" },
    el("h3", {}, name, el("small", {}, ` ${identity.version}`), " ", chip(identity.standing)),
    identity.why && el("p", { class: "notice", data: { tone: "bad" } }, `Not run: ${identity.why}`),
    el("p", {}, identity.intended_use, identity.limits && el("span", { class: "dim" }, ` Limits: ${identity.limits}`)),
    el("p", { class: "uid" }, `sha256 ${identity.digest.slice(0, 16)}…`,
      identity.accepted_by && ` · accepted: ${identity.accepted_by}`,
      identity.activated_at && [" · golden studies held ", when(identity.activated_at)]));
}

export function deliveriesView(state, deliveries, list) {
  const title = state === "PARKED" ? "Parked deliveries" : "Deliveries under way";
  const why = state === "PARKED"
    ? "The destination refused these for good. Remove the cause, then send them again."
    : "These go out by themselves; a destination that does not answer is tried again and again.";
  return [
    el("a", { class: "back", href: "#/" }, "← All studies"),
    el("header", { class: "study-head" }, el("div", {}, el("h1", {}, title), el("p", { class: "dim" }, why))),
    el("section", { class: "card" }, deliveries.length ? list : el("p", {}, "None.")),
    deliveries.length > 99 && el("p", { class: "dim" }, `Only the newest ${count(deliveries.length, "delivery", "deliveries")} are shown.`),
  ];
}
