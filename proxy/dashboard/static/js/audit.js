// Who changed what, newest first.

import { get } from "./api.js";
import { card, dialog, empty, failed, fill, h, put, table, waiting } from "./dom.js";
import { moment, words } from "./format.js";

export function show({ host }) {
  const stop = new AbortController();
  const list = h("div", {}, waiting());
  put(host, h("div", { class: "screen-head" }, h("h1", {}, "Audit"), h("span", { class: "muted" }, "every change that was made through the console and the command line")), card(null, { body: list, flush: true }));
  const pages = [null];
  const load = async (at) => {
    try {
      const page = await get("audit", { limit: 50, cursor: pages[at] }, stop.signal);
      pages[at + 1] = page.next_cursor;
      draw(list, page, at, load);
    } catch (error) { if (!stop.signal.aborted) fill(list, failed(error, () => load(at))); }
  };
  load(0);
  return { close: () => stop.abort() };
}

function draw(host, page, at, load) {
  if (!page.data.length && at === 0) { fill(host, empty("Nothing was changed yet", "Changes of tenants, keys, credits and the like are kept here for good.", false)); return; }
  fill(host, table("Audit records", [
    { label: "At", cls: "when", cell: (row) => h("button", { class: "row-button", type: "button", onClick: () => open(row) }, moment(row.at)) },
    { label: "Who", cls: "name", cell: (row) => [row.who, " ", h("span", { class: "muted" }, row.role ?? "")] },
    { label: "Action", cell: (row) => h("code", {}, row.action) },
    { label: "Target", cls: "fold", cell: (row) => row.target || "–" },
  ], page.data, { onOpen: open }),
  h("div", { class: "pager" }, `Page ${at + 1}`, h("span", { class: "grow" }),
    h("button", { class: "button small", type: "button", disabled: at === 0, onClick: () => load(at - 1) }, "Newer"),
    h("button", { class: "button small", type: "button", disabled: !page.next_cursor, onClick: () => load(at + 1) }, "Older")));
}

function open(row) {
  dialog(words(row.action), () => [
    h("dl", { class: "facts" }, [["At", moment(row.at)], ["Who", `${row.who} ${row.role ?? ""}`], ["Target", row.target || "–"], ["Request", row.request_id ?? "–"]].map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
    ["before", "after"].filter((name) => row[name] !== null && row[name] !== undefined).map((name) => h("div", { class: "field" }, h("span", {}, name === "before" ? "Before" : "After"),
      h("div", { class: "scroll" }, h("pre", { class: "mono" }, typeof row[name] === "string" ? row[name] : JSON.stringify(row[name], null, 2)))))]);
}
