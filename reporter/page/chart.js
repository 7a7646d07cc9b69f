// Draws what changes over time as stacked bars, and a short line of late. A chart's text is the table below it.
import { compact, drawn, element } from "./element.js";

const HEIGHT = 230;
const LEFT = 46;
const BOTTOM = 22;
const TOP = 8;
export const COLOURS = 14; // as many as an answer on events has groups

// The steps of an axis: 1, 2 or 5 times a power of ten, about four of them.
function ticks(most) {
  const raw = Math.max(most, 1) / 4;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = Math.max(1, [1, 2, 5, 10].find((factor) => factor * power >= raw) * power);
  return Array.from({ length: Math.ceil(Math.max(most, 1) / step) + 1 }, (_, number) => number * step);
}

const colour = ({ rest }, number) => (rest ? "rest" : `s${number % COLOURS}`);

// series: {name, rest, values}, the rest being all that has no series of its own; labels: of the buckets; part: whether
// the range cuts a bucket or it is not over; previous: values of the period before, null where it has none; say: a value
// as text.
export function timeChart({ title, labels, part, series, previous, say }) {
  const totals = labels.map((_, place) => series.reduce((sum, { values }) => sum + values[place], 0));
  const highest = totals.indexOf(Math.max(...totals));
  const axis = ticks(Math.max(...totals, ...(previous ?? [0])));
  const readout = element("p", { class: "readout", role: "status" });
  const figure = element("figure", { class: "chart" });
  const words = `${title}: ${labels.length} buckets from ${labels[0]} to ${labels.at(-1)}, the highest ${labels[highest]} with ${say(totals[highest])}. The table below has every figure.`;
  let shown = null;
  let drawing = null;

  function draw() {
    const width = Math.max(figure.clientWidth, 280);
    const step = (width - LEFT - 4) / labels.length;
    const height = HEIGHT - TOP - BOTTOM;
    const y = (value) => TOP + height - (value / axis.at(-1)) * height;
    const x = (place) => LEFT + place * step;
    const gap = Math.min(3, step * 0.2);
    const parts = axis.flatMap((tick) => [
      drawn("line", { class: "grid", x1: LEFT, x2: width, y1: y(tick), y2: y(tick) }),
      drawn("text", { class: "tick", x: LEFT - 6, y: y(tick) + 4, "text-anchor": "end" }, compact(tick)),
    ]);
    const cursor = drawn("rect", { class: "cursor", y: TOP, height, width: step, visibility: "hidden" });
    parts.push(cursor);
    labels.forEach((_, place) => {
      let below = 0;
      series.forEach((one, number) => {
        const value = one.values[place];
        if (value <= 0) return;
        const top = below + value;
        parts.push(drawn("rect", {
          class: colour(one, number), x: x(place) + gap / 2, width: Math.max(step - gap, 0.5), y: y(top), height: y(below) - y(top),
        }));
        below = top;
      });
      if (part[place] && below) {
        parts.push(drawn("rect", { fill: "url(#part)", x: x(place) + gap / 2, width: Math.max(step - gap, 0.5), y: y(below), height: y(0) - y(below) }));
      }
    });
    if (previous) {
      const line = previous.map((value, place) => (value === null ? "" : `${(previous[place - 1] ?? null) === null ? "M" : "L"}${x(place) + step / 2},${y(value)}`));
      parts.push(drawn("path", { class: "previous", d: line.join("") }));
    }
    const every = Math.max(1, Math.ceil(labels.length / Math.max(1, Math.floor((width - LEFT) / 92))));
    labels.forEach((label, place) => {
      const middle = x(place) + step / 2;
      if (place % every || middle + 36 > width) return;
      parts.push(drawn("text", { class: "tick", x: middle, y: HEIGHT - 6, "text-anchor": "middle" }, label));
    });

    const chart = drawn("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": words, tabindex: "0" }, hatch(), ...parts);
    const show = (place) => {
      shown = place === null ? null : Math.min(Math.max(place, 0), labels.length - 1);
      cursor.setAttribute("visibility", shown === null ? "hidden" : "visible");
      readout.textContent = shown === null ? "" : tell(shown);
      if (shown !== null) cursor.setAttribute("x", x(shown));
    };
    chart.addEventListener("pointermove", (event) => {
      const box = chart.getBoundingClientRect();
      show(Math.floor((((event.clientX - box.left) / box.width) * width - LEFT) / step));
    });
    chart.addEventListener("pointerleave", () => show(null));
    chart.addEventListener("blur", () => show(null));
    chart.addEventListener("keydown", ({ key }) => {
      if (key === "ArrowRight") show((shown ?? -1) + 1);
      if (key === "ArrowLeft") show((shown ?? labels.length) - 1);
      if (key === "Escape") show(null);
    });
    drawing?.remove();
    drawing = chart;
    figure.prepend(chart);
  }

  function tell(place) {
    const each = series.length > 1 ? series.filter(({ values }) => values[place]).map(({ name, values }) => `${name} ${say(values[place])}`) : [];
    const before = previous ? [`the period before ${say(previous[place])}`] : [];
    return `${labels[place]}${part[place] ? " (part)" : ""}: ${say(totals[place])}${each.length || before.length ? " – " : ""}${[...each, ...before].join(", ")}`;
  }

  const cut = part.some((is, place) => is && totals[place]);
  const legend = series.length > 1 || previous || cut
    ? element("ul", { class: "legend" },
      ...series.map((one, number) => element("li", {}, swatch(colour(one, number)), one.name)),
      ...(previous ? [element("li", {}, swatch("previous"), "the period before")] : []),
      ...(cut ? [element("li", {}, swatch("part"), "part: the range cuts it, or it is not over")] : []))
    : "";
  figure.append(readout, element("figcaption", {}, legend));
  let width = 0;
  new ResizeObserver(() => {
    if (figure.clientWidth !== width) {
      width = figure.clientWidth;
      draw();
    }
  }).observe(figure);
  return figure;
}

function swatch(kind) {
  const shapes = {
    previous: () => [drawn("path", { class: kind, d: "M0,5L10,5" })],
    part: () => [drawn("rect", { class: "s11", width: 10, height: 10 }), drawn("rect", { fill: "url(#part)", width: 10, height: 10 })],
  };
  const shape = shapes[kind] ?? (() => [drawn("rect", { class: kind, width: 10, height: 10 })]);
  return drawn("svg", { class: "swatch", viewBox: "0 0 10 10", "aria-hidden": "true" }, ...shape());
}

// Drawn over what it marks, in the colour of the ground.
function hatch() {
  return drawn("defs", {}, drawn("pattern", { id: "part", patternUnits: "userSpaceOnUse", width: 6, height: 6, patternTransform: "rotate(45)" },
    drawn("rect", { class: "hatch", width: 3, height: 6 })));
}

// The last values as a line, without words: the number stands beside it.
export function sparkline(values) {
  const step = 100 / Math.max(values.length - 1, 20);
  const highest = Math.max(...values, 1);
  const points = values.map((value, place) => `${100 - (values.length - 1 - place) * step},${23 - (value / highest) * 21}`);
  return drawn("svg", { class: "spark", viewBox: "0 0 100 24", preserveAspectRatio: "none", "aria-hidden": "true" },
    drawn("polyline", { points: points.join(" ") }));
}
