// The dashboard: the state of the pipeline, and the report in the page's address.
import { loadParameters, markInvalid, onChange, query, readAddress, rememberRange, viewOfAddress } from "./controls.js";
import { element } from "./element.js";
import { watch } from "./pipeline.js";
import { render } from "./report.js";
import { FIRST_PAUSE_MS, nextPause, wait } from "./retry.js";
import { nameText } from "./words.js";

const REFRESH_MS = 30_000; // for ranges that are relative to now
const ANNOUNCE_MS = 400; // quicker requests are not announced
const TIMEOUT_MS = 120_000; // longer than any report may take
const byId = (id) => document.getElementById(id);
let current = new AbortController();

const addressOf = ({ report, query: request }) => `/reports/${report}?${request}`;
const get = (address, signal) => fetch(address, {
  headers: { Accept: "application/json" }, signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]),
});

// Request the view's report and show it. quietly: a refresh, which screen readers do not announce. early: a request
// already sent, {address, answer, control}.
async function load(quietly = false, early = null) {
  const request = query();
  const address = addressOf(request);
  current.abort();
  if (early?.address !== address) {
    early?.control.abort();
    early = null;
  }
  const own = (current = early?.control ?? new AbortController());
  byId("json").href = address;
  byId("csv").href = `/reports/${request.report}.csv?${request.query}&bom=true`; // Excel needs the mark to detect UTF-8
  byId("result").setAttribute("aria-busy", "true");
  let message = quietly ? byId("status").textContent : "";
  const slow = setTimeout(() => { if (!quietly) byId("status").textContent = "Loading…"; }, ANNOUNCE_MS);
  let outcome = await outcomeOf(early?.answer ?? get(address, own.signal));
  for (let pause = FIRST_PAUSE_MS; outcome.problem?.temporary && !own.signal.aborted; pause = nextPause(pause)) {
    clearTimeout(slow);
    showProblem(outcome.problem);
    byId("status").textContent = `Retrying in ${pause / 1000} s`;
    await wait(pause, own.signal);
    if (!own.signal.aborted) outcome = await outcomeOf(get(address, own.signal));
  }
  clearTimeout(slow);
  if (own.signal.aborted) return;
  showProblem(outcome.problem);
  const { report } = outcome;
  if (report) {
    rememberRange(report.query);
    byId("result").replaceChildren(...render(request.view, report));
    const rows = byId("result").querySelector(".ranking tbody")?.rows.length ?? report.rows.length;
    if (!quietly) message = `${request.title}: ${byId("total").textContent} in ${rows} ${rows === 1 ? "row" : "rows"}`;
  }
  byId("status").textContent = message;
  byId("result").setAttribute("aria-busy", "false");
}

// {report} or {problem}. A `temporary` problem may end without a change of the query.
async function outcomeOf(pending) {
  try {
    const answer = await pending;
    const body = await answer.json();
    return answer.ok ? { report: body } : { problem: { ...body, temporary: answer.status === 503 } };
  } catch (error) {
    return { problem: { title: "The reporter does not answer", detail: String(error.message ?? error), temporary: true } };
  }
}

// Show a problem document, or none. Figures stay on the page, greyed, while the problem is temporary.
function showProblem(problem) {
  markInvalid(problem?.parameter ?? "");
  byId("result").classList.toggle("stale", Boolean(problem));
  if (!problem) return byId("errors").replaceChildren();
  const parts = [element("h3", {}, problem.title), element("p", {},
    ...(problem.parameter ? [element("strong", {}, `${nameText(problem.parameter)}: `)] : []), problem.detail.replace(`${problem.parameter}: `, ""))];
  if (problem.allowed?.length) {
    parts.push(element("p", {}, "Allowed: "), element("ul", { class: "allowed" }, ...problem.allowed.map((value) => element("li", {}, element("code", {}, value)))));
  }
  if (problem.correlationId) parts.push(element("p", { class: "note" }, `Correlation ID ${problem.correlationId}`));
  if (!problem.temporary) byId("result").replaceChildren();
  byId("errors").replaceChildren(element("div", { class: "problem" }, ...parts));
}

async function loadParametersWithRetry() {
  for (let pause = FIRST_PAUSE_MS; ; pause = nextPause(pause)) {
    try {
      return await loadParameters();
    } catch (error) {
      showProblem({ title: "The API description cannot be loaded; retrying", detail: String(error.message ?? error), temporary: true });
      await wait(pause);
    }
  }
}

byId("load-error").remove();
watch();
// The report is requested in parallel with the API description, by the address; the controls give the same request.
const control = new AbortController();
const address = addressOf(query(viewOfAddress()));
const early = { address, control, answer: get(address, control.signal) };
early.answer.catch(() => {}); // `load` shows the error
byId("status").textContent = "Loading…";
await loadParametersWithRetry();
readAddress();
onChange(() => load());
await load(false, early);
setInterval(() => {
  const busy = byId("result").getAttribute("aria-busy") === "true"; // an answer may take longer than REFRESH_MS
  if (query().moving && !busy && !document.hidden && !byId("result").contains(document.activeElement)) load(true);
}, REFRESH_MS);
