// For who runs the node: what waits and why, one row for each cause; disk, throughput, and who has fallen silent.

import { may } from "./api.js";
import { bytes, el, more, numberText, table, toneOf, when, words } from "./dom.js";
import { STRINGS } from "./strings.js";
import { tried } from "./tries.js";

const SAY = STRINGS.overview;
const SILENT_H = 24;
const section = (id, title, ...children) => el("section", { class: "card", id }, el("h2", {}, title), children);

export function overview(told, act) {
  return [
    el("a", { class: "back", href: "#/" }, STRINGS.common.backToWorklist),
    el("header", { class: "study-head" }, el("div", {}, el("h1", {}, SAY.title), el("p", { class: "dim" }, SAY.says))),
    section("waits", SAY.waits, told.waiting.length ? waits(told.waiting, act) : el("p", {}, SAY.nothing),
      told.unlisted > 0 && el("p", { class: "dim" }, STRINGS.worklist.unlisted(told.unlisted))),
    section("disk", SAY.disk, disk(told.disk)),
    section("throughput", SAY.throughput, throughput(told.hours)),
    section("senders", SAY.senders, told.senders.length ? senders(told.senders) : el("p", {}, SAY.noSenders)),
  ];
}

// --- what waits --------------------------------------------------------------------------------------------------

function waits(groups, act) {
  return table(SAY.waits, SAY.columns, groups.map((group) => [
    el("th", { scope: "row" }, whereOf(group)),
    [SAY.kinds[group.kind], " ", el("span", { class: "chip", data: { tone: group.state === "SUSPENDED" ? "bad" : toneOf(group.state) } }, words(group.state))],
    [group.cause, group.studies.length > 0 && el("small", {}, ` ${SAY.examples} `, group.studies.map((uid, at) => [
      at > 0 && ", ", el("a", { href: `#/study/${uid}` }, SAY.example(at + 1))])),
      group.tries > 0 && el("small", { class: "dim tries" }, " ", tried(group.tries, group.next_try_at, otherwiseOf(group), group.count > 1))],
    el("td", { class: "number" }, numberText(group.count)),
    when(group.oldest_at, "ago"),
    [group.advice, again(group, act)],
  ]));
}

const otherwiseOf = (group) => (isDelivery(group) ? STRINGS.tries.nextWhenTaken : STRINGS.tries.nextInTurn);
const isDelivery = ({ kind }) => kind === "DELIVERY" || kind === "EVENT";
const whereOf = (group) => (isDelivery(group) ? group.place : group.kind === "ANALYSIS" || group.kind === "REVIEW" ? SAY.route(group.place) : SAY.intake);

/** What was refused for good, or waits for a suspended destination, is sent again when a person says so. */
function again(group, act) {
  if (!may("operate") || !isDelivery(group) || !["PARKED", "SUSPENDED"].includes(group.state)) return null;
  const name = group.place;
  return el("div", {}, el("button", { type: "button", class: "quiet small", id: `again-${group.kind}-${group.state}-${name}`,
    onclick: () => act(`/api/v1/destinations/${encodeURIComponent(name)}/retry`, SAY.sendQuestion(name), SAY.sending) },
    `${SAY.sendAgain}: ${name}`));
}

// --- disk, throughput, senders -----------------------------------------------------------------------------------

function disk({ free_bytes: free, total_bytes: total, reserve_bytes: reserve, keep_free_bytes: keepFree, forecast }) {
  const used = total - free;
  return [
    el("p", {}, el("meter", { min: 0, max: total, value: used, high: total - reserve, "aria-label": SAY.disk }), ` ${SAY.free(bytes(free), bytes(total))} `,
      el("span", { class: free < reserve ? "no" : "dim" }, free < reserve ? SAY.low : SAY.reserve(bytes(reserve)))),
    keepFree > 0 && el("p", { class: "dim" }, SAY.keepFree(bytes(keepFree))),
    el("p", { id: "forecast" }, forecast.text),
  ];
}

function throughput(hours) {
  const sum = (name) => numberText(hours.reduce((all, hour) => all + hour[name], 0));
  const most = Math.max(1, ...hours.map((hour) => hour.images));
  return [
    el("p", {}, SAY.day(sum("images"), sum("results"), sum("delivered"))),
    more("by-hour", SAY.byHour, table(SAY.byHour, SAY.hours, hours.toReversed().map((hour) => [
      when(hour.begins_at), el("td", { class: "number" }, el("meter", { min: 0, max: most, value: hour.images, "aria-label": `${hour.images}` }), ` ${numberText(hour.images)}`),
      el("td", { class: "number" }, numberText(hour.results)), el("td", { class: "number" }, numberText(hour.delivered))]))),
  ];
}

function senders(all) {
  return table(SAY.senders, SAY.senderColumns, all.map((one) => [
    el("th", { scope: "row" }, one.ae_title),
    one.last_seen_at ? [when(one.last_seen_at, "ago"), " ", silence(one.last_seen_at)] : el("span", { class: "tag" }, SAY.never),
    el("td", { class: "number" }, numberText(one.images)),
  ]));
}

function silence(at) {
  const hours = Math.floor((Date.now() - new Date(at)) / 3_600_000);
  return hours >= SILENT_H && el("span", { class: "tag" }, SAY.silent(hours));
}
