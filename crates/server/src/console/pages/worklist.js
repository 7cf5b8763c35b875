// Work lists: who should call whom next, by person, as written at the last tick that made them.

import { ask, entityAddress } from "../lib/ask.js";
import { choice, field, make, showFields, write } from "../lib/dom.js";
import { nothing, problem } from "../lib/notices.js";
import { firstStatus, see, taskNamed } from "../lib/status.js";
import { count, levelOf, moment, percent } from "../lib/words.js";

const NOBODY = "(nobody)";
const state = { task: "", owner: "", parts: {} };

export async function show(main) {
  const { tasks } = await firstStatus();
  const given = new URLSearchParams(location.search);
  state.task = taskNamed(given.get("task")) ? given.get("task") : (tasks[0]?.name ?? "");
  state.owner = given.get("owner") ?? "";
  const { parts } = state;
  parts.total = make("span", { class: "quiet" });
  parts.controls = make("div", { class: "controls" });
  parts.lists = make("div");
  main.append(make("div", { class: "page-head" }, make("h1", {}, "Work lists"), parts.total), parts.controls, parts.lists);
  await read();
}

async function read() {
  const { parts } = state;
  try {
    const { lists } = await ask("api/v1/worklist", { task: state.task });
    const owners = lists.map((list) => list.owner_id ?? NOBODY).sort();
    if (!owners.includes(state.owner)) state.owner = owners[0] ?? "";
    showControls(owners);
    const list = lists.find((one) => (one.owner_id ?? NOBODY) === state.owner);
    write(parts.total, list ? `${count(list.entries.length, "entry", "entries")} · as of ${moment(list.as_of)}` : "");
    parts.lists.replaceChildren(list ? make("ol", { class: "alerts", "aria-label": `For ${state.owner}` }, list.entries.map(entry)) : nothing("No list yet. Lists are written every so often once alerting has begun ([worklist] in the configuration)."));
  } catch (error) {
    parts.lists.replaceChildren(problem(error, read));
  }
}

function showControls(owners) {
  const names = see().tasks.map((task) => task.name);
  showFields(state.parts.controls, [
    names.length > 1 ? field("Task", choice(names.map((name) => [name, name]), state.task, (value) => choose("task", value))) : null,
    owners.length > 0 ? field("For", choice(owners.map((owner) => [owner, owner]), state.owner, (value) => choose("owner", value))) : null,
  ]);
}

async function choose(name, value) {
  state[name] = value;
  history.replaceState(null, "", `?${new URLSearchParams({ task: state.task, owner: state.owner })}`);
  await read();
}

function entry(one, index) {
  const bands = taskNamed(state.task)?.bands ?? [];
  return make("li", { class: "alert" },
    make("p", { class: "alert-head" }, make("span", { class: "quiet" }, String(index + 1)),
      make("a", { href: entityAddress(one.entity_type, one.entity_id, state.task) }, one.name ?? one.entity_id),
      one.band === null ? null : make("span", { class: "pill", "data-level": levelOf(one.band, bands) }, one.band),
      make("strong", {}, one.probability === null ? "" : percent(one.probability)),
      make("span", { class: "quiet" }, one.recommended_action_label ?? one.recommended_action ?? "")),
    make("p", { class: "alert-words" }, one.summary ?? one.top_signal ?? ""));
}
