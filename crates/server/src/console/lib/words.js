// Numbers, moments and names of tables in words.

export const number = new Intl.NumberFormat("en");
export const points = (score) => (score === null ? "–" : score >= 10 ? score.toFixed(0) : score.toFixed(1));
export const signed = (value, digits) => `${value > 0 ? "+" : value < 0 ? "−" : "±"}${Math.abs(value).toFixed(digits)}`;
export const capital = (word) => word.charAt(0).toUpperCase() + word.slice(1);
export const singular = (table) => capital(table.replaceAll("_", " ").replace(/ies$/, "y").replace(/s$/, ""));
export const moment = (ms) => `${new Date(ms).toISOString().slice(0, 19).replace("T", " ")} UTC`;

/** How long before `now` something was, in one unit. */
export function age(ms, now) {
  const seconds = Math.max(0, (now - ms) / 1000);
  if (seconds < 1) return "now";
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

const GRADES = {
  sound: ["sound", "Nothing was found against it on validation."],
  provisional: ["provisional", "Few outcomes, or figures that a simple rule beats: read the order, doubt the probability. The reasons are in the bundle's report.html."],
  insufficient: ["insufficient", "Too few outcomes to tell its order from chance. The reasons are in the bundle's report.html."],
  worse_than_chance: ["worse than chance", "On validation a coin ranked better: do not act on these scores."],
};

/** A grade of a bundle for people: its name, and what to make of it. */
export function gradeWords(quality) {
  const [name, advice] = GRADES[quality] ?? [quality ?? "", ""];
  return { name, advice };
}
