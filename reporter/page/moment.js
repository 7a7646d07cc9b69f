// Times in a chosen zone. A wall time is "2026-11-22T07:00", as an input of type datetime-local has it.

const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;
const MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(" ");
const WALL = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}$/;
const clocks = new Map();

export function isZone(zone) {
  try {
    return Boolean(clockOf(zone));
  } catch {
    return false;
  }
}

function clockOf(zone) {
  if (!clocks.has(zone)) {
    const parts = { year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit" };
    clocks.set(zone, new Intl.DateTimeFormat("en", { timeZone: zone, hourCycle: "h23", ...parts }));
  }
  return clocks.get(zone);
}

export function wallOf(milliseconds, zone) {
  const parts = Object.fromEntries(clockOf(zone).formatToParts(milliseconds).map(({ type, value }) => [type, value]));
  return `${parts.year}-${parts.month}-${parts.day}T${parts.hour}:${parts.minute}`;
}

// The instant of a wall time; where clocks are turned back, the first of two.
export function instantOf(wall, zone) {
  const asUtc = Date.parse(`${wall}Z`);
  const offset = (at) => Date.parse(`${wallOf(at, zone)}Z`) - Math.floor(at / MINUTE) * MINUTE;
  const [before, after] = [asUtc - DAY, asUtc + DAY].map((at) => asUtc - offset(at));
  return wallOf(before, zone) === wall ? before : after;
}

// What the API takes: a date where the wall time is midnight, else an instant; whatever is no wall time stays as it is.
export function asked(wall, zone) {
  if (!WALL.test(wall)) return wall;
  if (wall.endsWith("T00:00") || !isZone(zone)) return wall.slice(0, 10);
  return new Date(instantOf(wall, zone)).toISOString().replace(".000Z", "Z");
}

// Hours and days before now, from the first to the end of the last whole one, as wall times. Whatever is no such range
// stays as it is.
export function lately(range, zone, now = Date.now()) {
  const [, number, unit] = /^(\d{1,4})([hd])$/.exec(range) ?? [];
  if (!number) return [range, range];
  const length = number * (unit === "h" ? 60 * MINUTE : DAY);
  if (unit === "d") {
    const day = (at) => `${wallOf(at, zone).slice(0, 10)}T00:00`;
    const today = Date.parse(`${day(now)}Z`);
    return [today - (number - 1) * DAY, today + DAY].map((at) => new Date(at).toISOString().slice(0, 16));
  }
  const step = { 1: 1, 6: 15 }[number] ?? 60;
  const floor = (at) => {
    const wall = wallOf(at, zone);
    return `${wall.slice(0, 14)}${String(Math.floor(wall.slice(14) / step) * step).padStart(2, "0")}`;
  };
  const end = now + step * MINUTE;
  return [floor(end - length), floor(end)];
}

// The interval that gives some dozens of buckets.
export function fitting(from, to) {
  const hours = (Date.parse(to.length === 10 ? `${to}T00:00Z` : to) - Date.parse(from.length === 10 ? `${from}T00:00Z` : from)) / 3_600_000;
  if (!(hours > 0)) return "day";
  const longest = [["minute", 2], ["15minutes", 12], ["hour", 74], ["day", 100 * 24], ["week", 750 * 24]];
  return longest.find(([, most]) => hours <= most)?.[0] ?? "month";
}

// Of a bucket, whose start the API tells by the zone's own clocks.
export function label(start, interval) {
  const day = `${Number(start.slice(8, 10))} ${MONTHS[start.slice(5, 7) - 1]}`;
  if (interval === "month") return `${MONTHS[start.slice(5, 7) - 1]} ${start.slice(0, 4)}`;
  return interval === "day" || interval === "week" ? day : `${day} ${start.slice(11, 16)}`;
}

export const full = (start) => start.slice(0, 16).replace("T", " ");
