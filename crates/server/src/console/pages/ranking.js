// The ranked list: search, filters, rows that come by stream. Values change in place at once; the order changes at most every 5 s,
// and not while somebody points at the list or walks through it with the keyboard: then a button says how many rows wait.

import { entityAddress, queryOf } from "../lib/ask.js";
import { sparkline } from "../lib/charts.js";
import { announce, by, choice, field, make, showFields, write } from "../lib/dom.js";
import { nothing, problem, remark } from "../lib/notices.js";
import { Ranked, keyOf } from "../lib/ranked.js";
import { VirtualRows } from "../lib/rows.js";
import { firstStatus, now, seen, see, taskNamed } from "../lib/status.js";
import { listen } from "../lib/stream.js";
import { ago, capital, count, gradeWords, levelOf, plain, points, signed, singular } from "../lib/words.js";

const ORDER_EVERY_MS = 5000;
const STREAM_TOP = 25; // rows whose changes are sent: what a window shows
const FILTERS = ["task", "sort", "text", "band", "owner", "region", "open"];
const SORTS = [["score", "Score"], ["velocity", "Rising fastest"], ["change", "Last change"], ["as_of", "Newest"]];
const TRENDS = { improving: ["↗", "rises"], declining: ["↘", "falls"], steady: ["→", "stays"] };

const state = { filter: {}, ranked: null, rows: null, stop: () => {}, isStale: false, ordered: 0, isPointed: false, parts: {}, scale: 1, alerts: 0 };

export async function show(main) {
  const status = await firstStatus();
  if (status.tasks.length === 0) return main.append(nothing("No task is configured: add one to leadpulse.toml."));
  const given = new URLSearchParams(location.search);
  for (const name of FILTERS) state.filter[name] = given.get(name) ?? "";
  if (!taskNamed(state.filter.task)) state.filter.task = status.tasks[0].name;
  state.ranked = new Ranked(() => state.filter);
  build(main);
  await begin();
  setInterval(reorder, 1000);
}

const task = () => taskNamed(state.filter.task);

// ---- Frame

function build(main) {
  const parts = state.parts;
  parts.title = make("h1", {});
  parts.total = make("span", { class: "quiet" });
  parts.grade = make("div");
  parts.waiting = make("button", { type: "button", class: "waiting", hidden: true, click: () => order() });
  parts.controls = make("div", { class: "controls" });
  const filters = make("details", { class: "filters", open: innerWidth > 700 }, make("summary", {}, "Search and filters"), parts.controls);
  parts.notice = make("div");
  state.rows = new VirtualRows({ label: "Entities by rank", makeRow: () => new Row(), keyOf, onNear: readOn });
  parts.list = make("div", { class: "ranking", pointerenter: (event) => point(event, true), pointerleave: (event) => point(event, false) }, head(), state.rows.element);
  main.append(make("div", { class: "page-head" }, parts.title, parts.total, parts.waiting), parts.grade, filters, parts.notice, parts.list);
}

function head() {
  state.parts.scale = make("span");
  const titles = ["#", "Name and first reason", "Band", make("span", {}, "Chance ", state.parts.scale), "Points a day", "Past", "Next step", "Changed"];
  return make("div", { class: "row head", "aria-hidden": "true" }, titles.map((title, index) => make("span", { class: CELLS[index] }, title)));
}

const CELLS = ["place", "name", "band", "chance", "change", "past", "step", "age"];

