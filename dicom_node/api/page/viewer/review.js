// The panel beside the images: what the model found, and a person's word on it.

import { may, session } from "../api.js";
import { el, numberText, unitOf } from "../dom.js";
import { STRINGS } from "../strings.js";
import { bodyOf, draftOf, reasonsIn } from "./draft.js";
import { correctionForm } from "./corrections.js";
import { decide, decisionsOn, releaseLock, reviewCodes, standOf, takeLock } from "./review_api.js";
import { reasonFields, remarkField } from "./reasons.js";
import { personName } from "../worklist.js";

const SAY = STRINGS.viewer;

const DECISIONS = { a: "accept", m: "modify", r: "reject" };
const RENEWED_MS = 120_000; // long before a lock runs out

/** A decision that is told by no report says nothing of the result. */
const stands = ({ state }) => state !== "FALLEN" && state !== "FAILED";

/** Where the focus goes when this is asked. */
const FIRST = { look: "#review-accept, #review-confirm, .review-said", accept: "#review-send", confirm: "#review-send", object: "#reason-text", reject: "form input", modify: "form input, form select" };

export class ReviewPanel {
  /** `images` draws and shows regions for the panel: see `Reading`. `decided` hears of a decision that was taken. */
  constructor(result, images, decided) {
    Object.assign(this, { result, images, decided, mode: "look", message: "", isBad: false, isBusy: false, holdsLock: false, isReady: false });
    this.draft = { findings: draftOf(result.summary.findings ?? []), added: [], reasons: new Set(), text: "" };
    this.stand = standOf(result);
    this.element = el("section", { class: "review", "aria-label": SAY.reviewTitle });
    this.render();
  }

  get mayDecide() {
    return this.isReady && this.holdsLock && this.stand.isOpen;
  }

  /** Whether somebody else has decided, and this reader's word is what it waits for. */
  get mayConfirm() {
    return this.holdsLock && this.stand.awaits && this.stand.account !== session.me?.name;
  }

  /** Take the result for this reader, so that another sees that somebody is at it. */
  async begin() {
    const isReader = may("review");
    const holding = isReader && this.stand.isOpen ? this.#hold() : null; // whoever else has decided, it tells so itself
    const asked = [decisionsOn(this.result.job_key).catch(() => []), isReader ? reviewCodes().catch(() => null) : null, holding];
    const [decided, codes] = await Promise.all(asked);
    this.codes = codes;
    this.#learn(decided.filter(stands).at(-1));
    if (isReader && this.stand.awaits && this.stand.account !== session.me?.name) await this.#hold();
    this.isReady = true;
    this.render();
  }

