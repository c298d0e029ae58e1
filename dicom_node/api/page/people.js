// People and keys, for administrators; and what everybody sees and changes of themselves.

import { get, may, post, remove, update } from "/page/api.js";
import { byId, chip, el, table, when } from "/page/dom.js";
import { ADMIN } from "/page/strings_admin.js";

const ROLES = ["viewer", "reviewer", "operator", "admin"];
const section = (title, ...children) => el("section", { class: "card" }, el("h2", {}, title), children);
const back = () => el("a", { class: "back", href: "#/" }, "← All studies");
const head = (title, text) => el("header", { class: "study-head" }, el("div", {}, el("h1", {}, title), el("p", { class: "dim" }, text)));

/** A labelled field; its name is its id. */
function field(id, label, properties = {}) {
  return [el("label", { for: id }, label), el("input", { id, name: id, required: true, maxlength: 256, ...properties })];
}

const newPassword = (id, label) => field(id, label, { type: "password", autocomplete: "new-password", minlength: 12 });

/** Several boxes: somebody may have several roles. */
function roleBoxes(prefix, chosen = []) {
  return el("fieldset", { class: "roles", id: `${prefix}-roles` }, el("legend", {}, "Roles"), ROLES.map((role) =>
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
    head("My account", [`${me.name}: ${me.roles.join(", ")}`, until && ". This session ends at the latest ", until && when(until)].filter(Boolean)),
    me.has_password && section("Change the password", el("p", { class: "dim" }, "At least 12 characters; several words are good. All other sessions end."),
      form("own-password", "Change the password", "Change", () => change(
        () => post("/api/v1/me/password", { current: byId("current-password").value, new: byId("own-new-password").value }), "Changed."),
        field("current-password", "Present password", { type: "password", autocomplete: "current-password" }),
        newPassword("own-new-password", "New password"))),
    section("Sign out everywhere", el("p", { class: "dim" }, "Ends every session of yours, on every machine, this one too."),
      el("button", { type: "button", class: "quiet", id: "sign-out-everywhere",
        onclick: () => change(() => post("/api/v1/me/sign-out-everywhere"), "Signed out.") }, "Sign out everywhere")),
  ];
}

// --- people ------------------------------------------------------------------------------------------------------

export async function peopleView(change) {
  const [users, keys] = await Promise.all([get("/api/v1/users?limit=1000"), get("/api/v1/keys?limit=1000")]);
  return [
    back(),
    head("People and keys", "Who changes somebody here signs them out everywhere. Whatever is done here is written down."),
    section("People", users.length ? userTable(users, change) : el("p", {}, "Nobody yet: only keys open this node.")),
    section("Add somebody", form("add-user", "Add somebody", "Add", () => change(
      () => post("/api/v1/users", { name: byId("user-name").value, roles: chosenRoles("user"), password: byId("user-password").value }), "Added."),
      field("user-name", "Name", { autocomplete: "off", maxlength: 64 }), newPassword("user-password", "First password"), roleBoxes("user"))),
    section("Keys", el("output", { id: "key-secret", class: "notice", hidden: true }), keys.length ? keyTable(keys, change) : el("p", {}, "No key yet.")),
    section("Make a key", form("add-key", "Make a key", "Make", () => makeKey(change),
      field("key-name", "Name of the program", { autocomplete: "off", maxlength: 64 }),
      field("key-days", "Lasts, in days", { type: "number", min: 1, max: 3650, value: 365 }), roleBoxes("key"))),
  ];
}

/** What can be done with each row; a change of roles or password opens its form below the name. */
function userTable(users, change) {
  return table("People", ["Name", "Roles", "Since", "State", "Change"], users.map((user) => {
    const address = `/api/v1/users/${encodeURIComponent(user.name)}`;
    const button = (word, label, call, done, question) => el("button", { type: "button", class: "quiet small", id: `${word}-${user.name}`, "aria-label": `${label} ${user.name}`,
      onclick: () => change(call, done, { question }) }, label);
    return [
      el("b", {}, user.name),
      [user.roles.join(", "), el("details", { data: { key: `roles-${user.name}` } }, el("summary", { "aria-label": `Change the roles of ${user.name}` }, "Change"),
        form(`roles-form-${user.name}`, `Roles of ${user.name}`, "Set", () => change(() => update(address, { roles: chosenRoles(`of-${user.name}`) }), "Changed."), roleBoxes(`of-${user.name}`, user.roles)))],
      when(user.created_at),
      user.disabled_at ? chip("DISABLED") : user.has_password ? "may sign in" : "has no password",
      [user.disabled_at
        ? button("enable", "Enable", () => update(address, { disabled: false }), `${user.name} can sign in again.`)
        : button("disable", "Disable", () => update(address, { disabled: true }), `${user.name} is shut out.`, `Sign ${user.name} out and let them in no more?`),
      button("remove", "Remove", () => remove(address), `${user.name} is removed.`, `Remove ${user.name}? The name may then be given to somebody else.`),
      el("details", { data: { key: `password-${user.name}` } }, el("summary", { "aria-label": `Set a password for ${user.name}` }, "Password"),
        form(`password-form-${user.name}`, `Password of ${user.name}`, "Set", () => change(
          () => update(address, { password: byId(`password-of-${user.name}`).value }), `${user.name} has a new password.`), newPassword(`password-of-${user.name}`, "New password")))],
    ];
  }));
}

// --- keys --------------------------------------------------------------------------------------------------------

function keyTable(keys, change) {
  return table("Keys", ["Name", "Roles", "Made by", "Expires", "Last used", "Change"], keys.map((key) => [
    el("b", {}, key.name), key.roles.join(", "), key.created_by, when(key.expires_at), key.last_used_at ? when(key.last_used_at) : "never",
    key.revoked_at ? chip("REVOKED") : el("button", { type: "button", class: "quiet small", id: `revoke-${key.name}`, "aria-label": `Revoke ${key.name}`,
      onclick: () => change(() => remove(`/api/v1/keys/${encodeURIComponent(key.name)}`), `${key.name} opens nothing any more.`, { question: `Revoke the key ${key.name}? Programs that use it are refused.` }) }, "Revoke"),
  ]));
}

async function makeKey(change) {
  let made;
  const wanted = { name: byId("key-name").value, roles: chosenRoles("key"), expires_days: Number(byId("key-days").value) };
  await change(async () => { made = await post("/api/v1/keys", wanted); }, "Made.");
  if (!made) return;
  const place = byId("key-secret");
  place.replaceChildren(`The secret of ${made.key.name}, shown only now: `, el("code", { id: "new-secret" }, made.secret));
  place.hidden = false;
  place.scrollIntoView({ block: "center" });
}

/** The links above everything, for whoever has signed in. */
export function links(me) {
  return [
    el("a", { href: "#/", id: "to-worklist" }, "Worklist"),
    el("a", { href: "#/node", id: "to-node" }, "Node"),
    el("a", { href: "#/rules", id: "to-rules" }, ADMIN.rules.link),
    el("a", { href: "#/models", id: "to-models" }, ADMIN.models.link),
    may("administer") && el("a", { href: "#/people", id: "to-people" }, "People and keys"),
    el("a", { href: "#/account", id: "to-account", title: me.roles.join(", ") }, me.name),
  ];
}
