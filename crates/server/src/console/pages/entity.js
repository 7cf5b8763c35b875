// One entity: its chance in words, its past, its reasons as of now, its people, its alerts. Fields have the names of their schema.

import { ask, entityAddress, entityPath, queryOf } from "../lib/ask.js";
import { alertCard, rulingWords } from "../lib/alert_card.js";
import { historyChart, neighbourhood } from "../lib/charts.js";
import { committeeGrid } from "../lib/committee.js";
import { announce, facts, make, panel, table } from "../lib/dom.js";
import { nothing, problem, remark } from "../lib/notices.js";
import { reasons, subScores } from "../lib/reasons.js";
import { actionWords, firstStatus, now, seen, taskNamed } from "../lib/status.js";
import { listen } from "../lib/stream.js";
import { whatIfPanel } from "../lib/what_if.js";
import { ago, capital, chance, count, gradeWords, levelOf, moment, number, percent, plain, signed, singular, span, value } from "../lib/words.js";

const EVERY_MS = 5000;
const given = new URLSearchParams(location.search);
const [entityTable, id] = [given.get("table") ?? "", given.get("id") ?? ""];
const state = { entity: null, task: given.get("task"), why: null, committee: null, past: {}, parts: {} };

export async function show(main) {
  await firstStatus();
  if (!entityTable || !id) {
    main.append(nothing("No entity is named: open one from the ranking, or put ?table=…&id=… behind the address."));
    return;
  }
  const { parts } = state;
  parts.head = make("div");
  parts.panels = make("div", { class: "panels" });
  parts.whatIf = make("div", { class: "panels beside" });
  main.append(parts.head, parts.panels, parts.whatIf);
  await read();
  if (!state.entity) return;
  render();
  // The engine answers both between two epochs; what it does not answer at once comes into the page later.
  askWhy().then(render);
  askCommittee().then(render).then(() => whatIfPanel(tried)).then((form) => parts.whatIf.append(...(form ? [form] : [])));
  const isPlain = !id.includes(","); // the parameter is a list
  listen({ entities: isPlain ? id : null, kinds: "all", every_ms: EVERY_MS }, {
    scores: ({ scores }) => scores.some((score) => score.entity_id === id && score.entity_type === entityTable) && refresh(),
    alerts: ({ alerts }) => alerts.some((alert) => alert.entity_id === id) && refresh(),
    reset: () => refresh(),
  });
}

async function read() {
  try {
    state.entity = await ask(entityPath(entityTable, id));
  } catch (error) {
    state.parts.head.replaceChildren(problem(error, () => location.reload()));
    return;
  }
  for (const [task, points] of Object.entries(state.entity.history)) keepPoints(task, points);
  const tasks = state.entity.scores.map((score) => score.task);
  if (!tasks.includes(state.task)) state.task = tasks[0];
  for (const score of state.entity.scores) seen(score.as_of);
}

/** What the form of rows that never came is about. */
const tried = () => ({
  table: entityTable, id, task: state.task,
  members: (state.committee?.members ?? []).map((member) => [member.table, member.key, nameOf(current(), member) ?? member.key]),
});

const current = () => state.entity.scores.find((score) => score.task === state.task);

/** Reasons as of now; if they do not come, those of the last record stay. */
async function askWhy() {
  try {
    state.why = await ask(entityPath(entityTable, id, "/explanation"), { task: state.task });
    seen(state.why.as_of);
  } catch {
    state.why = null;
  }
}

async function askCommittee() {
  try {
    state.committee = await ask(entityPath(entityTable, id, "/committee"));
  } catch {
    state.committee = null; // asked again with the next change
  }
}

async function refresh() {
  const before = current()?.probability;
  await Promise.all([read(), askWhy(), state.committee ? null : askCommittee()]);
  render();
  const after = current()?.probability;
  if (before !== after && after !== null) announce(`Chance now ${percent(after)}`);
}

async function choose(task) {
  state.task = task;
  history.replaceState(null, "", `?${queryOf({ table: entityTable, id, task })}`);
  await askWhy();
  render();
  document.querySelector('.tabs [aria-pressed="true"]')?.focus();
}

