// All tenants: found by typing, in pages that a browser draws at once.

import { all, send } from "./api.js";
import { card, dialog, empty, failed, field, fill, h, put, table, toast, waiting } from "./dom.js";
import { count, usd } from "./format.js";

const PAGE = 50;

export function show({ host, may, go, params }) {
  const stop = new AbortController();
  const list = h("div", {}, waiting());
  const total = h("span", { class: "muted" });
  let rows = [];
  let at = 0;
  const search = h("input", { type: "search", placeholder: "Find a tenant …", "aria-label": "Find a tenant", "data-search": "", value: params.get("q") ?? "", onInput: () => { at = 0; draw(); } });
  put(host, h("div", { class: "screen-head" }, h("h1", {}, "Tenants"), total, h("span", { class: "grow" }), h("div", {}, search),
    may("admin") && h("button", { class: "button primary", type: "button", onClick: () => create(go) }, "New tenant")),
  card(null, { body: list, flush: true }));

  const draw = () => {
    const wanted = search.value.trim().toLowerCase();
    const found = rows.filter((row) => !wanted || `${row.id} ${row.name ?? ""}`.toLowerCase().includes(wanted));
    total.textContent = wanted ? `${count(found.length)} of ${count(rows.length)}` : count(rows.length);
    if (!found.length) { fill(list, rows.length ? empty("No tenant fits", `None has “${search.value.trim()}” in its id or name.`, false) : empty("There are no tenants yet", "A tenant is who pays: it has keys, and caps over what they spend.", false)); return; }
    const last = Math.max(0, Math.ceil(found.length / PAGE) - 1);
    at = Math.min(at, last);
    const turn = (by) => { at += by; draw(); };
    fill(list, table("Tenants", columns(), found.slice(at * PAGE, at * PAGE + PAGE), { onOpen: (row) => go(`#/tenants/${encodeURIComponent(row.id)}`) }),
      last > 0 && h("div", { class: "pager" }, `${at * PAGE + 1}–${Math.min(found.length, at * PAGE + PAGE)} of ${count(found.length)}`, h("span", { class: "grow" }),
        h("button", { class: "button small", type: "button", disabled: at === 0, onClick: () => turn(-1) }, "Back"),
        h("button", { class: "button small", type: "button", disabled: at === last, onClick: () => turn(1) }, "On")));
  };
  const load = async () => {
    try { ({ rows } = await all("tenants", { limit: 1000 }, { signal: stop.signal })); draw(); } catch (error) { if (!stop.signal.aborted) fill(list, failed(error, load)); }
  };
  load();
  return { close: () => stop.abort() };
}

export const KEPT = { file: "config file", registry: "registry" };

function columns() {
  return [
    { label: "Tenant", cls: "name", cell: (row) => h("a", { href: `#/tenants/${encodeURIComponent(row.id)}` }, row.id) },
    { label: "Name", cls: "name", cell: (row) => row.name ?? "" },
    { label: "Daily cap", num: true, cell: (row) => row.daily_cap_usd === null || row.daily_cap_usd === undefined ? h("span", { class: "muted" }, "none") : usd(row.daily_cap_usd, 2) },
    { label: "Keys", num: true, cell: (row) => count(row.key_count) },
    { label: "Projects", num: true, cell: (row) => count(row.projects?.length) },
    { label: "Kept in", cell: (row) => h("span", { class: "tag" }, KEPT[row.source] ?? row.source ?? "–") },
  ];
}

function create(go) {
  dialog("New tenant", ({ close, body }) => {
    const id = h("input", { autofocus: true, required: true, pattern: "[A-Za-z0-9._\\-]{1,64}", title: "1 to 64 letters, digits, . _ -", class: "mono", spellcheck: "false", autocomplete: "off" });
    const name = h("input", { autocomplete: "off" });
    const cap = h("input", { inputmode: "decimal", pattern: "[0-9]+(\\.[0-9]{1,9})?", placeholder: "50.00", title: "An amount like 50 or 0.25", autocomplete: "off" });
    const button = h("button", { class: "button primary", type: "submit" }, "Make it");
    const said = h("p", { class: "note bad", role: "alert", hidden: true });
    return h("form", { class: "dialog-body", onSubmit: async (event) => {
      event.preventDefault();
      button.disabled = true;
      const made = { id: id.value, name: name.value.trim() || id.value };
      if (cap.value) made.limits = { tenant: { daily_cap: cap.value } };
      try {
        await send("POST", "tenants", made);
        close();
        toast(`Tenant ${made.id} is made.`);
        go(`#/tenants/${encodeURIComponent(made.id)}`);
      } catch (error) { said.hidden = false; said.textContent = error.message; body.scrollTop = 0; button.disabled = false; }
    } }, said, field("Id", id, "Travels in every event and never changes: letters, digits, . _ -"), field("Name", name, "For people; may change"),
    field("Cap within any 24 hours, USD", cap, "Left empty, the cap of every tenant that sets none"),
    h("div", { class: "dialog-foot" }, h("button", { class: "button", type: "button", onClick: close }, "Cancel"), button));
  });
}
