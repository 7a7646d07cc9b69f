// The controls, and the page's address: it holds what is shown, so that a view can be shared.
// What each report takes, and from which values, is read from the OpenAPI document.
import { COLOURS } from "./chart.js";
import { element } from "./element.js";
import { asked, fitting, isZone, lately, wallOf } from "./moment.js";

const DEFAULT_RANGE = "24h";
const GROUPED = { events: "source", revenue: "source", demographics: "ageBand,gender,country,followers,device" };
const FIELDS = ["from", "to", "timeZone", "interval", "source", "funnelStage", "eventType", "campaignId", "compare"];

const form = document.getElementById("controls");
const field = (name) => form.elements.namedItem(name);
let parameters = {};

export async function describe() {
  const answer = await fetch("/openapi.json");
  if (!answer.ok) throw new Error(`${answer.status} ${answer.statusText}`);
  const { paths, components } = await answer.json();
  const resolved = (schema) => (schema.$ref ? components.schemas[schema.$ref.split("/").at(-1)] : schema);
  for (const [path, { get }] of Object.entries(paths)) {
    const found = Object.fromEntries((get.parameters ?? []).map(({ name, schema }) => [name, resolved(schema.items ?? schema).enum ?? []]));
    if (/^\/reports\/\w+$/.test(path)) parameters[path.slice("/reports/".length)] = found;
  }
  for (const name of ["interval", "source", "funnelStage", "eventType"]) {
    const values = Object.values(parameters).find((found) => name in found)?.[name] ?? [];
    field(name).append(...values.map((value) => element("option", { value }, value.replace(/^15/, "15 "))));
  }
  const zones = ["UTC", ...Intl.supportedValuesOf("timeZone")];
  document.getElementById("zones").append(...zones.map((value) => element("option", { value })));
}

// The view as the page's address gives it, with what it leaves out.
export function addressed() {
  const given = new URLSearchParams(location.search);
  const report = given.get("report") in GROUPED ? given.get("report") : "events";
  const seen = new URLSearchParams({ report });
  if (!given.has("from") && !given.has("to")) seen.set("range", given.get("range") ?? DEFAULT_RANGE);
  for (const name of FIELDS) {
    const value = name === "timeZone" ? given.get(name) ?? Intl.DateTimeFormat().resolvedOptions().timeZone : given.get(name);
    if (value?.trim()) seen.set(name, value.trim());
  }
  if (given.has("groupBy")) seen.set("groupBy", given.getAll("groupBy").join(","));
  return seen;
}

// From the address into the controls.
export function read() {
  const given = addressed();
  const report = given.get("report");
  field("report").value = report;
  groups(report, given.get("groupBy") ?? GROUPED[report]);
  field("timeZone").value = given.get("timeZone") ?? "";
  field("campaignId").value = given.get("campaignId") ?? "";
  for (const name of ["range", "interval", "source", "funnelStage", "eventType"]) {
    const value = given.get(name) ?? "";
    field(name).value = value;
    // An option that there is not is asked for all the same: the answer then says what is allowed.
    if (field(name).value !== value) field(name).append(element("option", { value, selected: true }, value));
  }
  field("compare").checked = given.get("compare") === "previous";
  for (const name of ["from", "to"]) field(name).dataset.given = given.get(name) ?? "";
  clock();
  arrange();
}

// Show the bounds by the zone's clocks. What was given stays what is asked for until it is changed: a clock shows less.
function clock() {
  for (const name of ["from", "to"]) {
    const { given } = field(name).dataset;
    if (given) field(name).value = wall(given, field("timeZone").value);
  }
}

function wall(text, zone) {
  if (/^\d{4}-\d{2}-\d{2}$/.test(text)) return `${text}T00:00`;
  // As the API reads it: a + may have come as a space, and a zone may lack its colon or its minutes.
  const instant = text.replace(" ", "+").replace(/([+-]\d{2}):?(\d{2})?$/, (_, hours, minutes = "00") => `${hours}:${minutes}`);
  const at = /(Z|[+-]\d{2}:\d{2})$/i.test(instant) ? Date.parse(instant) : NaN;
  if (!Number.isNaN(at) && isZone(zone)) return wallOf(at, zone);
  return /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}$/.test(text) ? text : "";
}

