// What stands around every view: where one can go, how the node does, and which version it is.

import { may } from "./api.js";
import { bytes, el, numberText, toneOf, when, words } from "./dom.js";
import { STRINGS } from "./strings.js";

const TILES = STRINGS.tiles;

/** The links above everything, for whoever has signed in. */
export function links(me) {
  return [
    el("a", { href: "#/", id: "to-worklist" }, STRINGS.links.worklist),
    el("a", { href: "#/node", id: "to-node" }, STRINGS.links.node),
    el("a", { href: "#/rules", id: "to-rules" }, STRINGS.links.rules),
    el("a", { href: "#/models", id: "to-models" }, STRINGS.links.models),
    may("administer") && el("a", { href: "#/people", id: "to-people" }, STRINGS.links.people),
    el("a", { href: "#/account", id: "to-account", title: me.roles.join(", ") }, me.name),
  ];
}

export function tiles(status, filter) {
  const { studies, jobs, deliveries } = status.counts;
  const states = Object.keys(studies).map((state) =>
    tile(words(state), studies[state], toneOf(state), `#/state/${state}`, filter === state));
  const oldest = status.oldest_pending_s;
  return [
    ...states,
    tile(TILES.queued, jobs.QUEUED, "busy", null, false, jobs.RUNNING ? TILES.running(jobs.RUNNING) : ""),
    tile(TILES.toDeliver, deliveries.PENDING, "busy", "#/deliveries/PENDING", false, oldest ? TILES.oldest(age(oldest)) : ""),
    tile(TILES.delivered, deliveries.SENT + deliveries.COMMITTED, "good", null, false, TILES.proved(deliveries.COMMITTED)),
    tile(TILES.parked, deliveries.PARKED, "bad", "#/deliveries/PARKED", false, deliveries.PARKED ? TILES.needsHuman : ""),
  ];
}

function tile(label, number, tone, href, active, hint = "") {
  const inside = [el("b", {}, numberText(number)), el("span", {}, label), hint && el("small", {}, hint)];
  const shown = { class: "tile", data: { tone: number ? tone : "idle" } };
  return el("li", {}, href ? el("a", { ...shown, href, "aria-current": active ? "true" : null }, inside) : el("div", shown, inside));
}

function age(seconds) {
  if (seconds < 90) return TILES.seconds(Math.round(seconds));
  if (seconds < 5400) return TILES.minutes(Math.round(seconds / 60));
  return TILES.hours(Math.round(seconds / 3600));
}

export function footer(status) {
  return [STRINGS.footer.version(status.version), STRINGS.footer.free(bytes(status.disk_free_bytes)), ...backups(status.last_backup),
    el("a", { href: "/api/v1/docs" }, STRINGS.footer.api)]
    .flatMap((part, index) => (index ? [" · ", part] : [part]));
}

/** When a backup was made last, and why one failed since; nothing where none was ever begun. */
function backups(last) {
  if (!last) return [];
  const said = STRINGS.footer;
  return [
    last.made_at ? el("span", { id: "last-backup" }, said.backup, " ", when(last.made_at), last.faults > 0 && el("span", { class: "no" }, said.backupLacks(last.faults)))
      : el("span", { id: "last-backup" }, said.noBackup),
    last.failed_at && el("span", { id: "failed-backup", class: "no" }, said.backupFailed, " ", when(last.failed_at), `: ${last.why_failed}`),
  ].filter(Boolean);
}
