// The stream of changes, by `fetch`: `EventSource` cannot send a token. It stops while nobody looks at the tab, and resumes
// where it was.

import { identity, queryOf } from "./ask.js";

const SILENCE_MS = 45_000; // the server sends a comment every 15 s
const LONGEST_WAIT_MS = 15_000;

/**
 * Opens `api/v1/events` with these parameters. `on` has functions by name of event (`scores`, `alerts`, `reset`, `start`), and
 * `state(isOpen)`. Returns a function that closes it for good.
 */
export function listen(parameters, on) {
  const stream = { last: null, wait: 0, abort: null, closed: false, timer: 0 };

  async function run() {
    const abort = new AbortController();
    stream.abort = abort;
    try {
      const headers = { ...identity(), Accept: "text/event-stream" };
      if (stream.last) headers["Last-Event-ID"] = stream.last;
      const response = await fetch(`api/v1/events?${queryOf(parameters)}`, { headers, cache: "no-store", signal: abort.signal });
      if (!response.ok) throw new Error(`status ${response.status}`);
      stream.wait = 0;
      on.state?.(true);
      await read(response.body, abort, (event) => {
        if (event.id) stream.last = event.id;
        on[event.name]?.(event.data);
      });
    } catch {
      // A closed or lost stream: the next try tells.
    }
    if (stream.abort === abort) again();
  }

  function again() {
    stream.abort = null;
    if (stream.closed || document.hidden) return;
    on.state?.(false);
    stream.wait = Math.min(LONGEST_WAIT_MS, stream.wait * 2 || 1000);
    stream.timer = setTimeout(run, stream.wait);
  }

  function stop() {
    clearTimeout(stream.timer);
    const abort = stream.abort;
    stream.abort = null;
    abort?.abort();
  }

  function look() {
    if (document.hidden) stop();
    else if (!stream.abort) run();
  }

  document.addEventListener("visibilitychange", look);
  look();
  return () => {
    stream.closed = true;
    document.removeEventListener("visibilitychange", look);
    stop();
  };
}

/** Reads events until the body ends; a silent one is given up. */
async function read(body, abort, onEvent) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const alarm = setTimeout(() => abort.abort(), SILENCE_MS);
    const { value, done } = await reader.read().finally(() => clearTimeout(alarm));
    if (done) return;
    const parts = (text + value).split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const event = eventOf(part);
      if (event) onEvent(event);
    }
  }
}

function eventOf(text) {
  const event = { name: "message", id: "", lines: [] };
  for (const line of text.split("\n")) {
    const [, field, value] = line.match(/^(\w+): ?(.*)$/) ?? [];
    if (field === "event") event.name = value;
    else if (field === "id") event.id = value;
    else if (field === "data") event.lines.push(value);
  }
  if (event.lines.length === 0) return null;
  return { name: event.name, id: event.id, data: JSON.parse(event.lines.join("\n")) };
}
