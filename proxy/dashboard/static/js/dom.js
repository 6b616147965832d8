// Elements from values. Text is only ever text: nothing here reads a string as HTML.

const LISTENER = /^on[A-Z]/;

export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (LISTENER.test(name)) element.addEventListener(name.slice(2).toLowerCase(), value);
    else if (name === "class") element.className = value;
    else if (name === "width%") element.style.setProperty("width", `${value}%`);
    else if (name === "colour") element.style.setProperty("background", value);
    else if (name === "value" || name === "checked" || name === "disabled") element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  return put(element, ...children);
}

export function put(element, ...children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
}

export function fill(element, ...children) {
  element.replaceChildren();
  return put(element, ...children);
}

export const unseen = (text) => h("span", { class: "unseen" }, text);

export function card(title, { aside, body, flush = false, more, cls = "", id } = {}) {
  return h("section", { class: `card ${cls}`, "aria-labelledby": id },
    title && h("div", { class: "card-head" }, h("h2", { id }, title), aside && h("span", { class: "aside" }, aside)),
    h("div", { class: flush ? "card-body flush" : "card-body" }, body),
    more);
}

export function empty(title, text, small = true) {
  return h("div", { class: small ? "state small" : "state" }, h("b", {}, title), text && h("p", {}, text));
}

export const waiting = () => h("div", { class: "wait", role: "status" }, unseen("Loading"), h("i"), h("i"), h("i"));

export function failed(error, again) {
  const title = error?.status === 403 ? "Your role may not see this"
    : error?.status === 404 ? "There is nothing here"
    : error?.status ? "The answer was a refusal" : "The console cannot be reached";
  return h("div", { class: "state bad", role: "alert" }, h("b", {}, title),
    h("p", {}, error?.message ?? String(error)),
    again && error?.status !== 403 && h("button", { class: "button small", type: "button", onClick: again }, "Try again"));
}

// columns: {label, cell(row) -> text or node, num, cls, sort, foot}
export function table(caption, columns, rows, { onOpen, sort, onSort, foot, cls = "" } = {}) {
  const head = columns.map((column) => {
    const is = sort && column.sort === sort.by;
    return h("th", { scope: "col", class: column.num ? "num" : "", "aria-sort": is ? (sort.up ? "ascending" : "descending") : null },
      column.sort && onSort ? h("button", { type: "button", onClick: () => onSort(column.sort) }, column.label) : column.label);
  });
  const body = rows.map((row) => {
    const line = h("tr", { class: onOpen ? "open" : "" }, columns.map((column) =>
      h("td", { class: [column.num && "num", column.cls].filter(Boolean).join(" ") }, column.cell(row))));
    if (onOpen) line.addEventListener("click", (event) => { if (!event.target.closest("button, a, input")) onOpen(row); });
    return line;
  });
  return h("div", { class: "scroll" }, h("table", { class: cls }, h("caption", { class: "unseen" }, caption),
    h("thead", {}, h("tr", {}, head)), h("tbody", {}, body),
    foot && h("tfoot", {}, h("tr", {}, columns.map((column) => h("td", { class: column.num ? "num" : "" }, column.foot ? column.foot(foot) : ""))))));
}

export function segments(label, choices, chosen, onChoose) {
  const group = h("div", { class: "segments", role: "group", "aria-label": label });
  for (const [value, text] of choices) {
    group.append(h("button", { type: "button", "aria-pressed": String(value === chosen), onClick: () => {
      for (const each of group.children) each.setAttribute("aria-pressed", String(each.dataset.value === value));
      onChoose(value);
    }, "data-value": value }, text));
  }
  return group;
}

export function select(choices, chosen, onChoose, props = {}) {
  const element = h("select", { ...props, onChange: () => onChoose(element.value) },
    choices.map(([value, text]) => h("option", { value }, text)));
  element.value = chosen;
  return element;
}

export const field = (label, input, hint) => h("label", { class: "field" }, h("span", {}, label), input, hint && h("span", { class: "hint" }, hint));

export function toast(text) {
  document.querySelector(".toast")?.remove();
  const shown = h("div", { class: "toast", role: "status" }, text);
  document.body.append(shown);
  setTimeout(() => shown.remove(), 4200);
}

export function dialog(title, build) {
  const before = document.activeElement;
  const shown = h("dialog", { "aria-label": title });
  const close = () => { shown.close(); };
  const body = h("div", { class: "dialog-body" });
  put(shown, h("div", { class: "dialog-head" }, h("h2", {}, title),
    h("button", { class: "button quiet small", type: "button", "aria-label": "Close", onClick: close }, "✕")), body);
  shown.addEventListener("close", () => { shown.remove(); before?.focus?.(); });
  document.body.append(shown);
  put(body, build({ close, body, shown }));
  shown.showModal();
  shown.querySelector("[autofocus]")?.focus();
  return shown;
}
