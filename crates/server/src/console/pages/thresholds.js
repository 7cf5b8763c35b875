// Thresholds of bands: what they are, how many stand in each band now, and what others would have sent on a history.

import { ask } from "../lib/ask.js";
import { announce, choice, field, make, panel, showFields, table } from "../lib/dom.js";
import { problem } from "../lib/notices.js";
import { firstStatus, see, taskNamed } from "../lib/status.js";
import { count, number, percent, plain } from "../lib/words.js";

const MINUTES_MS = 600_000;
const state = { task: "", inputs: {}, parts: {} };

export async function show(main) {
  const { tasks } = await firstStatus();
  const given = new URLSearchParams(location.search).get("task");
  state.task = taskNamed(given) ? given : (tasks[0]?.name ?? "");
  const { parts } = state;
  parts.form = make("form", { class: "panel", submit: (event) => { event.preventDefault(); simulate(); } });
  parts.result = make("div");
  main.append(make("div", { class: "page-head" }, make("h1", {}, "Thresholds")),
    make("p", { class: "lede" }, "A band is entered at its threshold and left below its lower one. Try others on a history: nothing changes for anybody until leadpulse.toml does."),
    parts.form, parts.result);
  await build();
}

async function build() {
  const task = taskNamed(state.task);
  if (!task) return;
  const names = see().tasks.map((one) => one.name);
  const counts = await standing(task);
  state.inputs = {};
  const rows = [...task.bands].reverse().map((band) => {
    const input = (kind, share) => make("input", { type: "number", min: "0.1", max: "99.9", step: "0.1", value: (100 * share).toFixed(1), "aria-label": `${band.name}: ${kind}, percent`, size: 6 });
    state.inputs[band.name] = { enter: input("entered at", band.enter), exit: input("left below", band.exit) };
    return [band.name, counts[band.name] ?? "–", `${(100 * band.enter).toFixed(1)} / ${(100 * band.exit).toFixed(1)}`, state.inputs[band.name].enter, state.inputs[band.name].exit];
  });
  const heads = ["Band", ...["In it now", "Entered / left, %", "Try: entered at", "Try: left below"].map((text) => ({ text, number: true }))];
  state.days = make("input", { type: "number", min: "1", max: "365", value: "30", size: 5 });
  state.cap = make("input", { type: "number", min: "0", max: "1000", placeholder: "as now", size: 10 });
  showFields(state.parts.form, [
    names.length > 1 ? field("Task", choice(names.map((name) => [name, name]), state.task, choose)) : null,
    rows.length === 0 ? make("p", {}, "This task has no bands.") : table(`Bands of ${task.name}`, heads, rows),
    make("div", { class: "controls" }, field("Days at the end of the history", state.days), field("Alerts of a person and day, at most", state.cap), make("button", { class: "main" }, "Simulate")),
  ]);
}

async function choose(task) {
  state.task = task;
  history.replaceState(null, "", `?${new URLSearchParams({ task })}`);
  state.parts.result.replaceChildren();
  await build();
}

/** Entities by band, as of now. */
async function standing(task) {
  const counts = {};
  await Promise.all(task.bands.map(async (band) => {
    try {
      const { total } = await ask("api/v1/scores", { task: task.name, band: band.name, limit: 1 });
      counts[band.name] = number.format(total);
    } catch {
      counts[band.name] = "–";
    }
  }));
  return counts;
}

async function simulate() {
  const { result } = state.parts;
  result.replaceChildren(make("p", { class: "quiet", role: "status" }, "The history is read and judged: this takes up to minutes."));
  const share = (input) => Number(input.value) / 100;
  const bands = taskNamed(state.task).bands.map((band) => ({ name: band.name, enter: share(state.inputs[band.name].enter), exit: share(state.inputs[band.name].exit) }));
  const request = { days: Number(state.days.value), policies: { [state.task]: { bands } } };
  if (state.cap.value !== "") request.caps = { per_owner_and_day: Number(state.cap.value) };
  try {
    const found = await ask("api/v1/alerts/simulate", {}, { body: request, patience: MINUTES_MS });
    result.replaceChildren(compared(found.policies));
    announce("The simulation has ended");
  } catch (error) {
    const command = make("div", {}, make("p", { class: "quiet" }, "The same on a machine that has the files and the bundle:"), make("pre", {}, "leadpulse alerts simulate --data DIR --model BUNDLE --policy OTHER.toml"));
    result.replaceChildren(problem(error), ...(error.status === 503 ? [command] : []));
  }
}

const share = (value) => (value === null || value === undefined ? "–" : percent(value, 1));
const quartiles = (days) => (days ? `${days[1].toFixed(0)} (${days[0].toFixed(0)} to ${days[2].toFixed(0)})` : "–");

/** The figures of each policy in a column of its own, those of the configuration first. */
const FIGURES = [
  ["Alerts before caps", (one) => number.format(one.all.alerts)],
  ["Sent", (one) => number.format(one.all.sent)],
  ["A person and day, mean", (one) => one.after_caps.mean.toFixed(2)],
  ["A person and day, most", (one) => number.format(one.after_caps.highest)],
  ["Good news that came true", (one) => share(one.rising.came_true_ratio)],
  ["Base rate beside it", (one) => share(one.rising.base_ratio)],
  ["Days to the outcome, middle half", (one) => quartiles(one.rising.lead_days)],
  ["Rises that fell back within three days", (one) => share(one.rises.reversed_ratio)],
  ["Held out", (one) => number.format(one.held_out)],
];

function compared(policies) {
  const names = policies.map((one, index) => ({ text: index === 0 ? "As configured" : one.policy, number: true }));
  const rows = FIGURES.map(([title, show]) => [title, ...policies.map(show)]);
  const types = [...new Set(policies.flatMap((one) => Object.keys(one.by_type)))].sort();
  const byType = types.map((type) => [plain(type), ...policies.map((one) => number.format(one.by_type[type]?.sent ?? 0))]);
  const held = [...new Set(policies.flatMap((one) => Object.keys(one.held_back)))].sort();
  const byReason = held.map((reason) => [plain(reason), ...policies.map((one) => number.format(one.held_back[reason] ?? 0))]);
  const days = count(Math.round(policies[0].days), "day");
  return make("div", { class: "panels results" },
    panel("What they would have sent", { class: "wide" }, table(`In ${days}`, ["", ...names], rows)),
    panel("By what happened", {}, table("Sent", ["What happened", ...names], byType)),
    panel("Held back", {}, table("Crossings that fired no alert", ["Why", ...names], byReason)));
}
