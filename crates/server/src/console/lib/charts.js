// Charts: functions from numbers to SVG. Each has a text that says what it shows; a table or words stand beside larger ones.

import { draw } from "./dom.js";
import { day, percent } from "./words.js";

/** A line of the newest probabilities, without axes. */
export function sparkline(points, width = 110, height = 26) {
  const values = points.map((point) => point.probability).filter((value) => value !== null);
  if (values.length < 2) return draw("svg", { width, height, "aria-hidden": "true" });
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const range = Math.max(most - least, 0.01);
  const x = (index) => 2 + ((width - 6) * index) / (values.length - 1);
  const y = (value) => height - 3 - ((height - 6) * (value - least)) / range;
  const path = values.map((value, index) => `${index ? "L" : "M"}${x(index).toFixed(1)} ${y(value).toFixed(1)}`).join("");
  const last = values.length - 1;
  return draw("svg", { width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" },
    draw("path", { d: path, class: "line" }),
    draw("circle", { cx: x(last), cy: y(values[last]), r: 2.5, class: "dot" }));
}

/** Probabilities over time, with the thresholds of bands and marks of events. */
export function historyChart(points, bands, events, label) {
  const width = innerWidth < 700 ? 380 : 760; // letters keep their size on a phone
  const [height, left, right, top, bottom] = [240, 46, 64, 12, 26];
  const known = points.filter((point) => point.probability !== null);
  const times = [...known.map((point) => point.as_of), ...events.map((event) => event.time_ms)];
  const [from, to] = [Math.min(...times), Math.max(...times)];
  const end = roundUp(Math.max(...known.map((point) => point.probability), ...bands.map((band) => band.enter)));
  const x = (time) => left + ((width - left - right) * (time - from)) / Math.max(1, to - from);
  const y = (value) => height - bottom - ((height - top - bottom) * value) / end;
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  for (const part of [0, 0.5, 1]) {
    svg.append(draw("line", { x1: left, x2: width - right, y1: y(part * end), y2: y(part * end), class: "grid" }),
      draw("text", { x: left - 6, y: y(part * end) + 4, "text-anchor": "end" }, percent(part * end, end < 0.1 ? 1 : 0)));
  }
  for (const band of bands.filter((band) => band.enter <= end)) {
    svg.append(draw("line", { x1: left, x2: width - right, y1: y(band.enter), y2: y(band.enter), class: "limit" }),
      draw("text", { x: width - right + 6, y: y(band.enter) + 4 }, band.name));
  }
  for (const event of events) {
    const mark = draw("line", { x1: x(event.time_ms), x2: x(event.time_ms), y1: height - bottom, y2: height - bottom - 9, class: "mark" });
    svg.append(mark);
  }
  const path = known.map((point, index) => `${index ? "L" : "M"}${x(point.as_of).toFixed(1)} ${y(point.probability).toFixed(1)}`).join("");
  svg.append(draw("path", { d: path, class: "line" }));
  if (known.length > 0) svg.append(draw("circle", { cx: x(known.at(-1).as_of), cy: y(known.at(-1).probability), r: 4, class: "dot" }));
  svg.append(draw("text", { x: left, y: height - 6 }, day(from)), draw("text", { x: width - right, y: height - 6, "text-anchor": "end" }, day(to)));
  return svg;
}

/** A round number at or above a share, so that rare outcomes have visible lines too. */
const roundUp = (share) => [0.01, 0.02, 0.05, 0.1, 0.2, 0.5].find((end) => share <= end) ?? 1;

/** Horizontal bars: [{name, value, text}], longest value 1. */
export function bars(rows, label) {
  const [width, line, left] = [480, 24, 90];
  const most = Math.max(...rows.map((row) => row.value), 1e-9);
  const height = rows.length * line + 4;
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, width, role: "img", "aria-label": label });
  rows.forEach((row, index) => {
    const y = index * line + 4;
    const length = Math.max(1, ((width - left - 110) * row.value) / most);
    svg.append(draw("text", { x: left - 8, y: y + 13, "text-anchor": "end", class: "name" }, row.name),
      draw("rect", { x: left, y: y + 2, width: length, height: 14, rx: 3, class: "bar-fill" }),
      draw("text", { x: left + length + 6, y: y + 13 }, row.text));
  });
  return svg;
}

