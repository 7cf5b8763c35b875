// A list of thousands of rows of one height, of which only those near the window are in the document.
//
// Rows are elements of their keys: one that moves keeps its element, and with it the focus. The arrow keys go from row to row.

import { make } from "./dom.js";

const BEYOND = 8; // rows above and below the window
const calm = matchMedia("(prefers-reduced-motion: reduce)");

export class VirtualRows {
  /**
   * `makeRow()` gives an object with `element` and `update(item, index)`, `keyOf(item)` the key of an item. `onNear(first, last)`
   * is called with the rows near the window whenever they change.
   */
  constructor({ label, makeRow, keyOf, onNear }) {
    Object.assign(this, { makeRow, keyOf, onNear, items: [], rows: new Map(), near: "" });
    this.element = make("ol", { class: "rows", "aria-label": label, keydown: (event) => this.step(event) });
    addEventListener("scroll", () => this.render(), { passive: true });
    addEventListener("resize", () => this.render());
  }

  /** Puts other items in place; rows that stay glide to where they belong. */
  show(items) {
    this.items = items;
    const glides = this.rows.size > 0 && !calm.matches;
    this.element.classList.toggle("gliding", glides);
    this.render();
  }

  /** Shows an item anew where it stands. */
  refresh(index) {
    this.rows.get(this.keyOf(this.items[index]))?.update(this.items[index], index);
  }

  get isFocused() {
    return this.element.contains(document.activeElement);
  }

  get height() {
    return parseFloat(getComputedStyle(this.element).getPropertyValue("--row-height")) || 56;
  }

  render() {
    const height = this.height;
    this.element.style.height = `${this.items.length * height}px`;
    const top = this.element.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor(-top / height) - BEYOND);
    const last = Math.min(this.items.length, Math.ceil((innerHeight - top) / height) + BEYOND);
    const wanted = new Map();
    for (let index = first; index < last; index += 1) wanted.set(this.keyOf(this.items[index]), index);
    this.drop(wanted);
    let next = null;
    for (const [key, index] of [...wanted].reverse()) {
      const row = this.rows.get(key) ?? this.add(key);
      row.update(this.items[index], index);
      row.element.style.transform = `translateY(${index * height}px)`;
      row.element.setAttribute("aria-posinset", index + 1);
      row.element.setAttribute("aria-setsize", this.items.length);
      const isFocused = row.element.contains(document.activeElement);
      // An element that moves in the document loses the focus, so the others move around it.
      if (row.element.nextElementSibling !== next && !isFocused) this.element.insertBefore(row.element, next);
      next = row.element;
    }
    const near = `${first}-${last}-${this.items.length}`;
    if (near !== this.near) {
      this.near = near;
      this.onNear(first, last);
    }
  }

  add(key) {
    const row = this.makeRow();
    this.rows.set(key, row);
    this.element.append(row.element);
    return row;
  }

  drop(wanted) {
    for (const [key, row] of this.rows) {
      if (wanted.has(key) || row.element.contains(document.activeElement)) continue;
      row.element.remove();
      this.rows.delete(key);
    }
  }

  /** Arrow keys, Home and End go to the link of another row. */
  step(event) {
    const by = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity }[event.key];
    const row = event.target.closest("li");
    if (by === undefined || !row || event.target.matches("input, select, textarea")) return;
    event.preventDefault();
    const index = Number(row.getAttribute("aria-posinset")) - 1;
    const to = Math.min(this.items.length - 1, Math.max(0, index + by));
    const height = this.height;
    const top = this.element.getBoundingClientRect().top + to * height;
    if (top < 80) scrollBy(0, top - 80);
    else if (top + height > innerHeight) scrollBy(0, top + height - innerHeight + 8);
    this.render();
    this.rows.get(this.keyOf(this.items[to]))?.element.querySelector("a, button")?.focus({ preventScroll: true });
    this.render();
  }
}
