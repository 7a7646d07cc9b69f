// State of the pipeline, polled every two seconds while the page is visible. Screen readers announce only a new headline.
import { sparkline } from "./chart.js";
import { count, element, rate } from "./element.js";
import { table } from "./table.js";
import { sourceText } from "./words.js";

const POLL_MS = 2000;
const MAX_SAMPLES = 90; // three minutes
const MAX_LAG_SECONDS = 30; // as in core/state.py
const TIMEOUT_SECONDS = 10;
const MAX_COUNT = 10_000; // the API counts rejected and dead events up to this

const accepted = [];
const stored = [];

const sum = (sources, figure) => Object.values(sources).reduce((all, source) => all + figure(source), 0);
const countText = (value) => (value >= MAX_COUNT ? `${count(MAX_COUNT)}+` : count(value));
const seconds = (value) => (value === null ? "–" : value < 10 ? `${value.toFixed(1)} s` : duration(value));

function duration(value) {
  if (value < 120) return `${Math.round(value)} s`;
  return value < 7200 ? `${Math.round(value / 60)} min` : `${Math.round(value / 3600)} h`;
}

function tile(name, value, note, { line, level } = {}) {
  const parts = [element("dt", {}, name), element("dd", { class: "value" }, value), element("dd", { class: "note" }, note)];
  if (line) parts.push(element("dd", { class: "line" }, line));
  return element("div", { class: level, "data-tile": name }, ...parts);
}

// The reporter computes level and problems; the first problem is the worst.
function headline(level, problems) {
  if (level === "good") return "All is well: stored within seconds, nothing lost";
  const [first, ...more] = problems;
  return more.length ? `${first.title} (and ${more.length} more)` : first.title;
}

// Figures that are out of date are greyed, and their age is shown.
let readAt = null;
function showAge(stale) {
  for (const id of ["tiles", "figures"]) document.getElementById(id).classList.toggle("stale", stale !== null);
  const node = document.getElementById("age");
  node.hidden = stale === null;
  if (stale !== null) node.textContent = `These figures are ${duration(Math.max(0, (Date.now() - stale) / 1000))} old.`;
}

// The oldest figure of a source whose collector no longer reports; null if all report.
function oldest(sources, problems) {
  const silent = problems.filter(({ check }) => check === "collectors").map(({ part }) => sources[part]?.freshness.observedAt);
  const since = silent.filter(Boolean).map((moment) => Date.parse(moment));
  return since.length ? Math.min(...since) : null;
}

function show({ sources, rejected, rejectedPerSecond, dead, level, problems, stale, readAt: at }) {
  accepted.push(sum(sources, ({ acceptedPerSecond }) => acceptedPerSecond));
  stored.push(sum(sources, ({ storedPerSecond }) => storedPerSecond));
  for (const samples of [accepted, stored]) samples.splice(0, samples.length - MAX_SAMPLES);
  const behind = Object.values(sources).map(({ freshness }) => freshness.behindSeconds);
  const lag = behind.includes(null) ? null : Math.max(...behind);
  const pending = sum(sources, ({ freshness }) => freshness.pendingMessages ?? 0);
  const lost = sum(sources, ({ ledger }) => ledger.lost);
  const messages = sum(sources, ({ ledger }) => ledger.messages);
  document.getElementById("tiles").replaceChildren(
    tile("Accepted", `${rate(accepted.at(-1))}/s`, "events at the gateway", { line: sparkline(accepted) }),
    tile("Stored", `${rate(stored.at(-1))}/s`, `${count(sum(sources, ({ eventsStored }) => eventsStored))} in total`, { line: sparkline(stored) }),
    tile("Lag", seconds(lag), pending === 1 ? "1 message waiting" : `${count(pending)} messages waiting`, { level: lag > MAX_LAG_SECONDS ? "bad" : "" }),
    tile("Rejected", countText(rejected), `in 24 hours · ${rate(rejectedPerSecond)}/s`),
    tile("Dead", countText(dead), "in 24 hours", { level: dead ? "warn" : "" }),
    tile("Ledger", lost ? `${count(lost)} lost` : "balances", `of ${count(messages)} messages`, { level: lost ? "bad" : "good" }));
  const figures = [`${rate(accepted.at(-1))} events/s accepted`, `${seconds(lag)} lag`, ...(rejected ? [`${countText(rejected)} rejected`] : []), ...(dead ? [`${countText(dead)} dead`] : [])];
  document.getElementById("figures").textContent = figures.join(" · ");
  const detail = document.getElementById("by-source");
  if (!detail.contains(document.activeElement)) detail.replaceChildren(sourceTable(sources)); // not while the user is in it
  const list = document.getElementById("problems");
  list.replaceChildren(...problems.map(({ text, level: problemLevel }) => element("li", { class: problemLevel }, text)));
  list.hidden = !problems.length;
  // Ages use the reporter's clock, because the visitor's may be wrong.
  const skew = Date.now() - Date.parse(at);
  readAt = Date.now();
  showAge(stale ? (oldest(sources, problems) ?? Date.parse(at)) + skew : null);
  state(level, headline(level, problems));
}

function sourceTable(sources) {
  const names = ["Accepted /s", "Stored /s", "Lag", "Waiting", "Total stored", "Messages", "= Receipts", "+ Waiting", "+ Lost", "Events", "= Stored", "+ Repeated", "+ Dead"];
  const rows = Object.entries(sources).map(([source, { ledger, freshness, ...of }]) => [
    sourceText(source), rate(of.acceptedPerSecond), rate(of.storedPerSecond), seconds(freshness.behindSeconds),
    count(freshness.pendingMessages ?? 0), count(of.eventsStored),
    ...["messages", "receipts", "waiting", "lost", "events", "stored", "repeated", "dead"].map((figure) => count(ledger[figure])),
  ]);
  const caption = "By source. The columns from Messages on are the ledger of the newest messages.";
  return table(caption, [{ name: "Source", row: true }, ...names.map((name) => ({ name, number: true }))], rows);
}

// Set only if it changes, because a screen reader would announce it every two seconds.
function state(level, text) {
  const node = document.getElementById("state");
  if (node.textContent === text) return;
  node.textContent = text;
  node.className = `state ${level}`;
}

function showOutdated(reason) {
  state("bad", reason);
  if (readAt !== null) showAge(readAt);
}

async function poll() {
  try {
    const answer = await fetch("/pipeline", { headers: { Accept: "application/json" }, signal: AbortSignal.timeout(TIMEOUT_SECONDS * 1000) });
    const body = await answer.json();
    if (answer.ok) show(body);
    else showOutdated(`${body.title}: ${body.detail}`);
  } catch {
    showOutdated("The reporter does not answer; retrying");
  }
}

export async function watch() {
  if (!document.hidden) await poll();
  setTimeout(watch, POLL_MS);
}
