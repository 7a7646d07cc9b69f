// Shows one report: a chart, and below it the table with every figure.
import { timeChart } from "./chart.js";
import { amount, count, element } from "./element.js";
import { full, label, wallOf } from "./moment.js";
import { bars, table } from "./table.js";

const OTHER = "(other)";
const ALL = "all";
const PART = " · part"; // of its bucket: the range cuts it, or it is not over
const MEASURES = {
  events: { name: "Events", of: ({ events }) => events, before: ({ previousEvents }) => previousEvents, say: count },
  revenue: { name: "Revenue", of: (row) => Number(row.revenue), before: ({ previousRevenue }) => (previousRevenue === undefined || previousRevenue === null ? previousRevenue : Number(previousRevenue)), say: amount },
};
MEASURES.demographics = MEASURES.events;
const TITLES = { age: "Age", ageBand: "Age band", gender: "Gender", country: "Country", city: "City", followers: "Followers", device: "Device" };
const ORDERED = ["age", "ageBand", "followers"];

export function show(report, answer) {
  const measure = MEASURES[report];
  const shown = [headline(report, answer, measure), ...(answer.notes ?? []).map((note) => element("p", { class: "note" }, note))];
  if (!answer.totals.events && !answer.totals.purchases) {
    shown.push(element("p", { class: "empty" }, "Nothing was stored of this range."));
  }
  const by = report === "demographics" ? ["source"] : answer.query.groupBy;
  if (answer.query.interval) shown.push(...overTime(answer, measure, by));
  else if (report !== "demographics") shown.push(whole(answer, measure, by));
  if (report === "demographics") shown.push(audience(answer));
  return shown;
}

function headline(report, { query, totals, freshness }, measure) {
  const value = measure.of(totals);
  const before = measure.before(totals);
  const parts = [element("strong", { id: "total" }, measure.say(value)), ` ${report === "revenue" ? `from ${count(totals.purchases)} purchases` : "events"}`];
  const late = Object.values(freshness).map(({ storedUntil }) => storedUntil).filter(Boolean).sort()[0];
  const there = (instant) => full(wallOf(Date.parse(instant), query.timeZone));
  if (before !== undefined) parts.push(element("span", { class: "note" }, ` ${compared(query.compare, there, value, before)} (${measure.say(before)})`));
  const range = `${there(query.from)} to ${there(query.to)} · ${query.timeZone}`;
  return element("p", { class: "headline" }, ...parts, element("span", { class: "note" }, `${range}${late ? ` · complete up to ${there(late)}` : ""}`));
}

// The period before counts as far as this one has come.
function compared({ from, to, countedUntil }, there, value, before) {
  if (countedUntil === from) return "nothing to compare with yet";
  return `${change(value, before)} ${there(from)} to ${there(countedUntil)}${countedUntil === to ? "" : ", the same part of the period before"}`;
}

function change(value, before) {
  if (!before) return value ? "up from nothing in" : "as in";
  const percent = (100 * (value - before)) / before;
  return `${percent >= 0 ? "+" : "−"}${Math.abs(percent).toFixed(1)} % against`;
}