  #learn(decision) {
    if (!decision) return;
    const words = [decision.reasons.map((one) => SAY.reasonOf[one] ?? one).join(" "), decision.text].filter(Boolean).join(" ");
    Object.assign(this.stand, { account: decision.reviewer_account, text: words, second: personName(decision.second_reader ?? "") });
    this.corrected = decision.decision === "MODIFIED" ? decision.findings.filter((one) => !one.removed).map((one) => one.finding) : null;
  }

  async #hold() {
    try {
      await takeLock(this.result.job_key);
      this.holdsLock = true;
      this.renewing ??= setInterval(() => this.#hold().then(() => { if (!this.holdsLock) this.render(); }), RENEWED_MS);
    } catch (problem) {
      this.holdsLock = false;
      this.#refused(problem);
    }
  }

  async end() {
    clearInterval(this.renewing);
    if (this.holdsLock) await releaseLock(this.result.job_key).catch(() => {}); // it runs out by itself
    this.holdsLock = false;
  }

  /** What a key asks for; whether it asks for anything. */
  key(event) {
    const decision = DECISIONS[event.key];
    if (decision && this.mode === "look" && this.mayDecide) return this.ask(decision), true;
    if (event.key === "a" && this.mode === "look" && this.mayConfirm) return this.ask("confirm"), true;
    if (event.key === "Escape" && this.mode !== "look") return this.ask("look"), true;
    return false;
  }

  /** Show the question of a decision, and put the focus where its answer begins. */
  ask(mode) {
    this.mode = mode;
    this.#say("");
    this.images.edit(null);
    this.render();
    this.element.querySelector(FIRST[mode])?.focus();
  }

  async send(decision) {
    if (this.isBusy) return;
    const fault = this.#faultIn(decision);
    if (fault) return this.#say(fault, true), this.#tell();
    this.isBusy = true;
    this.#say(SAY.sending);
    this.#tell();
    try {
      await decide(this.result.job_key, bodyOf(decision, { ...this.draft, reasons: [...this.draft.reasons] }));
      await this.#after(SAY.done[decision]);
    } catch (problem) {
      this.#refused(problem);
      this.render();
    } finally {
      this.isBusy = false;
    }
  }

  async #after(words) {
    const asked = [this.decided(), decisionsOn(this.result.job_key).catch(() => []), this.end()];
    const [result, decisions] = await Promise.all(asked);
    this.mode = "look";
    this.images.edit(null);
    this.result = result ?? this.result;
    this.stand = standOf(this.result);
    this.#learn(decisions.filter(stands).at(-1));
    this.#say(words);
    this.render();
    this.element.querySelector(".review-said")?.focus();
  }

  #refused(problem) {
    if (problem.status === 401) this.images.leave();
    this.#say(problem.message, true);
  }

  #say(message, isBad = false) {
    Object.assign(this, { message, isBad });
  }

  /** Tell without drawing the form anew: somebody is typing in it. */
  #tell() {
    const said = this.element.querySelector(".review-said");
    said.textContent = this.message;
    said.dataset.tone = this.isBad ? "bad" : "good";
  }

  #faultIn(decision) {
    const { findings, added, reasons, text } = this.draft;
    if (decision === "accept" || decision === "confirm") return "";
    if (decision === "object") return text.trim() ? "" : SAY.needsObjection;
    if (decision === "reject" && !reasons.size) return SAY.needsReason;
    if (reasons.has("OTHER") && !text.trim()) return SAY.needsText;
    if (decision === "reject") return "";
    const odd = findings.flatMap((one) => one.measurements).find(({ value, was }) => value !== was && !Number.isFinite(value));
    const body = bodyOf("modify", { findings, added });
    const isSame = !body.findings.length && !body.added.length && SAY.needsChange;
    return (odd && SAY.needsNumber(odd.label || odd.name.meaning)) || isSame || (!reasons.size && SAY.needsReason) || "";
  }

  /** The reasons that the changes give are ticked. */
  suggestReasons() {
    for (const reason of reasonsIn(this.draft.findings, this.draft.added)) {
      this.draft.reasons.add(reason);
      const box = this.element.querySelector(`#reason-${reason}`);
      if (box) box.checked = true;
    }
  }

  render() {
    const { scrollTop } = this.element;
    this.element.replaceChildren(...[
      el("h2", {}, SAY.findings),
      this.result.message && el("p", { class: "notice" }, this.result.message),
      this.mode === "modify" ? correctionForm(this) : findingsList(this.#stated(), this.images),
      el("h2", {}, SAY.reviewTitle),
      standLine(this.stand),
      troubleLine(this.stand),
      ...this.#decision(),
      el("p", { class: "review-said", role: "status", tabindex: -1, data: { tone: this.isBad ? "bad" : "good" } }, this.message)].filter(Boolean));
    this.element.scrollTop = scrollTop;
    // Whoever goes back from correcting decides on what the model said, and sees that.
    this.images.show(this.mode === "modify" ? [...this.draft.findings, ...this.draft.added] : this.#stated());
  }

  /** The masks are known by now, and with them which findings can be shown; a form is not made anew while somebody types. */
  masksAreKnown() {
    if (this.mode !== "look") return;
    const nameOf = (one) => one.id || one.getAttribute("aria-label");
    const name = this.element.contains(document.activeElement) ? nameOf(document.activeElement) : null;
    this.render();
    if (name) [...this.element.querySelectorAll("button")].find((one) => nameOf(one) === name)?.focus();
  }

  /** The findings as a reader has corrected them, else as the model said them. */
  #stated() {
    return this.corrected ?? this.result.summary.findings ?? [];
  }

  #why() {
    if (!may("review")) return SAY.mayNot;
    if (this.stand.isOpen) return ""; // the message says who is at it, or what else is in the way
    return this.stand.awaits && this.stand.account === session.me?.name ? SAY.awaitsOther : this.stand.isReport ? SAY.isReport : "";
  }

  #decision() {
    if (this.mode === "modify") return [];
    if (this.mode !== "look") return [this.#question()];
    if (this.mayDecide) return [this.#choice()];
    if (!this.mayConfirm) return [el("p", { class: "dim" }, this.#why())];
    const button = (mode, words) => el("button", { type: "button", id: `review-${mode}`, class: mode === "confirm" ? "" : "quiet", onclick: () => this.ask(mode) }, words);
    return [el("div", { class: "actions choice" }, button("confirm", SAY.confirmSecond), button("object", SAY.object))];
  }

  /** What is asked before a decision counts. */
  #question() {
    const words = { accept: [SAY.acceptAsk, SAY.decide.confirm], reject: [SAY.rejectAsk, SAY.decide.reject],
      confirm: [SAY.confirmAsk, SAY.decide.confirm], object: [SAY.objectAsk, SAY.object] }[this.mode];
    return el("form", { class: "decision-form", onsubmit: (event) => { event.preventDefault(); this.send(this.mode); } },
      el("p", {}, words[0]),
      this.mode === "reject" && reasonFields(this.draft), this.mode === "object" && remarkField(this.draft),
      el("div", { class: "actions" }, el("button", { type: "button", class: "quiet", onclick: () => this.ask("look") }, SAY.back),
        el("button", { type: "submit", id: "review-send" }, words[1])));
  }

  /** With a pointer one click accepts; with a key one more confirms, since keys are hit by mistake. */
  #choice() {
    const choose = (decision) => (event) => (decision === "accept" && event.detail > 0 ? this.send("accept") : this.ask(decision));
    return el("div", { class: "actions choice" }, Object.entries(DECISIONS).map(([key, decision]) =>
      el("button", { type: "button", id: `review-${decision}`, class: decision === "accept" ? "" : "quiet", "aria-keyshortcuts": key, onclick: choose(decision) },
        SAY.decide[decision], " ", el("kbd", { "aria-hidden": "true" }, key))));
  }
}

