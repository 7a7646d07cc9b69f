// Funnels: for each source the steps with bars and rates, and if there are buckets, the steps over time.
import { count, element } from "./element.js";
import { bars, table } from "./table.js";
import { timeText } from "./time.js";
import { eventTypeText, intervalText, sourceText } from "./words.js";

const percent = (value) => (value === null || value === undefined ? "–" : `${(100 * value).toFixed(2)} %`);

const by = (rows, key) => rows.reduce((groups, row) => groups.set(key(row), [...(groups.get(key(row)) ?? []), row]), new Map());

export function funnels({ query, rows, totals }) {
  const compared = Boolean(query.compare);
  const cards = [...by(totals, ({ source }) => source)].map(([source, steps]) => bars(
    `${sourceText(source)}: funnel`, ["Step"],
    steps.map((step) => ({
      names: [`${step.step}. ${eventTypeText(step.eventType)}`], value: step.events, text: count(step.events),
      more: [step.step === 1 ? "" : percent(step.rate), percent(step.overallRate), ...(compared ? [count(step.previousEvents), percent(step.previousOverallRate)] : [])],
    })),
    "Events", ["Rate", "Overall rate", ...(compared ? ["Previous events", "Previous overall rate"] : [])], { share: false },
  ));
  const parts = [
    element("p", { class: "note" }, "A funnel counts events, not people: one person may have several events of a step. Rate compares a step with the step before, overall rate with the first step. A rate may exceed 100 %."),
    element("div", { class: "funnels" }, ...cards),
  ];
  if (query.interval) parts.push(...[...by(rows, ({ source }) => source)].map(([source, of]) => overTime(query, source, of)));
  return parts;
}

// A line for each bucket, and a column for the events of each step and for the overall rate of the last one.
function overTime(query, source, rows) {
  const buckets = [...by(rows, ({ start }) => start)];
  const steps = buckets[0][1];
  const columns = [{ name: "From", row: true }, ...steps.map(({ eventType }) => ({ name: eventTypeText(eventType), number: true })), { name: "Overall rate", number: true }];
  const lines = buckets.map(([start, of]) => [
    `${timeText(start)}${of.every(({ complete }) => complete) ? "" : " · partial"}`, ...of.map(({ events }) => count(events)), percent(of.at(-1).overallRate),
  ]);
  return table(`${sourceText(source)}: steps by ${intervalText(query.interval).toLowerCase()}, ${query.timeZone}`, columns, lines);
}
