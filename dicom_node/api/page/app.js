// The page: sign-in, the live connection, and which view is shown: the worklist, or beside it
// #/study/…, #/deliveries/…, #/node, #/people, #/account.

import { begin, forget, get, isChangedMeanwhile, post, session } from "./api.js";
import { byId, el, fillWords, offerLanguages, replace, words } from "./dom.js";
import { footer, links, tiles } from "./frame.js";
import { STRINGS } from "./strings.js";
import * as worklist from "./worklist.js";

const SAY = STRINGS.page;
const SIGNED_IN = "signed-in"; // remembered of this browser: whether to ask for the list before it is known who asks
const STATES = ["RECEIVING", "COMPLETE", "ANALYSING", "REPORTED", "NOT_ANALYSED", "FAILED"];
let events = null;
let refreshing = null;
let listed = ""; // what the list that is shown was asked for
let searching = null;
let views = null; // the modules of all that is shown beside the list, when they are wanted
let formShown = ""; // a view in which somebody may be typing is not made anew by itself

// --- sign-in -----------------------------------------------------------------------------------------------------

function showLogin() {
  localStorage.removeItem(SIGNED_IN);
  forget();
  events?.close();
  events = null;
  setLive("off", SAY.connection.none);
  byId("app").hidden = true;
  byId("logout").hidden = true;
  byId("who").hidden = true;
  session.me = null;
  formShown = "";
  byId("detail").replaceChildren();
  byId("studies").replaceChildren();
  byId("login").hidden = false;
  byId(byId("by-key").open ? "token" : "name").focus();
  offerOpenId().catch(say);
}

/** Offer the sign-in at the hospital's OpenID provider, where there is one; afterwards the same view is shown. */
async function offerOpenId() {
  const ways = await get("/login/ways");
  byId("login-openid").hidden = !ways.openid;
  byId("openid").textContent = ways.openid;
  byId("openid").href = `/login/oidc?view=${encodeURIComponent(location.hash.replace(/^#\//, ""))}`;
  byId("openid-fault").textContent = ways.openid_fault;
}

async function signIn(event) {
  event.preventDefault();
  try {
    const token = byId("token").value;
    await post("/login", token ? { token } : { name: byId("name").value, password: byId("password").value });
    for (const secret of ["token", "password"]) byId(secret).value = "";
    byId("login-error").textContent = "";
    await start();
  } catch (problem) {
    byId("login-error").textContent = problem.message;
  }
}

async function signOut() {
  const there = await post("/logout").catch(say);
  if (there?.sign_out_at) return location.assign(there.sign_out_at);
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
  events = new EventSource("/api/v1/events");
  events.addEventListener("open", () => setLive("on", SAY.connection.live));
  events.addEventListener("change", refreshSoon);
  events.addEventListener("heartbeat", refreshSoon);
  events.addEventListener("error", () => {
    setLive("off", SAY.connection.again);
    if (events?.readyState === EventSource.CLOSED) setTimeout(() => refresh().then(listen, say), 5000);
  });
}

function refreshSoon() {
  refreshing ??= setTimeout(() => { refreshing = null; refresh().catch(say); }, 250);
}

/** Ask for everything at once: what is shown beside the list does not wait for it. */
async function refresh() {
  const asking = get("/api/v1/status");
  const detail = showDetail(asking);
  detail.catch(() => {}); // said below, when the list is there
  const [status] = await Promise.all([asking, showList()]);
  byId("ae-title").textContent = status.ae_title;
  if (status.intended_use === "research") byId("mark").dataset.research = SAY.research;
  const alarms = [...status.not_ready, status.audit_fault && SAY.auditFault(status.audit_fault), status.settings_fault && SAY.settingsFault(status.settings_fault), status.clock?.fault].filter(Boolean);
  byId("alarm").hidden = !alarms.length;
  byId("alarm").textContent = alarms.join(" ");
  replace(byId("tiles"), tiles(status, byId("state").value));
  byId("footer").replaceChildren(...footer(status));
  await detail;
}

// --- list --------------------------------------------------------------------------------------------------------

