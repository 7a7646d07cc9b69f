// Tables: what a chart shows, for everybody to read. Numbers stand right, each table has its caption.
import { count, drawn, element } from "./element.js";

export const MOST_ROWS = 500;

// columns: {name, number, row}; `row` heads its row. cells: texts or elements, a list for each row; last: of the foot.
export function table(caption, columns, rows, last) {
  const cell = (value, place, name) => {
    const { number, row } = columns[place];
    const attributes = { class: number ? "number" : undefined, scope: row ? "row" : undefined };
    return element(row ? "th" : name, attributes, value ?? "");
  };
  const line = (cells) => element("tr", {}, ...cells.map((value, place) => cell(value, place, "td")));
  const head = columns.map(({ name, number }) => element("th", { scope: "col", class: number ? "number" : undefined }, name));
  const made = element("table", {},
    element("caption", {}, caption), element("thead", {}, element("tr", {}, ...head)),
    element("tbody", {}, ...rows.slice(0, MOST_ROWS).map(line)));
  if (last) made.append(element("tfoot", {}, line(last)));
  const held = element("div", { class: "table", role: "region", "aria-label": caption, tabindex: "0" }, made);
  if (rows.length <= MOST_ROWS) return held;
  return element("div", {}, held, element("p", { class: "note" }, `The first ${MOST_ROWS} of ${count(rows.length)} rows; the CSV holds all.`));
}

// A table whose rows are bars as well. rows: {names, value, text, more}; columns: of the names, and of what is `more`.
export function bars(caption, names, rows, measure, more = []) {
  const most = Math.max(...rows.map(({ value }) => value), 0) || 1;
  const sum = rows.reduce((all, { value }) => all + value, 0) || 1;
  const bar = (value) => drawn("svg", { class: "bar", viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
    drawn("rect", { class: "s0", width: (100 * value) / most, height: 10 }));
  const columns = [
    ...names.map((name, place) => ({ name, row: place === 0 })),
    { name: element("span", { class: "unseen" }, "Bar") }, { name: measure, number: true }, { name: "%", number: true },
    ...more.map((name) => ({ name, number: true })),
  ];
  const lines = rows.map((row) => [
    ...row.names, bar(row.value), row.text, ((100 * row.value) / sum).toFixed(1), ...(row.more ?? []),
  ]);
  const made = table(caption, columns, lines);
  made.classList.add("bars");
  return made;
}
