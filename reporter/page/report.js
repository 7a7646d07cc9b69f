// Renders one report: a chart, and below it a table with all figures.
import { timeChart } from "./chart.js";
import { amount, count, element } from "./element.js";
import { bars, table } from "./table.js";
import { bucketLabel, localTimeOf, timeText } from "./time.js";

const OTHER = "(other)";
const ALL = "all";
const PARTIAL = " · partial"; // the range cuts the bucket, or it has not ended
const MEASURES = {
  events: { name: "Events", of: ({ events }) => events, before: ({ previousEvents }) => previousEvents, format: count },
  revenue: { name: "Revenue", of: (row) => Number(row.revenue), before: ({ previousRevenue }) => (previousRevenue === undefined || previousRevenue === null ? previousRevenue : Number(previousRevenue)), format: amount },
};
MEASURES.demographics = MEASURES.events;
const TITLES = { age: "Age", ageBand: "Age band", gender: "Gender", country: "Country", city: "City", ageGender: "Age and gender", ageBandGender: "Age band and gender", followers: "Followers", device: "Device" };
const ORDERED = ["age", "ageBand", "ageGender", "ageBandGender", "followers"];

export function render(report, answer) {
  const measure = MEASURES[report];
  const parts = [headline(report, answer, measure), ...(answer.notes ?? []).map((note) => element("p", { class: "note" }, note))];
  if (answer.exact === false) parts.push(element("p", { class: "note" }, "Figures of single values are not exact: rare values were cut off. The CSV file has the largest error of each."));
  if (!answer.totals.events && !answer.totals.purchases) {
    parts.push(element("p", { class: "empty" }, "No events of this range are stored."));
  }
  const by = report === "demographics" ? ["source"] : answer.query.groupBy;
  if (answer.query.interval) parts.push(...overTime(answer, measure, by));
  else if (report !== "demographics") parts.push(whole(answer, measure, by));
  if (report === "demographics") parts.push(audience(answer));
  return parts;
}

function headline(report, { query, totals, freshness }, measure) {
  const value = measure.of(totals);
  const before = measure.before(totals);
  const parts = [element("strong", { id: "total" }, measure.format(value)), ` ${report === "revenue" ? `from ${count(totals.purchases)} purchases` : "events"}`];
  const storedUntil = Object.values(freshness).map((source) => source.storedUntil).filter(Boolean).sort()[0];
  const local = (instant) => timeText(localTimeOf(Date.parse(instant), query.timeZone));
  if (before !== undefined) parts.push(element("span", { class: "note" }, ` ${compared(query.compare, local, value, before)} (${measure.format(before)})`));
  const range = `${local(query.from)} to ${local(query.to)} · ${query.timeZone}`;
  return element("p", { class: "headline" }, ...parts, element("span", { class: "note" }, `${range}${storedUntil ? ` · complete up to ${local(storedUntil)}` : ""}`));
}

// Previous figures stop at the point that the current range has reached.
function compared({ from, to, countedUntil }, local, value, before) {
  if (countedUntil === from) return "nothing to compare yet";
  return `${change(value, before)} ${local(from)} to ${local(countedUntil)}${countedUntil === to ? "" : ", the same part of the previous period"}`;
}

function change(value, before) {
  if (!before) return value ? "up from 0 in" : "same as";
  const percent = (100 * (value - before)) / before;
  return `${percent >= 0 ? "+" : "−"}${Math.abs(percent).toFixed(1)} % compared with`;
}

