// The form controls and the page's address, which holds the whole view so that users can share it.
// The parameters of each report and their values come from the OpenAPI document.
import { COLOURS } from "./chart.js";
import { element } from "./element.js";
import { apiTime, defaultInterval, isZone, localTimeOf, recentRange } from "./time.js";

const DEFAULT_RANGE = "24h";
const DEFAULT_GROUPS = { events: "source", revenue: "source", demographics: "ageBand,gender,country,followers,device" };
const FIELDS = ["from", "to", "timeZone", "interval", "source", "funnelStage", "eventType", "campaignId", "compare"];

const form = document.getElementById("controls");
const field = (name) => form.elements.namedItem(name);
let parameters = {};

export async function loadParameters() {
  const answer = await fetch("/openapi.json");
  if (!answer.ok) throw new Error(`${answer.status} ${answer.statusText}`);
  const { paths, components } = await answer.json();
  const resolved = (schema) => (schema.$ref ? components.schemas[schema.$ref.split("/").at(-1)] : schema);
  for (const [path, { get }] of Object.entries(paths)) {
    const values = Object.fromEntries((get.parameters ?? []).map(({ name, schema }) => [name, resolved(schema.items ?? schema).enum ?? []]));
    const report = /^\/v1\/reports\/(\w+)$/.exec(path)?.[1];
    if (report) parameters[report] = values;
  }
  for (const name of ["interval", "source", "funnelStage", "eventType"]) {
    const values = Object.values(parameters).find((report) => name in report)?.[name] ?? [];
    field(name).append(...values.map((value) => element("option", { value }, value.replace(/^15/, "15 "))));
  }
  const zones = ["UTC", ...Intl.supportedValuesOf("timeZone")];
  document.getElementById("zones").append(...zones.map((value) => element("option", { value })));
}

// The view in the page's address, with defaults for parameters that the address leaves out.
export function viewOfAddress() {
  const address = new URLSearchParams(location.search);
  const report = address.get("report") in DEFAULT_GROUPS ? address.get("report") : "events";
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
  showGroups(report, address.get("groupBy") ?? DEFAULT_GROUPS[report]);
  field("timeZone").value = address.get("timeZone") ?? "";
  field("campaignId").value = address.get("campaignId") ?? "";
  for (const name of ["range", "interval", "source", "funnelStage", "eventType"]) {
    const value = address.get(name) ?? "";
    field(name).value = value;
    // Request unknown values too: the problem document then lists the allowed ones.
    if (field(name).value !== value) field(name).append(element("option", { value, selected: true }, value));
  }
  field("compare").checked = address.get("compare") === "previous";
  for (const name of ["from", "to"]) field(name).dataset.given = address.get(name) ?? "";
  showBounds();
  showControls();
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

function showGroups(report, groupBy) {
  const values = new Set([...(parameters[report]?.groupBy ?? []), ...groupBy.split(",").filter(Boolean)]);
  const boxes = [...values].map((value) => element("label", { class: "check" },
    element("input", { type: "checkbox", name: "groupBy", value, checked: groupBy.split(",").includes(value) }), ` ${value}`));
  const fieldset = form.querySelector('[data-for="groupBy"]');
  fieldset.replaceChildren(fieldset.querySelector("legend"), ...boxes);
}

// Show the controls of the report's parameters, and from and to only without a preset range.
function showControls() {
  const accepted = parameters[field("report").value] ?? {};
  const custom = field("range").value === "";
  for (const group of form.querySelectorAll("[data-for]")) {
    const name = group.dataset.for;
    group.hidden = name === "from" || name === "to" ? !custom : name !== "range" && !(name in accepted);
  }
}

// The view in the controls, as parameters of the address.
function viewOfControls() {
  const report = field("report").value;
  const params = new URLSearchParams({ report });
  if (field("range").value) params.set("range", field("range").value);
  for (const name of FIELDS) {
    const control = field(name);
    const group = control.closest("[data-for]");
    if (group.hidden) continue;
    const value = control.type === "checkbox" ? (control.checked ? control.value : "") : control.dataset.given || control.value;
    if (value.trim()) params.set(name, value.trim());
  }
  const grouped = [...form.querySelectorAll('[name="groupBy"]:checked')].map(({ value }) => value).join(",");
  if (grouped !== DEFAULT_GROUPS[report]) params.set("groupBy", grouped);
  return params;
}

// The API request of a view: {report, query, moving}; moving: the range ends now.
export function query(params = viewOfControls()) {
  const report = params.get("report");
  const zone = params.get("timeZone") ?? "UTC";
  const range = params.get("range");
  const [from, to] = range ? recentRange(range, isZone(zone) ? zone : "UTC") : [params.get("from") ?? "", params.get("to") ?? ""];
  const search = new URLSearchParams({ from: apiTime(from, zone), to: apiTime(to, zone), timeZone: zone });
  const interval = params.get("interval") ?? (report === "demographics" ? "none" : defaultInterval(search.get("from"), search.get("to")));
  if (interval !== "none") search.set("interval", interval);
  for (const name of ["source", "funnelStage", "eventType", "campaignId", "compare"]) {
    if (params.has(name)) search.set(name, params.get(name));
  }
  const grouped = params.get("groupBy") ?? DEFAULT_GROUPS[report];
  if (grouped) search.set("groupBy", grouped);
  if (grouped.split(",").includes("campaignId")) search.set("top", COLOURS - 1); // plus other
  return { report, query: search, moving: Boolean(range) };
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
    history.pushState(null, "", `?${viewOfControls()}`);
    changed();
  };
  form.addEventListener("change", ({ target }) => {
    if (target.name === "report") {
      showGroups(target.value, DEFAULT_GROUPS[target.value]);
      field("interval").value = "";
    }
    if (target.name === "range" && target.value === "" && !field("from").value) {
      [field("from").value, field("to").value] = recentRange(DEFAULT_RANGE, isZone(field("timeZone").value) ? field("timeZone").value : "UTC");
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
