// The page: sign-in, the list of studies, the live connection, and which view is shown (#/study/…, #/deliveries/…).

import { get, post } from "/page/api.js";
import { byId, chip, count, el, replace, when, words } from "/page/dom.js";
import { deliveriesView, footer, nodeView, tiles } from "/page/node.js";
import { deliveriesTable, studyView } from "/page/study.js";

const STATES = ["RECEIVING", "COMPLETE", "ANALYSING", "REPORTED", "NOT_ANALYSED", "FAILED"];
const MOST_VERSIONS = 100; // of a study, shown
const place = { cursor: "", older: null, newer: null };
const known = new Map(); // study → last change seen, to show what is new
let events = null;
let refreshing = null;

// --- sign-in -----------------------------------------------------------------------------------------------------

function showLogin() {
  events?.close();
  events = null;
  setLive("off", "not connected");
  byId("app").hidden = true;
  byId("logout").hidden = true;
  byId("login").hidden = false;
  byId("token").focus();
}

async function signIn(event) {
  event.preventDefault();
  try {
    await post("/login", { token: byId("token").value });
    byId("token").value = "";
    byId("login-error").textContent = "";
    await start();
  } catch (problem) {
    byId("login-error").textContent = problem.message;
  }
}

async function signOut() {
  await post("/logout").catch(say);
  byId("detail").replaceChildren();
  byId("studies").replaceChildren();
  showLogin();
}

/** Show what went wrong; a session that has ended leads to the sign-in. */
function say(problem) {
  if (problem.status === 401) return showLogin();
  const toast = byId("toast");
  toast.textContent = problem.message;
  toast.dataset.tone = problem instanceof Error ? "bad" : "good";
  toast.hidden = false;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => { toast.hidden = true; }, 6000);
}

// --- live --------------------------------------------------------------------------------------------------------

function setLive(state, text) {
  byId("live").dataset.state = state;
  byId("live").textContent = text;
}

function listen() {
  events?.close();
  events = new EventSource("/api/events");
  events.addEventListener("open", () => setLive("on", "live"));
  events.addEventListener("change", refreshSoon);
  events.addEventListener("heartbeat", refreshSoon);
  events.addEventListener("error", () => {
    setLive("off", "reconnecting…");
    if (events?.readyState === EventSource.CLOSED) setTimeout(() => refresh().then(listen, say), 5000);
  });
}

function refreshSoon() {
  refreshing ??= setTimeout(() => { refreshing = null; refresh().catch(say); }, 250);
}

async function refresh() {
  const [status] = await Promise.all([get("/api/status"), showList()]);
  byId("ae-title").textContent = status.ae_title;
  if (status.intended_use === "research") byId("mark").dataset.research = "RESEARCH ONLY";
  byId("alarm").hidden = !status.not_ready.length;
  byId("alarm").textContent = status.not_ready.join(" ");
  replace(byId("tiles"), tiles(status, byId("state").value));
  byId("footer").replaceChildren(...footer(status));
  await showDetail(status);
}

// --- list --------------------------------------------------------------------------------------------------------

function wanted() {
  const asked = new URLSearchParams({ limit: "50" });
  if (byId("query").value.trim()) asked.set("query", byId("query").value.trim());
  if (byId("state").value) asked.set("state", byId("state").value);
  if (place.cursor) asked.set(...place.cursor);
  return asked;
}

