// How a destination stands, and the way to suspend and to resume it; a route stands and goes on alike.

import { asSeen, may } from "/page/api.js";
import { chip, el, when } from "/page/dom.js";
import { ADMIN } from "/page/strings_admin.js";

const button = (id, text, label, onclick) => el("button", { type: "button", class: "quiet small", id, "aria-label": label, onclick }, text);

/** The standing of a destination, with what may be done about it. */
export function destinationStanding(destination, act) {
  const said = ADMIN.destinations;
  if (destination.state === "SUSPENDED" && !destination.suspended_by) return shutOut(destination, act);
  return standing("destinations", destination, said, act);
}

/** The standing of what a person suspends and resumes: `said` holds its questions. */
export function standing(what, one, said, act) {
  const at = `/api/v1/${what}/${encodeURIComponent(one.name)}`;
  if (one.state !== "SUSPENDED") {
    return el("div", {}, el("span", { class: "dim" }, ADMIN.active, " "), may("operate") && button(`suspend-${what}-${one.name}`,
      ADMIN.suspend, ADMIN.suspendNamed(one.name), () => act(`${at}/suspend`, said.askSuspend(one.name), said.suspended, { needsReason: true, seen: asSeen(one) })));
  }
  return el("div", {}, chip(one.state),
    el("p", { class: "notice", data: { tone: "bad" } }, ADMIN.suspendedBy(one.suspended_by, one.reason)),
    el("p", { class: "dim" }, ADMIN.since, when(one.since)),
    may("operate") && button(`resume-${what}-${one.name}`, ADMIN.resume, ADMIN.resumeNamed(one.name),
      () => act(`${at}/resume`, said.askResume(one.name), said.resumed, { seen: asSeen(one) })));
}

/** A destination that does not let the node in. */
function shutOut(destination, act) {
  const { name } = destination;
  const said = ADMIN.destinations;
  return el("div", {}, chip(destination.state),
    el("p", { class: "notice", data: { tone: "bad" } }, ADMIN.notLetIn(destination.reason)),
    el("p", { class: "dim" }, ADMIN.since, when(destination.since), may("operate") && ADMIN.whenRemoved),
    may("operate") && el("button", { type: "button", class: "quiet small", id: `retry-destination-${name}`,
      onclick: () => act(`/api/v1/destinations/${encodeURIComponent(name)}/retry`, said.askRetry(name), said.retried) }, ADMIN.sendAgain));
}
