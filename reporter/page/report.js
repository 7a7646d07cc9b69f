// Renders one report. Events and revenue have a chart, and below it a table with all figures.
import { timeChart } from "./chart.js";
import { amount, count, element } from "./element.js";
import { funnels } from "./funnel.js";
import { campaignLines, cityLines, cityTotals, ranking } from "./ranking.js";
import { bars, table } from "./table.js";
import { bucketLabel, localTimeOf, timeText } from "./time.js";
import { groupText, intervalText, nameText, sourceText, valueText } from "./words.js";

const ALL = "all";
const PARTIAL = " · partial"; // the range cuts the bucket, or it has not ended
const MEASURES = {
  events: { name: "Events", of: ({ events }) => events, before: ({ previousEvents }) => previousEvents, format: count },
  revenue: { name: "Revenue", of: (row) => Number(row.revenue), before: ({ previousRevenue }) => (previousRevenue === undefined || previousRevenue === null ? previousRevenue : Number(previousRevenue)), format: amount },
};
MEASURES.funnel = { ...MEASURES.events, of: (totals) => sumOfFirst(totals, "events"), before: (totals) => (totals[0]?.previousEvents === undefined ? undefined : sumOfFirst(totals, "previousEvents")) };
MEASURES.campaigns = MEASURES.revenue;
MEASURES.cities = MEASURES.demographics = MEASURES.events;
const ORDERED = ["age", "ageBand", "followers"];
const INEXACT = "Rare values of some quarter-hours were counted together. Each figure that may be off has its largest possible error after ±.";

const sumOfFirst = (totals, figure) => totals.filter(({ step }) => step === 1).reduce((sum, step) => sum + step[figure], 0);
const isEmpty = (totals) => (Array.isArray(totals) ? totals.every(({ events }) => !events) : !totals.events && !totals.purchases);

export function render(report, answer) {
  const measure = MEASURES[report];
  const notes = [...(answer.notes ?? []), ...(answer.exact === false ? [INEXACT] : [])];
  if (report === "cities") answer.totals = cityTotals(answer);
  const parts = [headline(report, answer, measure), ...notes.map((note) => element("p", { class: "note" }, note))];
  if (isEmpty(answer.totals)) parts.push(element("p", { class: "empty" }, "No events of this range are stored."));
  if (report === "funnel") return [...parts, ...funnels(answer)];
  if (report === "campaigns") return [...parts, ranking(campaignLines(answer))];
  if (report === "cities") return [...parts, ranking(cityLines(answer))];
  const by = report === "demographics" ? ["source"] : answer.query.groupBy;
  if (answer.query.interval) parts.push(...overTime(answer, measure, by));
  else if (report !== "demographics") parts.push(whole(answer, measure, by));
  if (report === "demographics") parts.push(audience(answer));
  return parts;
}

// What the figure of the headline counts.
function unit(report, { purchases, averageOrderValue, conversion }) {
  if (report === "funnel") return "events of first steps";
  if (purchases === undefined) return "events";
  const average = averageOrderValue ? ` · average order ${amount(Number(averageOrderValue))}` : "";
  return `from ${count(purchases)} purchases${average}${typeof conversion === "number" ? ` · conversion ${(100 * conversion).toFixed(2)} %` : ""}`;
}

function headline(report, { query, totals, freshness }, measure) {
  const value = measure.of(totals);
  const before = measure.before(totals);
  const parts = [element("strong", { id: "total" }, measure.format(value)), ` ${unit(report, totals)}`];
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

// Rows as a grid: a line for each bucket, a column for each group, in the order of the API.
function grid(rows, by) {
  const buckets = new Map();
  const names = new Map(); // group name -> whether it is other
  for (const row of rows) {
    const name = by.map((dimension) => groupText(dimension, row[dimension])).join(" · ") || ALL;
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
  const title = `${measure.name} by ${intervalText(query.interval).toLowerCase()}${byText(by, " and ")}`;
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

const byText = (by, before) => (by.length ? `${before}${by.map((name) => nameText(name).toLowerCase()).join(", ")}` : "");

function whole({ rows, totals }, measure, by) {
  const compared = measure.before(totals) !== undefined;
  const lines = rows.map((row) => ({
    names: by.length ? by.map((dimension) => groupText(dimension, row[dimension])) : [ALL],
    value: measure.of(row), text: measure.format(measure.of(row)),
    more: compared ? [measure.format(measure.before(row) ?? 0)] : [],
  }));
  return bars(`${measure.name}${byText(by, " by ")}`, by.length ? by.map(nameText) : ["Group"], lines, measure.name, compared ? ["Previous period"] : []);
}

const jsonName = (dimension) => dimension.replace(/:(.)/g, (_, first) => first.toUpperCase());

// Each dimension of each source, over all buckets.
function audience({ query, rows, totals }) {
  const compared = totals.previousEvents !== undefined;
  const withRevenue = totals.revenue !== undefined;
  const cards = new Map();
  for (const row of rows) {
    for (const dimension of query.groupBy) {
      const shares = row[jsonName(dimension)];
      if (!shares) continue;
      const title = `${sourceText(row.source)}: ${nameText(dimension).toLowerCase()}`;
      if (!cards.has(title)) cards.set(title, { dimension, values: new Map() });
      const { values } = cards.get(title);
      for (const share of shares) {
        const key = JSON.stringify([share.value, share.second]);
        const sums = values.get(key) ?? { value: share.value, text: pairText(share), events: 0, previous: 0, revenue: 0, error: 0 };
        values.set(key, {
          ...sums, events: sums.events + share.events, previous: sums.previous + (share.previous ?? 0),
          revenue: sums.revenue + Number(share.revenue ?? 0), error: sums.error + (share.eventsError ?? 0),
        });
      }
    }
  }
  const line = ({ text, events, previous, revenue, error }) => ({
    names: [text], value: events, text: `${count(events)}${error ? ` ± ${count(error)}` : ""}`,
    more: [...(withRevenue ? [amount(revenue)] : []), ...(compared ? [count(previous)] : [])],
  });
  const more = [...(withRevenue ? ["Revenue"] : []), ...(compared ? ["Previous"] : [])];
  const tables = [...cards].filter(([, { values }]) => values.size).map(([title, { dimension, values }]) =>
    bars(title, ["Value"], sorted(dimension, [...values.values()]).map(line), "Events", more));
  return element("div", { class: more.length ? "cards wide" : "cards" }, ...tables);
}

const pairText = ({ value, second }) => `${valueText(value)}${second === undefined ? "" : ` · ${valueText(second)}`}`;

// In the order of the API, over all buckets: numbers, bands and pairs in their own order, others by events, other last.
function sorted(dimension, values) {
  if (dimension.includes(":")) return values.sort((one, two) => (one.value === null) - (two.value === null));
  const order = ORDERED.includes(dimension) ? (one, two) => parseInt(one.value, 10) - parseInt(two.value, 10) : (one, two) => two.events - one.events;
  return values.sort((one, two) => (one.value === null) - (two.value === null) || order(one, two));
}