function render() {
  const score = current();
  if (!score) return;
  const why = state.why && state.why.as_of >= (score.drivers_as_of ?? 0) ? state.why : score;
  document.title = `${score.name ?? id} · Leadpulse`;
  const opened = new Set([...document.querySelectorAll("li.alert:has(details[open])")].map((item) => item.dataset.id));
  const isHeld = state.parts.panels.contains(document.activeElement);
  state.parts.head.replaceChildren(...head(score));
  if (isHeld) return; // somebody reads a part with the keyboard, or gives an answer; the next change shows all
  state.parts.panels.replaceChildren(...[
    verdict(score, why), pastPanel(score),
    reasonsPanel(score, why), changesPanel(why),
    committeePanel(score), aroundPanel(score),
    openPanel(score), timelinePanel(score),
    alertsPanel(opened), factsPanel(score),
  ].filter(Boolean));
}

function head(score) {
  const tasks = state.entity.scores.map((one) => one.task);
  const ruling = state.entity.ruling;
  return [
    make("div", { class: "page-head" }, make("h1", {}, score.name ?? id), make("span", { class: "quiet" }, `${singular(entityTable)} ${id}`)),
    tasks.length > 1 ? make("div", { class: "tabs", role: "group", "aria-label": "Task" }, tasks.map((task) => make("button", { type: "button", "aria-pressed": String(task === state.task), click: () => choose(task) }, task))) : null,
    ruling ? remark(rulingWords(ruling), "Nothing but alerts and lists follow it: scores do not.") : null,
  ].filter(Boolean);
}

/** Grade before probability, both in words. */
function verdict(score, why) {
  const grade = gradeWords(score.quality);
  const asked = taskNamed(state.task);
  const bands = asked?.bands ?? [];
  const rest = [];
  if (score.status !== "scored") return panel("Now", { class: "third" }, make("p", {}, `Not scored: ${score.reason ?? "it is not of the task's population"}.`));
  const interval = score.probability_low === null ? "" : ` (${percent(score.probability_low)} to ${percent(score.probability_high)} in 19 of 20 cases)`;
  rest.push(make("p", { class: "grade" }, make("span", { class: "pill", "data-tone": grade.tone }, `Model: ${grade.name}`), ` ${grade.advice}`));
  rest.push(make("p", { class: "verdict" },
    score.band === null ? null : make("span", { class: "pill", "data-level": levelOf(score.band, bands) }, score.band),
    make("strong", {}, ` ${capital(chance(why.probability ?? score.probability))}`),
    `, ${percent(why.probability ?? score.probability, 1)}${interval}${score.horizon_days === null ? "" : ` within ${count(score.horizon_days, "day")}`}.`));
  const direction = { improving: "rising", declining: "falling", steady: "steady" }[score.trend];
  rest.push(facts([
    ["Standing", score.rank === null ? null : `${number.format(score.rank)} of ${number.format(score.ranked)}, above ${score.percentile.toFixed(0)} %`],
    ["Trend", direction ? `${direction}${score.velocity_per_day === null ? "" : `, ${signed(score.velocity_per_day, 1)} points a day`}` : null],
    ["Checked", `${ago(why.as_of, now())}${now() - score.as_of < 1000 ? "" : `, unchanged for ${span(now() - score.as_of)}`}`],
    ["Before", score.previous_probability === null ? null : `${percent(score.previous_probability, 1)} until ${moment(score.previous_as_of)}`],
    ["Next step", actionWords(score)],
    ["Question", asked ? make("code", {}, asked.query) : null],
  ]));
  return panel("Now", { class: "third" }, ...rest);
}

/** What is known of a task's past: points by moment, and where to go on; `before` is undefined until it was asked for. */
const pastOf = (task) => (state.past[task] ??= { points: new Map(), before: undefined, words: "" });

function keepPoints(task, points) {
  const past = pastOf(task);
  for (const point of points) past.points.set(point.as_of, point);
}

/** Reads older points from the scores topic: a bounded part of it, so more may lie behind what has none. */
async function readOlder() {
  const { task } = state;
  const past = pastOf(task);
  past.words = "Older scores are read…";
  renderPast();
  try {
    const path = entityPath(entityTable, id, "/history");
    // The first answer names the place before its oldest point.
    const before = past.before ?? (await ask(path, { task })).before;
    const answer = before === null ? { points: [], before: null, looked_at: 0 } : await ask(path, { task, before });
    keepPoints(task, answer.points);
    past.before = answer.before;
    const looked = answer.points.length > 0 ? `${count(answer.points.length, "older score")}.` : `None among ${count(answer.looked_at, "record")}.`;
    past.words = answer.before === null ? `${looked} The topic keeps none from before.` : looked;
  } catch (error) {
    past.words = `${capital(error.message)}. ${error.hint ?? ""}`;
  }
  announce(past.words);
  if (state.task === task) renderPast();
}