function showControls() {
  const { filter, parts } = state;
  const tasks = see().tasks;
  const bands = task().bands.map((band) => band.name).reverse();
  const scores = state.ranked.scores;
  const has = (name) => filter[name] !== "" || scores.some((score) => score[name === "open" ? "has_open_opportunity" : name] || score[`${name}_id`]);
  const text = make("input", { type: "search", value: filter.text, size: 16, input: later(() => change("text", text.value.trim())) });
  const person = make("input", { value: filter.owner, size: 8, change: () => change("owner", person.value.trim()) });
  const region = make("input", { value: filter.region, size: 8, change: () => change("region", region.value.trim()) });
  showFields(parts.controls, [
    tasks.length > 1 ? field("Task", choice(tasks.map((one) => [one.name, one.name]), filter.task, (value) => change("task", value))) : null,
    field("Search name or key", text),
    field("Order", choice(SORTS, filter.sort || "score", (value) => change("sort", value))),
    field("Band", choice([["", "Any"], ...bands.map((band) => [band, band])], filter.band, (value) => change("band", value))),
    has("owner") ? field("Owner", person) : null,
    has("region") ? field("Region", region) : null,
    has("open") ? field("Open deal", choice([["", "Either"], ["true", "With one"], ["false", "Without"]], filter.open, (value) => change("open", value))) : null,
  ]);
}

function later(action) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(action, 300);
  };
}

async function change(name, value) {
  state.filter[name] = value;
  if (name === "task") Object.assign(state.filter, { band: "" });
  const query = queryOf(state.filter);
  history.replaceState(null, "", query ? `?${query}` : location.pathname);
  await begin(name !== "text");
  announce(`${count(state.ranked.total, "entity", "entities")} found`);
}

// ---- Reading

async function begin(rebuilds = true) {
  const { parts, ranked, rows } = state;
  ranked.clear();
  state.stop();
  const { name, entity } = task();
  write(parts.title, capital(plain(entity)));
  const grade = gradeWords(task().quality);
  const isSound = task().quality === "sound";
  parts.grade.replaceChildren(...(isSound ? [] : [remark(`The model of this task is ${task().quality === null ? grade.name : `graded ${grade.name}`}`, grade.advice, grade.tone)]));
  try {
    await ranked.more();
    parts.notice.replaceChildren();
  } catch (error) {
    parts.notice.replaceChildren(problem(error, begin));
  }
  showScale();
  rows.show(ranked.scores);
  showTotal();
  if (rebuilds) showControls();
  state.ordered = Date.now();
  state.stop = listen({ task: name, top: STREAM_TOP, every_ms: ORDER_EVERY_MS }, {
    scores: ({ scores }) => takeScores(scores),
    alerts: ({ alerts }) => takeAlerts(alerts),
    reset: () => (state.isStale = true),
    state: () => (state.isStale = true), // also at each try of a stream that is refused
  });
}

function showTotal() {
  const { ranked, parts } = state;
  write(parts.total, `${count(ranked.total, "entity", "entities")} · as of ${new Date(now()).toISOString().slice(0, 16).replace("T", " ")} UTC`);
  if (ranked.total === 0 && !parts.notice.firstChild) {
    const isFiltered = FILTERS.slice(2).some((name) => state.filter[name]);
    parts.notice.replaceChildren(nothing(isFiltered ? "No entity fits these filters." : see().reason ?? "No scores yet: the first ones appear with the first committed epoch."));
  } else if (ranked.total > 0) parts.notice.replaceChildren();
  parts.list.hidden = ranked.total === 0;
}

/** Reads the next page once the window comes near the end of what was read. */
async function readOn(first, last) {
  const { ranked, rows } = state;
  if (last < rows.items.length - 10 || ranked.isAtEnd || rows.items.length === 0) return;
  try {
    if (await ranked.more()) rows.show(ranked.scores);
  } catch (error) {
    state.parts.notice.replaceChildren(problem(error));
  }
}

// ---- Changes

function takeScores(scores) {
  for (const score of scores) {
    seen(score.as_of);
    if (score.entity_type !== task().entity) continue;
    state.ranked.update(score);
    const index = state.rows.items.findIndex((one) => keyOf(one) === keyOf(score));
    if (index >= 0) {
      state.rows.items[index] = { ...state.rows.items[index], ...score };
      state.rows.refresh(index);
    }
  }
  state.isStale = true;
  showTotal();
}

function takeAlerts(alerts) {
  state.alerts += alerts.length;
  const link = by("places").querySelector('a[href="alerts"]');
  link.querySelector(".count")?.remove();
  link.append(make("span", { class: "count", title: "since this page was opened" }, String(state.alerts)));
  announce(`${count(alerts.length, "new alert")}: ${alerts[0].name ?? alerts[0].entity_id}, ${plain(alerts[0].type)}`);
}

