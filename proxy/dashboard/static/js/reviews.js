// What was out of the ordinary, and what a person decides about it.

import { all, segment, send } from "./api.js";
import { card, dialog, empty, failed, field, fill, h, put, segments, toast, waiting } from "./dom.js";
import { moment, usd, words, title } from "./format.js";

const VERDICTS = {
  approve: ["Let it go on", "It goes on as before; what is usual stays what it was."],
  keep: ["Keep it paused", "It stays paused until somebody lifts that."],
  rebase: ["This is usual now", "It goes on, and the level it has reached is taken for usual from now on."],
};

export function show({ host, may, params, go, recount }) {
  const stop = new AbortController();
  const every = params.get("show") === "all";
  const list = h("div", { class: "items" }, waiting());
  put(host, h("div", { class: "screen-head" }, h("h1", {}, "Review queue"),
    segments("Which", [["waiting", "Waiting"], ["all", "All"]], every ? "all" : "waiting", (value) => go(`#/reviews?show=${value}`))), list);
  const load = async () => {
    try {
      const { rows } = await all("reviews", every ? { all: "true" } : {}, { most: 500, signal: stop.signal });
      const shown = rows.filter((row) => every || waits(row));
      fill(list, shown.length ? shown.map((row) => item(row, may, () => { load(); recount(); }))
        : card(null, { body: empty("Nothing waits for you", "Spend that is far from what a tenant or key usually has is listed here, and paused if you have asked for that.", false) }));
    } catch (error) { if (!stop.signal.aborted) fill(list, card(null, { body: failed(error, load) })); }
  };
  load();
  return { close: () => stop.abort() };
}

const waits = (row) => row.waits;

function item(row, may, again) {
  const state = waits(row) ? h("span", { class: "tag warn" }, "waits") : h("span", { class: "tag" }, "decided");
  const times = row.usual_nano > 0 ? `${Math.round(row.seen_nano / row.usual_nano * 10) / 10} times what is usual` : "nothing was usual before";
  return h("article", { class: "card item" },
    h("div", { class: "item-head" }, h("b", {}, h("a", { href: `#/tenants/${segment(row.tenant)}` }, row.tenant), row.api_key_id ? ` / ${row.api_key_id}` : ""),
      state, h("span", { class: "tag" }, words(row.mode)), h("span", { class: "muted" }, `${title(row.cause)} · since ${moment(row.since)}`)),
    h("dl", { class: "facts" }, [["Seen", `${usd(row.seen_nano)}, ${times}`], ["Usual", usd(row.usual_nano)], ["Bound", usd(row.bound_nano)], ["Judged by", words(row.judged_by)],
      ...Object.entries(row.steps ?? {}).map(([step, at]) => [title(step), moment(at)]),
      ...(row.decisions ?? []).map((each) => [title(each.verdict), `${moment(each.at)} by ${each.by}: ${each.reason}`])].map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
    h("div", { class: "item-foot" }, h("a", { class: "button small", href: `#/history?tenant=${segment(row.tenant)}&range=24h` }, "See its usage"),
      may("admin") && waits(row) && Object.entries(VERDICTS).filter(([verdict]) => verdict !== "keep" || row.steps?.pause).map(([verdict, [text]]) =>
        h("button", { class: verdict === "keep" ? "button small danger" : verdict === "approve" ? "button small primary" : "button small", type: "button", onClick: () => decide(row, verdict, again) }, text))));
}

function decide(row, verdict, again) {
  const [text, about] = VERDICTS[verdict];
  dialog(`${text}: ${row.tenant}${row.api_key_id ? ` / ${row.api_key_id}` : ""}`, ({ close }) => {
    const reason = h("input", { required: true, autofocus: true, autocomplete: "off" });
    const button = h("button", { class: verdict === "keep" ? "button danger" : "button primary", type: "submit" }, text);
    const said = h("p", { class: "note bad", role: "alert", hidden: true });
    return h("form", { class: "dialog-body", onSubmit: async (event) => {
      event.preventDefault();
      button.disabled = true;
      try {
        await send("POST", `reviews/${segment(row.id)}/decide`, { verdict, reason: reason.value.trim() });
        close();
        toast("Your decision is in the books.");
        again();
      } catch (error) { said.hidden = false; said.textContent = error.message; button.disabled = false; }
    } }, h("p", { class: "muted" }, about), said, field("Why, for the books", reason),
    h("div", { class: "dialog-foot" }, h("button", { class: "button", type: "button", onClick: close }, "Cancel"), button));
  });
}
