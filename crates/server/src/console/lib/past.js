// Jobs on files of a past: labels of a query, and the judgement of a task. They take up to minutes, and end with the page.

import { ask } from "./ask.js";
import { announce, choice, facts, field, make, panel, table } from "./dom.js";
import { nothing, problem, remark } from "./notices.js";
import { evaluation, figure } from "./quality.js";
import { count, day, moment, number, percent } from "./words.js";

const PATIENCE_MS = 660_000; // longer than the server's own limit, which says what to do
const FIRST = 20;

/** A form whose button sends `body()` to a path, and shows `found(answer)` below. Meanwhile the button ends the job. */
function job({ verb, fields, path, body, found, command }) {
  const place = make("div", { class: "results" }, nothing("Nothing was asked yet."));
  const button = make("button", { class: "main" }, verb);
  let running = null;
  const send = async (event) => {
    event.preventDefault();
    if (running) return running.abort();
    running = new AbortController();
    button.textContent = "Stop";
    place.replaceChildren(make("p", { class: "quiet", role: "status" }, "The files are read: this takes up to minutes."));
    const sent = body();
    try {
      place.replaceChildren(...found(await ask(path, {}, { body: sent, patience: PATIENCE_MS, stop: running.signal })));
      announce(`${verb}: the answer is there`);
    } catch (error) {
      place.replaceChildren(...(running.signal.aborted ? [nothing("Stopped.")] : refused(error, command(), sent.query ?? null)));
    } finally {
      running = null;
      button.textContent = verb;
    }
  };
  return make("div", {}, make("form", { class: "controls", submit: send }, ...fields, button), place);
}

/** A refusal, with the command that does the same where the process has no files. */
function refused(error, command, query) {
  const fault = error.document?.fault;
  const carets = fault ? caretsOf(fault, query) : null;
  const elsewhere = error.status === 503 ? [make("p", { class: "quiet" }, "The same on a machine that has the files:"), make("pre", {}, command)] : [];
  return [problem(error), ...(carets ? [carets] : []), ...elsewhere];
}

/** The wrong line of a text with carets below the place; of a named target's text where the place is in one. */
export function caretsOf(fault, query) {
  const text = fault.target ? fault.target.text : query;
  if (text === null) return null;
  const line = text.split("\n")[fault.line - 1] ?? "";
  const length = Math.max(1, Math.min(fault.length, line.length - fault.column + 1));
  return make("pre", { class: "carets" }, `${line}\n${" ".repeat(Math.max(0, fault.column - 1))}${"^".repeat(length)}`);
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** Counts of a query's labels. `query` gives the text as it is now. */
export function labelsPanel(query) {
  const anchors = make("input", { value: "every 30d", size: "12", spellcheck: "false" });
  const first = make("input", { type: "number", min: "0", max: "200", value: String(FIRST), size: "5" });
  return panel("Labels", {}, make("p", { class: "quiet" }, "How often the target came true, on the files of a past: at each anchor, for every entity that the query is about."), job({
    verb: "Count labels",
    fields: [field("Anchors", anchors), field("List the first", first)],
    path: "api/v1/query/labels",
    body: () => ({ query: query(), anchors: anchors.value, first: Number(first.value) }),
    found: labelled,
    command: () => `leadpulse query ${quoted(query())} --data DIR --list ${FIRST}`,
  }));
}

function labelled({ query, entity, labels, first, remarks }) {
  const positive = labels.base_rate === null ? "no label" : `${percent(labels.base_rate, 1)} (${number.format(labels.positive)} of ${number.format(labels.labelled)})`;
  const nobody = labels.unowned_rows > 0 ? `${number.format(labels.unowned_rows)} of ${number.format(labels.rows)} rows that the target counts, such as one of ${labels.unowned_example}` : "no row";
  return [
    facts([
      ["Share positive", positive],
      ["Entities", `${number.format(labels.entities)} with a label, ${number.format(labels.positive_entities)} with a positive one`],
      ["Anchors", `${number.format(labels.anchors)} (${labels.rule})`],
      ["Not known yet", count(labels.open, "pair")],
      ["Without an outcome", labels.dropped > 0 ? count(labels.dropped, "pair") : null],
      ["Counted for nobody", nobody],
      ["Files", `${day(labels.from)} to ${day(labels.until)}`],
      ["Of the query", make("code", {}, query)],
    ]),
    ...remarks.map((text) => remark(text, "")),
    first.length > 0
      ? table(`The first ${count(first.length, "label")}`, [`Key in ${entity}`, "Anchor", { text: "Label", number: true }], first.map((one) => [one.entity, moment(one.time), number.format(one.label)]))
      : nothing(labels.labelled > 0 ? "No label was asked for one by one." : "No window has closed: there is no label."),
  ];
}

/** The judgement of a deployed task. */
export function backtestPanel(tasks) {
  const task = choice(tasks.map((one) => [one.name, one.name]), tasks[0]?.name ?? "", () => {});
  const from = make("input", { type: "date" });
  return panel("Backtest", {}, make("p", { class: "quiet" }, "The model that this process was started with scores a past that it did not learn from; what happened judges it. Another query needs training first."), job({
    verb: "Judge",
    fields: [field("Task", task), field("From (by default the start of its test)", from)],
    path: "api/v1/backtest",
    body: () => ({ task: task.value, ...(from.value ? { from: from.value } : {}) }),
    found: (answer) => answer.tasks.flatMap((one) => judged(one, answer)),
    command: () => `leadpulse backtest --data DIR --model BUNDLE --task ${task.value} --out scored.csv`,
  }));
}

const within = (estimate) => (estimate?.low !== undefined && estimate.low !== null ? `${figure(estimate)} (${estimate.low.toFixed(3)} to ${estimate.high.toFixed(3)})` : figure(estimate));

function judged({ task, rows, scored, labels, evaluation: found }, { bundle, from }) {
  const head = facts([
    ["Bundle", bundle], ["From", day(from)], ["Rows", `${number.format(rows)}, ${number.format(scored)} scored`], ["Labels", labels],
  ]);
  if (!found?.model) return [head, nothing("No figure of a ranking: no outcome is known, or the task predicts a number.")];
  const cells = (name, figures) => [name, within(figures.auroc), within(figures.average_precision)];
  const heads = ["Order by", { text: "AUROC", number: true }, { text: "Average precision", number: true }];
  const order = table(`${count(found.rows, "row")} of ${count(found.entities, "entity", "entities")}, ${number.format(found.positives)} with the outcome`, heads, [cells("the model", found.model)]);
  return [head, order, ...evaluation(found, task).filter(Boolean)];
}
