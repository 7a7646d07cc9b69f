// The words of the page for names of the API.
import { sourceOf } from "./facts.js";

const NAMES = {
  source: "Source", funnelStage: "Funnel stage", eventType: "Event type", campaignId: "Campaign",
  age: "Age", ageBand: "Age band", gender: "Gender", country: "Country", city: "City", followers: "Followers", device: "Device",
  groupBy: "Group by", timeZone: "Time zone", compare: "Compare with",
};
const INTERVALS = { minute: "Minute", "15minutes": "15 minutes", hour: "Hour", day: "Day", week: "Week", month: "Month", quarter: "Quarter", year: "Year" };

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

// camelCase as words, for names that the page does not know.
const spaced = (name) => capital(name.replace(/[A-Z]/g, (upper) => ` ${upper.toLowerCase()}`));

// A parameter, a dimension, or a pair of dimensions: "age:gender".
export const nameText = (name) => name.split(":").map((part, index) => (index ? nameText(part).toLowerCase() : NAMES[part] ?? spaced(part))).join(" × ");

export const intervalText = (interval) => INTERVALS[interval] ?? spaced(interval);

export const sourceText = (source) => sourceOf(source)?.title ?? capital(source);

export const eventTypeText = (type) => capital(type.replace(/[._]/g, " "));

// A value of a closed list. Texts of senders, such as campaigns, are never changed.
export function choiceText(name, value) {
  if (name === "source") return sourceText(value);
  if (name === "eventType") return eventTypeText(value);
  if (name === "interval") return intervalText(value);
  return name === "funnelStage" ? capital(value) : value;
}

const OTHER = "(other)";

// A value of a row as text. Texts of senders never look like other, and empty text is visible.
export function valueText(value) {
  if (value === null) return OTHER;
  return value === "" ? '""' : value.replace(/^'*\(other\)$/, "'$&");
}

export const groupText = (dimension, value) => (value === null || dimension === "campaignId" ? valueText(value) : choiceText(dimension, value));
