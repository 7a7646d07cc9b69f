// The dashboard: the pipeline's state, and the report that the page's address asks for.
import { SOON, longer, wait } from "./again.js";
import { addressed, describe, follow, mark, query, read } from "./controls.js";
import { element } from "./element.js";
import { watch } from "./pipeline.js";
import { show } from "./report.js";

const REFRESH = 30_000; // a range that ends now is asked for again
const PATIENCE = 400; // what is quicker is not announced
const SILENT = 120_000; // longer than a report may take
const place = (id) => document.getElementById(id);
let asking = new AbortController();

const addressOf = ({ report, query: wanted }) => `/reports/${report}?${wanted}`;
const get = (address, signal) => fetch(address, {
  headers: { Accept: "application/json" }, signal: AbortSignal.any([signal, AbortSignal.timeout(SILENT)]),
});

// quietly: on the page's own account, and nothing is read aloud. early: a request that is under way, {address, answer,
// control}.
async function ask(quietly = false, early = null) {
  const wanted = query();
  const address = addressOf(wanted);
  asking.abort();
  if (early?.address !== address) {
    early?.control.abort();
    early = null;
  }
  const mine = (asking = early?.control ?? new AbortController());
  place("json").href = address;
  place("csv").href = `/reports/${wanted.report}.csv?${wanted.query}&bom=true`; // without the mark Excel reads no UTF-8
  place("shown").setAttribute("aria-busy", "true");
  let said = quietly ? place("told").textContent : "";
  const slow = setTimeout(() => { if (!quietly) place("told").textContent = "Reading…"; }, PATIENCE);
  let answered = await answerOf(early?.answer ?? get(address, mine.signal));
  for (let pause = SOON; answered.problem?.passing && !mine.signal.aborted; pause = longer(pause)) {
    clearTimeout(slow);
    wrong(answered.problem);
    place("told").textContent = `Asking again in ${pause / 1000} s`;
    await wait(pause, mine.signal);
    if (!mine.signal.aborted) answered = await answerOf(get(address, mine.signal));
  }
  clearTimeout(slow);
  if (mine.signal.aborted) return;
  wrong(answered.problem);
  const { report } = answered;
  if (report) {
    place("shown").replaceChildren(...show(wanted.report, report));
    if (!quietly) said = `${wanted.report}: ${place("total").textContent} in ${report.rows.length} ${report.rows.length === 1 ? "row" : "rows"}`;
  }
  place("told").textContent = said;
  place("shown").setAttribute("aria-busy", "false");
}

// {report} or {problem}. A problem that is `passing` ends by itself.
async function answerOf(asked) {
  try {
    const answer = await asked;
    const body = await answer.json();
    return answer.ok ? { report: body } : { problem: { ...body, passing: answer.status === 503 } };
  } catch (error) {
    return { problem: { title: "The reporter does not answer", detail: String(error.message ?? error), passing: true } };
  }
}

// A problem document: what is wrong, with which parameter, and what is allowed. Nothing: all is well. Figures that are
// shown stay, greyed, while what is wrong may pass.
function wrong(problem) {
  mark(problem?.parameter ?? "");
  place("shown").classList.toggle("stale", Boolean(problem));
  if (!problem) return place("wrong").replaceChildren();
  const parts = [element("h3", {}, problem.title), element("p", {},
    ...(problem.parameter && !problem.detail.startsWith(problem.parameter) ? [element("code", {}, problem.parameter), " "] : []), problem.detail)];
  if (problem.allowed?.length) {
    parts.push(element("p", {}, "Allowed: "), element("ul", { class: "allowed" }, ...problem.allowed.map((value) => element("li", {}, element("code", {}, value)))));
  }
  if (problem.correlationId) parts.push(element("p", { class: "note" }, `Correlation ID ${problem.correlationId}`));
  if (!problem.passing) place("shown").replaceChildren();
  place("wrong").replaceChildren(element("div", { class: "problem" }, ...parts));
}

async function described() {
  for (let pause = SOON; ; pause = longer(pause)) {
    try {
      return await describe();
    } catch (error) {
      wrong({ title: "The description of the API cannot be read; asking again", detail: String(error.message ?? error), passing: true });
      await wait(pause);
    }
  }
}

place("unloaded").remove();
watch();
// The report is asked for beside the description of the API, by what the address says; the controls ask for the same.
const control = new AbortController();
const address = addressOf(query(addressed()));
const early = { address, control, answer: get(address, control.signal) };
early.answer.catch(() => {}); // `ask` says so
place("told").textContent = "Reading…";
await described();
read();
follow(() => ask());
await ask(false, early);
setInterval(() => {
  const busy = place("shown").getAttribute("aria-busy") === "true"; // on a slow line an answer takes longer than this
  if (query().moving && !busy && !document.hidden && !place("shown").contains(document.activeElement)) ask(true);
}, REFRESH);