/** Shows the past anew; the button keeps the focus. */
function renderPast() {
  const shown = document.querySelector("[aria-labelledby=panel-past]");
  const isHeld = shown?.contains(document.activeElement);
  shown?.replaceWith(pastPanel(current()));
  if (isHeld) document.querySelector("[aria-labelledby=panel-past] button")?.focus();
}

function olderControls() {
  const past = pastOf(state.task);
  const button = make("button", { type: "button", click: readOlder, disabled: past.before === null }, "Older scores");
  return make("div", { class: "controls" }, button, make("span", { class: "quiet" }, past.words));
}

function pastPanel(score) {
  const points = [...pastOf(state.task).points.values()].sort((one, other) => one.as_of - other.as_of);
  const bands = taskNamed(state.task)?.bands ?? [];
  const known = points.filter((point) => point.probability !== null);
  if (known.length < 2) return panel("Past", { class: "two-thirds" }, make("p", { class: "quiet" }, "One score so far: a line needs two."), olderControls());
  const events = (score.facts?.events ?? []).filter((event) => event.time_ms >= points[0].as_of);
  const probabilities = known.map((point) => point.probability);
  const label = `Probability from ${moment(points[0].as_of)} to ${moment(points.at(-1).as_of)}: between ${percent(Math.min(...probabilities), 1)} and ${percent(Math.max(...probabilities), 1)}, last ${percent(probabilities.at(-1), 1)}`;
  const limits = bands.map((band) => `${band.name} from ${percent(band.enter)}`).join(", ");
  return panel("Past", { class: "two-thirds" }, make("figure", {}, historyChart(points, bands, events, label),
    make("figcaption", {}, `The last ${count(points.length, "emitted score")}. Dashed: ${limits}. Ticks at the bottom: the newest events.`)), olderControls());
}

function reasonsPanel(score, why) {
  const asOf = why.drivers_as_of;
  const words = asOf === null ? "Not explained yet: reasons come with alerts and with a request that the engine answers." : `As of ${moment(asOf)}${why === score ? ", of the last record" : ""}.`;
  return panel("Why", { class: "wide" }, make("p", { class: "quiet" }, words), reasons(why.drivers), subScores(why.sub_scores));
}

function changesPanel(why) {
  if (why.change_drivers.length === 0) return null;
  return panel("What changed", { class: "wide" }, make("p", { class: "quiet" }, `Since ${moment(why.change_since)}.`), reasons(why.change_drivers, ["Moved it up", "Moved it down"]));
}

function committeePanel() {
  if (!state.committee || state.committee.people === 0) return null;
  return panel("People", {}, committeeGrid(state.committee));
}

/** What belongs to the entity, as a picture and as links. */
function aroundPanel(score) {
  const ties = state.committee?.related ?? [];
  const related = ties.slice(0, 4).map((tie) => ({ kind: "related", isActive: tie.is_customer, name: tie.other.name, about: tie.relation }));
  const hubs = (state.committee?.hubs ?? []).slice(0, related.length > 0 ? 4 : 5).map((hub) => ({ kind: "hub", isActive: hub.ends !== null, name: hub.name, about: endsWords(hub), hub }));
  const members = (state.committee?.members ?? []).slice(0, related.length > 0 ? 5 : hubs.length > 0 ? 6 : 9).map((member) => ({
    kind: "person", isActive: member.is_active, table: member.table, id: member.key,
    name: nameOf(score, member) ?? member.key, about: member.values.filter(Boolean).join(", ") || singular(member.table),
  }));
  const deals = (score.facts?.open ?? []).slice(0, hubs.length > 0 ? 3 : 5).map((deal) => ({
    kind: "deal", isActive: true, name: deal.values.name ?? deal.key, about: `open ${singular(deal.table)}`, id: deal.key,
  }));
  const around = [...deals, ...members, ...related, ...hubs];
  if (around.length === 0) return null;
  const label = `${count(members.length, "person", "people")}, ${count(deals.length, "open deal")}, ${count(related.length, "entity", "entities")} of other accounts and ${count(hubs.length, "hub")} around ${score.name ?? id}`;
  return panel("Around it", {}, ...[make("figure", {}, neighbourhood(score.name ?? id, around, label), make("figcaption", {}, `Round: people, filled where they were active in 14 days. Square: what is open.${related.length > 0 ? " Triangle: of other accounts, filled where they are customers." : ""}${hubs.length > 0 ? " Diamond: what it shares with others, filled where something came of them." : ""}`)),
    ties.length > 0 ? tieTable(ties) : null, hubs.length > 0 ? hubTable(hubs.map(({ hub }) => hub)) : null].filter(Boolean));
}

