// The console: asks every second what is new, and shows it without ever moving a row that is being read.
//
// Three answers are polled (status, a page of the ranking, alerts); an entity tag makes an unchanged one free. Values change in place at
// once. The order changes only while nobody points at the list or walks through it with the keyboard; until then a button says how
// many rows wait.

import { ask, forgetAnswers } from "./lib/ask.js";
import { by, make, write } from "./lib/dom.js";
import { age, capital, gradeWords, moment, number, points, signed, singular } from "./lib/words.js";

const POLL_MS = 1000;
const PAGE = 50;
const MAX_ROWS = 1000;
const ALERTS = 100;
const MOVE_MS = 450;

const list = by("list");
const calm = matchMedia("(prefers-reduced-motion: reduce)");

const state = {
  status: null, // the last answer of /api/v1/status
  page: null, // the last page of the ranking
  connected: true,
  limit: PAGE,
  rows: new Map(), // entity key → row
  alertIds: null, // alerts shown; null before the first answer
  pointed: false, // a mouse or pen is over the list (a finger is not: it never leaves)
};

// ---- Asking

function scoresUrl() {
  const query = new URLSearchParams({ task: by("task").value, sort: by("sort").value, limit: state.limit, view: "full" });
  return `api/v1/scores?${query}`;
}

async function poll() {
  try {
    const status = await ask("api/v1/status");
    state.connected = true;
    takeStatus(status);
    if (status.tasks.length > 0) {
      const url = scoresUrl();
      const page = await ask(url);
      if (page && url === scoresUrl()) takePage(page);
    }
    const feed = await ask(`api/v1/alerts?view=full&limit=${ALERTS}`);
    if (feed) takeAlerts(feed.alerts);
    showAges();
  } catch (error) {
    if (state.connected) console.warn("Leadpulse does not answer:", error);
    state.connected = false;
  }
  showPhase();
  showNotice();
}

