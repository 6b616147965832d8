// What usage is asked by: ranges, dimensions and filters, kept in the address so that it can be sent.

import { all } from "./api.js";
import { dialog, field, fill, h, put, segments, select } from "./dom.js";

export const DIMENSIONS = ["tenant", "project", "key", "feature", "user", "session", "provider", "model", "version", "status", "reason", "cache"];
const HOUR = 3600000;
const DAY = 24 * HOUR;
export const RANGES = {
  "24h": ["24 hours", DAY, "hour"], "7d": ["7 days", 7 * DAY, "day"], "30d": ["30 days", 30 * DAY, "day"],
  "90d": ["90 days", 90 * DAY, "day"], "12mo": ["12 months", 365 * DAY, "month"],
};
export const INTERVAL_S = { hour: 3600, day: 86400, month: 2592000 };

export function span(params, now = Date.now()) {
  const from = params.get("from");
  const to = params.get("to");
  if (from && to) {
    const length = Date.parse(to) - Date.parse(from);
    return { from, to, interval: params.get("interval") ?? (length <= 3 * DAY ? "hour" : length <= 120 * DAY ? "day" : "month"), range: "custom" };
  }
  const range = RANGES[params.get("range")] ? params.get("range") : "24h";
  const [, length, interval] = RANGES[range];
  // whole units, so that the first bar is not a part of one
  const unit = interval === "hour" ? HOUR : DAY;
  const end = Math.ceil(now / unit) * unit;
  let start = end - length;
  if (interval === "month") { const first = new Date(now); start = Date.UTC(first.getUTCFullYear() - 1, first.getUTCMonth() + 1, 1); }
  return { from: rfc(start), to: rfc(end), interval: params.get("interval") ?? interval, range };
}

export const rfc = (ms) => new Date(ms).toISOString().replace(/\.\d+Z$/, "Z");
export const chosen = (params) => Object.fromEntries(DIMENSIONS.filter((name) => params.get(name)).map((name) => [name, params.get(name)]));

export function changed(params, changes) {
  const next = new URLSearchParams(params);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === "") next.delete(name); else next.set(name, value);
  }
  return next.toString();
}

export function rangePicker(params, go) {
  const { range } = span(params);
  const choices = Object.entries(RANGES).map(([value, [text]]) => [value, text]);
  if (range === "custom") choices.push(["custom", "Chosen"]);
  return segments("Range", choices, range, (value) => {
    if (value !== "custom") go(changed(params, { range: value, from: null, to: null, interval: null }));
  });
}

export function chips(params, go) {
  const shown = Object.entries(chosen(params)).map(([name, value]) => h("span", { class: "chip" }, `${name}: ${value}`,
    h("button", { type: "button", "aria-label": `Without ${name} ${value}`, onClick: () => go(changed(params, { [name]: null })) }, "×")));
  const { range, from, to } = span(params);
  if (range === "custom") {
    shown.push(h("span", { class: "chip" }, `${from.slice(0, 16).replace("T", " ")} – ${to.slice(0, 16).replace("T", " ")} UTC`,
      h("button", { type: "button", "aria-label": "Without this range", onClick: () => go(changed(params, { from: null, to: null, interval: null })) }, "×")));
  }
  return h("div", { class: "chips" }, shown, h("button", { class: "button small", type: "button", "data-search": "", onClick: () => ask(params, go) }, "+ Filter"));
}

function ask(params, go) {
  dialog("Add a filter", ({ close }) => {
    const suggestions = h("datalist", { id: "known-values" });
    const value = h("input", { list: "known-values", autocomplete: "off", spellcheck: "false", required: true });
    const suggest = async (name) => {
      fill(suggestions);
      if (name !== "tenant") return;
      const { rows } = await all("tenants", {}, { most: 1000 }).catch(() => ({ rows: [] }));
      put(suggestions, rows.map((row) => h("option", { value: row.id })));
    };
    const name = select(DIMENSIONS.map((each) => [each, each]), "tenant", suggest, { autofocus: true });
    suggest("tenant");
    return h("form", { class: "dialog-body", onSubmit: (event) => {
      event.preventDefault();
      close();
      go(changed(params, { [name.value]: value.value.trim() }));
    } }, field("By", name), field("Is exactly", value), suggestions,
    h("div", { class: "dialog-foot" }, h("button", { class: "button primary", type: "submit" }, "Filter")));
  });
}