// A value as text. Texts of senders never look like other, and empty text is visible.
function valueText(value) {
  if (value === null) return OTHER;
  return value === "" ? '""' : value.replace(/^'*\(other\)$/, "'$&");
}

// Rows as a grid: a line for each bucket, a column for each group, in the order of the API.
function grid(rows, by) {
  const buckets = new Map();
  const names = new Map(); // group name -> whether it is other
  for (const row of rows) {
    const name = by.map((dimension) => valueText(row[dimension])).join(" · ") || ALL;
    names.set(name, by.some((dimension) => row[dimension] === null));
    if (!buckets.has(row.start)) buckets.set(row.start, new Map());
    buckets.get(row.start).set(name, row);
  }
  return { buckets, names: [...names.keys()], isOther: (name) => names.get(name) };
}

function overTime({ query, rows, totals }, measure, by) {
  const { buckets, names, isOther } = grid(rows, by);
  const starts = [...buckets.keys()];
  const value = (start, name) => (buckets.get(start).has(name) ? measure.of(buckets.get(start).get(name)) : 0);
  const sum = (values) => values.reduce((all, one) => all + one, 0);
  const compared = measure.before(totals) !== undefined;
  const partial = starts.map((start) => [...buckets.get(start).values()].some(({ complete }) => !complete));
  const previousFigures = (start) => [...buckets.get(start).values()].map(measure.before).filter((figure) => figure !== null);
  const before = starts.map((start) => (previousFigures(start).length ? sum(previousFigures(start)) : null));
  const format = (figure) => (figure === null ? "–" : measure.format(figure));
  const title = `${measure.name} by ${query.interval.replace(/^15/, "15 ")}${by.length ? ` and ${by.join(", ")}` : ""}`;
  const chart = timeChart({
    title, format, partial, labels: starts.map((start) => bucketLabel(start, query.interval)), previous: compared ? before : null,
    series: names.map((name) => ({ name, isOther: isOther(name), values: starts.map((start) => value(start, name)) })),
  });
  const hasGroups = names.length > 1;
  const columns = [{ name: "From", row: true }, ...(hasGroups ? names : []).map((name) => ({ name, number: true })), { name: hasGroups ? "All" : measure.name, number: true }];
  const all = starts.map((start) => sum(names.map((name) => value(start, name))));
  const lines = starts.map((start, index) => [timeText(start) + (partial[index] ? PARTIAL : ""), ...(hasGroups ? names.map((name) => measure.format(value(start, name))) : []), measure.format(all[index])]);
  const footer = ["Sum", ...(hasGroups ? names.map((name) => measure.format(sum(starts.map((start) => value(start, name))))) : []), measure.format(measure.of(totals))];
  if (compared) {
    columns.push({ name: "Previous period", number: true });
    lines.forEach((line, index) => line.push(format(before[index])));
    footer.push(measure.format(measure.before(totals)));
  }
  return [chart, table(`${title}, ${query.timeZone}`, columns, lines, footer)];
}

function whole({ rows, totals }, measure, by) {
  const compared = measure.before(totals) !== undefined;
  const lines = rows.map((row) => ({
    names: by.length ? by.map((dimension) => valueText(row[dimension])) : [ALL],
    value: measure.of(row), text: measure.format(measure.of(row)),
    more: compared ? [measure.format(measure.before(row) ?? 0)] : [],
  }));
  return bars(`${measure.name}${by.length ? ` by ${by.join(", ")}` : ""}`, by.length ? by : [""], lines, measure.name, compared ? ["Previous period"] : []);
}

// Each dimension of each source, over all buckets.
function audience({ rows, totals }) {
  const compared = totals.previousEvents !== undefined;
  const cards = new Map();
  for (const row of rows) {
    for (const [dimension, title] of Object.entries(TITLES)) {
      if (!row[dimension]) continue;
      const cardTitle = `${row.source[0].toUpperCase()}${row.source.slice(1)}: ${title.toLowerCase()}`;
      if (!cards.has(cardTitle)) cards.set(cardTitle, { dimension, values: new Map() });
      const { values } = cards.get(cardTitle);
      for (const { value: first, second, events, previous } of row[dimension]) {
        const value = second === undefined ? first : `${first}, ${second}`; // a pair
        const sums = values.get(value) ?? { events: 0, previous: 0 };
        values.set(value, { events: sums.events + events, previous: sums.previous + (previous ?? 0) });
      }
    }
  }
  const tables = [...cards.entries()].filter(([, { values }]) => values.size).map(([cardTitle, { dimension, values }]) => bars(cardTitle, ["Value"],
    sorted(dimension, [...values]).map(([value, { events, previous }]) => ({ names: [valueText(value)], value: events, text: count(events), more: compared ? [count(previous)] : [] })),
    "Events", compared ? ["Previous"] : []));
  return element("div", { class: "cards" }, ...tables);
}

// In the order of the API, over all buckets: numbers and bands in their own order, others by events, other last.
function sorted(dimension, values) {
  const order = ORDERED.includes(dimension) ? ([one], [two]) => parseInt(one, 10) - parseInt(two, 10) : ([, one], [, two]) => two.events - one.events;
  return values.sort((one, two) => (one[0] === null) - (two[0] === null) || order(one, two));
}
