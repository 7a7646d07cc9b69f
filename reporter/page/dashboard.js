// The dashboard: the pipeline's state, and the report that the page's address asks for.
import { describe, follow, mark, query, read } from "./controls.js";
import { element } from "./element.js";
import { watch } from "./pipeline.js";
import { show } from "./report.js";

const AGAIN = 30_000; // a range that ends now is asked for again
const SOON = 2000; // what the page cannot do without
const PATIENCE = 400; // what is quicker is not announced
const place = (id) => document.getElementById(id);
let asking = new AbortController();

// quietly: on the page's own account, and nothing is read aloud.
async function ask(quietly = false) {
  asking.abort();
  const mine = (asking = new AbortController());
  const { report, query: wanted } = query();
  const address = `/reports/${report}?${wanted}`;
  place("json").href = address;
  place("csv").href = `/reports/${report}.csv?${wanted}&bom=true`; // without the mark Excel reads no UTF-8
  place("shown").setAttribute("aria-busy", "true");
  let said = quietly ? place("told").textContent : "";
  const slow = setTimeout(() => { if (!quietly) place("told").textContent = "Reading…"; }, PATIENCE);
  try {
    const answer = await fetch(address, { headers: { Accept: "application/json" }, signal: mine.signal });
    const told = await answer.json();
    if (mine.signal.aborted) return;
    if (answer.ok) {
      place("shown").replaceChildren(...show(report, told));
      if (!quietly) said = `${report}: ${place("total").textContent} in ${told.rows.length} ${told.rows.length === 1 ? "row" : "rows"}`;
      wrong();
    } else wrong(told);
  } catch (error) {
    if (mine.signal.aborted) return;
    wrong({ title: "The reporter does not answer", detail: String(error.message ?? error) });
  } finally {
    clearTimeout(slow);
    if (mine === asking) {
      place("told").textContent = said;
      place("shown").setAttribute("aria-busy", "false");
    }
  }
}

// A problem document: what is wrong, with which parameter, and what is allowed. Nothing: all is well.
function wrong(problem) {
  mark(problem?.parameter ?? "");
  if (!problem) return place("wrong").replaceChildren();
  const parts = [element("h3", {}, problem.title), element("p", {},
    ...(problem.parameter && !problem.detail.startsWith(problem.parameter) ? [element("code", {}, problem.parameter), " "] : []), problem.detail)];
  if (problem.allowed?.length) {
    parts.push(element("p", {}, "Allowed: "), element("ul", { class: "allowed" }, ...problem.allowed.map((value) => element("li", {}, element("code", {}, value)))));
  }
  if (problem.correlationId) parts.push(element("p", { class: "note" }, `Correlation ID ${problem.correlationId}`));
  place("shown").replaceChildren();
  place("wrong").replaceChildren(element("div", { class: "problem" }, ...parts));
}

async function described() {
  try {
    await describe();
    return true;
  } catch (error) {
    wrong({ title: "The description of the API cannot be read; asking again", detail: String(error.message ?? error) });
    return false;
  }
}

place("unloaded").remove();
watch();
while (!(await described())) await new Promise((over) => setTimeout(over, SOON));
read();
follow(() => ask());
await ask();
setInterval(() => {
  if (query().moving && !document.hidden && !place("shown").contains(document.activeElement)) ask(true);
}, AGAIN);
