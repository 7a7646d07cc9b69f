// Asks a running reporter by types generated from its OpenAPI document, and prints what it answered as JSON. A wrong name,
// value or field is an error of the compiler: @ts-expect-error lines must be such errors.
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

declare const process: { argv: string[] };

const [, , baseUrl, from, to] = process.argv as [string, string, string, string, string];
const client = createClient<paths, "application/json" | "application/problem+json">({ baseUrl });
const files = createClient<paths, "text/csv">({ baseUrl });
const range = { from, to };
const groupBy: components["schemas"]["EventsGroupBy"][] = ["source", "funnelStage"];

const events = await client.GET("/v1/reports/events", { params: { query: { ...range, groupBy, interval: "day" } } });
if (!events.data) throw new Error(events.error?.detail);
const rows: components["schemas"]["EventsRow"][] = events.data.rows;
const source: components["schemas"]["Source"] | undefined = rows[0]?.source;

const revenue = await client.GET("/v1/reports/revenue", { params: { query: { ...range, compare: "previous" } } });
const audience = await client.GET("/v1/reports/demographics", {
  params: { query: { ...range, groupBy: ["ageBand", "country"], top: 5 } },
});
const pipeline = await client.GET("/pipeline");
const file = await files.GET("/v1/reports/events.csv", { params: { query: { ...range, bom: true } }, parseAs: "text" });

// @ts-expect-error there is no such source
const rejected = await client.GET("/v1/reports/events", { params: { query: { ...range, source: ["myspace"] } } });
// @ts-expect-error a count is no text
const wrong: string | undefined = rows[0]?.events;

console.log(JSON.stringify({
  rows, source, previousRevenue: revenue.data?.totals.previousRevenue, countries: audience.data?.rows[0]?.country,
  stored: pipeline.data?.sources["facebook"]?.eventsStored, file: file.data, allowed: rejected.error?.allowed, wrong,
}));
