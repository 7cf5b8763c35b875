// Dead letters: the newest records that could not be used, why, and what to do. Asks every few seconds; an open letter stays open.

import { ask, forgetAnswers } from "./lib/ask.js";
import { by, make, write } from "./lib/dom.js";
import { moment, number } from "./lib/words.js";

const POLL_MS = 3000;
const LIMIT = 200;

const state = {
  kinds: [], // topic, reason and number of what is kept
  items: new Map(), // position → item
  asked: null, // the URL of the list that is shown
};

const choice = (id) => by(id).value || new URLSearchParams(location.search).get(id) || "";

function listUrl() {
  return `api/v1/dead-letters?${new URLSearchParams({ topic: choice("topic"), reason: choice("reason"), limit: LIMIT })}`;
}

async function poll() {
  const url = listUrl();
  try {
    if (url !== state.asked) forgetAnswers();
    const answer = await ask(url);
    if (url !== listUrl()) return;
    if (answer) {
      state.asked = url;
      showChoices(answer.kinds);
      showLetters(answer.dead_letters);
    }
    document.body.classList.remove("stale");
    showNotice(state.items.size === 0 ? "No dead letters" : "", "Every record so far was used, or none of this choice was refused.");
  } catch (error) {
    document.body.classList.add("stale");
    showNotice("Disconnected", `${error.message}. Trying again every ${POLL_MS / 1000} seconds.`);
  }
}

function showNotice(title, text) {
  by("notice").hidden = title === "";
  by("notice").classList.toggle("brief", state.items.size > 0);
  write(by("notice-title"), title);
  write(by("notice-text"), text);
}

/** The topics and reasons that there are letters of. */
function showChoices(kinds) {
  if (JSON.stringify(kinds) === JSON.stringify(state.kinds) && state.kinds.length > 0) return;
  state.kinds = kinds;
  for (const id of ["topic", "reason"]) {
    const chosen = choice(id);
    const counts = new Map();
    for (const kind of kinds) counts.set(kind[id], (counts.get(kind[id]) ?? 0) + kind.kept);
    if (chosen && !counts.has(chosen)) counts.set(chosen, 0);
    const options = [...counts].sort().map(([name, count]) => new Option(`${name} (${number.format(count)})`, name));
    by(id).replaceChildren(new Option("All", ""), ...options);
    by(id).value = chosen;
  }
}

function showLetters(letters) {
  write(by("total"), letters.length === LIMIT ? `the newest ${LIMIT}` : number.format(letters.length));
  const before = state.items;
  state.items = new Map();
  for (const letter of letters) {
    const key = `${letter.topic}\n${letter.partition}\n${letter.offset}`;
    const known = before.get(key);
    // Values whose schema had not come yet are looked into again.
    const same = known && known.text === JSON.stringify(letter);
    state.items.set(key, same ? known : { text: JSON.stringify(letter), element: letterItem(letter, known?.element.firstChild.open) });
  }
  by("list").replaceChildren(...[...state.items.values()].map((item) => item.element));
}

function letterItem(letter, opens) {
  const item = make("li");
  const details = item.appendChild(make("details", "letter"));
  details.open = opens ?? false;
  const head = details.appendChild(make("summary"));
  head.append(make("span", "pill", letter.reason));
  head.append(make("span", "place", `${letter.topic} · partition ${letter.partition} · offset ${letter.offset}`));
  const time = make("time", "quiet", moment(letter.timestamp));
  time.dateTime = new Date(letter.timestamp).toISOString();
  head.append(time, make("span", "what", letter.message));

  const body = details.appendChild(make("div", "letter-body"));
  if (letter.reason_text) body.append(line("Reason", letter.reason_text));
  if (letter.remedy) body.append(line("What to do", letter.remedy));
  body.append(bytes("Key", letter.key, "none"));
  const gone = letter.value_bytes_left_out;
  body.append(bytes("Value", letter.value, gone === null ? "none: a tombstone" : `${number.format(gone)} bytes, too large to be kept`));
  if (letter.headers.length > 0) {
    const lines = letter.headers.map((header) => `${header.name}: ${header.value ?? "null"}`);
    if (letter.more_headers > 0) lines.push(`and ${number.format(letter.more_headers)} more`);
    body.append(line("Headers", ""), make("pre", "", lines.join("\n")));
  }
  return item;
}

function line(name, text) {
  const part = make("p");
  part.append(make("b", "", name), make("span", "", text));
  return part;
}

/** A key or value: its size and format, then its content as far as it could be read. */
function bytes(name, look, absent) {
  const part = make("div");
  if (look === null) {
    part.append(line(name, absent));
    return part;
  }
  const size = look.bytes === 1 ? "1 byte" : `${number.format(look.bytes)} bytes`;
  part.append(line(name, [size, look.format, look.remark].filter(Boolean).join(", ")));
  const text = look.content === null ? look.text : JSON.stringify(look.content, null, 2);
  if (text) part.append(make("pre", "", text));
  return part;
}

for (const id of ["topic", "reason"]) by(id).addEventListener("change", () => {
  const chosen = new URLSearchParams();
  for (const other of ["topic", "reason"]) if (by(other).value) chosen.set(other, by(other).value);
  history.replaceState(null, "", chosen.size > 0 ? `?${chosen}` : location.pathname);
  poll();
});

for (;;) {
  if (!document.hidden) await poll();
  await new Promise((resolve) => setTimeout(resolve, POLL_MS));
}
