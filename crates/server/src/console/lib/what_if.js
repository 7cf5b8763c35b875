// What if: rows that never came, put together in a form, and the score that they would bring, in words. Tables and fields are the schema's.

import { ask, entityPath } from "./ask.js";
import { announce, choice, field, make, panel } from "./dom.js";
import { problem } from "./notices.js";
import { reasons } from "./reasons.js";
import { now } from "./status.js";
import { capital, chance, gradeWords, moment, percent, plain, singular, value } from "./words.js";

const DAY_MS = 86_400_000;
const WHEN = [["0", "Now"], [String(DAY_MS), "In a day"], [String(7 * DAY_MS), "In a week"], [String(30 * DAY_MS), "In 30 days"]];
const ROLES = { root: "Change of", member: "Change of, or new:", event: "New row of" };

/**
 * The panel; null where the server knows no tables. `subject()` gives {table, id, task, members: [[table, key, name]]} as they are now:
 * the panel outlives the others of its page.
 */
export async function whatIfPanel(subject) {
  let tables;
  try {
    tables = (await ask("api/v1/tables")).tables.filter((one) => ROLES[one.role]);
  } catch {
    return null;
  }
  const form = { subject, tables, rows: [], table: null, parts: {} };
  const { parts } = form;
  for (const name of ["fields", "listed", "answer"]) parts[name] = make("div", { class: `what-if-${name}` });
  parts.form = make("form", { class: "what-if", submit: (event) => {
    event.preventDefault();
    send(form);
  } });
  const options = tables.map((one) => [one.name, `${ROLES[one.role]} ${plain(one.name)}`]);
  const first = tables.find((one) => one.role === "event") ?? tables[0];
  parts.form.append(make("div", { class: "controls" }, field("Row", choice(options, first.name, (name) => showFields(form, name)))), parts.fields,
    make("div", { class: "buttons" }, make("button", { type: "button", click: () => add(form) }, "Add the row"), make("button", { class: "main" }, "What if?")));
  showFields(form, first.name);
  return panel("What if", { class: "wide" }, make("p", { class: "quiet" }, "Put rows together that did not come, and see what the score would be. Nothing is written."), parts.form, parts.listed, parts.answer);
}

/** Controls for a row of a table: whose it is, when it comes, and a field at a time. */
function showFields(form, name) {
  form.table = form.tables.find((one) => one.name === name);
  const { table, parts } = form;
  parts.when = choice(WHEN, "0", () => {});
  parts.key = keyControl(form);
  parts.values = make("div", { class: "controls" });
  const more = make("button", { type: "button", class: "plain", click: () => parts.values.append(...fieldControls(table)) }, "One more field");
  parts.values.append(...fieldControls(table));
  parts.fields.replaceChildren(make("div", { class: "controls" }, field(table.role === "event" ? "Of" : "Key", parts.key), field("When", parts.when)), parts.values, more);
}

/** Fields that a person chooses: neither key nor time, nor references that say whose the row is. */
const chosenFields = (table) => table.fields.filter((one) => one.name !== table.key && one.name !== table.time && !one.is_owner);

/** Whose an event is, or which entity a row is about. A new key is a new entity. */
function keyControl({ table, subject }) {
  const { table: own, id, members } = subject();
  const known = [[own, id, `this ${singular(own)}`], ...members];
  if (table.role !== "event") {
    const input = make("input", { type: "text", required: true, autocomplete: "off" });
    input.value = known.find(([of]) => of === table.name)?.[1] ?? "";
    return input;
  }
  const owners = new Set(table.fields.filter((one) => one.is_owner).map((one) => one.refers_to));
  const options = known.filter(([of]) => owners.has(of)).map(([of, key, name]) => [JSON.stringify([of, key]), name]);
  return choice(options, options[0]?.[0], () => {});
}

/** A field with a value. */
function fieldControls(table) {
  const fields = chosenFields(table);
  const box = make("div", { class: "what-if-field" });
  const show = (name) => {
    const chosen = fields.find((one) => one.name === name) ?? fields[0];
    const select = choice(fields.map((one) => [one.name, plain(one.name)]), chosen.name, show);
    select.dataset.part = "name";
    const input = valueControl(chosen);
    input.dataset.part = "value";
    box.replaceChildren(field("Field", select), field("Value", input));
  };
  if (fields.length === 0) return [];
  show(fields.find((one) => one.values.length > 0)?.name ?? fields[0].name);
  return [box];
}

