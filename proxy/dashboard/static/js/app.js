// The frame: screens by the part of the address after #, the live state, shortcuts, the theme.

import { get, send } from "./api.js";
import { redrawAll } from "./charts.js";
import { dialog, failed, fill, h, put, segments, unseen } from "./dom.js";
import { Live } from "./live.js";
import * as audit from "./audit.js";
import * as exchange from "./exchange.js";
import * as exchanges from "./exchanges.js";
import * as history from "./history.js";
import * as invoices from "./invoices.js";
import * as now from "./now.js";
import * as reviews from "./reviews.js";
import * as tenant from "./tenant.js";
import * as tenants from "./tenants.js";
import * as upstreams from "./upstreams.js";

const SCREENS = [
  { path: "now", name: "Now", screen: now },
  { path: "history", name: "History", screen: history },
  { path: "exchanges", name: "Exchanges", screen: exchanges, inner: exchange },
  { path: "tenants", name: "Tenants", screen: tenants, inner: tenant },
  { path: "reviews", name: "Review queue", screen: reviews },
  { path: "invoices", name: "Invoices", screen: invoices },
  { path: "upstreams", name: "Upstreams", screen: upstreams },
  { path: "audit", name: "Audit", screen: audit, role: "admin" },
];
let screens = [];
const RANK = { viewer: 0, billing: 1, admin: 2 };
const MARK = document.querySelector("link[rel=icon]").href;

const app = document.getElementById("app");
const app_ = {};
let current = null;

function theme(chosen) {
  if (chosen === "auto") document.documentElement.removeAttribute("data-theme");
  else document.documentElement.setAttribute("data-theme", chosen);
  try { localStorage.setItem("weir-theme", chosen); } catch { /* kept for this page only */ }
  redrawAll();
}
function themeNow() {
  try { return localStorage.getItem("weir-theme") ?? "auto"; } catch { return "auto"; }
}

function frame(who) {
  screens = SCREENS.filter(({ role }) => !role || RANK[who.role] >= RANK[role]);
  app_.links = screens.map(({ path, name }, at) => h("a", { href: `#/${path}` }, name, h("span", { class: "hint-key", "aria-hidden": "true" }, at + 1)));
  app_.state = h("div", { class: "link-state", "data-state": "waiting", role: "status" }, h("span", {}, "Connecting"));
  app_.banner = h("div", { class: "banner", role: "status", hidden: true });
  app_.screen = h("div", { class: "screen", id: "screen", tabindex: "-1" });
  const logout = async () => { await send("POST", "/dashboard/logout").catch(() => null); location.assign("/dashboard/login"); };
  fill(app, h("div", { class: "frame" },
    h("header", { class: "rail" },
      h("a", { class: "brand", href: "#/now" }, h("img", { src: MARK, alt: "" }), "Tokenweir"),
      h("nav", { "aria-label": "Screens" }, h("ul", {}, app_.links.map((link) => h("li", {}, link)))),
      h("div", { class: "rail-foot" }, app_.state,
        h("div", { class: "who", title: `${who.id} · ${who.role}` }, h("b", {}, who.id), h("span", { class: "muted" }, who.role)),
        h("div", { class: "row" },
          h("button", { class: "button quiet small", type: "button", onClick: help, "aria-keyshortcuts": "?" }, "Keys"),
          h("button", { class: "button quiet small", type: "button", onClick: logout }, "Log out")))),
    h("main", { class: "main" }, app_.banner, app_.screen)));
}

function help() {
  if (document.querySelector("dialog[open]")) return;
  dialog("Keyboard and colours", () => [
    h("div", { class: "keys" }, screens.map(({ name }, at) => [h("kbd", {}, at + 1), name]).flat(),
      h("kbd", {}, "/"), "Search or filter", h("kbd", {}, "r"), "Read again", h("kbd", {}, "t"), "Next colours",
      h("kbd", {}, "?"), "This sheet", h("kbd", {}, "Esc"), "Close what is open"),
    h("div", { class: "field" }, h("span", {}, "Colours"),
      h("div", {}, segments("Colours", [["auto", "As the system"], ["light", "Light"], ["dark", "Dark"]], themeNow(), theme)))]);
}