function groups(report, chosen) {
  const values = new Set([...(parameters[report]?.groupBy ?? []), ...chosen.split(",").filter(Boolean)]);
  const boxes = [...values].map((value) => element("label", { class: "check" },
    element("input", { type: "checkbox", name: "groupBy", value, checked: chosen.split(",").includes(value) }), ` ${value}`));
  const place = form.querySelector('[data-for="groupBy"]');
  place.replaceChildren(place.querySelector("legend"), ...boxes);
}

// Show what the report takes, and the range's bounds where they are chosen one by one.
function arrange() {
  const taken = parameters[field("report").value] ?? {};
  const custom = field("range").value === "";
  for (const place of form.querySelectorAll("[data-for]")) {
    const name = place.dataset.for;
    place.hidden = name === "from" || name === "to" ? !custom : name !== "range" && !(name in taken);
  }
}

// The view, as the address holds it.
function view() {
  const report = field("report").value;
  const found = new URLSearchParams({ report });
  if (field("range").value) found.set("range", field("range").value);
  for (const name of FIELDS) {
    const control = field(name);
    const place = control.closest("[data-for]");
    if (place.hidden) continue;
    const value = control.type === "checkbox" ? (control.checked ? control.value : "") : control.dataset.given || control.value;
    if (value.trim()) found.set(name, value.trim());
  }
  const grouped = [...form.querySelectorAll('[name="groupBy"]:checked')].map(({ value }) => value).join(",");
  if (grouped !== GROUPED[report]) found.set("groupBy", grouped);
  return found;
}

// What the view asks of the API: {report, query}.
export function query(seen = view()) {
  const report = seen.get("report");
  const zone = seen.get("timeZone") ?? "UTC";
  const range = seen.get("range");
  const [from, to] = range ? lately(range, isZone(zone) ? zone : "UTC") : [seen.get("from") ?? "", seen.get("to") ?? ""];
  const found = new URLSearchParams({ from: asked(from, zone), to: asked(to, zone), timeZone: zone });
  const interval = seen.get("interval") ?? (report === "demographics" ? "none" : fitting(found.get("from"), found.get("to")));
  if (interval !== "none") found.set("interval", interval);
  for (const name of ["source", "funnelStage", "eventType", "campaignId", "compare"]) {
    if (seen.has(name)) found.set(name, seen.get(name));
  }
  const grouped = seen.get("groupBy") ?? GROUPED[report];
  if (grouped) found.set("groupBy", grouped);
  if (grouped.split(",").includes("campaignId")) found.set("top", COLOURS - 1); // and other
  return { report, query: found, moving: Boolean(range) };
}

// Mark the control of a parameter as wrong; "" marks none.
export function mark(parameter) {
  for (const control of form.querySelectorAll("input, select")) {
    if (control.name === parameter) control.setAttribute("aria-invalid", "true");
    else control.removeAttribute("aria-invalid");
  }
}

// Call `changed` whenever something else is to be shown.
export function follow(changed) {
  const moved = () => {
    history.pushState(null, "", `?${view()}`);
    changed();
  };
  form.addEventListener("change", ({ target }) => {
    if (target.name === "report") {
      groups(target.value, GROUPED[target.value]);
      field("interval").value = "";
    }
    if (target.name === "range" && target.value === "" && !field("from").value) {
      [field("from").value, field("to").value] = lately(DEFAULT_RANGE, isZone(field("timeZone").value) ? field("timeZone").value : "UTC");
    }
    if (target.dataset.given) target.dataset.given = "";
    if (target.name === "timeZone") clock();
    arrange();
    moved();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    moved();
  });
  addEventListener("popstate", () => {
    read();
    changed();
  });
}
