// One alert: what happened, why, its clocks, what people said of it, and the row that answers it.

import { entityAddress } from "./ask.js";
import { operation } from "./act.js";
import { facts, field, make } from "./dom.js";
import { reasons } from "./reasons.js";
import { actionWords, now, taskNamed } from "./status.js";
import { ago, capital, chance, levelOf, moment, percent, plain, singular, span } from "./words.js";

const TONES = { P1: "bad", P2: "warm" };

/** The card of an alert; `isOpen` shows its details. */
export function alertCard(alert, isOpen = false) {
  const body = make("div", { class: "alert-body" });
  const fill = () => body.firstChild ?? body.append(...details(alert));
  const more = make("details", { toggle: () => more.open && fill() }, make("summary", {}, "Why, clocks, answer"), body);
  more.open = isOpen;
  const name = alert.name ?? alert.account_name ?? alert.entity_id;
  const isQuiet = alert.state === "resolved" || alert.state === "suppressed";
  return make("li", { class: `alert${isQuiet ? " past" : ""}`, "data-id": alert.alert_id },
    make("p", { class: "alert-head" },
      make("span", { class: "pill", "data-tone": TONES[alert.severity] ?? null, title: "how soon somebody should act" }, alert.severity === "P1" ? "P1, at once" : alert.severity),
      make("a", { href: entityAddress(alert.entity_type, alert.entity_id, alert.task) }, name),
      make("span", { class: "quiet" }, `${plain(alert.type)} · ${stateWords(alert)}`),
      make("time", { class: "quiet", datetime: new Date(alert.as_of).toISOString(), title: moment(alert.as_of) }, ago(alert.as_of, now()))),
    make("p", { class: "alert-words" }, alert.summary ?? `${name}: ${plain(alert.type)}`),
    said(alert), more);
}

function stateWords(alert) {
  if (alert.state === "suppressed") return `not told: ${suppressedWhy(alert)}`;
  return { open: "open", updated: "more urgent", resolved: "ended" }[alert.state] ?? alert.state;
}

function suppressedWhy(alert) {
  if (alert.hold_out) return "of the share that is held out, to measure what alerts bring";
  if (alert.ruling) return `${alert.ruling.who} decided ${alert.ruling.kind}`;
  return "by a rule of the policy";
}

/** A person's decision about the entity, and the answer to the alert. */
function said(alert) {
  const lines = [];
  if (alert.ruling) lines.push(rulingWords(alert.ruling));
  if (alert.feedback) {
    const { verdict, disposition, who, note } = alert.feedback;
    lines.push(`${capital(verdict)} by ${who}${disposition ? `, ${plain(disposition)}` : ""}${note ? `: ${note}` : ""}`);
  }
  return lines.length > 0 ? make("p", { class: "said" }, lines.join(". ")) : null;
}

export function rulingWords({ kind, who, why, until }) {
  return `${capital({ pin: "pinned", mute: "muted", exclude: "excluded" }[kind] ?? kind)} by ${who}${why ? `: ${why}` : ""}${until ? `, until ${moment(until)}` : ""}`;
}

function details(alert) {
  const bands = taskNamed(alert.task)?.bands ?? [];
  const trigger = alert.trigger;
  return [
    facts([
      ["Task", alert.task],
      ["Chance", `${chance(alert.probability)} (${percent(alert.probability)})${alert.previous_probability === null ? "" : `, was ${percent(alert.previous_probability)}`}`],
      ["Band", alert.band === null ? null : make("span", { class: "pill", "data-level": levelOf(alert.band, bands) }, alert.band)],
      ["Happened", alert.occurred_at === null ? null : moment(alert.occurred_at)],
      ["Crossed", moment(alert.crossed_at)],
      ["React within", alert.sla_minutes === null ? null : clock(alert.sla_minutes, alert.as_of)],
      ["Of use until", alert.expires_at === null ? null : moment(alert.expires_at)],
      ["Event", trigger ? `${plain(trigger.kind ?? "")} in ${plain(trigger.table)}, ${trigger.event_id}` : null],
      ["Next step", actionWords(alert)],
      ["Talk to", alert.suggested_contact_id],
      ["Assigned to", alert.owner_id],
      ["At stake", alert.value_at_stake === null ? null : new Intl.NumberFormat("en").format(alert.value_at_stake)],
      ["Also at that moment", alert.parts.length === 0 ? null : alert.parts.map((part) => `${plain(part.type ?? "")} (${singular(part.entity_type ?? "")} ${part.entity_id ?? ""})`).join("; ")],
    ]),
    alert.drivers.length > 0 ? reasons(alert.drivers) : make("p", { class: "quiet" }, "The record has no reasons; the entity's page asks for those of now."),
    answer(alert),
  ];
}

function clock(minutes, since) {
  const left = since + minutes * 60_000 - now();
  return `${span(minutes * 60_000)}${left > 0 ? `, ${span(left)} left` : ", passed"}`;
}

/** Answers are rows of the feedback table, which the server sends in the name of the client. */
function answer(alert) {
  const place = make("div", { class: "answer-row" });
  const disposition = make("input", { type: "text", autocomplete: "off", maxlength: "80" });
  const note = make("input", { type: "text", autocomplete: "off", maxlength: "400" });
  const body = (verdict) => () => ({ alert_id: alert.alert_id, verdict, disposition: disposition.value.trim() || null, note: note.value.trim() || null, task: alert.task, type: alert.type });
  const give = (label, verdict) => operation({
    label, title: `${label}?`, text: `The answer "${verdict}" to this alert becomes a row of the feedback table. A later one replaces it.`,
    path: "api/v1/feedback/answer", body: body(verdict), place,
    words: (sent) => `Sent to ${sent.topic}. It stands here once it was read.`,
  });
  return make("div", { class: "answer" }, make("div", { class: "controls" }, field("What became of it", disposition), field("Note", note)),
    make("p", { class: "buttons" }, give("Of use", "accepted"), give("Of no use", "rejected")), place);
}
