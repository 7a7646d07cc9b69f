// The form controls and the page's address, which holds the whole view so that users can share it.
// A control offers only what the API accepts with the other controls. An address is requested as it is.
import { COLOURS } from "./chart.js";
import { element } from "./element.js";
import { clearExtras, extraPairs, getExtra, readExtras } from "./extras.js";
import { allSources, getLimits, loadFacts, parametersOf } from "./facts.js";
import { apiTime, defaultInterval, hoursBetween, INTERVAL_HOURS, isZone, localTimeOf, rangeHours } from "./time.js";
import { VIEWS } from "./views.js";
import { choiceText, nameText } from "./words.js";

const DEFAULT_RANGE = "24h";
const FIELDS = ["from", "to", "timeZone", "interval", "source", "funnelStage", "eventType", "campaignId", "compare", "metrics"];
const FILTERS = ["source", "funnelStage", "eventType", "campaignId"];
const CAMPAIGN = "campaignId";

const form = document.getElementById("controls");
const field = (name) => form.elements.namedItem(name);
let shown = null; // from and to of the report on the page, as local times

export async function loadParameters() {
  await loadFacts();
  const zones = ["UTC", ...Intl.supportedValuesOf("timeZone")];
  document.getElementById("zones").append(...zones.map((value) => element("option", { value })));
}

// Remember the range of the report on the page: a custom range starts with it.
export function rememberRange({ from, to, timeZone }) {
  shown = [from, to].map((instant) => localTimeOf(Date.parse(instant), timeZone));
}

// The view in the page's address, with defaults for parameters that the address leaves out.
export function viewOfAddress() {
  readExtras();
  const address = new URLSearchParams(location.search);
  const report = Object.hasOwn(VIEWS, address.get("report")) ? address.get("report") : "events";
  const params = new URLSearchParams({ report });
  if (!address.has("from") && !address.has("to")) params.set("range", address.get("range") ?? DEFAULT_RANGE);
  for (const name of FIELDS) {
    const value = name === "timeZone" ? address.get(name) ?? Intl.DateTimeFormat().resolvedOptions().timeZone : address.get(name);
    if (value?.trim()) params.set(name, value.trim());
  }
  if (address.has("groupBy")) params.set("groupBy", address.getAll("groupBy").join(","));
  return params;
}

// Set the controls from the address.
export function readAddress() {
  const address = viewOfAddress();
  const report = address.get("report");
  field("report").value = report;
  for (const name of ["timeZone", CAMPAIGN]) field(name).value = address.get(name) ?? "";
  for (const name of ["range", "interval", "source", "funnelStage", "eventType", "compare"]) {
    const value = address.get(name) ?? "";
    // Request unknown values, too: the problem document then lists the allowed ones.
    if (![...field(name).options].some((option) => option.value === value)) field(name).append(element("option", { value }, choiceText(name, value)));
    field(name).value = value;
  }
  field("metrics").checked = address.has("metrics");
  for (const name of ["from", "to"]) field(name).dataset.given = address.get(name) ?? "";
  showBounds();
  showGroups((address.get("groupBy") ?? VIEWS[report].groups).split(",").filter(Boolean), true);
  showControls(true);
}

// Show the bounds in local time of the zone. The given text is used until the user changes it, because a control shows
// minutes only.
function showBounds() {
  for (const name of ["from", "to"]) {
    const { given } = field(name).dataset;
    if (given) field(name).value = localTime(given, field("timeZone").value);
  }
}

function localTime(text, zone) {
  if (/^\d{4}-\d{2}-\d{2}$/.test(text)) return `${text}T00:00`;
  // Parsed like the API does: a + may have become a space, and an offset may have no colon or no minutes.
  const instant = text.replace(" ", "+").replace(/([+-]\d{2}):?(\d{2})?$/, (_, hours, minutes = "00") => `${hours}:${minutes}`);
  const at = /(Z|[+-]\d{2}:\d{2})$/i.test(instant) ? Date.parse(instant) : NaN;
  if (!Number.isNaN(at) && isZone(zone)) return localTimeOf(at, zone);
  return /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}$/.test(text) ? text : "";
}

