// The pipeline's state, asked for every two seconds while the page is seen. Only what changes in kind is read aloud.
import { sparkline } from "./chart.js";
import { count, element, rate } from "./element.js";
import { table } from "./table.js";

const EVERY = 2000;
const KEPT = 90; // three minutes
const BEHIND = 30; // seconds: MAX_LAG_SECONDS of core/state.py
const SILENT = 10; // seconds without an answer
const MANY = 10_000;

const accepted = [];
const stored = [];

const sum = (sources, figure) => Object.values(sources).reduce((all, source) => all + figure(source), 0);
const many = (value) => (value >= MANY ? `${count(MANY)}+` : count(value));
const seconds = (value) => (value === null ? "–" : value < 10 ? `${value.toFixed(1)} s` : duration(value));

function duration(value) {
  if (value < 120) return `${Math.round(value)} s`;
  return value < 7200 ? `${Math.round(value / 60)} min` : `${Math.round(value / 3600)} h`;
}

function tile(name, value, note, { line, kind } = {}) {
  const shown = [element("dt", {}, name), element("dd", { class: "value" }, value), element("dd", { class: "note" }, note)];
  if (line) shown.push(element("dd", { class: "line" }, line));
  return element("div", { class: kind, "data-tile": name }, ...shown);
}

// The reporter judges; the first problem is the worst.
function headline(level, problems) {
  if (level === "good") return "All is well: stored within seconds, nothing lost";
  const [first, ...more] = problems;
  return more.length ? `${first.title} (and ${more.length} more)` : first.title;
}

// What is out of date is greyed, and its age is shown beside it.
let readAt = null;
function showAge(stale) {
  document.getElementById("tiles").classList.toggle("stale", stale !== null);
  const place = document.getElementById("age");
  place.hidden = stale === null;
  if (stale !== null) place.textContent = `These figures are ${duration(Math.max(0, (Date.now() - stale) / 1000))} old.`;
}

// The oldest figure of a source that a collector does not report any more; null where there is none.
function oldest(sources, problems) {
  const silent = problems.filter(({ check }) => check === "collectors").map(({ part }) => sources[part]?.freshness.observedAt);
  const since = silent.filter(Boolean).map((moment) => Date.parse(moment));
  return since.length ? Math.min(...since) : null;
}

function show({ sources, rejected, rejectedPerSecond, dead, level, problems, stale, readAt: at }) {
  accepted.push(sum(sources, ({ acceptedPerSecond }) => acceptedPerSecond));
  stored.push(sum(sources, ({ storedPerSecond }) => storedPerSecond));
  for (const kept of [accepted, stored]) kept.splice(0, kept.length - KEPT);
  const behind = Object.values(sources).map(({ freshness }) => freshness.behindSeconds);
  const most = behind.includes(null) ? null : Math.max(...behind);
  const pending = sum(sources, ({ freshness }) => freshness.pendingMessages ?? 0);
  const lost = sum(sources, ({ ledger }) => ledger.lost);
  const messages = sum(sources, ({ ledger }) => ledger.messages);
  document.getElementById("tiles").replaceChildren(
    tile("Accepted", `${rate(accepted.at(-1))}/s`, "events at the door", { line: sparkline(accepted) }),
    tile("Stored", `${rate(stored.at(-1))}/s`, `${count(sum(sources, ({ eventsStored }) => eventsStored))} in all`, { line: sparkline(stored) }),
    tile("Lag", seconds(most), pending === 1 ? "1 message waits" : `${count(pending)} messages wait`, { kind: most > BEHIND ? "bad" : "" }),
    tile("Rejected", many(rejected), `in 24 hours · ${rate(rejectedPerSecond)}/s`),
    tile("Dead", many(dead), "in 24 hours", { kind: dead ? "warn" : "" }),
    tile("Ledger", lost ? `${count(lost)} lost` : "balances", `of ${count(messages)} messages`, { kind: lost ? "bad" : "good" }));
  const detail = document.getElementById("by-source");
  if (!detail.contains(document.activeElement)) detail.replaceChildren(sourceTable(sources)); // nobody is scrolling it
  const list = document.getElementById("problems");
  list.replaceChildren(...problems.map(({ text, level: kind }) => element("li", { class: kind }, text)));
  list.hidden = !problems.length;
  // By the reporter's clock: the visitor's may be wrong.
  const skew = Date.now() - Date.parse(at);
  readAt = Date.now();
  showAge(stale ? (oldest(sources, problems) ?? Date.parse(at)) + skew : null);
  state(level, headline(level, problems));
}

function sourceTable(sources) {
  const names = ["Accepted /s", "Stored /s", "Behind", "Waiting", "Stored in all", "Messages", "= Receipts", "+ Waiting", "+ Lost", "Events", "= Stored", "+ Repeated", "+ Dead"];
  const rows = Object.entries(sources).map(([source, { ledger, freshness, ...of }]) => [
    source, rate(of.acceptedPerSecond), rate(of.storedPerSecond), seconds(freshness.behindSeconds),
    count(freshness.pendingMessages ?? 0), count(of.eventsStored),
    ...["messages", "receipts", "waiting", "lost", "events", "stored", "repeated", "dead"].map((figure) => count(ledger[figure])),
  ]);
  const caption = "By source; from Messages on: the ledger of the newest messages";
  return table(caption, [{ name: "Source", row: true }, ...names.map((name) => ({ name, number: true }))], rows);
}

// Set only where it changes: a screen reader is not to be interrupted every two seconds.
function state(kind, text) {
  const place = document.getElementById("state");
  if (place.textContent === text) return;
  place.textContent = text;
  place.className = `state ${kind}`;
}

function outdated(why) {
  state("bad", why);
  if (readAt !== null) showAge(readAt);
}

async function ask() {
  try {
    const answer = await fetch("/pipeline", { headers: { Accept: "application/json" }, signal: AbortSignal.timeout(SILENT * 1000) });
    const told = await answer.json();
    if (answer.ok) show(told);
    else outdated(`${told.title}: ${told.detail}`);
  } catch {
    outdated("The reporter does not answer; asking again");
  }
}

export async function watch() {
  if (!document.hidden) await ask();
  setTimeout(watch, EVERY);
}
