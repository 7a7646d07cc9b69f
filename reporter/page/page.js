// Renders the API documentation from /openapi.json, with a form for every report. Texts are set as text nodes only.
"use strict";

function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

// The markup of descriptions: paragraphs, **strong** and `code`.
function prose(text) {
  return text.split(/\n\n+/).map((paragraph) => element("p", {}, ...paragraph.split(/(\*\*.+?\*\*|`.+?`)/).map((part) => {
    if (part.startsWith("**")) return element("strong", {}, part.slice(2, -2));
    if (part.startsWith("`")) return element("code", {}, part.slice(1, -1));
    return part;
  })));
}

// A schema, or the one that its $ref names.
const resolved = (schema, schemas) => (schema?.$ref ? schemas[schema.$ref.split("/").at(-1)] : schema);

function field(parameter, schemas) {
  const schema = resolved(parameter.schema, schemas);
  const choices = schema.type === "boolean" ? ["true", "false"] : schema.enum ?? resolved(schema.items, schemas)?.enum;
  const example = Object.values(parameter.examples ?? {})[0]?.value;
  const attributes = { id: parameter.id, name: parameter.name, required: parameter.required };
  if (!choices) {
    const type = schema.type === "integer" ? "number" : "text";
    return element("input", { ...attributes, type, min: schema.minimum, max: schema.maximum, placeholder: example });
  }
  const options = choices.map((choice) => element("option", { value: choice }, choice));
  if (schema.type === "array") return element("select", { ...attributes, multiple: true, size: choices.length }, ...options);
  return element("select", attributes, element("option", { value: "" }, ""), ...options);
}

function address(path, form) {
  const query = new URLSearchParams();
  for (const name of new Set(new FormData(form).keys())) {
    const value = new FormData(form).getAll(name).join(",");
    if (value !== "") query.append(name, value);
  }
  return `${path}?${query}`;
}

function table(rows) {
  const names = Object.keys(rows[0] ?? {});
  const cells = (row) => names.map((name) => {
    const value = row[name];
    return element("td", {}, typeof value === "object" && value !== null ? JSON.stringify(value) : String(value));
  });
  return element("table", {},
    element("thead", {}, element("tr", {}, ...names.map((name) => element("th", {}, name)))),
    element("tbody", {}, ...rows.slice(0, 500).map((row) => element("tr", {}, ...cells(row)))));
}

async function run(path, form, output) {
  const url = address(path, form);
  output.replaceChildren(element("p", {}, "Loading…"));
  try {
    const response = await fetch(url, { headers: { Accept: "application/json" } });
    const { rows, ...rest } = await response.json();
    const parts = [element("p", {}, element("code", {}, `GET ${url}`)), element("pre", {}, JSON.stringify(rest, null, 2))];
    if (rows) parts.push(element("p", {}, `${rows.length} rows${rows.length > 500 ? ", the first 500" : ""}`), table(rows));
    output.replaceChildren(element("div", { class: response.ok ? "" : "error" }, ...parts));
  } catch (error) {
    output.replaceChildren(element("p", { class: "error" }, `The reporter does not answer: ${error}`));
  }
}

function report(path, operation, schemas) {
  const output = element("output", {});
  const form = element("form", {});
  for (const parameter of operation.parameters ?? []) {
    const id = `${operation.operationId}-${parameter.name}`;
    form.append(
      element("label", { for: id, class: parameter.required ? "required" : "" }, parameter.name),
      field({ ...parameter, id }, schemas),
      ...prose(parameter.description));
  }
  form.append(element("button", {}, "Show"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (path.endsWith(".csv")) location.assign(address(path, form)); // the browser saves the file
    else run(path, form, output);
  });
  const answers = Object.entries(operation.responses).map(([status, answer]) =>
    element("li", {}, element("strong", {}, status), " ", ...prose(`${answer.description} (${Object.keys(answer.content ?? {}).join(", ")})`)[0].childNodes));
  return element("section", { id: operation.operationId },
    element("h2", {}, operation.summary), element("p", {}, element("code", {}, `GET ${path}`)),
    ...prose(operation.description ?? ""), form, output, element("h3", {}, "Responses"), element("ul", {}, ...answers));
}

function type(name, schema) {
  return element("details", {}, element("summary", {}, element("code", {}, name), " ", schema.description ?? ""),
    element("pre", {}, JSON.stringify(schema, null, 2)));
}

async function render() {
  const page = document.getElementById("page");
  try {
    const description = await (await fetch("/openapi.json")).json();
    document.getElementById("version").textContent = description.info.version;
    page.replaceChildren(
      ...prose(description.info.description ?? ""),
      ...Object.entries(description.paths).map(([path, item]) => report(path, item.get, description.components.schemas)),
      element("section", {}, element("h2", {}, "Types"),
        ...Object.entries(description.components.schemas).map(([name, schema]) => type(name, schema))));
  } catch (error) {
    page.replaceChildren(element("p", { class: "error" }, `openapi.json cannot be loaded: ${error}`));
  }
}

render();