async function showList() {
  const asked = worklist.wanted();
  const page = await get(`/api/v1/worklist?${asked}`);
  if (`${asked}` !== `${worklist.wanted()}`) return; // something else is asked for by now, and its answer may be here already
  worklist.showPage(page, asked, location.hash.match(/^#\/study\/([0-9.]+)$/)?.[1]);
  listed = `${asked}`;
}

function turn(forwards) {
  worklist.turn(forwards);
  showList().catch(say);
}

/** A pause between two letters of somebody who types; who waits for an answer does not notice it. */
const BETWEEN_LETTERS_MS = 100;

function search(event) {
  worklist.begin();
  if (event?.target !== byId("query")) return refreshSoon();
  clearTimeout(searching);
  searching = setTimeout(() => showList().catch(say), BETWEEN_LETTERS_MS);
}

/** Search at once; the only study that is found is opened. What is typed meanwhile is no part of the search any more. */
async function searchNow(event) {
  event.preventDefault();
  byId("query").blur();
  worklist.begin();
  clearTimeout(searching);
  if (listed !== `${worklist.wanted()}`) await showList();
  const found = byId("studies").querySelectorAll(".study");
  if (byId("query").value.trim() && found.length === 1) location.hash = found[0].hash;
  else (found[0] ?? byId("query")).focus();
}

function clearFilters() {
  byId("search").reset();
  search();
}

// --- detail ------------------------------------------------------------------------------------------------------

/** `asking`: the status that somebody has asked for already. */
async function showDetail(asking = null) {
  const [, view, argument] = location.hash.match(/^#\/(study|deliveries)\/([0-9.]+|PENDING|PARKED)$/) ?? location.hash.match(/^#\/(people|account|node|agreement|concordance)$/) ?? location.hash.match(/^#\/(rules|models)(?:\/([\w.%-]+))?$/) ?? [];
  document.body.dataset.view = view ?? "list";
  if (formShown && formShown === location.hash) return;
  const asked = location.hash;
  const { isForm, partsOf } = view ? await laterModules() : {};
  const page = { asking: asking ?? (view === "node" || view === "study" ? get("/api/v1/status") : null), act, change, again: showAgain };
  const parts = view ? await partsOf(view, argument, page) : [];
  // Another view is wanted by now, or another answer has shown this one already and somebody may be typing in it.
  if (!parts || asked !== location.hash || formShown === asked) return;
  replace(byId("detail"), parts);
  formShown = view && isForm(view) ? asked : "";
}

/** Show the view again, as somebody has just asked for something else in it. */
function showAgain() {
  formShown = "";
  showDetail().catch(say);
}

/** The modules of all views; the document names them, so that a browser asks for all of them at once. */
function laterModules() {
  if (!views) {
    const { later } = document.documentElement.dataset;
    document.head.append(...(later?.split(" ") ?? []).map((href) => el("link", { rel: "modulepreload", href })));
    views = import("./views.js").catch(() => { views = null; throw new Error(SAY.notLoaded); });
  }
  return views;
}

/** Ask, perhaps for a reason, post, say what happened, and show it. */
async function act(path, question, done, { needsReason = false, none = SAY.nothingWaits, seen } = {}) {
  if (!await confirmed(question, needsReason)) return;
  try {
    const { ids } = await post(path, needsReason ? { reason: byId("ask-reason").value } : undefined, seen);
    say({ message: ids && !ids.length ? none : done });
    formShown = "";
    await refresh();
  } catch (problem) {
    await sayAndShow(problem);
  }
}

/** Make a change of people or keys, perhaps after a question, say what happened, and show it. */
async function change(call, done, { question } = {}) {
  if (question && !await confirmed(question, false)) return;
  try {
    await call();
    session.me = await get("/api/v1/me");
    say({ message: done });
    formShown = "";
    await showDetail();
  } catch (problem) {
    await sayAndShow(problem);
  }
}

/** Say what went wrong; what somebody else has changed meanwhile is shown as it is now. */
async function sayAndShow(problem) {
  say(problem);
  if (!isChangedMeanwhile(problem)) return;
  formShown = "";
  await refresh().catch(say);
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
    worklist.begin();
    history.replaceState(null, "", "#/");
  }
  await refresh();
  const detail = byId("detail");
  if (document.body.dataset.view !== "list") detail.focus({ preventScroll: true });
  window.scrollTo({ top: 0 });
}

// --- start -------------------------------------------------------------------------------------------------------

/** Go on to where somebody came from before they signed in: an address of the viewer, and no other. */
function goOn() {
  const next = sessionStorage.getItem("next") ?? "";
  sessionStorage.removeItem("next");
  if (next.startsWith("/viewer/")) location.replace(next);
}

async function offerModels() {
  const models = Object.keys(await get("/api/v1/models"));
  byId("model").replaceChildren(byId("model").options[0], ...models.map((name) => el("option", { value: name }, name)));
}

/** Ask at once for all that is shown first: who it is, the node and the list. */
function askAhead() {
  for (const path of ["/api/v1/me", "/api/v1/status", `/api/v1/worklist?${worklist.wanted()}`]) begin(path);
}

async function start() {
  const next = new URLSearchParams(location.search).get("next");
  if (next) {
    sessionStorage.setItem("next", next);
    history.replaceState(null, "", location.pathname + location.hash);
  }
  session.me = await get("/api/v1/me");
  goOn();
  byId("who").replaceChildren(...links(session.me).filter(Boolean));
  await refresh();
  document.activeElement?.blur(); // the browser takes the focus from a hidden field a moment later: keys would be lost there
  byId("login").hidden = true;
  byId("app").hidden = false;
  byId("logout").hidden = false;
  byId("who").hidden = false;
  localStorage.setItem(SIGNED_IN, "yes");
  afterPaint(() => {
    listen();
    offerModels().catch(say);
    laterModules().catch(say);
  });
}

/** When what stands there now has been painted. */
const afterPaint = (act) => requestAnimationFrame(() => setTimeout(act));

fillWords();
offerLanguages(byId("language"));
byId("state").append(...STATES.map((state) => el("option", { value: state }, words(state))));
byId("login-form").addEventListener("submit", signIn);
byId("logout").addEventListener("click", signOut);
byId("columns").append(...STRINGS.worklist.columns.map((name) => el("span", {}, name)));
byId("search").addEventListener("submit", (event) => searchNow(event).catch(say));
byId("search").addEventListener("input", search);
byId("clear").addEventListener("click", clearFilters);
byId("older").addEventListener("click", () => turn(true));
byId("newer").addEventListener("click", () => turn(false));
worklist.listenToKeys();
// A page that is kept for "back" would hold its connection, of which a browser has six for one host.
window.addEventListener("pagehide", () => events?.close());
window.addEventListener("pageshow", (event) => { if (event.persisted && session.me) refresh().then(listen, say); });
window.addEventListener("hashchange", () => navigate().catch(say));
if (localStorage.getItem(SIGNED_IN)) askAhead(); // else who it is comes first: all the others would be refused
start().catch((problem) => { say(problem); showLogin(); });
