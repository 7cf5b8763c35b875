// Numbers, moments and names in words. Names of tables, fields, bands and tasks are the deployment's own.

export const number = new Intl.NumberFormat("en");
export const points = (score) => (score === null || score === undefined ? "–" : score >= 10 ? score.toFixed(0) : score.toFixed(1));
export function signed(value, digits) {
  const rounded = Number(value.toFixed(digits));
  return `${rounded > 0 ? "+" : rounded < 0 ? "−" : "±"}${Math.abs(rounded).toFixed(digits)}`;
}
export const capital = (word) => word.charAt(0).toUpperCase() + word.slice(1);
/** A name from a schema or a code, for reading: `content_views` becomes `content views`. */
export const plain = (name) => name.replaceAll(/[_-]+/g, " ");
export const singular = (table) => plain(table).replace(/ies$/, "y").replace(/([^s])s$/, "$1");
export const moment = (ms) => `${new Date(ms).toISOString().slice(0, 16).replace("T", " ")} UTC`;
export const day = (ms) => new Date(ms).toISOString().slice(0, 10);
export const count = (value, one, many = `${one}s`) => `${number.format(value)} ${value === 1 ? one : many}`;

const UNITS = [["d", 86_400_000], ["h", 3_600_000], ["min", 60_000], ["s", 1000]];

/** A length of time in one unit, such as "3 h". */
export function span(ms) {
  if (ms >= 730 * 86_400_000) return `${Math.floor(ms / (365 * 86_400_000))} years`;
  const [name, size] = UNITS.find(([, size]) => ms >= size) ?? ["s", 1000];
  return `${Math.max(0, Math.floor(ms / size))} ${name}`;
}
export const ago = (ms, now) => (now - ms < 1000 ? "now" : `${span(now - ms)} ago`);

/** A probability in words: "about 1 in 4". */
export function chance(probability) {
  if (probability === null || probability === undefined) return "no probability";
  if (probability >= 0.995) return "nearly certain";
  if (probability >= 0.95) return "about 19 in 20";
  if (probability > 0.5) return `about ${Math.min(9, Math.round(10 * probability))} in 10`;
  if (probability >= 0.002) return `about 1 in ${number.format(roundly(1 / probability))}`;
  return "less than 1 in 500";
}
const roundly = (value) => (value < 20 ? Math.round(value) : value < 100 ? 5 * Math.round(value / 5) : 50 * Math.round(value / 50));

export const percent = (share, digits = 0) => `${(100 * share).toFixed(digits)} %`;

const GRADES = {
  sound: ["sound", "Nothing was found against it on validation.", "good"],
  provisional: ["provisional", "Few outcomes, or figures that a simple rule beats: trust the order, doubt the probability.", "warm"],
  insufficient: ["insufficient", "Too few outcomes to tell its order from chance: read it as a hint.", "warm"],
  worse_than_chance: ["worse than chance", "On validation a coin ranked better: do not act on these scores.", "bad"],
};

/** A grade of a bundle for people: its name, what to make of it, and a tone. */
export function gradeWords(quality) {
  const [name, advice, tone] = GRADES[quality] ?? [quality ?? "without a grade", "The bundle does not say how far its probabilities can be relied on.", "warm"];
  return { name, advice, tone };
}

/** A value of a row as people write it. Rows are shown as text, times among it as milliseconds. */
export function value(text) {
  const words = String(text);
  if (/^1\d{12}$/.test(words)) return day(Number(words));
  if (/^-?\d{4,}(\.\d+)?$/.test(words) && !/^0/.test(words)) return number.format(Number(words));
  return words;
}

/** How high a band is among the task's, for its colour: `top`, `middle` or `low`. */
export function levelOf(band, bands) {
  const index = bands.findIndex((one) => one.name === band);
  if (index < 0) return "low";
  if (index === bands.length - 1) return "top";
  return index === 0 && bands.length > 2 ? "low" : "middle";
}
