// Tables with captions; numbers are right-aligned.
import { count, element, svg } from "./element.js";

export const MAX_ROWS = 500;

// columns: {name, number, row, sort}; a `row` column is the header of its row; sort: its aria-sort. rows: lists of texts or elements; footer: the last row.
export function table(caption, columns, rows, footer) {
  const cell = (value, index, name) => {
    const { number, row } = columns[index];
    const attributes = { class: number ? "number" : undefined, scope: row ? "row" : undefined };
    return element(row ? "th" : name, attributes, value ?? "");
  };
  const line = (cells) => element("tr", {}, ...cells.map((value, index) => cell(value, index, "td")));
  const head = columns.map(({ name, number, sort }) => element("th", { scope: "col", class: number ? "number" : undefined, "aria-sort": sort }, name));
  const tableElement = element("table", {},
    element("caption", {}, caption), element("thead", {}, element("tr", {}, ...head)),
    element("tbody", {}, ...rows.slice(0, MAX_ROWS).map(line)));
  if (footer) tableElement.append(element("tfoot", {}, line(footer)));
  const region = element("div", { class: "table", role: "region", "aria-label": caption, tabindex: "0" }, tableElement);
  if (rows.length <= MAX_ROWS) return region;
  return element("div", {}, region, element("p", { class: "note" }, `The first ${MAX_ROWS} of ${count(rows.length)} rows; the CSV file has all rows.`));
}

// A bar of a share of 100.
export const bar = (share) => svg("svg", { class: "bar", viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
  svg("rect", { class: "s0", width: Math.max(0, Math.min(100, share)), height: 10 }));

// A table with a bar in each row. rows: {names, value, text, more}; names and more: the titles of their columns.
// share: whether a column has each row's share of the sum.
export function bars(caption, names, rows, measure, more = [], { share = true } = {}) {
  const max = Math.max(...rows.map(({ value }) => value), 0) || 1;
  const sum = rows.reduce((all, { value }) => all + value, 0) || 1;
  const columns = [
    ...names.map((name, index) => ({ name, row: index === 0 })),
    { name: element("span", { class: "visually-hidden" }, "Bar") }, { name: measure, number: true }, ...(share ? [{ name: "%", number: true }] : []),
    ...more.map((name) => ({ name, number: true })),
  ];
  const lines = rows.map((row) => [
    ...row.names, bar((100 * row.value) / max), row.text, ...(share ? [((100 * row.value) / sum).toFixed(1)] : []), ...(row.more ?? []),
  ]);
  const tableElement = table(caption, columns, lines);
  tableElement.classList.add("bars");
  return tableElement;
}
