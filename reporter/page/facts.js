// What the API accepts, from the OpenAPI document: parameters of each report, sources, and limits.
let parameters = {};
let limits = { maxRows: Infinity, minuteRangeHours: Infinity };
let sources = [];

export async function loadFacts() {
  const answer = await fetch("/openapi.json");
  if (!answer.ok) throw new Error(`${answer.status} ${answer.statusText}`);
  const { paths, components, "x-sluice": facts } = await answer.json();
  const resolved = (schema) => (schema.$ref ? components.schemas[schema.$ref.split("/").at(-1)] : schema);
  for (const [path, { get }] of Object.entries(paths)) {
    const values = Object.fromEntries((get.parameters ?? []).map(({ name, schema }) => [name, resolved(schema.items ?? schema).enum ?? []]));
    const report = /^\/v1\/reports\/(\w+)$/.exec(path)?.[1];
    if (report) parameters[report] = values;
  }
  ({ sources, ...limits } = facts);
}

export const parametersOf = (report) => parameters[report] ?? {};
export const allSources = () => sources;
export const sourceOf = (name) => sources.find((source) => source.name === name);
export const getLimits = () => limits;