const currentView = () => VIEWS[field("report").value];
const accepts = ({ api, fixed = {}, hidden = [] }, name) => name in parametersOf(api) && !(name in fixed) && !hidden.includes(name);
const checkedGroups = () => [...form.querySelectorAll('[name="groupBy"]:checked')].map(({ value }) => value);

// The sources that have what the view needs: campaigns or one of its dimensions.
function possibleSources({ api, fixed = {} }, groups) {
  const by = fixed.groupBy ?? groups.join(",");
  if (by.split(",").includes(CAMPAIGN) || (api === "revenue" && field(CAMPAIGN).value.trim())) return allSources().filter(({ hasCampaigns }) => hasCampaigns);
  if (fixed.groupBy && api === "demographics") return allSources().filter(({ dimensions }) => by in dimensions);
  return allSources();
}

const selected = (name) => allSources().filter((source) => !field(name).value || source.name === field(name).value);

// Replace the options of a select. keep: whether a value that is not among them stays, because the address has it.
function offer(name, values, first, keep) {
  const select = field(name);
  const value = select.value;
  const offered = value && keep && !values.includes(value) ? [...values, value] : values;
  select.replaceChildren(...first.map(([option, text]) => element("option", { value: option }, text)), ...offered.map((option) => element("option", { value: option }, choiceText(name, option))));
  select.value = [...select.options].some((option) => option.value === value) ? value : "";
}

// Show the dimensions that the selected sources have.
function showGroups(checked, keep) {
  const { api, fixed = {} } = currentView();
  const accepted = "groupBy" in fixed ? [] : parametersOf(api).groupBy ?? [];
  const possible = api === "demographics" ? accepted.filter((name) => selected("source").some(({ dimensions }) => name in dimensions)) : accepted;
  const values = [...new Set([...possible, ...(keep ? checked : [])])];
  const boxes = values.map((value) => element("label", { class: "check" },
    element("input", { type: "checkbox", name: "groupBy", value, checked: checked.includes(value) }), ` ${nameText(value)}`));
  const fieldset = form.querySelector('[data-for="groupBy"]');
  const focused = fieldset.contains(document.activeElement) ? document.activeElement.value : null;
  fieldset.replaceChildren(fieldset.querySelector("legend"), ...boxes);
  if (focused !== null) fieldset.querySelector(`[value="${CSS.escape(focused)}"]`)?.focus();
}

// About how many rows each bucket has, as the API counts them.
function rowsOfBucket({ api }, groups) {
  const sources = selected("source");
  const sum = (values) => values.reduce((all, one) => all + one, 0);
  if (api === "demographics") return sum(sources.flatMap(({ dimensions }) => groups.map((name) => dimensions[name] ?? 0)));
  if (api === "funnel") return sum(sources.map(({ funnel }) => funnel.length));
  if (groups.includes(CAMPAIGN)) return COLOURS * (groups.includes("source") ? sources.length : 1);
  return api === "revenue" ? sources.length : sum(sources.flatMap(({ eventTypes }) => Object.values(eventTypes).map((types) => types.length)));
}

// The intervals whose buckets fit the limits of the API.
function possibleIntervals(view, groups) {
  const all = parametersOf(view.api).interval ?? [];
  const hours = field("range").value ? rangeHours(field("range").value) : hoursBetween(field("from").value, field("to").value);
  if (!(hours > 0)) return all;
  const { maxRows, minuteRangeHours } = getLimits();
  const rows = Math.max(1, rowsOfBucket(view, groups));
  return all.filter((name) => (name !== "minute" || hours <= minuteRangeHours) && rows * (hours / INTERVAL_HOURS[name] + 2) <= maxRows);
}

