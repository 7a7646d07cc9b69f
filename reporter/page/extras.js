// Parts of the view that have no control in the form: order and search of a table, and series that are switched off.
// They are in the page's address, too.
const NAMES = ["sort", "search", "off", "steps"];

let extras = new URLSearchParams();

export function readExtras() {
  const address = new URLSearchParams(location.search);
  extras = new URLSearchParams([...address].filter(([name]) => NAMES.includes(name)));
}

export const clearExtras = () => { extras = new URLSearchParams(); };
export const getExtra = (name) => extras.get(name) ?? "";
export const getExtras = (name) => extras.getAll(name);
export const extraPairs = () => [...extras];

// Change an extra and the address, without a new entry in the history. values: none removes it.
export function setExtra(name, ...values) {
  for (const params of [extras, new URLSearchParams(location.search)]) {
    params.delete(name);
    for (const value of values) params.append(name, value);
    if (params !== extras) history.replaceState(null, "", `?${params}`);
  }
}
