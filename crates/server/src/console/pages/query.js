// The query workbench: what a query of PQL means, what is remarkable about it, and where it is wrong.

import { ask } from "../lib/ask.js";
import { announce, facts, field, choice, make, panel } from "../lib/dom.js";
import { problem, remark } from "../lib/notices.js";
import { backtestPanel, caretsOf, labelsPanel } from "../lib/past.js";
import { firstStatus } from "../lib/status.js";
import { span } from "../lib/words.js";

const WAIT_MS = 400;
const state = { asked: 0, parts: {} };

export async function show(main) {
  const { tasks } = await firstStatus();
  const { parts } = state;
  parts.text = make("textarea", { rows: "6", cols: "80", spellcheck: "false", id: "pql", "aria-describedby": "verdict" });
  parts.text.value = new URLSearchParams(location.search).get("pql") ?? tasks[0]?.query ?? "";
  parts.verdict = make("div", { id: "verdict" });
  parts.result = make("div");
  const take = (name) => {
    parts.text.value = tasks.find((task) => task.name === name)?.query ?? parts.text.value;
    check();
  };
  main.append(make("div", { class: "page-head" }, make("h1", {}, "Query")),
    make("p", { class: "lede" }, "A query says what is predicted, for whom. It is read as you write; nothing is trained. Files of a past count its labels and judge the tasks that are deployed."),
    make("div", { class: "panel" },
      make("div", { class: "controls" }, field("Begin with the query of a task", choice([["", "–"], ...tasks.map((task) => [task.name, task.name])], "", take))),
      make("label", { class: "field pql" }, "Query in PQL", parts.text), parts.verdict),
    parts.result,
    make("div", { class: "panels results" }, labelsPanel(() => parts.text.value), backtestPanel(tasks)));
  let timer = 0;
  parts.text.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(check, WAIT_MS);
  });
  await check();
}

async function check() {
  const { parts } = state;
  const query = parts.text.value;
  const turn = (state.asked += 1);
  history.replaceState(null, "", `?${new URLSearchParams({ pql: query })}`);
  try {
    const answer = await ask("api/v1/query", {}, { body: { query } });
    if (turn !== state.asked) return; // written on since
    parts.text.setAttribute("aria-invalid", String(answer.error !== null));
    parts.verdict.replaceChildren(...(answer.error ? [fault(answer.error, query)] : []));
    parts.result.replaceChildren(...(answer.plan ? planned(answer.plan) : []));
    announce(answer.error ? `Line ${answer.error.line}, column ${answer.error.column}: ${answer.error.message}` : "The query can be planned");
  } catch (error) {
    if (turn === state.asked) parts.verdict.replaceChildren(problem(error, check));
  }
}

/** The wrong line with carets below the place, then fault and remedy. */
function fault(error, query) {
  const where = `${error.target ? `Named target ${error.target.name}, line` : "Line"} ${error.line}, column ${error.column}`;
  return make("div", { class: "notice", "data-tone": "bad" }, make("p", { class: "title" }, `${where}: ${error.message}`),
    caretsOf(error, query), error.hint ? make("p", {}, error.hint) : null);
}

function planned(plan) {
  const remarks = plan.remarks.map((one) => remark(one.message, one.hint));
  return [make("div", { class: "panels results" },
    panel("What it means", { class: "wide" }, make("ol", { class: "meaning" }, plan.meaning.map((line) => make("li", {}, line))),
      facts([["Rows of", plan.entity], ["Looks ahead", span(plan.horizon_ms)], ["Written out", make("code", {}, plan.text)]])),
    panel("Remarks", { class: "wide" }, ...(remarks.length > 0 ? remarks : [make("p", { class: "quiet" }, "None.")])))];
}