// A value as text: no sender's own one looks like other, or like nothing.
function named(value) {
  if (value === null) return OTHER;
  return value === "" ? '""' : value.replace(/^'*\(other\)$/, "'$&");
}

// Rows as a grid: a line for each bucket, a column for each group, in the API's own order.
function grid(rows, by) {
  const buckets = new Map();
  const names = new Map(); // and whether it is the rest
  for (const row of rows) {
    const name = by.map((dimension) => named(row[dimension])).join(" · ") || ALL;
    names.set(name, by.some((dimension) => row[dimension] === null));
    if (!buckets.has(row.start)) buckets.set(row.start, new Map());
    buckets.get(row.start).set(name, row);
  }
  return { buckets, names: [...names.keys()], rest: (name) => names.get(name) };
}

function overTime({ query, rows, totals }, measure, by) {
  const { buckets, names, rest } = grid(rows, by);
  const starts = [...buckets.keys()];
  const value = (start, name) => (buckets.get(start).has(name) ? measure.of(buckets.get(start).get(name)) : 0);
  const sum = (values) => values.reduce((all, one) => all + one, 0);
  const compared = measure.before(totals) !== undefined;
  const part = starts.map((start) => [...buckets.get(start).values()].some(({ complete }) => !complete));
  const known = (start) => [...buckets.get(start).values()].map(measure.before).filter((figure) => figure !== null);
  const before = starts.map((start) => (known(start).length ? sum(known(start)) : null));
  const say = (figure) => (figure === null ? "–" : measure.say(figure));
  const title = `${measure.name} by ${query.interval.replace(/^15/, "15 ")}${by.length ? ` and ${by.join(", ")}` : ""}`;
  const chart = timeChart({
    title, say, part, labels: starts.map((start) => label(start, query.interval)), previous: compared ? before : null,
    series: names.map((name) => ({ name, rest: rest(name), values: starts.map((start) => value(start, name)) })),
  });
  const several = names.length > 1;
  const columns = [{ name: "From", row: true }, ...(several ? names : []).map((name) => ({ name, number: true })), { name: several ? "All" : measure.name, number: true }];
  const all = starts.map((start) => sum(names.map((name) => value(start, name))));
  const lines = starts.map((start, place) => [full(start) + (part[place] ? PART : ""), ...(several ? names.map((name) => measure.say(value(start, name))) : []), measure.say(all[place])]);
  const last = ["Sum", ...(several ? names.map((name) => measure.say(sum(starts.map((start) => value(start, name))))) : []), measure.say(measure.of(totals))];
  if (compared) {
    columns.push({ name: "The period before", number: true });
    lines.forEach((line, place) => line.push(say(before[place])));
    last.push(measure.say(measure.before(totals)));
  }
  return [chart, table(`${title}, ${query.timeZone}`, columns, lines, last)];
}

function whole({ rows, totals }, measure, by) {
  const compared = measure.before(totals) !== undefined;
  const lines = rows.map((row) => ({
    names: by.length ? by.map((dimension) => named(row[dimension])) : [ALL],
    value: measure.of(row), text: measure.say(measure.of(row)),
    more: compared ? [measure.say(measure.before(row) ?? 0)] : [],
  }));
  return bars(`${measure.name}${by.length ? ` by ${by.join(", ")}` : ""}`, by.length ? by : [""], lines, measure.name, compared ? ["The period before"] : []);
}

// Each dimension of each source, over all buckets.
function audience({ rows, totals }) {
  const compared = totals.previousEvents !== undefined;
  const found = new Map();
  for (const row of rows) {
    for (const [dimension, title] of Object.entries(TITLES)) {
      if (!row[dimension]) continue;
      const place = `${row.source[0].toUpperCase()}${row.source.slice(1)}: ${title.toLowerCase()}`;
      if (!found.has(place)) found.set(place, { dimension, values: new Map() });
      const { values } = found.get(place);
      for (const { value, events, previous } of row[dimension]) {
        const held = values.get(value) ?? { events: 0, previous: 0 };
        values.set(value, { events: held.events + events, previous: held.previous + (previous ?? 0) });
      }
    }
  }
  const cards = [...found.entries()].filter(([, { values }]) => values.size).map(([place, { dimension, values }]) => bars(place, ["Value"],
    sorted(dimension, [...values]).map(([value, { events, previous }]) => ({ names: [named(value)], value: events, text: count(events), more: compared ? [count(previous)] : [] })),
    "Events", compared ? ["Before"] : []));
  return element("div", { class: "cards" }, ...cards);
}

// As the API has them, over all buckets: numbers and bands in their own order, the rest by events, other at the end.
function sorted(dimension, values) {
  const order = ORDERED.includes(dimension) ? ([one], [two]) => parseInt(one, 10) - parseInt(two, 10) : ([, one], [, two]) => two.events - one.events;
  return values.sort((one, two) => (one[0] === null) - (two[0] === null) || order(one, two));
}
