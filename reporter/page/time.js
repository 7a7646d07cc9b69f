// Local times of a zone. A local time is "2026-11-22T07:00", the value of an input of type datetime-local.

const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;
const MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(" ");
const LOCAL_TIME = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}$/;
const formats = new Map();

export function isZone(zone) {
  try {
    return Boolean(formatOf(zone));
  } catch {
    return false;
  }
}

function formatOf(zone) {
  if (!formats.has(zone)) {
    const parts = { year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit" };
    formats.set(zone, new Intl.DateTimeFormat("en", { timeZone: zone, hourCycle: "h23", ...parts }));
  }
  return formats.get(zone);
}

export function localTimeOf(milliseconds, zone) {
  const parts = Object.fromEntries(formatOf(zone).formatToParts(milliseconds).map(({ type, value }) => [type, value]));
  return `${parts.year}-${parts.month}-${parts.day}T${parts.hour}:${parts.minute}`;
}

// The instant of a local time; the first of two if local time repeats.
export function instantOf(local, zone) {
  const asUtc = Date.parse(`${local}Z`);
  const offset = (at) => Date.parse(`${localTimeOf(at, zone)}Z`) - Math.floor(at / MINUTE) * MINUTE;
  const [before, after] = [asUtc - DAY, asUtc + DAY].map((at) => asUtc - offset(at));
  return localTimeOf(before, zone) === local ? before : after;
}

// The value for the API: a date for midnight, otherwise an instant. Any other text is returned unchanged.
export function apiTime(local, zone) {
  if (!LOCAL_TIME.test(local)) return local;
  if (local.endsWith("T00:00") || !isZone(zone)) return local.slice(0, 10);
  return new Date(instantOf(local, zone)).toISOString().replace(".000Z", "Z");
}

// The length of each interval in hours; of the longer ones, the shortest.
export const INTERVAL_HOURS = { minute: 1 / 60, "15minutes": 1 / 4, hour: 1, day: 24, week: 168, month: 672, quarter: 2160, year: 8760 };
const UNIT_HOURS = { m: 1 / 60, h: 1, d: 24, w: 168 };
const PERIOD_HOURS = { day: 24, week: 168, month: 744, quarter: 2208, year: 8784 };

// The length of a relative range such as 24h, today or last-month; NaN of any other text.
export function rangeHours(range) {
  const [, number, unit] = /^(\d{1,5})([mhdw])$/.exec(range) ?? [];
  if (number) return number * UNIT_HOURS[unit];
  return PERIOD_HOURS[{ today: "day", yesterday: "day" }[range] ?? /^(?:this|last)-(\w+)$/.exec(range)?.[1]] ?? NaN;
}

export function hoursBetween(from, to) {
  const parse = (text) => Date.parse(text.length === 10 ? `${text}T00:00Z` : text);
  return (parse(to) - parse(from)) / 3_600_000;
}

// The interval that gives some dozens of buckets.
export function defaultInterval(hours) {
  if (!(hours > 0)) return "day";
  const intervals = [["minute", 2], ["15minutes", 12], ["hour", 74], ["day", 100 * 24], ["week", 750 * 24]];
  return intervals.find(([, maxHours]) => hours <= maxHours)?.[0] ?? "month";
}

// The label of a bucket. The API returns its start as local time of the zone.
export function bucketLabel(start, interval) {
  const day = `${Number(start.slice(8, 10))} ${MONTHS[start.slice(5, 7) - 1]}`;
  if (interval === "year") return start.slice(0, 4);
  if (interval === "month" || interval === "quarter") return `${MONTHS[start.slice(5, 7) - 1]} ${start.slice(0, 4)}`;
  return interval === "day" || interval === "week" ? day : `${day} ${start.slice(11, 16)}`;
}

export const timeText = (start) => start.slice(0, 16).replace("T", " ");
