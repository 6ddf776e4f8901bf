// The page's words in the reader's language, as the server sent them; and numbers and times as it writes them.

const words = JSON.parse(document.getElementById("words").textContent);
const language = document.documentElement.lang;

export const known = (key) => key in words;

/** Return the words of a key with its values put in; a key without words stands for itself. */
export function say(key, values = {}) {
  return (words[key] ?? key).replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

/** Return the words of a key that is made of a prefix and a name from the service, or the name itself. */
export const named = (prefix, name) => (known(prefix + name) ? say(prefix + name) : name);

const percents = new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: 0 });
const small = new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: 1 });
const numbers = new Intl.NumberFormat(language, { maximumFractionDigits: 2 });
const times = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" });

export const percent = (share) => (share > 0 && share < 0.01 ? small : percents).format(share);
export const number = (value) => numbers.format(value);
export const list = (names) => names.join(", ");
export const time = (iso) => times.format(new Date(iso));
