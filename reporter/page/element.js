// Makes elements. Texts are only ever set as text; what is drawn has its looks from the style sheet's classes.

const SVG = "http://www.w3.org/2000/svg";

function dress(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

export const element = (name, attributes = {}, ...children) => dress(document.createElement(name), attributes, children);
export const drawn = (name, attributes = {}, ...children) => dress(document.createElementNS(SVG, name), attributes, children);

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenth = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const money = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export const count = (value) => whole.format(value);
export const rate = (value) => (value >= 100 ? whole : tenth).format(value);
export const amount = (value) => money.format(value);
export const compact = (value) => short.format(value);
