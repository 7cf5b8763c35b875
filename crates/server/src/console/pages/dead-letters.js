// Dead letters: the newest records that could not be used, why, what they hold, and the command that sends them again.

import { operation } from "../lib/act.js";
import { ask, queryOf } from "../lib/ask.js";
import { choice, facts, field, make, showFields, write } from "../lib/dom.js";
import { nothing, problem } from "../lib/notices.js";
import { count, moment, number, plain } from "../lib/words.js";

const EVERY_MS = 10_000;
const LIMIT = 100;
const state = { filter: {}, shown: "", items: new Map(), parts: {} };

export async function show(main) {
  const given = new URLSearchParams(location.search);
  for (const name of ["topic", "reason"]) state.filter[name] = given.get(name) ?? "";
  const { parts } = state;
  parts.total = make("span", { class: "quiet" });
  parts.controls = make("div", { class: "controls" });
  parts.notice = make("div");
  parts.list = make("ol", { class: "alerts", "aria-label": "Dead letters, newest first" });
  main.append(make("div", { class: "page-head" }, make("h1", {}, "Dead letters"), parts.total),
    make("p", { class: "lede" }, "Records that could not be used. Their bytes are in the dead-letter topic, unchanged. Mend the cause first, then send them again: each is sent at most once."),
    parts.controls, parts.notice, parts.list);
  await read();
  setInterval(() => document.hidden || read(), EVERY_MS);
}

async function read() {
  const { parts } = state;
  try {
    const { dead_letters: letters, kinds } = await ask("api/v1/dead-letters", { ...state.filter, limit: LIMIT });
    const shown = JSON.stringify([kinds, letters]);
    if (shown === state.shown) return;
    state.shown = shown;
    showControls(kinds);
    write(parts.total, letters.length === LIMIT ? `the newest ${LIMIT}` : count(letters.length, "record"));
    parts.notice.replaceChildren(...(letters.length === 0 ? [nothing("None: every record so far was used, or none of this choice was refused.")] : []));
    showLetters(letters);
  } catch (error) {
    parts.notice.replaceChildren(problem(error, read));
  }
}

/** The topics and reasons that there are letters of. */
function showControls(kinds) {
  const optionsOf = (name) => {
    const counts = new Map(state.filter[name] ? [[state.filter[name], 0]] : []);
    for (const kind of kinds) counts.set(kind[name], (counts.get(kind[name]) ?? 0) + kind.kept);
    return [["", "All"], ...[...counts].sort().map(([value, kept]) => [value, `${name === "reason" ? plain(value) : value} (${number.format(kept)})`])];
  };
  const control = (label, name) => field(label, choice(optionsOf(name), state.filter[name], (value) => filter(name, value)));
  showFields(state.parts.controls, [control("Topic", "topic"), control("Reason", "reason")]);
}

async function filter(name, value) {
  state.filter[name] = value;
  const query = queryOf(state.filter);
  history.replaceState(null, "", query ? `?${query}` : location.pathname);
  await read();
}

/** An open letter stays open, and its element with it. */
function showLetters(letters) {
  const before = state.items;
  state.items = new Map();
  for (const letter of letters) {
    const key = `${letter.topic}\n${letter.partition}\n${letter.offset}`;
    const text = JSON.stringify(letter);
    const known = before.get(key);
    // Values whose schema had not come yet are looked into again.
    const element = known?.text === text ? known.element : item(letter, known?.element.querySelector("details").open);
    state.items.set(key, { text, element });
  }
  state.parts.list.replaceChildren(...[...state.items.values()].map((one) => one.element));
}

function item(letter, opens = false) {
  const details = make("details", {}, make("summary", {}, "Its bytes, and what to do"), make("div", { class: "alert-body" }, body(letter)));
  details.open = opens;
  const place = { topic: letter.topic, partition: letter.partition, offset: letter.offset };
  return make("li", { class: "alert" },
    make("p", { class: "alert-head" }, make("span", { class: "pill", "data-tone": "bad" }, plain(letter.reason)),
      make("a", { href: `trace?${queryOf(place)}` }, `${letter.topic}, partition ${letter.partition}, offset ${number.format(letter.offset)}`),
      make("time", { class: "quiet", datetime: new Date(letter.timestamp).toISOString() }, moment(letter.timestamp))),
    make("p", { class: "alert-words" }, letter.message), details);
}

function body(letter) {
  const gone = letter.value_bytes_left_out;
  const headers = letter.headers.map((header) => `${header.name}: ${header.value ?? "null"}`);
  if (letter.more_headers > 0) headers.push(`and ${number.format(letter.more_headers)} more`);
  return [
    facts([["Reason", letter.reason_text], ["What to do", letter.remedy]]),
    look("Key", letter.key, "none"),
    look("Value", letter.value, gone === null ? "none: a tombstone" : `${number.format(gone)} bytes, too large to be kept`),
    headers.length > 0 ? make("div", {}, make("h3", {}, "Headers"), make("pre", {}, headers.join("\n"))) : null,
    again(letter),
  ].filter(Boolean);
}

/** Buttons for all letters of the same reason and topic: decide again, then send again. */
function again(letter) {
  const place = make("div");
  const which = `${plain(letter.reason)} in ${letter.topic}`;
  const about = { path: "api/v1/dead-letters/replay", place };
  const body = (dryRun) => () => ({ reasons: [letter.reason], topics: [letter.topic], dry_run: dryRun });
  const left = (done) => [[done.replayed, "were sent again before"], [done.refused_again, "were refused again"], [done.incomplete, "lack bytes"], [done.without_source, "have no source"]].filter(([number]) => number > 0).map(([number, what]) => `, ${number} ${what}`).join("");
  return make("div", {}, make("h3", {}, "Decide again, then send again"),
    make("p", { class: "buttons" },
      operation({ ...about, label: "Decide again", title: "Decide again?", text: `All letters of ${which} are read and judged under the schemas and the configuration of now. Nothing is sent.`, body: body(true), words: (done) => `${done.accepted_now} of ${count(done.letters, "record")} would be used now${left(done)}.` }),
      operation({ ...about, label: "Send again", title: "Send again?", text: `All records of ${which} go back to their topic, each at most once.`, body: body(false), words: (done) => `${count(done.sent, "record")} sent again${left(done)}.` })),
    place, make("pre", {}, `leadpulse dlq replay --reason ${letter.reason} --topic ${letter.topic} --dry-run`));
}

/** A key or value as far as it could be read: as Avro by its schema, as JSON, as text, or as hexadecimal digits. */
function look(name, bytes, absent) {
  if (bytes === null) return make("p", {}, `${name}: ${absent}`);
  const size = [count(bytes.bytes, "byte"), `read as ${bytes.format}`, bytes.remark].filter(Boolean).join(", ");
  const text = bytes.content === null || bytes.content === undefined ? bytes.text : JSON.stringify(bytes.content, null, 2);
  return make("div", {}, make("h3", {}, `${name}: ${size}`), text ? make("pre", {}, text) : null);
}
