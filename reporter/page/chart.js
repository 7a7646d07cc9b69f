// Draws a time series as stacked bars, and sparklines. The text alternative of a chart is the table below it.
import { compact, element, svg } from "./element.js";
import { getExtras, setExtra } from "./extras.js";

const HEIGHT = 230;
const LEFT = 46;
const BOTTOM = 22;
const TOP = 8;
export const COLOURS = 14; // the number of groups of an events report

// The ticks of an axis: about four, in steps of 1, 2 or 5 times a power of ten.
function ticks(max) {
  const raw = Math.max(max, 1) / 4;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = Math.max(1, [1, 2, 5, 10].find((factor) => factor * power >= raw) * power);
  return Array.from({ length: Math.ceil(Math.max(max, 1) / step) + 1 }, (_, number) => number * step);
}

const colour = ({ isOther }, number) => (isOther ? "rest" : `s${number % COLOURS}`);

// series: {name, isOther, values}, where other is all values that have no series of their own; labels: of the buckets;
// partial: whether the range cuts a bucket or the bucket has not ended; previous: values of the previous period, null if
// it has no such bucket; format: makes the text of a value. A button of the legend switches its series off and on.
export function timeChart({ title, labels, partial, series, previous, format }) {
  const off = new Set(getExtras("off").filter((name) => series.some((one) => one.name === name)));
  const isOn = ({ name }) => !off.has(name);
  const readout = element("p", { class: "readout", role: "status" });
  const figure = element("figure", { class: "chart" });
  let selected = null;
  let drawing = null;
  let totals = [];

  function draw() {
    totals = labels.map((_, index) => series.filter(isOn).reduce((sum, { values }) => sum + values[index], 0));
    const highest = totals.indexOf(Math.max(...totals));
    const axis = ticks(Math.max(...totals, ...(previous && !off.size ? previous : [0])));
    const description = `${title}: ${labels.length} buckets from ${labels[0]} to ${labels.at(-1)}, the highest is ${labels[highest]} with ${format(totals[highest])}. The table below has all figures.`;
    const width = Math.max(figure.clientWidth, 280);
    const step = (width - LEFT - 4) / labels.length;
    const height = HEIGHT - TOP - BOTTOM;
    const y = (value) => TOP + height - (value / axis.at(-1)) * height;
    const x = (index) => LEFT + index * step;
    const gap = Math.min(3, step * 0.2);
    const parts = axis.flatMap((tick) => [
      svg("line", { class: "grid", x1: LEFT, x2: width, y1: y(tick), y2: y(tick) }),
      svg("text", { class: "tick", x: LEFT - 6, y: y(tick) + 4, "text-anchor": "end" }, compact(tick)),
    ]);
    const cursor = svg("rect", { class: "cursor", y: TOP, height, width: step, visibility: "hidden" });
    parts.push(cursor);
    labels.forEach((_, index) => {
      let below = 0;
      series.forEach((one, number) => {
        const value = one.values[index];
        if (value <= 0 || !isOn(one)) return;
        const top = below + value;
        parts.push(svg("rect", {
          class: colour(one, number), x: x(index) + gap / 2, width: Math.max(step - gap, 0.5), y: y(top), height: y(below) - y(top),
        }));
        below = top;
      });
      if (partial[index] && below) {
        parts.push(svg("rect", { fill: "url(#part)", x: x(index) + gap / 2, width: Math.max(step - gap, 0.5), y: y(below), height: y(0) - y(below) }));
      }
    });
    if (previous && !off.size) {
      const line = previous.map((value, index) => (value === null ? "" : `${(previous[index - 1] ?? null) === null ? "M" : "L"}${x(index) + step / 2},${y(value)}`));
      parts.push(svg("path", { class: "previous", d: line.join("") }));
    }
    const every = Math.max(1, Math.ceil(labels.length / Math.max(1, Math.floor((width - LEFT) / 92))));
    labels.forEach((label, index) => {
      const middle = x(index) + step / 2;
      if (index % every || middle + 36 > width) return;
      parts.push(svg("text", { class: "tick", x: middle, y: HEIGHT - 6, "text-anchor": "middle" }, label));
    });

    const chart = svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": description, tabindex: "0" }, hatch(), ...parts);
    const show = (index) => {
      selected = index === null ? null : Math.min(Math.max(index, 0), labels.length - 1);
      cursor.setAttribute("visibility", selected === null ? "hidden" : "visible");
      readout.textContent = selected === null ? "" : describeBucket(selected);
      if (selected !== null) cursor.setAttribute("x", x(selected));
    };
    chart.addEventListener("pointermove", (event) => {
      const box = chart.getBoundingClientRect();
      show(Math.floor((((event.clientX - box.left) / box.width) * width - LEFT) / step));
    });
    chart.addEventListener("pointerleave", () => show(null));
    chart.addEventListener("blur", () => show(null));
    chart.addEventListener("keydown", ({ key }) => {
      if (key === "ArrowRight") show((selected ?? -1) + 1);
      if (key === "ArrowLeft") show((selected ?? labels.length) - 1);
      if (key === "Escape") show(null);
    });
    drawing?.remove();
    drawing = chart;
    figure.prepend(chart);
  }

  function describeBucket(index) {
    const each = series.length > 1 ? series.filter((one) => isOn(one) && one.values[index]).map(({ name, values }) => `${name} ${format(values[index])}`) : [];
    const before = previous && !off.size ? [`previous period ${format(previous[index])}`] : [];
    return `${labels[index]}${partial[index] ? " (partial)" : ""}: ${format(totals[index])}${each.length || before.length ? " – " : ""}${[...each, ...before].join(", ")}`;
  }

  const cut = partial.some((is, index) => is && series.some(({ values }) => values[index]));
  const legend = series.length > 1 || previous || cut
    ? element("ul", { class: "legend" },
      ...series.map((one, number) => element("li", {}, series.length > 1 ? toggle(one, number) : element("span", {}, swatch(colour(one, number)), one.name))),
      ...(previous ? [element("li", {}, swatch("previous"), "previous period")] : []),
      ...(cut ? [element("li", {}, swatch("part"), "partial: the range cuts the bucket, or it has not ended")] : []))
    : "";

  // The previous period has the sum of all series only, so the chart leaves it out while one is off.
  function toggle(one, number) {
    const button = element("button", { type: "button", class: "series", "aria-pressed": String(isOn(one)) }, swatch(colour(one, number)), one.name);
    button.addEventListener("click", () => {
      if (!off.delete(one.name)) off.add(one.name);
      button.setAttribute("aria-pressed", String(isOn(one)));
      setExtra("off", ...off);
      draw();
    });
    return button;
  }

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

function swatch(cssClass) {
  const shapes = {
    previous: () => [svg("path", { class: cssClass, d: "M0,5L10,5" })],
    part: () => [svg("rect", { class: "s11", width: 10, height: 10 }), svg("rect", { fill: "url(#part)", width: 10, height: 10 })],
  };
  const shape = shapes[cssClass] ?? (() => [svg("rect", { class: cssClass, width: 10, height: 10 })]);
  return svg("svg", { class: "swatch", viewBox: "0 0 10 10", "aria-hidden": "true" }, ...shape());
}

// A pattern in the background colour, drawn over partial buckets.
function hatch() {
  return svg("defs", {}, svg("pattern", { id: "part", patternUnits: "userSpaceOnUse", width: 6, height: 6, patternTransform: "rotate(45)" },
    svg("rect", { class: "hatch", width: 3, height: 6 })));
}

// The last values as a line without text; the tile shows the current value as a number.
export function sparkline(values) {
  const step = 100 / Math.max(values.length - 1, 20);
  const highest = Math.max(...values, 1);
  const points = values.map((value, index) => `${100 - (values.length - 1 - index) * step},${23 - (value / highest) * 21}`);
  return svg("svg", { class: "spark", viewBox: "0 0 100 24", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("polyline", { points: points.join(" ") }));
}