function tieTable(ties) {
  const link = ({ table: of, key, name }) => make("a", { href: entityAddress(of, key) }, name);
  const rows = ties.map((tie) => [`${singular(tie.own.table)} ${tie.own.name}`, tie.relation, link(tie.other), tie.other_root === null ? "none" : tie.other_root, tie.is_customer ? "yes" : "no", tie.since_ms === null ? "–" : moment(tie.since_ms).slice(0, 10)]);
  return table("Ties to other accounts", ["Here", "Tie", "There", "Its account", "Customer", "Since"], rows);
}

/** What came of the others of a hub, in a few words; the table has the rest. */
const endsWords = ({ ends, others }) => (ends ? `${number.format(ends.count)} ${ends.name}` : count(others, "other"));

function hubTable(hubs) {
  const rows = hubs.map((hub) => [hub.name, plain(hub.hub), number.format(hub.others), hub.ends ? `about ${count(hub.ends.count, hub.ends.name, hub.ends.name)} in ${count(hub.ends.days, "day")}` : "nothing"]);
  return table("What it shares with others", ["Name", "Of", { text: "Others", number: true }, "What came of them"], rows);
}

function nameOf(score, member) {
  const known = score.facts?.committee?.members?.find((one) => one.table === member.table && one.key === member.key);
  return known?.values.name;
}

function openPanel(score) {
  const open = score.facts?.open ?? [];
  if (open.length === 0) return null;
  const names = [...new Set(open.flatMap((deal) => Object.keys(deal.values)))].filter((name) => !open.every((deal) => deal.values[name] === deal.key)).slice(0, 7);
  const rows = open.map((deal) => [deal.key, ...names.map((name) => (deal.values[name] === undefined || deal.values[name] === null ? "–" : value(deal.values[name])))]);
  return panel("Open", { class: "wide" }, table(`Open rows of ${plain(open[0].table)}`, [capital(singular(open[0].table)), ...names.map(plain)], rows));
}

function timelinePanel(score) {
  const events = score.facts?.events ?? [];
  if (events.length === 0) return null;
  const line = (event) => make("li", {}, make("time", { datetime: new Date(event.time_ms).toISOString(), title: moment(event.time_ms) }, ago(event.time_ms, now())),
    make("span", {}, capital(plain(event.kind ?? singular(event.table))), make("span", { class: "quiet" }, ` in ${plain(event.table)}${event.owner && event.owner !== id ? `, ${singular(event.owner_table)} ${event.owner}` : ""}`)));
  return panel("Newest events", {}, make("ol", { class: "timeline" }, events.map(line)));
}

function alertsPanel(opened) {
  const alerts = state.entity.alerts;
  return panel("Alerts", {}, alerts.length === 0 ? make("p", { class: "quiet" }, "None among the newest.") : make("ol", { class: "alerts" }, alerts.slice(0, 12).map((alert) => alertCard(alert, opened.has(alert.alert_id)))));
}

function factsPanel(score) {
  const values = Object.entries(score.facts?.values ?? {}).filter(([, text]) => text !== null && text !== "");
  return panel("Row", { class: "wide" }, values.length > 0 ? make("div", { class: "facts-columns" }, facts(values.map(([name, text]) => [capital(plain(name)), text === id ? text : value(text)]))) : make("p", { class: "quiet" }, "No row has described it yet."),
    make("p", { class: "quiet" }, `Bundle ${score.bundle_id ?? "–"}, board ${score.board}, epoch ${score.epoch}; scored because of ${plain(score.cause)}.`));
}