function standLine(stand) {
  const said = stand.awaits ? SAY.awaitsSecond(stand.by, stand.at) : stand.state === "UNREVIEWED" ? SAY.stateOf.UNREVIEWED
    : SAY.isReviewed(stand.state, [stand.by, stand.second].filter(Boolean).join(", "), stand.at);
  return el("p", { class: "stand", data: { state: stand.state } }, said, stand.text && el("span", { class: "dim" }, ` ${stand.text}`));
}

/** Why the report of a decision is not there yet, or never will be. */
function troubleLine({ failed, waits }) {
  const said = failed ? SAY.reviewFailed(failed) : waits && SAY.reviewWaits(waits);
  return said && el("p", { class: "notice", id: "review-trouble", data: { tone: failed ? "bad" : "warn" } }, said);
}

function findingsList(findings, images) {
  if (!findings.length) return el("p", { class: "dim" }, SAY.noFindings);
  return el("ul", { class: "findings" }, findings.map((one) => el("li", {},
    el("div", { class: "finding-head" }, el("b", {}, one.label), one.presence && el("span", { class: "presence", data: { value: one.presence } }, SAY.presence[one.presence]),
      images.canShow(one) && el("button", { type: "button", class: "quiet small", "aria-label": SAY.showLabel(one.label), onclick: () => images.goTo(one) }, SAY.show)),
    el("p", { class: "dim" }, factsOf(one).join(" · ")))));
}

function factsOf(said) {
  const measured = (said.measurements ?? []).map((one) => {
    const value = one.value === null ? SAY.notMeasured : `${numberText(one.value)} ${unitOf(one.unit)}`.trim();
    return `${one.label || one.name.meaning} ${value}`;
  });
  const scored = said.probability !== null && said.probability !== undefined ? [SAY.score(said.probability)] : [];
  return [...scored, ...measured];
}
