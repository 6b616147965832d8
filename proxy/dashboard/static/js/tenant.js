// One tenant: what it may spend, its keys, and what it did.

import { get, segment, send } from "./api.js";
import { card, dialog, empty, failed, field, fill, h, put, select, table, toast, waiting } from "./dom.js";
import { moment, percent, usd, words } from "./format.js";
import { KEPT } from "./tenants.js";

export function show({ host, id, may }) {
  const stop = new AbortController();
  const head = h("h1", {}, id);
  const tags = h("span", {});
  const [caps, keys, about] = [h("div", {}, waiting()), h("div", {}, waiting()), h("div", {}, waiting())];
  const make = h("span", {});
  const all = h("div", { class: "stack" });
  const parts = [h("div", { class: "two" }, card("Caps now", { body: caps }), card("About", { body: about })),
    h("section", { class: "card" }, h("div", { class: "card-head" }, h("h2", {}, "Keys"), h("span", { class: "aside" }, make)), h("div", { class: "card-body flush" }, keys))];
  put(host, h("div", { class: "crumbs" }, h("a", { href: "#/tenants" }, "Tenants"), "/", h("span", {}, id)),
    h("div", { class: "screen-head" }, head, tags, h("span", { class: "grow" }),
      h("a", { class: "button", href: `#/history?tenant=${segment(id)}&by=model` }, "Usage"), h("a", { class: "button", href: `#/exchanges?tenant=${segment(id)}` }, "Exchanges"), h("a", { class: "button", href: `/admin/v1/invoices/${segment(id)}/${new Date().toISOString().slice(0, 7)}?format=html`, target: "_blank", rel: "noopener" }, "Month so far"), h("a", { class: "button", href: `#/invoices?tenant=${segment(id)}` }, "Invoices")),
    all);
  const load = async () => {
    fill(all, parts);
    try {
      const row = await get(`tenants/${segment(id)}`, {}, stop.signal);
      head.textContent = row.name ?? id;
      const isOurs = row.source === "registry";
      known = true;
      fill(tags, h("span", { class: "tag" }, KEPT[row.source] ?? row.source));
      fill(about, facts(row));
      fill(make, may("admin") && isOurs && h("button", { class: "button small primary", type: "button", onClick: () => create(id, loadKeys) }, "New key"));
      loadKeys(isOurs);
    } catch (error) { if (!stop.signal.aborted) fill(all, card(null, { body: failed(error, load) })); }
  };
  let ours = true;
  const loadKeys = async (isOurs = ours) => {
    ours = isOurs;
    try {
      const page = await get(`tenants/${segment(id)}/keys`, { limit: 200 }, stop.signal);
      fill(keys, page.data.length ? shown(id, page.data, may("admin") && ours, loadKeys) : empty("It has no keys yet", "A key is what an application sends; it is shown once, when it is made."));
    } catch (error) { if (!stop.signal.aborted) fill(keys, failed(error, loadKeys)); }
  };
  let known = false;
  let isNew = null;
  const loadCaps = async () => {
    try {
      fill(caps, bars(await get(`tenants/${segment(id)}/caps`, {}, stop.signal)));
      if (isNew) { isNew = false; load(); }
    } catch (error) {
      if (stop.signal.aborted) return;
      // a new tenant is in the books a moment before the proxies and the console have read it
      if (error.status === 404 && known) isNew = fill(caps, empty("It is being taken up", "Its caps show here as soon as it is served."));
      else fill(caps, failed(error, loadCaps));
    }
  };
  load().then(() => { if (known) loadCaps(); });
  const again = setInterval(() => { if (known && !document.hidden && host.isConnected) loadCaps(); }, 5000);
  return { close: () => { stop.abort(); clearInterval(again); } };
}

// One plan by its name, or one after the other, each from its day on.
const plans = (plan) => !plan ? null
  : [plan].flat().map((each) => typeof each === "string" ? each : `${each.id}${each.from ? ` from ${each.from}` : ""}`).join(", ");