function valueControl(chosen) {
  if (chosen.type === "bool") return choice([["", "–"], ["true", "yes"], ["false", "no"]], "", () => {});
  if (chosen.type === "text" && chosen.values.length > 0) return choice([["", "–"], ...chosen.values.map((one) => [one, plain(one)])], chosen.values[0], () => {});
  const type = { long: "number", double: "number", time: "datetime-local" }[chosen.type] ?? "text";
  return make("input", { type, step: chosen.type === "double" ? "any" : null, placeholder: chosen.type === "texts" ? "a, b" : null, autocomplete: "off" });
}

/** What a control says, as the field's type has it; null for nothing. */
function typed(chosen, text) {
  if (text === "") return null;
  if (chosen.type === "bool") return text === "true";
  if (chosen.type === "long" || chosen.type === "double") return Number(text);
  if (chosen.type === "time") return Date.parse(`${text}Z`);
  return chosen.type === "texts" ? text.split(",").map((one) => one.trim()).filter(Boolean) : text;
}

/** The row of the controls. */
function rowOf({ table, parts }) {
  const fields = {};
  if (table.role === "event") {
    const [of, key] = JSON.parse(parts.key.value || "[null, null]");
    const owner = table.fields.find((one) => one.is_owner && one.refers_to === of);
    if (owner) fields[owner.name] = key;
  } else fields[table.key] = parts.key.value.trim();
  if (table.time) fields[table.time] = now() + Number(parts.when.value);
  for (const box of parts.values.children) {
    const chosen = table.fields.find((one) => one.name === box.querySelector("[data-part=name]").value);
    fields[chosen.name] = typed(chosen, box.querySelector("[data-part=value]").value);
  }
  return { table: table.name, fields };
}

function add(form) {
  form.rows.push(rowOf(form));
  list(form);
  announce("Row added");
}

function list(form) {
  const words = (row) => `${capital(singular(row.table))}: ${Object.entries(row.fields).map(([name, one]) => `${plain(name)} ${one === null ? "nothing" : value(one)}`).join(", ")}`;
  const item = (row) => make("li", {}, make("span", {}, words(row)), make("button", { type: "button", class: "plain", "aria-label": `Take away ${words(row)}`, click: () => {
    form.rows = form.rows.filter((one) => one !== row);
    list(form);
  } }, "Take away"));
  form.parts.listed.replaceChildren(...(form.rows.length > 0 ? [make("ul", { class: "tried-rows" }, form.rows.map(item))] : []));
}

/** Asks about the rows that were added; about that of the controls where there is none. */
async function send(form) {
  const { table, id, task } = form.subject();
  const rows = form.rows.length > 0 ? form.rows : [rowOf(form)];
  try {
    const answer = await ask(entityPath(table, id, "/what-if"), { task }, { body: { rows } });
    form.parts.answer.replaceChildren(...words(answer));
    announce(form.parts.answer.querySelector(".verdict").textContent);
  } catch (error) {
    form.parts.answer.replaceChildren(problem(error));
  }
}

/** The answer: grade first, then the chance now and then, thresholds, reasons that would move it. */
function words({ quality, now: before, then, groups, crossings }) {
  const grade = gradeWords(quality);
  const side = (score) => (score.probability === null ? `no score: it is ${score.absent}` : `${percent(score.probability, 1)}, ${chance(score.probability)}${score.band ? ` (${score.band})` : ""}`);
  const crossed = crossings.map((one) => `It would ${one.is_entered ? "enter" : "leave"} ${one.band}, at ${percent(one.threshold)}.`);
  const moved = groups.map((one) => ({ label: one.label, contribution: one.then - one.now, evidence: [], value: null })).filter((one) => Math.abs(one.contribution) > 1e-4);
  return [
    make("p", { class: "grade" }, make("span", { class: "pill", "data-tone": grade.tone }, `Model: ${grade.name}`), ` ${grade.advice}`),
    make("p", { class: "verdict" }, "Now ", side(before), ". ", make("strong", {}, `On ${moment(then.as_of)} it would be ${side(then)}.`)),
    make("p", {}, before.probability === null || then.probability === null ? "" : crossed.join(" ") || "No threshold would be crossed."),
    moved.length > 0 ? reasons(moved, ["Would raise it", "Would lower it"]) : null,
  ].filter(Boolean);
}
