// The people of an account as a grid of the two fields that its schema names for them, with what is missing.

import { make, table } from "./dom.js";
import { count, plain } from "./words.js";

/** The grid, its gaps in words, and a remark where it has one field or none. */
export function committeeGrid(committee) {
  const [row, column] = committee.fields;
  const parts = [make("p", { class: "quiet" }, `${count(committee.people, "person", "people")}, ${committee.active} of them active in the last 14 days. Bold: active.`)];
  if (row && column) parts.push(grid(committee, row, column));
  else if (row) parts.push(list(committee, row));
  for (const [field, missing] of Object.entries(committee.gaps)) {
    if (missing.length > 0) parts.push(make("p", { class: "gaps" }, make("strong", {}, `Nobody of ${plain(field)}: `), missing.join(", ")));
  }
  return make("div", {}, parts);
}

const NONE = "not given";

function grid(committee, row, column) {
  const valuesOf = (index) => [...new Set(committee.seats.map((seat) => seat.values[index] ?? NONE))];
  const [rows, columns] = [valuesOf(0), valuesOf(1)];
  const seatAt = (one, other) => committee.seats.find((seat) => (seat.values[0] ?? NONE) === one && (seat.values[1] ?? NONE) === other);
  const cells = rows.map((one) => [one, ...columns.map((other) => seat(seatAt(one, other)))]);
  return table(`People by ${plain(row)} and ${plain(column)}`, [plain(row), ...columns.map((text) => ({ text, number: true }))], cells);
}

function list(committee, row) {
  return table(`People by ${plain(row)}`, [plain(row), { text: "people", number: true }], committee.seats.map((one) => [one.values[0] ?? NONE, seat(one)]));
}

function seat(found) {
  if (!found) return make("span", { class: "quiet" }, "–");
  const text = found.active > 0 ? `${found.active} of ${found.people}` : String(found.people);
  return make(found.active > 0 ? "strong" : "span", { title: `${found.people} in all, ${found.active} active` }, text);
}
