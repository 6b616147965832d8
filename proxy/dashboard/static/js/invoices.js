// Issued invoices by month, as pages, files, and the sum of the month.

import { all, query, segment } from "./api.js";
import { card, empty, failed, fill, h, put, select, table, waiting } from "./dom.js";
import { nano, usd } from "./format.js";

export function show({ host, params, go }) {
  const stop = new AbortController();
  const list = h("div", {}, waiting());
  const month = params.get("month") ?? "";
  const tenant = params.get("tenant") ?? "";
  const search = h("input", { type: "search", value: tenant, placeholder: "One tenant …", "aria-label": "Tenant", "data-search": "", onChange: () => go(`#/invoices${query({ month, tenant: search.value.trim() })}`) });
  put(host, h("div", { class: "screen-head" }, h("h1", {}, "Invoices"),
    h("label", { class: "field" }, h("span", { class: "unseen" }, "Month"), select([["", "Every month"], ...months()], month, (value) => go(`#/invoices${query({ month: value, tenant })}`))),
    h("span", { class: "grow" }), h("div", {}, search)), card(null, { body: list, flush: true }));
  const load = async () => {
    try {
      const { rows, more } = await all("invoices", { month, tenant }, { most: 2000, signal: stop.signal });
      fill(list, rows.length ? shown(rows) : empty("No invoice was issued", month || tenant ? "Choose another month or tenant." : "An invoice is issued when its month is over, with weir invoices issue or by the schedule.", false),
        more && h("p", { class: "pager" }, "There are more: choose a month."));
    } catch (error) { if (!stop.signal.aborted) fill(list, failed(error, load)); }
  };
  load();
  return { close: () => stop.abort() };
}

function months() {
  const now = new Date();
  return Array.from({ length: 18 }, (_, back) => new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() - back, 1)).toISOString().slice(0, 7)).map((text) => [text, text]);
}

const total = (row) => row.total_nano;

function shown(rows) {
  const file = (row, format, text) => h("a", { href: `/admin/v1/invoices/${segment(row.tenant)}/${segment(row.period)}?format=${format}`, target: "_blank", rel: "noopener" }, text);
  return table("Invoices", [
    { label: "Invoice", cell: (row) => h("code", {}, row.number) , foot: () => "Together" },
    { label: "Month", cell: (row) => row.period },
    { label: "Tenant", cls: "name", cell: (row) => h("a", { href: `#/tenants/${segment(row.tenant)}` }, row.tenant) },
    { label: "Kind", cls: "fold", cell: (row) => [row.corrects ? "correction" : "invoice", row.corrects ? h("span", { class: "muted" }, ` of ${row.corrects}`) : null] },
    { label: "Issued", cell: (row) => row.issued_on },
    { label: "Total", num: true, cell: (row) => usd(total(row), 2), foot: (sum) => usd(sum, 2) },
    { label: "Open", cell: (row) => [file(row, "html", "page"), " · ", file(row, "pdf", "PDF"), " · ", file(row, "json", "JSON")] },
  ], rows, { foot: rows.reduce((sum, row) => sum + (nano(total(row)) ?? 0n), 0n) });
}