async function pollForever() {
  for (;;) {
    if (!document.hidden) await poll();
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

// ---- Status

function takeStatus(status) {
  const before = JSON.stringify(state.status?.tasks);
  state.status = status;
  write(by("as-of"), status.as_of === null ? "–" : moment(status.as_of));
  write(by("epoch"), number.format(status.epoch));
  showPhase();
  write(by("lag"), status.lag_records === 1 ? "1 record" : `${number.format(status.lag_records)} records`);
  if (JSON.stringify(status.tasks) !== before) showTasks(status.tasks);
}

function showTasks(tasks) {
  const select = by("task");
  const wanted = select.value || new URLSearchParams(location.search).get("task");
  select.replaceChildren(...tasks.map((task) => new Option(task.name, task.name)));
  if (tasks.some((task) => task.name === wanted)) select.value = wanted;
  by("task-control").hidden = tasks.length < 2;
  showTask();
}

const currentTask = () => state.status?.tasks.find((task) => task.name === by("task").value);

function showTask() {
  const task = currentTask();
  write(by("query"), task?.query ?? "");
  showGrade(task?.quality ?? null);
  if (task) {
    write(by("ranking-title"), capital(task.entity));
    write(by("name-heading"), singular(task.entity));
  }
}

function showPhase() {
  const status = state.status;
  const phase = state.connected ? (status?.phase ?? "starting") : "disconnected";
  const share = status?.phase === "replaying" && status.total > 0 ? ` ${Math.floor((100 * status.done) / status.total)} %` : "";
  by("phase").dataset.phase = phase;
  write(by("phase"), capital(phase) + (phase === "replaying" ? share : ""));
  document.body.classList.toggle("stale", phase === "disconnected");
}

/** How far the task's probabilities can be relied on; nothing for a sound model, or one without a grade. */
function showGrade(quality) {
  const words = gradeWords(quality);
  by("grade").hidden = quality === null || quality === "sound";
  by("grade").title = words.advice;
  write(by("grade"), words.name);
}

/** What the page says where the list would be, or above it. */
function showNotice() {
  const status = state.status;
  const empty = !state.page || state.page.total === 0;
  let title = "";
  let text = "";
  if (!state.connected) {
    title = "Disconnected";
    text = empty ? "Leadpulse does not answer. Trying again every second." : "Leadpulse does not answer; what you see is the last it said. Trying again every second.";
  } else if (status?.phase === "replaying") {
    title = "Replaying";
    text = `Reading again what was committed before: ${number.format(status.done)} of ${number.format(status.total)} records. ${empty ? "Scores appear on the way." : "What you see is as of then."}`;
  } else if (status?.phase === "stopped") {
    title = "The engine has stopped";
    text = status.reason ?? "What you see are the last committed scores.";
  } else if (empty) {
    const shows = status?.phase === "live" || status?.phase === "following";
    title = shows ? "No scores yet" : "Starting";
    text = status?.reason ?? (shows ? "The first ones appear with the first committed epoch." : "The engine is loading its model and connecting.");
  }
  by("notice").hidden = title === "";
  by("notice").classList.toggle("brief", !empty);
  write(by("notice-title"), title);
  write(by("notice-text"), text);
  const progress = by("progress");
  progress.hidden = !(state.connected && status?.phase === "replaying" && status.total > 0);
  if (!progress.hidden) {
    progress.max = status.total;
    progress.value = status.done;
  }
  list.hidden = empty;
}

// ---- Ranking

const keyOf = (score) => `${score.task}\n${score.entity_type}\n${score.entity_id}`;

/** Somebody reads the list: its order stays. */
const isHeld = () => state.pointed || list.querySelector(":focus-visible") !== null;

const isFirstPage = () => state.rows.size === 0;

function takePage(page) {
  state.page = page;
  showScale(page);
  for (const score of page.scores) state.rows.get(keyOf(score))?.update(score);
  write(by("total"), page.total === 1 ? "1 scored" : `${number.format(page.total)} scored`);
  by("more").hidden = page.next_cursor === null || state.limit >= MAX_ROWS;
  if (isHeld() && !isFirstPage()) showWaiting();
  else arrange();
}

/** How many rows would move or appear. */
function showWaiting() {
  const shown = new Map([...list.tBodies].map((body, place) => [body.dataset.key, place]));
  const places = state.page.scores.map((score) => shown.get(keyOf(score))).filter((place) => place !== undefined);
  const waiting = state.page.scores.length - longestAscent(places);
  by("updates").hidden = waiting === 0;
  if (waiting > 0) write(by("updates"), waiting === 1 ? "1 update" : `${waiting} updates`);
}

/** The length of the longest ascending subsequence: of rows in a new order, how many can stay where they are. */
function longestAscent(numbers) {
  const ends = []; // ends[n]: the least number that ends an ascent of n + 1
  for (const number of numbers) {
    const at = ends.findIndex((end) => end >= number);
    ends[at < 0 ? ends.length : at] = number;
  }
  return ends.length;
}

/** Puts the rows in the newest order; those that were there glide to their place. */
function arrange() {
  by("updates").hidden = true;
  const firstPage = isFirstPage();
  list.hidden = state.page.scores.length === 0;
  const before = new Map([...state.rows].map(([key, row]) => [key, row.body.getBoundingClientRect().top]));

  const wanted = new Set(state.page.scores.map(keyOf));
  for (const [key, row] of state.rows) {
    if (!wanted.has(key)) {
      row.body.remove();
      state.rows.delete(key);
    }
  }
  let place = list.tBodies[0] ?? null;
  for (const score of state.page.scores) {
    const key = keyOf(score);
    let row = state.rows.get(key);
    if (!row) {
      row = new Row(key);
      row.update(score);
      state.rows.set(key, row);
    }
    row.setPlace(score.place);
    if (row.body === place) place = place.nextElementSibling;
    else list.insertBefore(row.body, place);
  }
  if (firstPage || calm.matches) return;
  const moves = [];
  for (const [key, row] of state.rows) {
    const top = row.body.getBoundingClientRect().top;
    if (top < -200 || top > innerHeight + 200) continue;
    moves.push([row, before.has(key) ? before.get(key) - top : null]);
  }
  for (const [row, distance] of moves) row.glide(distance);
}

/** The end of the bars: a round number above the best score, so that rare outcomes have visible bars too. */
function showScale(page) {
  const best = Math.max(0, ...page.scores.map((score) => score.score ?? 0));
  const end = [1, 2, 5, 10, 20, 50].find((end) => best <= end) ?? 100;
  if (state.scale !== end) {
    state.scale = end;
    write(by("scale"), `bar 0–${end}`);
    for (const row of state.rows.values()) row.showBar();
  }
}

class Row {
  constructor(key) {
    this.body = make("tbody");
    this.body.dataset.key = key;
    const row = make("tr", "row");
    const cell = (name) => row.appendChild(make("td", name));
    this.rank = cell("rank");
    const name = cell("name");
    this.open = name.appendChild(make("button", "open"));
    this.open.type = "button";
    this.open.setAttribute("aria-expanded", "false");
    this.open.addEventListener("click", () => this.toggle());
    this.why = name.appendChild(make("span", "why"));
    const gauge = cell("score").appendChild(make("div", "gauge"));
    this.points = gauge.appendChild(make("b"));
    this.fill = gauge.appendChild(make("div", "track")).appendChild(make("div", "fill"));
    this.change = cell("change");
    this.trend = cell("trend");
    this.band = cell("band");
    this.age = cell("age");
    this.bundle = cell("bundle");
    this.body.append(row);
    this.row = row;
  }

  update(score) {
    const moved = this.score && this.score.probability !== score.probability;
    const unchanged = this.score && JSON.stringify(this.score) === JSON.stringify(score);
    this.score = score;
    if (unchanged) return;

    write(this.open, score.name ?? score.entity_id);
    this.open.title = score.entity_id;
    write(this.why, score.top_signal ? `+ ${score.top_signal}` : score.drivers[0] ? whyOf(score.drivers[0]) : "");
    const standing = score.percentile === null ? "" : `above ${score.percentile.toFixed(1)} % of the scored`;
    const grade = score.quality === null ? "" : `model: ${gradeWords(score.quality).name}`;
    this.points.title = [standing, grade].filter(Boolean).join(" · ");
    write(this.points, points(score.score));
    this.showBar();

    const change = score.previous_probability === null || score.probability === null ? null : 100 * (score.probability - score.previous_probability);
    write(this.change, change === null ? "–" : signed(change, 1));
    this.change.className = `change ${change > 0 ? "rises" : change < 0 ? "falls" : "stays"}`;

    const [arrow, className] = { improving: ["↗", "rises"], declining: ["↘", "falls"], steady: ["→", "stays"] }[score.trend] ?? ["·", "stays"];
    const velocity = score.velocity_per_day === null ? "" : ` ${signed(score.velocity_per_day, 1)}/d`;
    write(this.trend, score.trend === "unknown" ? "·" : arrow + velocity);
    this.trend.className = `trend ${className}`;
    this.trend.title = score.trend;
    this.trend.setAttribute("aria-label", score.trend + velocity);

    this.body.dataset.level = levelOf(score.band);
    if (score.band === null) this.band.replaceChildren();
    else if (this.band.textContent !== score.band) this.band.replaceChildren(make("span", "pill", score.band));
    this.age.title = moment(score.as_of);
    this.showAge();
    write(this.bundle, score.bundle_id ?? "");
    this.bundle.title = `bundle ${score.bundle_id}, board ${score.board}, epoch ${score.epoch}`;
    if (this.detail) this.showDetail();
    if (moved && !calm.matches) {
      const flash = getComputedStyle(this.body).getPropertyValue("--flash");
      this.row.animate([{ backgroundColor: flash }, {}], { duration: 1200, easing: "ease-out" });
    }
  }

  setPlace(place) {
    write(this.rank, String(place));
  }

  showBar() {
    this.fill.style.transform = `scaleX(${Math.min(1, (this.score?.score ?? 0) / state.scale)})`;
  }

  showAge() {
    write(this.age, age(this.score.as_of, state.status.as_of ?? this.score.as_of));
  }

  /** From `distance` px away to its place; a new row (null) fades in. */
  glide(distance) {
    if (distance === 0) return;
    const from = distance === null ? { opacity: 0 } : { transform: `translateY(${distance}px)` };
    const to = distance === null ? { opacity: 1 } : { transform: "none" };
    this.body.animate([from, to], { duration: MOVE_MS, easing: "cubic-bezier(.2, .7, .2, 1)" });
  }

  toggle() {
    const opens = !this.detail;
    this.open.setAttribute("aria-expanded", String(opens));
    if (opens) {
      this.detail = this.body.appendChild(make("tr", "detail"));
      this.detail.appendChild(make("td")).colSpan = 8;
      this.showDetail();
      this.askWhy();
    } else {
      this.detail.remove();
      this.detail = null;
    }
  }

  showDetail() {
    const grid = make("div", "detail-grid");
    const known = this.score.drivers_as_of ?? -Infinity;
    const why = this.fresh && this.fresh.as_of >= known ? this.fresh : this.score;
    grid.append(driversOf(why, this.score), factsOf(this.score));
    this.detail.cells[0].replaceChildren(grid);
  }

  /** Reasons as of now, from the engine; until they come, and if they do not, those of the last explanation stay. */
  async askWhy() {
    const { entity_type: table, entity_id: id, task } = this.score;
    try {
      const url = `api/v1/${encodeURIComponent(table)}/${encodeURIComponent(id)}/explanation?${new URLSearchParams({ task })}`;
      this.fresh = await ask(url);
      if (this.detail) this.showDetail();
    } catch (error) {
      console.info("No explanation as of now:", error.message);
    }
  }
}

const whyOf = (driver) => `${driver.contribution >= 0 ? "+" : "−"} ${driver.label}${driver.evidence[0] ? `: ${driver.evidence[0]}` : ""}`;

/** How high a band is among the task's: what its colour is chosen by. */
function levelOf(band) {
  const bands = currentTask()?.bands ?? [];
  const fromTop = bands.length - 1 - bands.findIndex((other) => other.name === band);
  return fromTop === 0 ? "top" : fromTop < bands.length - 1 || (fromTop === 1 && bands.length === 2) ? "middle" : "low";
}

/** The reasons of an explanation, of `score` or fresher. */
function driversOf(why, score) {
  const part = make("div");
  part.append(make("h3", "", "Why, in logits"));
  part.append(...driverLines(why.drivers));
  if (why.sub_scores) part.append(make("p", "quiet", Object.entries(why.sub_scores).map(([kind, points]) => `${capital(kind)} ${points.toFixed(0)}`).join(" · ")));
  if (why.drivers.length === 0) part.append(make("p", "quiet", "Not explained yet: reasons come with alerts and band crossings."));
  else if (why.drivers_as_of < score.as_of) part.append(make("p", "quiet", `As of ${moment(why.drivers_as_of)}.`));
  if (why.change_drivers.length > 0) {
    part.append(make("h3", "", `What moved it since ${moment(why.change_since)}`));
    part.append(...driverLines(why.change_drivers));
  }
  return part;
}

function driverLines(drivers) {
  const largest = Math.max(...drivers.map((driver) => Math.abs(driver.contribution)));
  return drivers.map((driver) => {
    const line = make("div", "driver");
    const bar = make("span", "signed");
    const fill = bar.appendChild(make("i", driver.contribution < 0 ? "against" : ""));
    fill.style.transform = `scaleX(${Math.abs(driver.contribution) / largest})`;
    line.append(make("span", "", driver.label), bar, make("output", driver.contribution < 0 ? "falls" : "rises", signed(driver.contribution, 2)));
    const words = [driver.value, ...driver.evidence].filter((word) => word !== null);
    if (words.length > 0) {
      const small = line.appendChild(make("small", "", words.join(" · ")));
      if (driver.event_ids.length > 0) small.title = `events ${driver.event_ids.join(", ")}`;
    }
    return line;
  });
}

function factsOf(score) {
  const part = make("div");
  part.append(make("h3", "", "Facts"));
  const list = part.appendChild(make("dl", "facts"));
  const fact = (name, value) => list.append(make("dt", "", capital(name.replaceAll("_", " "))), make("dd", "", value));
  if (score.recommended_action !== null) fact("Do", score.recommended_action_label ?? score.recommended_action);
  fact("Key", score.entity_id);
  if (score.probability !== null) {
    fact("Probability", score.probability.toPrecision(3));
    if (score.quality !== null) fact("Grade of the model", gradeWords(score.quality).name);
  }
  if (score.percentile !== null) fact("Percentile", score.percentile.toFixed(1));
  const { root, name, committee, open, events, values, ...rest } = score.facts ?? {};
  if (committee) {
    fact("Active people", `${number.format(committee.active)} in 14 days`);
    for (const [field, distinct] of Object.entries(committee.by_field)) if (distinct.length > 0) fact(field, distinct.join(", "));
    for (const person of committee.members.slice(0, 5)) fact(singular(person.table), Object.values(person.values).slice(0, 3).join(", ") || person.key);
  }
  for (const deal of open ?? []) fact(`Open ${singular(deal.table)}`, [deal.key, ...Object.values(deal.values).slice(0, 3)].join(", "));
  for (const event of (events ?? []).slice(0, 3)) fact(moment(event.time_ms), [event.table, event.kind].filter(Boolean).join(": "));
  for (const [field, value] of [...Object.entries(values ?? {}), ...Object.entries(rest)]) {
    if (value !== null && typeof value !== "object") fact(field, String(value));
  }
  fact("As of", moment(score.as_of));
  fact("Lineage", `bundle ${score.bundle_id}, board ${score.board}, epoch ${score.epoch}`);
  return part;
}

// ---- Alerts

function takeAlerts(alerts) {
  const first = state.alertIds === null;
  const known = state.alertIds ?? new Set();
  const feed = by("feed-list");
  const fresh = alerts.filter((alert) => !known.has(alert.alert_id));
  for (const alert of fresh.reverse()) {
    const item = alertItem(alert);
    feed.prepend(item);
    if (!first && !calm.matches) {
      const flash = getComputedStyle(item).getPropertyValue("--flash");
      item.animate([{ opacity: 0, backgroundColor: flash }, { opacity: 1, backgroundColor: flash, offset: 0.2 }, {}], { duration: 2000 });
    }
  }
  while (feed.children.length > ALERTS) feed.lastElementChild.remove();
  state.alertIds = new Set(alerts.map((alert) => alert.alert_id));
  by("no-alerts").hidden = alerts.length > 0;
  write(by("alert-count"), alerts.length === 0 ? "" : alerts.length >= ALERTS ? `newest ${ALERTS}` : String(alerts.length));
  // What was there when the page opened is not news.
  if (first) setTimeout(() => by("feed").setAttribute("aria-live", "polite"), POLL_MS);
}

function alertItem(alert) {
  const item = make("li");
  const up = alert.type.endsWith("_up");
  const down = alert.type.endsWith("_down");
  const mark = make("span", `mark ${up ? "rises" : down ? "falls" : "stays"}`, up ? "▲" : down ? "▼" : "●");
  mark.setAttribute("aria-hidden", "true");
  const time = make("time", "", "");
  time.dateTime = new Date(alert.as_of).toISOString();
  time.title = moment(alert.as_of);
  time.dataset.ms = alert.as_of;
  const name = make("strong", "", alert.name ?? alert.entity_id);
  name.title = `${alert.entity_type} ${alert.entity_id}`;
  const severity = make("span", "severity", alert.severity);
  severity.dataset.severity = alert.severity;
  const task = state.status.tasks.length > 1 ? ` · ${alert.task}` : "";
  item.append(mark, name, time, make("span", "what", whatHappened(alert) + task), severity);
  item.title = [alert.summary, alert.recommended_action_label].filter(Boolean).join(" → ");
  return item;
}

function whatHappened(alert) {
  const { band, previous_band: previous, score } = alert;
  const at = ` at ${points(score)}`;
  if (alert.type === "threshold_up") return band ? `entered ${band}${at}` : `rose over its threshold${at}`;
  if (alert.type === "threshold_down") return previous ? `left ${previous}${at}` : `fell below its threshold${at}`;
  return capital(alert.type.replaceAll("_", " ")) + at;
}

// ---- Time passes

function showAges() {
  for (const row of state.rows.values()) row.showAge();
  const now = state.status.as_of;
  if (now !== null) for (const time of by("feed-list").querySelectorAll("time")) write(time, age(Number(time.dataset.ms), now));
}

// ---- What people do

function changeView() {
  const query = new URLSearchParams({ task: by("task").value, sort: by("sort").value });
  history.replaceState(null, "", `?${query}`);
  state.limit = PAGE;
  state.page = null;
  forgetAnswers();
  for (const row of state.rows.values()) row.body.remove();
  state.rows.clear();
  showTask();
  poll();
}

by("task").addEventListener("change", changeView);
by("sort").addEventListener("change", changeView);
by("updates").addEventListener("click", arrange);
by("more").addEventListener("click", () => {
  state.limit = Math.min(MAX_ROWS, state.limit + PAGE);
  poll();
});
list.addEventListener("pointerenter", (event) => {
  state.pointed = event.pointerType !== "touch";
});
list.addEventListener("pointerleave", () => {
  state.pointed = false;
  arrangeIfFree();
});
// The element that gets the focus has it only after this event.
list.addEventListener("focusout", () => setTimeout(arrangeIfFree, 0));

function arrangeIfFree() {
  if (state.page && !isHeld()) arrange();
}

const sort = new URLSearchParams(location.search).get("sort");
if ([...by("sort").options].some((option) => option.value === sort)) by("sort").value = sort;
pollForever();