function facts(row) {
  const document_ = row.document ?? {};
  const limits = document_.limits?.tenant ?? {};
  const pairs = [["Id", h("code", {}, row.id)], ["Cap of 24 hours", row.daily_cap_usd === null ? (row.is_served === false ? "that of every tenant" : "none") : usd(row.daily_cap_usd, 2)],
    ["Steps down to", limits.fallback_model ? `${limits.fallback_model}, from ${percent(limits.burst_threshold ?? 1, 0)} of the cap` : null],
    ["Projects", (row.projects ?? []).join(", ") || null], ["Models", Array.isArray(row.models) ? row.models.join(", ") : "all"],
    ["Plan", plans(document_.plan)], ["Changed in", row.source === "file" ? "the configuration file: here it is only shown" : null], ["Made", row.created_at ? moment(row.created_at) : null], ["Changed", row.updated_at ? moment(row.updated_at) : null]];
  return h("dl", { class: "facts" }, pairs.filter(([, value]) => value !== null).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

function bars(body) {
  const rows = body.caps ?? body.data ?? [];
  const flags = body.flags ?? [];
  return [flags.map((flag) => h("p", { class: "note bad" }, `${flag.scope} is ${flag.flag}${flag.by ? ` by ${flag.by}` : ""}${flag.why ? `: ${flag.why}` : ""}`)),
    h("ul", { class: "bars" }, rows.map((row) => {
      const money = row.usd?.limit !== null && row.usd?.limit !== undefined;
      const name = money ? "usd" : ["tokens", "requests", "concurrent"].find((each) => row[each]?.limit !== null && row[each]?.limit !== undefined) ?? "usd";
      const found = row[name];
      const text = (value) => value === null ? "no limit" : name === "usd" ? usd(value, 2) : `${value} ${name}`;
      const limit = Number(found.limit ?? 0);
      const used = limit ? (Number(found.spent) + Number(found.held)) / limit : 0;
      return h("li", { class: "bar-row" }, h("span", { class: "name" }, `${row.scope} · ${words(row.window)}`),
        h("span", { class: "figures" }, found.limit === null ? [h("b", {}, text(found.spent)), " spent, no limit"] : [h("b", {}, text(found.remaining)), ` left of ${text(found.limit)}`]),
        h("div", { class: used >= 1 ? "bar bad" : used >= .8 ? "bar warn" : "bar" },
          h("i", { "width%": limit ? Math.min(100, Number(found.spent) / limit * 100) : 0 }), h("i", { class: "held", "width%": limit ? Math.min(100, Number(found.held) / limit * 100) : 0 })));
    })),
    body.rebuilding ? h("p", { class: "note" }, "Redis is being rebuilt from the ledger: what is spent is not known yet.") : null];
}

const ends = (row) => row.revoked_at ? [h("span", { class: "tag bad" }, "revoked"), ` ${moment(row.revoked_at)}`]
  : row.expires_at ? [h("span", { class: `tag ${Date.parse(row.expires_at) < Date.now() ? "" : "warn"}` }, Date.parse(row.expires_at) < Date.now() ? "expired" : "expires"), ` ${moment(row.expires_at)}`] : h("span", { class: "tag good" }, "good");

function shown(tenant, rows, changes, again) {
  return table("Keys", [
    { label: "Key", cls: "name", cell: (row) => h("code", {}, row.id) },
    { label: "Project", cell: (row) => row.project },
    { label: "State", cls: "when", cell: ends },
    { label: "Made", cls: "when", cell: (row) => row.created_at ? moment(row.created_at) : "–" },
    { label: "Rotated from", cell: (row) => row.rotated_from ? h("code", {}, row.rotated_from) : "–" },
    ...(changes ? [{ label: "", cls: "num", cell: (row) => row.state !== "live" ? null : [
      h("button", { class: "button small", type: "button", "aria-label": `Rotate ${row.id}`, onClick: () => rotate(tenant, row, again) }, "Rotate"), " ",
      h("button", { class: "button small danger", type: "button", "aria-label": `Revoke ${row.id}`, onClick: () => revoke(tenant, row, again) }, "Revoke")] }] : []),
  ], rows);
}

function once(body, { close, shown }) {
  const raw = body.key;
  let kept = false;
  // Esc is pressed by habit, and nothing brings this key back: the first one asks
  shown.addEventListener("cancel", (event) => {
    if (kept) return;
    event.preventDefault();
    kept = true;
    warn.textContent = "It has not been copied. Press Esc again to close without it.";
  });
  const warn = h("p", { class: "note", role: "status" }, "This is the only time that the key is shown: only its digest is kept.");
  const shownKey = h("input", { readonly: true, value: raw, "aria-label": "The key", onFocus: () => shownKey.select() });
  const copy = h("button", { class: "button primary", type: "button", autofocus: true, onClick: async () => {
    try { await navigator.clipboard.writeText(raw); copy.textContent = "Copied"; kept = true; } catch { shownKey.focus(); shownKey.select(); copy.textContent = "Ctrl-C"; }
  } }, "Copy");
  return [warn, h("div", { class: "secret" }, shownKey, copy),
    h("div", { class: "dialog-foot" }, h("button", { class: "button", type: "button", onClick: close }, "I have kept it"))];
}

function asking(title, text, fields, act, tone = "primary") {
  dialog(title, (self) => {
    const { close, body } = self;
    const said = h("p", { class: "note bad", role: "alert", hidden: true });
    const button = h("button", { class: `button ${tone}`, type: "submit" }, text);
    return h("form", { class: "dialog-body", onSubmit: async (event) => {
      event.preventDefault();
      button.disabled = true;
      try { const next = await act(self); if (next) { fill(body, next); body.querySelector("[autofocus]")?.focus(); } } catch (error) { said.hidden = false; said.textContent = error.message; button.disabled = false; }
    } }, said, fields, h("div", { class: "dialog-foot" }, h("button", { class: "button", type: "button", onClick: close }, "Cancel"), button));
  });
}

function create(tenant, again) {
  const id = h("input", { autofocus: true, pattern: "[A-Za-z0-9._\\-]{1,64}", spellcheck: "false", autocomplete: "off" });
  const project = h("input", { autocomplete: "off", placeholder: "default" });
  const days = select([["", "never"], ["7", "in 7 days"], ["30", "in 30 days"], ["90", "in 90 days"], ["365", "in a year"]], "", () => null);
  asking(`New key of ${tenant}`, "Make it", [field("Id", id, "Stands in events and on invoices; left empty, one is made"), field("Project", project), field("Ends", days)], async (self) => {
    const made = id.value ? { id: id.value } : {};
    if (project.value.trim()) made.project = project.value.trim();
    if (days.value) made.expires_at = new Date(Date.now() + Number(days.value) * 86400000).toISOString().replace(/\.\d+/, "");
    const body = await send("POST", `tenants/${segment(tenant)}/keys`, made);
    again();
    return once(body, self);
  });
}

function rotate(tenant, row, again) {
  const hours = select([["0", "at once"], ["1", "in an hour"], ["24", "in a day"], ["168", "in a week"]], "24", () => null, { autofocus: true });
  asking(`Rotate ${row.id}`, "Make its successor", [h("p", { class: "muted" }, "A new key takes its place. The old one goes on for a while, so that you can change it where it is used."), field("The old one ends", hours)], async (self) => {
    const body = await send("POST", `tenants/${segment(tenant)}/keys/${segment(row.id)}/rotate`, { overlap_hours: Number(hours.value) });
    again();
    return once(body, self);
  });
}

function revoke(tenant, row, again) {
  asking(`Revoke ${row.id}`, "Revoke it", [h("p", {}, "Requests with it are refused within seconds, on all machines. A stream that is open may end by itself. This cannot be taken back.")], async ({ close }) => {
    await send("DELETE", `tenants/${segment(tenant)}/keys/${segment(row.id)}`);
    close();
    toast(`Key ${row.id} is revoked.`);
    again();
    return null;
  }, "danger");
}
