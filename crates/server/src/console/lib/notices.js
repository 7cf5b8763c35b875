// What went wrong, in words, with the remedy; and the question for a token.

import { make } from "./dom.js";
import { keepToken, whenUnknown } from "./ask.js";

/** A refusal or a failed request, with a button to try again where that is of use. */
export function problem(error, again) {
  const isRefusal = error.status !== undefined;
  const title = isRefusal ? error.title : "Leadpulse does not answer";
  const detail = isRefusal ? error.message : "The page keeps what it has. The connection is tried again by itself.";
  return make("div", { class: "notice", role: "alert", "data-tone": error.status === 404 ? "warm" : "bad" },
    make("p", { class: "title" }, title),
    make("p", {}, sentence(detail)),
    error.hint ? make("p", { class: "quiet" }, sentence(error.hint)) : null,
    again ? make("button", { type: "button", click: again }, "Try again") : null);
}

const sentence = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?…]$/.test(text) ? "" : "."}`;

/** A remark that is no fault. */
export const remark = (title, text, tone = "warm") => make("div", { class: "notice", "data-tone": tone }, make("p", { class: "title" }, title), text ? make("p", {}, text) : null);

export const nothing = (text) => make("p", { class: "empty" }, text);

let isAsking = false;

/** Asks for a token once the server wants one. */
export function askForTokens() {
  whenUnknown((refusal) => {
    if (isAsking) return;
    isAsking = true;
    const input = make("input", { type: "password", autocomplete: "off", required: true, id: "token" });
    const dialog = make("dialog", { "aria-labelledby": "token-title" });
    const keep = (event) => {
      event.preventDefault();
      if (!input.value.trim()) return;
      keepToken(input.value.trim());
      location.reload();
    };
    dialog.append(make("form", { submit: keep },
      make("h2", { id: "token-title" }, "This server wants a token"),
      make("p", { class: "quiet" }, `${sentence(refusal.message)} A token is one of server.access.tokens; it stays in this tab.`),
      make("label", { class: "field" }, "Token", input),
      make("div", { class: "buttons" },
        make("button", { type: "button", click: () => dialog.close() }, "Not now"),
        make("button", { class: "main" }, "Use this token"))));
    document.body.append(dialog);
    dialog.showModal();
  });
}