async function showList() {
  const asked = wanted();
  const page = await get(`/api/studies?${asked}`);
  if (`${asked}` !== `${wanted()}`) return; // something else is asked for by now, and its answer may be here already
  Object.assign(place, { older: page.older, newer: page.newer });
  byId("older").disabled = !page.older;
  byId("newer").disabled = !page.newer;
  byId("older").parentElement.hidden = !page.older && !page.newer;
  const chosen = location.hash.match(/^#\/study\/([0-9.]+)$/)?.[1];
  replace(byId("studies"), page.studies.length ? page.studies.map((study) => line(study, chosen)) : nothing(asked));
  for (const study of page.studies) known.set(study.study_instance_uid, study.updated_at);
}

function nothing(asked) {
  const searched = asked.has("query") || asked.has("state");
  return el("li", { class: "empty" }, searched ? "No study matches." : "No study yet. Send one: dicom-node send FOLDER --to AET@HOST:PORT");
}

function line(study, chosen) {
  const uid = study.study_instance_uid;
  const fresh = known.size > 0 && known.get(uid) !== study.updated_at;
  const sent = study.deliveries;
  const facts = [study.modalities.join("/"), count(study.instances, "image"), ...study.routes.map((r) => r.model)].filter(Boolean);
  return el("li", { class: fresh ? "fresh" : "" },
    el("a", { id: `line-${uid}`, href: `#/study/${uid}`, class: "study", "aria-current": uid === chosen ? "true" : null },
      el("span", { class: "what" }, study.description || "No description"), chip(study.state),
      el("span", { class: "dim" }, facts.join(" · ")),
      el("span", { class: "right dim" }, sent.parked > 0 && el("b", { class: "no" }, `${sent.parked} parked `), when(study.last_received_at, "ago"))));
}

function turn(name, cursor) {
  place.cursor = cursor ? [name, cursor] : "";
  showList().catch(say);
}

function search(event) {
  event?.preventDefault();
  place.cursor = "";
  refreshSoon();
}

// --- detail ------------------------------------------------------------------------------------------------------

async function showDetail(status) {
  const [, view, argument] = location.hash.match(/^#\/(study|deliveries)\/([0-9.]+|PENDING|PARKED)$/) ?? [];
  document.body.dataset.view = view ?? "list";
  const detail = byId("detail");
  const asked = location.hash;
  let parts;
  if (view === "study") {
    const [study, timeline] = await Promise.all([get(`/api/studies/${argument}`), get(`/api/studies/${argument}/timeline`)]);
    const isCorrected = study.series.some((s) => s.superseded > 0) || timeline.some((entry) => entry.kind === "corrected");
    const versions = isCorrected ? await get(`/api/studies/${argument}/versions?limit=${MOST_VERSIONS}`) : { total: 0, instances: [] };
    parts = studyView({ ...study, versions }, timeline, act);
  } else if (view === "deliveries") {
    const deliveries = await get(`/api/deliveries?state=${argument}`);
    parts = deliveriesView(argument, deliveries, deliveriesTable(deliveries, act, true));
  } else {
    const [models, routes, shadows, destinations] = await Promise.all(
      ["models", "routes", "shadows", "destinations"].map((what) => get(`/api/${what}`)));
    parts = nodeView(models, routes, status ?? await get("/api/status"), shadows, destinations, act);
  }
  if (asked === location.hash) replace(detail, parts);
}

/** Ask, perhaps for a reason, post, say what happened, and show it. */
async function act(path, question, done, { needsReason = false, none = "Nothing waits." } = {}) {
  if (!await confirmed(question, needsReason)) return;
  try {
    const { ids } = await post(path, needsReason ? { reason: byId("ask-reason").value } : undefined);
    say({ message: ids.length ? done : none });
    await refresh();
  } catch (problem) {
    say(problem);
  }
}

function confirmed(question, needsReason) {
  const dialog = byId("ask");
  byId("ask-text").textContent = question;
  byId("ask-why").hidden = !needsReason;
  byId("ask-reason").required = needsReason;
  byId("ask-reason").value = "";
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

async function navigate() {
  const state = location.hash.match(/^#\/state\/([A-Z_]+)$/)?.[1];
  if (state && STATES.includes(state)) {
    byId("state").value = byId("state").value === state ? "" : state;
    place.cursor = "";
    history.replaceState(null, "", "#/");
  }
  await refresh();
  const detail = byId("detail");
  if (document.body.dataset.view !== "list") detail.focus({ preventScroll: true });
  window.scrollTo({ top: 0 });
}

// --- start -------------------------------------------------------------------------------------------------------

async function start() {
  await refresh();
  byId("login").hidden = true;
  byId("app").hidden = false;
  byId("logout").hidden = false;
  listen();
}

byId("state").append(...STATES.map((state) => el("option", { value: state }, words(state))));
byId("login-form").addEventListener("submit", signIn);
byId("logout").addEventListener("click", signOut);
byId("search").addEventListener("submit", search);
byId("query").addEventListener("input", search);
byId("state").addEventListener("change", search);
byId("older").addEventListener("click", () => turn("before", place.older));
byId("newer").addEventListener("click", () => turn("after", place.newer));
window.addEventListener("hashchange", () => navigate().catch(say));
start().catch((problem) => { say(problem); showLogin(); });
