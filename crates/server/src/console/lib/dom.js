// Elements of the page.

export const by = (id) => document.getElementById(id);

/** Sets the text only if it differs: nothing is announced or laid out again without need. */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Makes an element. `attributes` become attributes, functions among them listeners, `class` included; null and false are left
 * out. `children` are elements, texts, or null for nothing.
 */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  set(element, attributes);
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** The same for SVG. */
export function draw(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  set(element, attributes);
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
}

/** A panel with a heading. */
export function panel(title, attributes, ...children) {
  const id = `panel-${title.toLowerCase().replaceAll(/[^a-z]+/g, "-")}`;
  const section = make("section", { ...attributes, "aria-labelledby": id }, make("h2", { id }, title), ...children);
  section.classList.add("panel");
  return section;
}

/** A labelled control. */
export const field = (label, control) => make("label", { class: "field" }, label, control);

/** Puts labelled controls in place of others. The one with the label of that which had the focus gets it. */
export function showFields(container, fields) {
  const labelOf = (label) => label?.firstChild.textContent;
  const focused = container.contains(document.activeElement) ? labelOf(document.activeElement.closest("label")) : null;
  container.replaceChildren(...fields.filter(Boolean));
  const labels = [...container.querySelectorAll("label")];
  labels.find((label) => labelOf(label) === focused)?.querySelector("input, select")?.focus();
}

/** A drop-down list of [value, text] pairs. */
export function choice(options, value, onChange) {
  const select = make("select", { change: () => onChange(select.value) });
  select.append(...options.map(([value, text]) => new Option(text, value)));
  select.value = value ?? "";
  return select;
}

/** A definition list of [name, content] pairs; those without content are left out. */
export function facts(pairs) {
  const kept = pairs.filter(([, content]) => content !== null && content !== undefined && content !== "");
  return make("dl", { class: "facts" }, kept.flatMap(([name, content]) => [make("dt", {}, name), make("dd", {}, content)]));
}

/** A table. Heads are texts, or {text, number: true} for a column of numbers; the first cell of a row is its head. */
export function table(caption, heads, rows) {
  const kinds = heads.map((head) => (typeof head === "string" ? { text: head } : head));
  const classOf = (index) => (kinds[index].number ? "number" : null);
  const head = make("tr", {}, kinds.map((kind, index) => make("th", { scope: "col", class: classOf(index) }, kind.text)));
  const body = rows.map((cells) => make("tr", {}, cells.map((cell, index) => (index === 0 ? make("th", { scope: "row" }, cell) : make("td", { class: classOf(index) }, cell)))));
  const content = make("table", {}, make("caption", {}, caption), make("thead", {}, head), make("tbody", {}, body));
  return make("div", { class: "table-box", tabindex: "0", role: "region", "aria-label": caption }, content);
}

/** Says something to people who hear the page. */
export function announce(text) {
  by("live").textContent = text;
}
