// What people do from the console: each asks first, then sends one request, and says what became of it.

import { ask } from "./ask.js";
import { announce, make } from "./dom.js";
import { problem, remark } from "./notices.js";

const PATIENCE_MS = 120_000; // a replay takes as long as its letters

/** Asks in a dialog. Resolves to true for `verb`, to false for anything else. */
export function confirmed(title, text, verb) {
  return new Promise((resolve) => {
    const dialog = make("dialog", { "aria-labelledby": "confirm-title", close: () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    } });
    dialog.append(make("form", { method: "dialog" },
      make("h2", { id: "confirm-title" }, title), make("p", {}, text),
      make("div", { class: "buttons" }, make("button", { value: "no", autofocus: true }, "Cancel"), make("button", { class: "main", value: "yes" }, verb))));
    document.body.append(dialog);
    dialog.showModal();
  });
}

/**
 * A button that asks, sends `body()` to a path, and puts `words(answer)` into `place`. `onDone` is called after an answer.
 */
export function operation({ label, title, text, path, body, place, words, onDone = () => {} }) {
  const button = make("button", { type: "button", click: async () => {
    if (!(await confirmed(title, text, label))) return;
    button.disabled = true;
    try {
      const answer = await ask(path, {}, { body: body(), patience: PATIENCE_MS });
      const said = words(answer);
      place.replaceChildren(remark(said, "", "good"));
      announce(said);
      onDone(answer);
    } catch (error) {
      place.replaceChildren(problem(error));
    } finally {
      button.disabled = false;
    }
  } }, label);
  return button;
}
