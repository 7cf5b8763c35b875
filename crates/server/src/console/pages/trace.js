// One record's way: taken, accepted or why not, whose it is, the scores and alerts since.

import { ask, entityAddress, queryOf } from "../lib/ask.js";
import { announce, facts, field, make } from "../lib/dom.js";
import { problem } from "../lib/notices.js";
import { moment, number, percent, plain, singular } from "../lib/words.js";

const FIELDS = [["id", "Key of the row or id of the event"], ["topic", "Topic"], ["partition", "Partition"], ["offset", "Offset"]];

export async function show(main) {
  const given = new URLSearchParams(location.search);
  const inputs = Object.fromEntries(FIELDS.map(([name]) => [name, make("input", { name, value: given.get(name) ?? "", inputmode: name === "partition" || name === "offset" ? "numeric" : null, size: name === "id" || name === "topic" ? 24 : 8 })]));
  const result = make("div");
  const search = async () => {
    const asked = Object.fromEntries(FIELDS.map(([name]) => [name, inputs[name].value.trim()]));
    history.replaceState(null, "", `?${queryOf(asked)}`);
    try {
      const trace = await ask("api/v1/trace", asked);
      result.replaceChildren(...steps(trace));
      announce(`Found: ${plain(trace.outcome)}`);
    } catch (error) {
      result.replaceChildren(problem(error));
    }
  };
  const form = make("form", { class: "controls", submit: (event) => { event.preventDefault(); search(); } },
    FIELDS.map(([name, label]) => field(label, inputs[name])), make("button", { class: "main" }, "Trace"));
  main.append(make("div", { class: "page-head" }, make("h1", {}, "Trace")),
    make("p", { class: "lede" }, "What became of one record: by its id, or by its place in a topic. The newest 50,000 records since this process took over are known."),
    form, result);
  if (given.size > 0) await search();
}

const OUTCOMES = { accepted: ["Accepted", "good"], dead_letter: ["Dead letter", "bad"] };

function steps(trace) {
  const [title, tone] = OUTCOMES[trace.outcome] ?? [plain(trace.outcome), "warm"];
  const step = (name, ...content) => make("li", { class: "panel" }, make("h2", {}, name), ...content);
  const isLetter = trace.outcome === "dead_letter";
  return [make("ol", { class: "steps", "aria-label": "Steps" },
    step("1. Taken", facts([["Topic", trace.topic], ["Partition", String(trace.partition)], ["Offset", number.format(trace.offset)], ["Epoch", trace.epoch === null ? "not kept for dead letters" : number.format(trace.epoch)]])),
    step("2. Decided", make("p", {}, make("span", { class: "pill", "data-tone": tone }, title), trace.reason ? ` ${plain(trace.reason)}` : ""), trace.remark ? make("p", {}, trace.remark) : null,
      isLetter ? make("p", {}, make("a", { href: `dead-letters?${queryOf({ topic: trace.topic, reason: trace.reason })}` }, "Dead letters of this kind")) : null),
    isLetter ? null : step("3. Whose it is", owner(trace)),
    isLetter ? null : step("4. Scores", trace.scores.length === 0 ? make("p", { class: "quiet" }, "No task scores the entity or its account.") : make("ul", {}, trace.scores.map(score))),
    isLetter ? null : step("5. Alerts since", trace.alerts.length === 0 ? make("p", { class: "quiet" }, "None.") : make("ul", {}, trace.alerts.map(alert))))];
}

function owner(trace) {
  if (!trace.entity_id) return make("p", {}, `Nobody's so far: a row of ${plain(trace.table ?? "")}, key ${trace.key}.`);
  return facts([
    ["Row", `${singular(trace.table)} ${trace.key}`],
    ["Entity", make("a", { href: entityAddress(trace.entity_type, trace.entity_id) }, `${singular(trace.entity_type)} ${trace.entity_id}`)],
    ["Account", trace.account_id],
  ]);
}

function score(one) {
  const since = one.is_traced ? "this record is named as a cause" : one.is_since ? "scored since" : "not scored since";
  return make("li", {}, make("a", { href: entityAddress(one.entity_type, one.entity_id, one.task) }, `${one.name ?? one.entity_id}`),
    ` ${one.task}: ${one.score === null ? "no score" : percent(one.score / 100, 1)}${one.band ? `, ${one.band}` : ""} — epoch ${number.format(one.epoch)}, ${since}`);
}

const alert = (one) => make("li", {}, `${one.severity} ${plain(one.type)}, ${one.state}, ${moment(one.as_of)} — ${one.name ?? one.entity_id}`);
