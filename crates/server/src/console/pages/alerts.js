// The feed of alerts, newest first. New ones wait at the top until they are asked for, while an alert is read.

import { ask, queryOf } from "../lib/ask.js";
import { alertCard } from "../lib/alert_card.js";
import { announce, choice, field, make, showFields, table, write } from "../lib/dom.js";
import { nothing, problem } from "../lib/notices.js";
import { firstStatus, seen } from "../lib/status.js";
import { listen } from "../lib/stream.js";
import { count, percent, plain } from "../lib/words.js";

const PAGE = 25;
const EVERY_MS = 5000;
const FILTERS = ["task", "type", "owner", "region"];

const state = { filter: {}, limit: PAGE, alerts: [], waiting: new Set(), parts: {} };

export async function show(main) {
  await firstStatus();
  const given = new URLSearchParams(location.search);
  for (const name of FILTERS) state.filter[name] = given.get(name) ?? "";
  const { parts } = state;
  parts.total = make("span", { class: "quiet" });
  parts.controls = make("div", { class: "controls" });
  parts.notice = make("div");
  parts.waiting = make("button", { type: "button", class: "waiting", hidden: true, click: () => read() });
  parts.list = make("ol", { class: "alerts", "aria-label": "Alerts, newest first" });
  parts.more = make("button", { type: "button", hidden: true, click: () => more() }, "Show older ones");
  parts.answers = make("div");
  main.append(make("div", { class: "page-head" }, make("h1", {}, "Alerts"), parts.total, parts.waiting), parts.controls, parts.notice, parts.list, parts.more, parts.answers);
  await Promise.all([read(), showAnswers()]);
  listen({ kinds: "alerts", every_ms: EVERY_MS }, {
    alerts: ({ alerts }) => take(alerts),
    reset: () => read(),
  });
}

async function read() {
  const { parts } = state;
  try {
    const { alerts } = await ask("api/v1/alerts", { ...state.filter, view: "full", limit: state.limit });
    state.alerts = alerts;
    parts.notice.replaceChildren(...(alerts.length === 0 ? [nothing("No alerts. One fires when a score crosses the threshold of a band, or something else happens that the policy names.")] : []));
  } catch (error) {
    parts.notice.replaceChildren(problem(error, read));
  }
  state.waiting.clear();
  parts.waiting.hidden = true;
  render();
}

function render() {
  const { parts } = state;
  const open = new Set([...parts.list.querySelectorAll("li:has(details[open])")].map((item) => item.dataset.id));
  const shown = new Map([...parts.list.children].map((item) => [item.dataset.id, item]));
  for (const alert of state.alerts) seen(alert.as_of);
  // An alert that is read keeps its element.
  parts.list.replaceChildren(...state.alerts.map((alert) => (open.has(alert.alert_id) ? shown.get(alert.alert_id) : alertCard(alert))));
  parts.more.hidden = state.alerts.length < state.limit || state.limit >= 1000;
  write(parts.total, state.alerts.length === state.limit ? `the newest ${state.limit}` : count(state.alerts.length, "alert"));
  showControls();
}

async function more() {
  state.limit = Math.min(1000, state.limit + 50);
  await read();
}

function showControls() {
  const types = new Set([...state.alerts.map((alert) => alert.type), state.filter.type].filter(Boolean));
  const tasks = new Set([...state.alerts.map((alert) => alert.task), state.filter.task].filter(Boolean));
  const owners = new Set([...state.alerts.map((alert) => alert.owner_id), state.filter.owner].filter(Boolean));
  const regions = new Set([...state.alerts.map((alert) => alert.region), state.filter.region].filter(Boolean));
  const options = (values) => [["", "All"], ...[...values].sort().map((value) => [value, plain(value)])];
  const names = (values) => [["", "All"], ...[...values].sort().map((value) => [value, value])];
  const controls = [
    tasks.size > 1 ? field("Task", choice(names(tasks), state.filter.task, (value) => filter("task", value))) : null,
    field("What happened", choice(options(types), state.filter.type, (value) => filter("type", value))),
    owners.size > 0 ? field("Assigned to", choice(names(owners), state.filter.owner, (value) => filter("owner", value))) : null,
    regions.size > 0 ? field("Region", choice(names(regions), state.filter.region, (value) => filter("region", value))) : null,
  ].filter(Boolean);
  const text = controls.map((control) => control.textContent).join();
  if (text !== state.controls) showFields(state.parts.controls, controls);
  state.controls = text;
}

async function filter(name, value) {
  state.filter[name] = value;
  state.limit = PAGE;
  const query = queryOf(state.filter);
  history.replaceState(null, "", query ? `?${query}` : location.pathname);
  await read();
  announce(count(state.alerts.length, "alert"));
}

/** New alerts: shown at once at the top of the page, unless somebody reads further down. */
function take(alerts) {
  const fits = (alert) => ["task", "type", "owner"].every((name) => !state.filter[name] || alert[name === "owner" ? "owner_id" : name] === state.filter[name]);
  const news = alerts.filter(fits);
  if (news.length === 0) return;
  for (const alert of news) state.waiting.add(alert.alert_id);
  announce(`${count(news.length, "new alert")}: ${news[0].name ?? news[0].entity_id}, ${plain(news[0].type)}`);
  const { parts } = state;
  parts.waiting.hidden = false;
  write(parts.waiting, `${count(state.waiting.size, "new alert")}: show`);
  if (scrollY < 200 && !parts.list.querySelector("details[open]") && !parts.list.contains(document.activeElement)) addNewest();
}

/** Reads as many of the newest as came, not the whole page. */
async function addNewest() {
  const limit = Math.min(state.limit, state.waiting.size);
  try {
    const { alerts } = await ask("api/v1/alerts", { ...state.filter, view: "full", limit });
    const ids = new Set(alerts.map((alert) => alert.alert_id));
    state.alerts = [...alerts, ...state.alerts.filter((alert) => !ids.has(alert.alert_id))].slice(0, state.limit);
    state.waiting.clear();
    state.parts.waiting.hidden = true;
    render();
  } catch {
    // The button stays, and asks again.
  }
}

async function showAnswers() {
  try {
    const { newest } = await ask("api/v1/feedback");
    const rows = newest.filter((one) => one.accepted + one.rejected > 0).map((one) => [plain(one.type), one.task, String(one.told), String(one.accepted), String(one.rejected), one.share === null ? "–" : percent(one.share)]);
    if (rows.length === 0) return;
    const heads = ["What happened", "Task", ...["Told", "Of use", "Of no use", "Share of use"].map((text) => ({ text, number: true }))];
    state.parts.answers.replaceChildren(make("section", { class: "panel answers" }, table("Answers to the newest alerts", heads, rows)));
  } catch {
    // Counts are not what the page is for.
  }
}