/** Reliability: bins of {predicted, observed, null_low, null_high}, with the line of true chances. */
export function reliability(bins, label) {
  const [size, left, right, bottom, top] = [340, 46, 22, 30, 8]; // the last number stands below the right end
  const end = roundUp(Math.max(...bins.map((bin) => Math.max(bin.predicted, bin.observed, bin.null_high))));
  const side = size - left - right;
  const x = (value) => left + (side * value) / end;
  const y = (value) => size - bottom - ((size - bottom - top) * Math.min(value, end)) / end;
  const svg = draw("svg", { viewBox: `0 0 ${size} ${size}`, width: size, role: "img", "aria-label": label });
  for (const part of [0, 0.5, 1]) {
    const value = part * end;
    svg.append(draw("line", { x1: left, x2: x(end), y1: y(value), y2: y(value), class: "grid" }),
      draw("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, percent(value, end < 0.1 ? 1 : 0)),
      draw("text", { x: x(value), y: size - 10, "text-anchor": "middle" }, percent(value, end < 0.1 ? 1 : 0)));
  }
  svg.append(draw("line", { x1: x(0), y1: y(0), x2: x(end), y2: y(end), class: "limit" }));
  for (const bin of bins) svg.append(draw("line", { x1: x(bin.predicted), x2: x(bin.predicted), y1: y(bin.null_low), y2: y(bin.null_high), class: "null-range" }));
  for (const bin of bins) svg.append(draw("circle", { cx: x(bin.predicted), cy: y(bin.observed), r: 4, class: "dot" }));
  return svg;
}

/**
 * One entity in the middle, what is around it on a ring: [{name, about, kind, isActive}], at most so many that names can be read.
 * People are round, deals square, hubs diamonds, entities of other accounts triangles.
 */
export function neighbourhood(centre, around, label) {
  const [width, height] = [560, 372];
  const [cx, cy] = [width / 2, height / 2];
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  const places = around.map((one, index) => {
    const angle = (2 * Math.PI * index) / around.length - Math.PI / 2;
    return { one, x: cx + Math.cos(angle) * 165, y: cy + Math.sin(angle) * 135, isLeft: Math.cos(angle) < -0.3, isRight: Math.cos(angle) > 0.3 };
  });
  for (const place of places) svg.append(draw("line", { x1: cx, y1: cy, x2: place.x, y2: place.y, class: "edge" }));
  svg.append(draw("circle", { cx, cy, r: 14, class: "node centre" }), draw("text", { x: cx, y: cy + 32, "text-anchor": "middle", class: "name" }, short(centre, 28)));
  for (const { one, x, y, isLeft, isRight } of places) {
    const anchor = isLeft ? "end" : isRight ? "start" : "middle";
    const [tx, ty] = [x + (isLeft ? -12 : isRight ? 12 : 0), isLeft || isRight ? y : y + (y < cy ? -28 : 22)];
    svg.append(nodeShape(one, x, y), draw("text", { x: tx, y: ty, "text-anchor": anchor, class: "name" }, short(one.name, 17)), draw("text", { x: tx, y: ty + 14, "text-anchor": anchor }, short(one.about, 17)));
  }
  return svg;
}

function nodeShape({ kind, isActive }, x, y) {
  const style = `node${isActive ? " active" : ""}`;
  if (kind === "deal") return draw("rect", { x: x - 7, y: y - 7, width: 14, height: 14, rx: 2, class: style });
  if (kind === "related") return draw("polygon", { points: `${x},${y - 10} ${x + 10},${y + 8} ${x - 10},${y + 8}`, class: style });
  if (kind === "hub") return draw("polygon", { points: `${x},${y - 10} ${x + 10},${y} ${x},${y + 10} ${x - 10},${y}`, class: style });
  return draw("circle", { cx: x, cy: y, r: 8, class: style });
}

const short = (text, length) => (text.length > length ? `${text.slice(0, length - 1)}…` : text);
