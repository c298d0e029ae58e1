// People and keys, for administrators; and what everybody sees and changes of themselves.

import { get, may, post, remove, update } from "./api.js";
import { byId, chip, el, table, when } from "./dom.js";
import { STRINGS } from "./strings.js";

const SAY = STRINGS.people;
const OWN = STRINGS.account;
const KEYS = STRINGS.keys;

const ROLES = ["viewer", "reviewer", "operator", "admin"];
const section = (title, ...children) => el("section", { class: "card" }, el("h2", {}, title), children);
const back = () => el("a", { class: "back", href: "#/" }, STRINGS.common.back);
const head = (title, text) => el("header", { class: "study-head" }, el("div", {}, el("h1", {}, title), el("p", { class: "dim" }, text)));

/** A labelled field; its name is its id. */
function field(id, label, properties = {}) {
  return [el("label", { for: id }, label), el("input", { id, name: id, required: true, maxlength: 256, ...properties })];
}

const newPassword = (id, label) => field(id, label, { type: "password", autocomplete: "new-password", minlength: 12 });

/** Several boxes: somebody may have several roles. */
function roleBoxes(prefix, chosen = []) {
  return el("fieldset", { class: "roles", id: `${prefix}-roles` }, el("legend", {}, SAY.roles), ROLES.map((role) =>
    el("label", {}, el("input", { type: "checkbox", name: `${prefix}-role`, value: role, checked: chosen.includes(role) }), ` ${role}`)));
}

const chosenRoles = (prefix) => [...document.querySelectorAll(`[name="${prefix}-role"]:checked`)].map((box) => box.value);

function form(id, title, submit, onsubmit, ...children) {
  return el("form", { id, class: "fields", "aria-label": title, onsubmit: (event) => { event.preventDefault(); onsubmit(); } },
    children, el("button", { type: "submit" }, submit));
}

// --- oneself -----------------------------------------------------------------------------------------------------

/** `change(call, done, after)` makes a call, says what happened, and shows the view anew. */
export function accountView(me, change) {
  const until = me.session_expires_at;
  return [
    back(),
    head(OWN.title, [OWN.who(me.name, me.roles.join(", ")), until && OWN.until, until && when(until)].filter(Boolean)),
    me.has_password && section(OWN.password, el("p", { class: "dim" }, OWN.passwordRules),
      form("own-password", OWN.password, OWN.change, () => change(
        () => post("/api/v1/me/password", { current: byId("current-password").value, new: byId("own-new-password").value }), OWN.changed),
        field("current-password", OWN.present, { type: "password", autocomplete: "current-password" }),
        newPassword("own-new-password", OWN.newPassword))),
    section(OWN.everywhere, el("p", { class: "dim" }, OWN.everywhereEnds),
      el("button", { type: "button", class: "quiet", id: "sign-out-everywhere",
        onclick: () => change(() => post("/api/v1/me/sign-out-everywhere"), OWN.signedOut) }, OWN.everywhere)),
  ];
}

// --- people ------------------------------------------------------------------------------------------------------

export async function peopleView(change) {
  const [users, keys] = await Promise.all([get("/api/v1/users?limit=1000"), get("/api/v1/keys?limit=1000")]);
  return [
    back(),
    head(SAY.title, SAY.lead),
    section(SAY.people, users.length ? userTable(users, change) : el("p", {}, SAY.nobody)),
    section(SAY.addTitle, form("add-user", SAY.addTitle, SAY.add, () => change(
      () => post("/api/v1/users", { name: byId("user-name").value, roles: chosenRoles("user"), password: byId("user-password").value }), SAY.added),
      field("user-name", SAY.name, { autocomplete: "off", maxlength: 64 }), newPassword("user-password", SAY.firstPassword), roleBoxes("user"))),
    section(KEYS.title, el("output", { id: "key-secret", class: "notice", hidden: true }), keys.length ? keyTable(keys, change) : el("p", {}, KEYS.none)),
    section(KEYS.makeTitle, form("add-key", KEYS.makeTitle, KEYS.make, () => makeKey(change),
      field("key-name", KEYS.program, { autocomplete: "off", maxlength: 64 }),
      field("key-days", KEYS.days, { type: "number", min: 1, max: 3650, value: 365 }), roleBoxes("key"))),
  ];
}

/** What can be done with each row; a change of roles or password opens its form below the name. */
function userTable(users, change) {
  return table(SAY.people, SAY.columns, users.map((user) => {
    const address = `/api/v1/users/${encodeURIComponent(user.name)}`;
    const button = (word, [label, named], call, done, question) => el("button", { type: "button", class: "quiet small", id: `${word}-${user.name}`, "aria-label": named(user.name),
      onclick: () => change(call, done, { question }) }, label);
    return [
      el("b", {}, user.name),
      [user.roles.join(", "), el("details", { data: { key: `roles-${user.name}` } }, el("summary", { "aria-label": SAY.changeRoles(user.name) }, SAY.change),
        form(`roles-form-${user.name}`, SAY.rolesOf(user.name), SAY.set, () => change(() => update(address, { roles: chosenRoles(`of-${user.name}`) }), SAY.changed), roleBoxes(`of-${user.name}`, user.roles)))],
      when(user.created_at),
      user.disabled_at ? chip("DISABLED") : user.has_password ? SAY.maySignIn : SAY.noPassword,
      [user.disabled_at
        ? button("enable", SAY.enable, () => update(address, { disabled: false }), SAY.enabled(user.name))
        : button("disable", SAY.disable, () => update(address, { disabled: true }), SAY.disabled(user.name), SAY.askDisable(user.name)),
      button("remove", SAY.remove, () => remove(address), SAY.removed(user.name), SAY.askRemove(user.name)),
      el("details", { data: { key: `password-${user.name}` } }, el("summary", { "aria-label": SAY.setPassword(user.name) }, SAY.password),
        form(`password-form-${user.name}`, SAY.passwordOf(user.name), SAY.set, () => change(
          () => update(address, { password: byId(`password-of-${user.name}`).value }), SAY.passwordSet(user.name)), newPassword(`password-of-${user.name}`, SAY.newPassword)))],
    ];
  }));
}

// --- keys --------------------------------------------------------------------------------------------------------

function keyTable(keys, change) {
  return table(KEYS.title, KEYS.columns, keys.map((key) => [
    el("b", {}, key.name), key.roles.join(", "), key.created_by, when(key.expires_at), key.last_used_at ? when(key.last_used_at) : KEYS.never,
    key.revoked_at ? chip("REVOKED") : el("button", { type: "button", class: "quiet small", id: `revoke-${key.name}`, "aria-label": KEYS.revokeNamed(key.name),
      onclick: () => change(() => remove(`/api/v1/keys/${encodeURIComponent(key.name)}`), KEYS.revoked(key.name), { question: KEYS.askRevoke(key.name) }) }, KEYS.revoke),
  ]));
}

async function makeKey(change) {
  let made;
  const wanted = { name: byId("key-name").value, roles: chosenRoles("key"), expires_days: Number(byId("key-days").value) };
  await change(async () => { made = await post("/api/v1/keys", wanted); }, KEYS.made);
  if (!made) return;
  const place = byId("key-secret");
  place.replaceChildren(KEYS.secret(made.key.name), el("code", { id: "new-secret" }, made.secret));
  place.hidden = false;
  place.scrollIntoView({ block: "center" });
}