function point(event, isPointed) {
  if (event.pointerType !== "touch") state.isPointed = isPointed; // a finger never leaves
}

const isHeld = () => state.isPointed || state.rows.isFocused;

/** Puts the rows in the newest order, at most every 5 s; while the list is held, says how many would move. */
async function reorder() {
  if (document.hidden || !state.isStale || Date.now() - state.ordered < ORDER_EVERY_MS) return;
  state.isStale = false;
  state.ordered = Date.now();
  try {
    await state.ranked.refresh(Math.floor(topIndex()));
    showTotal();
  } catch {
    state.isStale = true; // the phase says that nobody answers
    return;
  }
  if (!isHeld()) return order();
  const before = new Map(state.rows.items.map((score, index) => [keyOf(score), index]));
  const moved = state.ranked.scores.slice(0, state.rows.items.length).filter((score, index) => before.get(keyOf(score)) !== index).length;
  state.parts.waiting.hidden = moved === 0;
  write(state.parts.waiting, moved === 1 ? "1 row has moved: show" : `${moved} rows have moved: show`);
}

function topIndex() {
  const { element, height } = state.rows;
  return Math.max(0, -element.getBoundingClientRect().top / height);
}

function order() {
  state.parts.waiting.hidden = true;
  showScale();
  state.rows.show(state.ranked.scores);
}

/** The end of the bars: a round number above the best score, so that rare outcomes have visible bars too. */
function showScale() {
  const best = Math.max(0, ...state.ranked.scores.map((score) => score.score ?? 0));
  state.scale = [1, 2, 5, 10, 20, 50].find((end) => best <= end) ?? 100;
  write(state.parts.scale, `(bar 0–${state.scale} %)`);
}

// ---- Rows

class Row {
  constructor() {
    const cell = (name, ...children) => (this[name] = make("span", { class: name }, ...children));
    this.link = make("a", {});
    this.why = make("small", {});
    this.points = make("b", {});
    this.fill = make("i", {});
    this.element = make("li", { class: "row" },
      cell("place"), cell("name", this.link, this.why), cell("band"),
      cell("chance", this.points, make("span", { class: "track", "aria-hidden": "true" }, this.fill)),
      cell("change"), cell("past"), cell("step"), cell("age"));
  }

  update(score, index) {
    write(this.place, String(index + 1));
    this.fill.style.transform = `scaleX(${Math.min(1, (score.score ?? 0) / state.scale)})`;
    write(this.age, ago(score.as_of, now()));
    if (this.score === score) return;
    const isNews = this.score && this.score.score !== score.score && keyOf(this.score) === keyOf(score);
    this.score = score;
    write(this.link, score.name ?? score.entity_id);
    this.link.href = entityAddress(state.ranked.entity, score.entity_id, state.filter.task);
    this.link.title = `${singular(state.ranked.entity)} ${score.entity_id}`;
    write(this.why, state.ranked.signalOf(score) ?? "");
    this.band.replaceChildren(...(score.band === null ? [] : [make("span", { class: "pill", "data-level": levelOf(score.band, task().bands) }, score.band)]));
    write(this.points, score.score === null ? "–" : `${points(score.score)} %`);
    const [arrow, tone] = TRENDS[score.trend] ?? ["", "stays"];
    const perDay = score.velocity_per_day === null ? "" : ` ${signed(score.velocity_per_day, 1)}`;
    this.change.className = `change ${tone}`;
    write(this.change, `${arrow}${perDay}`);
    this.change.title = score.trend === "unknown" ? "" : `${score.trend}, points a day over the last week`;
    this.past.replaceChildren(sparkline(state.ranked.histories.get(keyOf(score)) ?? []));
    const action = task().actions.find((one) => one.code === score.recommended_action);
    write(this.step, action?.label ?? plain(score.recommended_action ?? ""));
    this.element.classList.toggle("news", false);
    if (isNews) requestAnimationFrame(() => this.element.classList.add("news"));
  }
}
