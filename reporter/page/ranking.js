// Campaigns or cities: a table with bars that can be sorted and searched.
import { getExtra, setExtra } from "./extras.js";
import { amount, count, element } from "./element.js";
import { bar, table } from "./table.js";
import { nameText, sourceText, valueText } from "./words.js";

const DASH = "–";
const text = (format) => (value, error) => (value === null || value === undefined ? DASH : `${format(value)}${Number(error) ? ` ± ${format(error)}` : ""}`);
const percent = (value) => (value === null ? DASH : `${(100 * value).toFixed(1)} %`);
const number = (value) => (value === undefined || value === null ? value : Number(value));

// Lines of campaigns: {name, isOther, figures}.
export function campaignLines({ rows, totals }) {
  const compared = totals.previousRevenue !== undefined;
  const all = Number(totals.revenue);
  const columns = [
    { key: "revenue", name: "Revenue", format: text(amount) },
    { key: "share", name: "Share", format: percent },
    { key: "purchases", name: "Purchases", format: text(count) },
    { key: "average", name: "Average order", format: text(amount) },
    ...(compared ? [{ key: "previous", name: "Previous revenue", format: text(amount) }] : []),
  ];
  const lines = rows.map((row) => ({
    name: row.campaignId, errors: { revenue: row.revenueError, purchases: row.purchasesError, previous: row.previousRevenueError },
    revenue: Number(row.revenue), share: all ? Number(row.revenue) / all : null, purchases: row.purchases,
    average: number(row.averageOrderValue), previous: number(row.previousRevenue),
  }));
  return { dimension: "campaignId", columns, lines };
}

const withCities = (rows) => rows.filter((row) => row.city);

// The totals of the sources that have cities.
export function cityTotals({ rows }) {
  const sum = (figure) => withCities(rows).reduce((all, row) => (row[figure] === undefined ? undefined : all + (row[figure] ?? 0)), 0);
  return { events: sum("events"), previousEvents: withCities(rows).length ? sum("previousEvents") : undefined };
}

// Lines of cities. A source without cities has none.
export function cityLines({ rows }) {
  const having = withCities(rows);
  const all = having.reduce((sum, row) => sum + row.events, 0);
  const compared = having.some((row) => row.previousEvents !== undefined);
  const columns = [
    { key: "events", name: "Events", format: text(count) },
    { key: "share", name: "Share", format: percent },
    { key: "revenue", name: "Revenue", format: text(amount) },
    ...(compared ? [{ key: "previous", name: "Previous events", format: text(count) }] : []),
  ];
  const lines = having.flatMap((row) => row.city.map((share) => ({
    name: share.value, of: having.length > 1 ? row.source : null, errors: { events: share.eventsError, revenue: share.revenueError, previous: share.previousError },
    events: share.events, share: all ? share.events / all : null, revenue: number(share.revenue), previous: share.previous,
  })));
  return { dimension: "city", columns, lines };
}

// The table, with a search field above it. Other is always the last row, because it is not one value.
export function ranking({ dimension, columns, lines: all }) {
  const lines = all.filter((line) => line.name !== null || columns.some(({ key }) => line[key]));
  const title = dimension === "city" ? "Cities" : "Campaigns";
  const keys = ["name", ...columns.map(({ key }) => key)];
  const box = element("div", { class: "ranking" });
  const found = element("span", { class: "note", role: "status" });
  const search = element("input", { type: "search", name: "search", value: getExtra("search"), spellcheck: "false" });
  const holder = element("div");
  box.append(element("p", { class: "search" }, element("label", {}, `Search ${title.toLowerCase()} `, search), found), holder);

  function order() {
    const wanted = getExtra("sort");
    const key = wanted.replace(/^-/, "");
    return keys.includes(key) ? { key, descending: wanted.startsWith("-") } : { key: columns[0].key, descending: true };
  }

  function draw(focused) {
    const { key, descending } = order();
    const part = search.value.trim().toLowerCase();
    const label = ({ name, of }) => `${valueText(name)}${of ? ` (${sourceText(of)})` : ""}`;
    const compare = key === "name" ? (one, two) => label(one).localeCompare(label(two)) : (one, two) => (one[key] ?? -1) - (two[key] ?? -1);
    const listed = lines.filter((line) => !part || label(line).toLowerCase().includes(part))
      .sort((one, two) => (one.name === null) - (two.name === null) || (descending ? -1 : 1) * compare(one, two));
    const measured = key === "name" ? columns[0].key : key;
    const max = Math.max(0, ...lines.filter(({ name }) => name !== null).map((line) => line[measured] ?? 0)) || 1;
    const heading = (of, name) => ({
      sort: key === of ? (descending ? "descending" : "ascending") : "none",
      name: element("button", { type: "button", class: "sort", "data-sort": of }, name),
    });
    const head = [
      { ...heading("name", nameText(dimension)), row: true },
      { name: element("span", { class: "visually-hidden" }, "Bar") },
      ...columns.map((column) => ({ ...heading(column.key, column.name), number: true })),
    ];
    const cells = listed.map((line) => [
      label(line), line.name === null ? "" : bar((100 * (line[measured] ?? 0)) / max),
      ...columns.map((column) => column.format(line[column.key], line.errors[column.key])),
    ]);
    const region = table(title, head, cells);
    region.classList.add("bars");
    holder.replaceChildren(region);
    found.textContent = part ? `${count(listed.length)} of ${count(lines.length)} found` : "";
    if (focused) holder.querySelector(`[data-sort="${focused}"]`)?.focus();
  }

  holder.addEventListener("click", ({ target }) => {
    const key = target.closest("[data-sort]")?.dataset.sort;
    if (!key) return;
    const current = order();
    const descending = current.key === key ? !current.descending : key !== "name";
    setExtra("sort", `${descending ? "-" : ""}${key}`);
    draw(key);
  });
  search.addEventListener("input", () => {
    setExtra("search", ...(search.value.trim() ? [search.value.trim()] : []));
    draw();
  });
  draw();
  return box;
}

