// Reasons of a score in words: what raises it, what lowers it, what moved it. Logits are behind a switch.

import { make } from "./dom.js";
import { signed } from "./words.js";

let showsLogits = false; // for all parts of a page, however often they are made anew

/** Two columns of reasons, with the switch for logits. Titles say what a side does. */
export function reasons(drivers, titles = ["Raises the chance", "Lowers the chance"]) {
  const largest = Math.max(...drivers.map((driver) => Math.abs(driver.contribution)), 1e-9);
  const side = (title, kept) => make("div", {}, make("h3", {}, title), kept.length > 0 ? make("div", { class: "reasons" }, kept.map((driver) => reason(driver, largest))) : make("p", { class: "quiet" }, "Nothing of note."));
  const box = make("div", { class: `two-columns${showsLogits ? " with-logits" : ""}` },
    side(titles[0], drivers.filter((driver) => driver.contribution > 0)),
    side(titles[1], drivers.filter((driver) => driver.contribution < 0)));
  return make("div", {}, box, drivers.length > 0 ? logitsSwitch(box) : null);
}

function logitsSwitch(box) {
  const button = make("button", { type: "button", class: "plain", "aria-pressed": String(showsLogits), click: () => {
    showsLogits = box.classList.toggle("with-logits");
    button.setAttribute("aria-pressed", String(showsLogits));
  } }, "Show logits");
  return button;
}

function reason(driver, largest) {
  const isAgainst = driver.contribution < 0;
  const size = make("i", {});
  size.style.transform = `scaleX(${Math.abs(driver.contribution) / largest})`;
  const words = driver.evidence.length > 0 ? driver.evidence.slice(0, 4) : [driver.value].filter(Boolean);
  return make("div", { class: `reason ${isAgainst ? "lowers" : "raises"}`, title: driver.event_ids?.length ? `events ${driver.event_ids.join(", ")}` : null },
    make("span", { class: "label" }, driver.label),
    make("span", { class: "size", "aria-hidden": "true" }, size),
    make("span", { class: "logit" }, signed(driver.contribution, 2)),
    words.length > 0 ? make("span", { class: "words" }, words.join(" · ")) : null);
}

const KINDS = { fit: "Fit", behaviour: "Behaviour", relations: "Relations", timing: "Timing" };

/** The four sub-scores: 50 is neutral. */
export function subScores(scores) {
  if (!scores) return null;
  const parts = Object.entries(scores).map(([kind, points]) => `${KINDS[kind] ?? kind} ${points.toFixed(0)}`);
  return make("p", { class: "quiet" }, `${parts.join(" · ")} — of 100 each, 50 is neutral`);
}
