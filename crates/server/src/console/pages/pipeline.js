// The pipeline: its phase, how far it is behind, the stages of the newest epoch, every partition.

import { ask } from "../lib/ask.js";
import { bars } from "../lib/charts.js";
import { facts, make, panel, table } from "../lib/dom.js";
import { problem, remark } from "../lib/notices.js";
import { capital, count, moment, number, span } from "../lib/words.js";

const EVERY_MS = 10_000;

export async function show(main) {
  const content = make("div");
  main.append(make("div", { class: "page-head" }, make("h1", {}, "Pipeline")), content);
  const read = async () => {
    if (document.hidden) return;
    try {
      const [pipeline, letters, ready] = await Promise.all([ask("api/v1/pipeline"), ask("api/v1/dead-letters", { limit: 1 }), readiness()]);
      const text = JSON.stringify([pipeline, letters.kinds, ready]);
      if (content.contains(document.activeElement)) return; // a table is being scrolled by keys
      if (text !== content.dataset.shown) content.replaceChildren(...parts(pipeline, letters.kinds, ready));
      content.dataset.shown = text;
    } catch (error) {
      if (!content.firstChild) content.replaceChildren(problem(error, () => location.reload()));
    }
  };
  await read();
  setInterval(read, EVERY_MS);
}

/** The remark of the probe, which stands while something needs attention. */
async function readiness() {
  const response = await fetch("readyz", { cache: "no-store" });
  return (await response.json()).reason ?? null;
}

function parts(pipeline, kinds, ready) {
  const letters = kinds.reduce((sum, kind) => sum + kind.kept, 0);
  return [
    ready ? remark("The process remarks", capital(ready)) : null,
    make("div", { class: "panels" },
      panel("State", {}, facts([
        ["Phase", capital(pipeline.phase)],
        ["Reason", pipeline.reason],
        ["As of", pipeline.as_of === null ? "–" : moment(pipeline.as_of)],
        ["Epoch", number.format(pipeline.epoch)],
        ["Records", number.format(pipeline.records)],
        ["Behind", behind(pipeline)],
        ["Bundle", pipeline.deployed?.bundle_id],
        ["Release", pipeline.deployed?.release],
        ["Dead letters", make("a", { href: "dead-letters" }, letters === 0 ? "none kept" : `${number.format(letters)} kept`)],
      ])),
      epochPanel(pipeline.newest_epoch),
      partitionsPanel(pipeline.partitions)),
  ].filter(Boolean);
}

function behind(pipeline) {
  const records = count(pipeline.lag_records, "record");
  return pipeline.lag_seconds === null ? records : `${records}; the newest record was committed ${pipeline.lag_seconds < 10 ? `${pipeline.lag_seconds.toFixed(1)} s` : span(1000 * pipeline.lag_seconds)} after its Kafka timestamp`;
}

function epochPanel(epoch) {
  if (!epoch) return panel("Newest epoch", {}, make("p", { class: "quiet" }, "None since the start of this process."));
  const ms = (seconds) => (seconds >= 10 ? `${seconds.toFixed(1)} s` : `${(1000 * seconds).toFixed(seconds < 0.01 ? 1 : 0)} ms`);
  const rows = epoch.stages.map((stage) => ({ name: stage.stage, value: stage.seconds, text: ms(stage.seconds) }));
  const label = `Stages of epoch ${epoch.epoch}: ${rows.map((row) => `${row.name} ${row.text}`).join(", ")}`;
  return panel("Newest epoch", {}, facts([
    ["Epoch", number.format(epoch.epoch)],
    ["Took", ms(epoch.seconds)],
    ["Took in", count(epoch.records, "record")],
    ["Scored", `${count(epoch.scored, "entity", "entities")}, ${count(epoch.scores, "record")} of scores, ${count(epoch.alerts, "alert")}`],
  ]), make("figure", {}, bars(rows, label), make("figcaption", {}, "Time by stage, in their order.")));
}

function partitionsPanel(partitions) {
  const heads = ["Topic", ...["Partition", "Next offset", "End", "Behind"].map((text) => ({ text, number: true }))];
  const rows = partitions.map((one) => [one.topic, String(one.partition), number.format(one.next_offset), number.format(one.end_offset), number.format(one.lag_records)]);
  return panel("Partitions", { class: "wide" }, table("Places in the input topics, as last measured", heads, rows));
}
