// How good scores were: tenths, reliability, simple rules, cohorts.

import { bars, reliability } from "./charts.js";
import { make, table } from "./dom.js";
import { capital, count, number, percent } from "./words.js";

/** Tenths, reliability and cohorts of judged rows; each part where the figures carry it. */
export function evaluation({ deciles, calibration, cohorts, baselines }, name) {
  return [
    deciles?.length > 0 ? lift(deciles, name) : null,
    calibration?.bins?.length > 0 ? reliabilityFigure(calibration, name) : null,
    baselines?.length > 0 ? rules(baselines) : null,
    cohorts?.length > 0 ? cohortParts(cohorts) : null,
  ];
}

function lift(deciles, name) {
  const rows = deciles.map((tenth, index) => ({ name: `${index + 1}. tenth`, value: tenth.rate, text: `${percent(tenth.rate, 1)}, ${tenth.lift.toFixed(1)}×` }));
  const caught = deciles.slice(0, 3).map((tenth) => percent(tenth.captured)).join(", ");
  const label = `${name}: share with the outcome by tenth of the list: ${rows.map((row) => `${row.name} ${row.text}`).join("; ")}`;
  return make("figure", {}, make("h3", {}, "Lift by tenths"), bars(rows, label), make("figcaption", {}, `Share with the outcome in each tenth of the list, highest chances first; and how many times the share of all. The first three have caught ${caught} of all outcomes.`));
}

function reliabilityFigure(calibration, name) {
  const missed = calibration.bins.filter((bin) => bin.observed < bin.null_low || bin.observed > bin.null_high).length;
  const verdict = `Calibration error ${percent(calibration.ece, 1)}; with true chances it would be ${percent(calibration.null_ece, 1)}, and above ${percent(calibration.null_ece_high, 1)} once in twenty times. ${missed} of ${count(calibration.bins.length, "bin")} outside what chance explains.`;
  return make("figure", {}, make("h3", {}, "Reliability"), reliability(calibration.bins, `${name}: ${verdict}`),
    make("figcaption", {}, `Mean chance (across) and share that came true (up). Grey: where 19 of 20 shares lie if the chances are true. ${verdict}`));
}

/** An estimate, or a plain number, with three digits. */
export const figure = (estimate) => (estimate === null || estimate === undefined ? "–" : (estimate.value ?? estimate).toFixed(3));

function rules(baselines) {
  return table("Simple rules on the same rows", ["Rule", { text: "AUROC", number: true }, { text: "Average precision", number: true }], baselines.map(({ name, figures }) => [capital(name), figure(figures.auroc), figure(figures.average_precision)]));
}

/** Columns along which chances differ, or part from what came true. */
function cohortParts(cohorts) {
  const isMissed = (part) => Math.abs(part.gap_in_errors ?? 0) >= 3;
  const range = (part) => (part.low === part.high ? number.format(part.low) : `${part.low.toFixed(2)} to ${part.high.toFixed(2)}`);
  const rows = cohorts.flatMap((one) => one.parts.map((part, index) => [index === 0 ? one.column : "", range(part), number.format(part.rows), percent(part.predicted, 1), percent(part.observed, 1), isMissed(part) ? make("span", { class: "pill", "data-tone": "warm" }, "missed") : ""]));
  return make("details", {}, make("summary", {}, `Cohorts by ${count(cohorts.length, "column")}`),
    table("Rows by the values of a column, as the model reads them", ["Column", "Values", { text: "Rows", number: true }, { text: "Chance", number: true }, { text: "Came true", number: true }, ""], rows));
}
