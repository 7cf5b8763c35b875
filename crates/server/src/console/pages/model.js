// The model that scores now: its grade with the reasons, its figures on validation, its versions.

import { operation } from "../lib/act.js";
import { ask } from "../lib/ask.js";
import { bars } from "../lib/charts.js";
import { facts, make, panel, table } from "../lib/dom.js";
import { problem } from "../lib/notices.js";
import { evaluation } from "../lib/quality.js";
import { firstStatus } from "../lib/status.js";
import { capital, count, gradeWords, number, percent, plain, span } from "../lib/words.js";

export async function show(main) {
  const status = await firstStatus();
  main.append(make("div", { class: "page-head" }, make("h1", {}, "Model")));
  try {
    const card = await ask("api/v1/model");
    main.append(make("div", { class: "panels" }, bundlePanel(card), versionsPanel(status.deployed), ...card.tasks.map((task) => taskPanel(task, status.tasks.find((one) => one.name === task.name)))));
  } catch (error) {
    main.append(problem(error, () => location.reload()), make("div", { class: "panels" }, versionsPanel(status.deployed)));
  }
}

function bundlePanel(card) {
  const columns = card.columns ?? {};
  return panel("Bundle", {}, facts([
    ["Id", card.bundle_id],
    ["Made by", card.created_by],
    ["Made", card.created_at],
    ["Networks", card.networks === undefined ? null : number.format(card.networks)],
    ["Columns", columns.root === undefined ? null : `${number.format(columns.root)} of an account; ${(columns.members ?? []).map(number.format).join(", ")} of its members, by table`],
    ["Plan", make("code", {}, String(card.plan_hash ?? "").slice(0, 16))],
  ]));
}

function versionsPanel(deployed) {
  const rescoring = deployed?.rescoring;
  const refused = deployed?.refused;
  return panel("Versions", {}, facts([
    ["Scores now", deployed?.bundle_id ?? "nothing yet"],
    ["Release", deployed?.release ?? "none: the bundle was named at the start"],
    ["Going over to", rescoring ? said(rescoring) : null],
    ["Refused", refused ? said(refused) : null],
  ]), make("p", { class: "quiet" }, "Versions are kept in the registry of models. The running worker goes over in place; the release stands here once it has."),
  registry());
}

/** The bundles of the registry, with buttons; nothing where there is no registry. */
function registry() {
  const box = make("div", { class: "registry" });
  const place = make("div");
  const list = async () => {
    try {
      box.replaceChildren(...bundles((await ask("api/v1/models")).models, place, list));
    } catch (error) {
      box.replaceChildren(make("p", { class: "quiet" }, capital(error.message)));
    }
  };
  list();
  return make("div", {}, box, place);
}

function bundles(models, place, onDone) {
  if (models.length === 0) return [make("p", { class: "quiet" }, "The registry is empty: leadpulse models add puts a bundle into it.")];
  const words = (done) => `${done.bundle} is the champion${done.release ? `; the worker was asked to go on under release ${done.release.slice(0, 12)}` : ""}.`;
  const promote = (model) => operation({
    label: "Promote", title: `Promote ${model.bundle}?`, text: "It becomes the champion, and the running worker scores every entity again under it. Alerts of that tick are placed silently.",
    path: "api/v1/models/promote", body: () => ({ bundle: model.bundle, live: true }), place, words, onDone,
  });
  const rollBack = operation({
    label: "Roll back", title: "Roll back?", text: "The champion before this one becomes the champion again, and the running worker goes over to it.",
    path: "api/v1/models/rollback", body: () => ({ live: true }), place, words, onDone,
  });
  const rows = models.map((model) => [model.bundle, model.aliases.join(", ") || "–", gradeWords(model.grade).name, model.tasks.join(", "), model.aliases.includes("champion") ? rollBack : promote(model)]);
  return [table("Bundles of the registry", ["Bundle", "Names", "Grade", "Tasks", "Change"], rows)];
}

const said = (part) => (typeof part === "string" ? part : Object.entries(part).map(([name, value]) => `${plain(name)} ${value}`).join(", "));

/** Figures that a person reads first, with their meaning; the others stand below under their own names. */
const MEANINGS = {
  auroc: ["AUROC", (value) => value.toFixed(3), "how often one with the outcome is ranked above one without; .5 is a coin"],
  average_precision: ["Average precision", (value) => value.toFixed(3), "over all cuts of the list"],
  lift_at_20_percent: ["Lift of the top 20 %", (value) => `${value.toFixed(1)}×`, "outcomes there against outcomes of a list by lot"],
  ece: ["Calibration error", (value) => percent(value, 1), "mean distance between the chance and what came true"],
  brier: ["Brier score", (value) => value.toFixed(4), "squared error of the chance; smaller is better"],
  log_loss: ["Log loss", (value) => value.toFixed(4), "smaller is better"],
};

function taskPanel(task, view) {
  const quality = task.quality;
  const grade = gradeWords(quality?.grade ?? view?.quality ?? null);
  const figures = task.metrics?.validation ?? {};
  const parts = [
    make("p", {}, make("span", { class: "pill", "data-tone": grade.tone }, capital(grade.name)), ` ${grade.advice}`),
    quality?.reasons?.length > 0 ? make("ul", { class: "why-grade" }, quality.reasons.map((reason) => make("li", {}, capital(reason)))) : null,
    make("pre", {}, task.query),
    facts([["Rows are of", plain(task.entity)], ["Looks ahead", span(task.horizon_ms)], ["Members", task.has_trees ? "networks and trees" : "networks"], ["Calibration", task.calibration?.kind]]),
  ];
  if (figures.rows > 0) parts.push(validation(figures), precision(figures, task.name));
  if (task.metrics?.evaluation) parts.push(...evaluation(task.metrics.evaluation, task.name));
  return panel(task.name, { class: "wide" }, ...parts.filter(Boolean));
}

function validation(figures) {
  const rows = Object.entries(MEANINGS).filter(([name]) => typeof figures[name] === "number").map(([name, [title, show, meaning]]) => [title, show(figures[name]), meaning]);
  const caption = `On validation: ${count(figures.rows, "row")} of ${count(figures.entities ?? 0, "entity", "entities")}, ${number.format(figures.positives)} with the outcome (${percent(figures.positives / figures.rows, 1)})`;
  return table(caption, ["Figure", { text: "Value", number: true }, "Meaning"], rows);
}

/** What share comes true at the top of the list, beside the base rate. */
function precision(figures, name) {
  const cuts = [2, 5, 10].filter((cut) => typeof figures[`precision_at_${cut}_percent`] === "number");
  if (cuts.length === 0) return null;
  const rows = [...cuts.map((cut) => ({ name: `top ${cut} %`, value: figures[`precision_at_${cut}_percent`] })), { name: "all", value: figures.positives / figures.rows }];
  for (const row of rows) row.text = percent(row.value, 1);
  const label = `${name}: share with the outcome: ${rows.map((row) => `${row.name} ${row.text}`).join(", ")}`;
  return make("figure", {}, bars(rows, label), make("figcaption", {}, "Share with the outcome at the top of the list, beside all."));
}