// Show the controls of the report's parameters with the values that go together; from and to only for a custom range.
function showControls(keep = false) {
  const view = currentView();
  const custom = field("range").value === "";
  for (const group of form.querySelectorAll("[data-for]")) {
    const name = group.dataset.for;
    group.hidden = name === "from" || name === "to" ? !custom : name !== "range" && !accepts(view, name);
  }
  const sources = possibleSources(view, checkedGroups());
  offer("source", sources.map(({ name }) => name), [["", sources.length === 1 ? choiceText("source", sources[0].name) : "all"]], keep);
  const onlyOne = sources.length === 1 && allSources().length > 1;
  if (onlyOne && !keep) field("source").value = "";
  if (onlyOne && !field("source").value) field("source").closest("[data-for]").hidden = true;
  if (!keep) showGroups(checkedGroups(), false);
  const matching = selected("source").filter((source) => sources.includes(source));
  offer("funnelStage", [...new Set(matching.flatMap(({ eventTypes }) => Object.keys(eventTypes)))], [["", "all"]], keep);
  const stage = field("funnelStage").value;
  const types = matching.flatMap(({ eventTypes }) => Object.entries(eventTypes).filter(([name]) => !stage || name === stage).flatMap(([, of]) => of));
  offer("eventType", [...new Set(types)], [["", "all"]], keep);
  offer("interval", possibleIntervals(view, checkedGroups()), view.automatic ? [["", "automatic"], ["none", "whole range"]] : [["", "whole range"]], keep);
}

// The view in the controls, as parameters of the address.
function viewOfControls() {
  const report = field("report").value;
  const params = new URLSearchParams({ report });
  if (field("range").value) params.set("range", field("range").value);
  for (const name of FIELDS) {
    const control = field(name);
    if (control.closest("[data-for]").hidden) continue;
    const value = control.type === "checkbox" ? (control.checked ? control.value : "") : control.dataset.given || control.value;
    if (value.trim()) params.set(name, value.trim());
  }
  const grouped = checkedGroups().join(",");
  if (grouped !== VIEWS[report].groups) params.set("groupBy", grouped);
  return params;
}

// The API request of a view: {view, title, report, query, moving}; moving: the range is relative to now.
export function query(params = viewOfControls()) {
  const view = params.get("report");
  const { api, title, fixed = {}, groups, automatic } = VIEWS[view];
  const zone = params.get("timeZone") ?? "UTC";
  const range = params.get("range");
  const search = new URLSearchParams(range ? { range } : { from: apiTime(params.get("from") ?? "", zone), to: apiTime(params.get("to") ?? "", zone) });
  search.set("timeZone", zone);
  const hours = range ? rangeHours(range) : hoursBetween(search.get("from"), search.get("to"));
  const interval = "interval" in fixed || VIEWS[view].hidden?.includes("interval") ? "none" : params.get("interval") ?? (automatic ? defaultInterval(hours) : "none");
  if (interval !== "none") search.set("interval", interval);
  for (const name of [...FILTERS, "compare", "metrics"]) {
    if (params.has(name)) search.set(name, params.get(name));
  }
  const grouped = params.get("groupBy") ?? groups;
  if (grouped) search.set("groupBy", grouped);
  const byCampaign = grouped.split(",").includes(CAMPAIGN);
  if (byCampaign) search.set("top", COLOURS - 1); // plus other
  if (api === "revenue") search.set("metrics", `averageOrderValue${byCampaign || params.has(CAMPAIGN) ? "" : ",conversion"}`);
  if (api === "funnel" && getExtra("steps")) search.set("steps", getExtra("steps"));
  for (const [name, value] of Object.entries(fixed)) search.set(name, value);
  return { view, title, report: api, query: search, moving: Boolean(range) };
}

// Mark the control of a parameter as invalid; "" marks none.
export function markInvalid(parameter) {
  for (const control of form.querySelectorAll("input, select")) {
    if (control.name === parameter) control.setAttribute("aria-invalid", "true");
    else control.removeAttribute("aria-invalid");
  }
}

// Call `changed` when the view changes.
export function onChange(changed) {
  const update = () => {
    history.pushState(null, "", `?${new URLSearchParams([...viewOfControls(), ...extraPairs()])}`);
    changed();
  };
  form.addEventListener("change", ({ target }) => {
    if (target.name === "report") {
      clearExtras();
      field("interval").value = "";
      field("metrics").checked = false;
      showGroups(VIEWS[target.value].groups.split(",").filter(Boolean), true);
    }
    if (target.name === "range" && target.value === "" && !field("from").value && shown) {
      [field("from").value, field("to").value] = shown;
    }
    if (target.dataset.given) target.dataset.given = "";
    if (target.name === "timeZone") showBounds();
    showControls();
    update();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    update();
  });
  addEventListener("popstate", () => {
    readAddress();
    changed();
  });
}
