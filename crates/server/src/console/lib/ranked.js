// A ranking as far as it was read: pages in the server's order, one after the other, each by the cursor of the one before.

import { ask, entityPath } from "./ask.js";

const PAGE = 50;
const PASTS_AT_ONCE = 3; // of rows that come into a page: a line that begins now is better than bytes of all

export const keyOf = (score) => score.entity_id;

export class Ranked {
  /** `question()` gives the parameters of the list. */
  constructor(question) {
    this.question = question;
    this.clear();
  }

  clear() {
    this.pages = []; // {cursor, scores}
    this.next = undefined; // cursor of the next page; null at the end
    this.total = 0;
    this.reading = null;
    this.histories = new Map(); // key → points
    this.signals = new Map(); // key → the whole top_signal
  }

  /** All scores that were read, without those that a later page names again. */
  get scores() {
    const found = new Map();
    for (const page of this.pages) for (const score of page.scores) if (!found.has(keyOf(score))) found.set(keyOf(score), score);
    return [...found.values()];
  }

  get isAtEnd() {
    return this.next === null;
  }

  /** Reads the next page; true if rows came. */
  async more() {
    if (this.isAtEnd || this.reading) return false;
    const cursor = this.next;
    this.reading = this.read(cursor);
    try {
      const page = await this.reading;
      this.pages.push({ cursor, scores: page.scores });
      this.take(page);
      await this.addPast(cursor);
      return page.scores.length > 0;
    } finally {
      this.reading = null;
    }
  }

  take(page) {
    this.next = page.next_cursor;
    this.total = page.total;
    this.entity = page.entity;
  }

  read(cursor) {
    return ask("api/v1/scores", { ...this.question(), limit: PAGE, cursor });
  }

  /** The past and the whole first reason of a page's rows: once, then the stream goes on with them. */
  async addPast(cursor) {
    const fields = "entity_id,top_signal,history";
    const page = await ask("api/v1/scores", { ...this.question(), limit: PAGE, cursor, fields });
    for (const row of page.scores) {
      this.histories.set(row.entity_id, row.history);
      this.signals.set(row.entity_id, row.top_signal);
    }
  }

  async addPastOf(score) {
    const path = entityPath(this.entity, score.entity_id, "/history");
    const { points } = await ask(path, { task: this.question().task });
    this.histories.set(keyOf(score), points);
  }

  /** Reads the page with this row again, in its newest order. */
  async refresh(index) {
    let place = Math.min(Math.floor(index / PAGE), this.pages.length - 1);
    if (place < 0) return this.more();
    const page = this.pages[place];
    const read = await this.read(page.cursor);
    page.scores = read.scores;
    this.total = read.total;
    if (place === this.pages.length - 1) this.next = read.next_cursor;
    const news = read.scores.filter((score) => !this.histories.has(keyOf(score)));
    await Promise.all(news.slice(0, PASTS_AT_ONCE).map((score) => this.addPastOf(score)));
    return true;
  }

  /** Takes a score of the stream into its row; false for one that is not among those read. */
  update(score) {
    for (const page of this.pages) {
      const index = page.scores.findIndex((one) => keyOf(one) === keyOf(score));
      if (index < 0) continue;
      page.scores[index] = { ...page.scores[index], ...score };
      const past = this.histories.get(keyOf(score)) ?? [];
      const point = { as_of: score.as_of, probability: score.score === null ? null : score.score / 100 };
      if (past.at(-1)?.as_of !== score.as_of) this.histories.set(keyOf(score), [...past, point].slice(-64));
      return true;
    }
    return false;
  }

  /** The first reason in full, if the row still begins with it. */
  signalOf(score) {
    const whole = this.signals.get(keyOf(score));
    return whole && score.top_signal && whole.startsWith(score.top_signal) ? whole : score.top_signal;
  }
}