function shortcuts(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.target.closest("input, select, textarea")) { if (event.key === "Escape") event.target.blur(); return; }
  const place = Number(event.key);
  if (place >= 1 && place <= screens.length) location.hash = `#/${screens[place - 1].path}`;
  else if (event.key === "?") help();
  else if (event.key === "/") { const search = app_.screen.querySelector("[data-search]"); if (search) { event.preventDefault(); search.focus(); } }
  else if (event.key === "r") route();
  else if (event.key === "t") { const order = ["auto", "light", "dark"]; theme(order[(order.indexOf(themeNow()) + 1) % 3]); }
}

// An address that somebody mistyped is taken as it is written.
function plain(text) {
  try { return decodeURIComponent(text); } catch { return text; }
}

function place() {
  const [path, search = ""] = location.hash.replace(/^#\/?/, "").split("?", 2);
  const [first = "", ...rest] = path.split("/");
  return { first: first || "now", rest: rest.map(plain), params: new URLSearchParams(search) };
}

function route() {
  const { first, rest, params } = place();
  const found = screens.find((each) => each.path === first);
  if (!found) { location.replace("#/now"); return; }
  current?.close?.();
  screens.forEach(({ path }, at) => {
    if (path === first) app_.links[at].setAttribute("aria-current", "page"); else app_.links[at].removeAttribute("aria-current");
  });
  if (innerWidth <= 860) app_.links[screens.indexOf(found)].scrollIntoView({ block: "nearest", inline: "center" });
  document.title = `${found.name} · Tokenweir`;
  const shown = found.inner && rest.length && rest[0] ? found.inner : found.screen;
  current = shown.show({ host: fill(app_.screen), id: rest[0], rest, params, ...app_.shared }) ?? null;
}

// How many cases wait stands beside the name of their screen, and changes with them.
async function recount() {
  const link = app_.links[screens.findIndex(({ path }) => path === "reviews")];
  try {
    const page = await get("reviews", { limit: 100 });
    const waits = page.data.length;
    link.querySelector(".count")?.remove();
    if (waits) put(link, h("span", { class: "count" }, page.next_cursor ? `${waits}+` : waits, unseen(" waiting")));
  } catch { /* the screen itself says what is wrong */ }
}

function liveState(state) {
  app_.state.dataset.state = state;
  fill(app_.state, h("span", {}, { live: "Live", waiting: "Reconnecting", away: "Redis is away" }[state]));
  const late = state !== "live";
  clearTimeout(app_.late);
  if (!late) { app_.banner.hidden = true; return; }
  app_.late = setTimeout(() => {
    app_.banner.hidden = false;
    app_.banner.className = state === "away" ? "banner bad" : "banner";
    fill(app_.banner, state === "away"
      ? "Redis cannot be read: live numbers stand still until it is back. History comes from the ledger and goes on."
      : "The connection to the console is lost. What you see is from before; it is tried again all the time.");
  }, state === "away" ? 0 : 4000);
}

async function start() {
  const stored = themeNow();
  if (stored !== "auto") theme(stored);
  let who;
  try { who = await get("whoami"); } catch (error) {
    if (error.status !== 401) fill(app, failed(error, start));
    return;
  }
  frame(who);
  const live = new Live(liveState);
  app_.shared = {
    live, who,
    may: (role) => RANK[who.role] >= RANK[role],
    go: (hash) => { location.hash = hash; },
    recount,
  };
  live.on("alert", recount);
  addEventListener("hashchange", () => { route(); app_.screen.focus({ preventScroll: true }); scrollTo(0, 0); });
  addEventListener("keydown", shortcuts);
  recount();
  route();
}

start();
