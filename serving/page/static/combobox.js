// A search field with a list of suggestions, by keyboard and pointer, after the ARIA Authoring Practices' combobox.
// What is typed can always be taken as written.

import { call } from "./api.js";
import { tagOf } from "./codes.js";
import { $, $$, announce, make, show } from "./dom.js";
import { say } from "./words.js";

const DEBOUNCE_MS = 150;
const LONGEST_QUERY = 64;

export class Combobox {
  /**
   * @param root the element with data-search and data-kind
   * @param choose called with an entry: {text} or {icd_code, icd_version, title} or {drug, in_formulary}
   * @param keep whether the field keeps the chosen name rather than being emptied
   */
  constructor(root, choose, { keep = false } = {}) {
    Object.assign(this, { root, choose, keep, options: [], active: -1 });
    this.input = $("input", root);
    this.box = $("[role=listbox]", root);
    this.input.addEventListener("input", () => this.#later());
    this.input.addEventListener("keydown", (event) => this.#key(event));
    this.input.addEventListener("blur", () => this.close());
    this.box.addEventListener("mousedown", (event) => event.preventDefault()); // the field keeps the focus
    this.box.addEventListener("click", (event) => this.#take($$("li", this.box).indexOf(event.target.closest("li"))));
  }

  get text() {
    return this.input.value.trim();
  }

  close() {
    clearTimeout(this.timer);
    this.request?.abort();
    show(this.box, false);
    this.input.setAttribute("aria-expanded", "false");
    this.input.removeAttribute("aria-activedescendant");
    this.active = -1;
  }

  #later() {
    clearTimeout(this.timer);
    this.request?.abort();
    if (!this.text) return this.close();
    this.timer = setTimeout(() => this.#search(this.text), DEBOUNCE_MS);
  }

  async #search(text) {
    this.request = new AbortController();
    const { signal } = this.request;
    try {
      const answer = await call("POST", this.root.dataset.search, { q: text.slice(0, LONGEST_QUERY) }, { signal });
      this.#open(answer.body.codes ?? answer.body.drugs, text);
    } catch (problem) {
      if (problem.name === "AbortError") return;
      this.#open([], text);
      announce(say("search_failed"));
    }
  }

  #open(found, text) {
    this.options = [...found, { text }];
    this.box.replaceChildren(...this.options.map((entry, place) => this.#option(entry, place)));
    show(this.box);
    this.input.setAttribute("aria-expanded", "true");
    this.#move(-1);
    announce(found.length ? say("results", { n: found.length }) : say("no_results"));
  }

  #option(entry, place) {
    const option = make("li");
    option.setAttribute("role", "option");
    option.id = `${this.box.id}-${place}`;
    option.append(...(entry.text ? [make("span", say("as_written", entry))] : described(entry, this.root.dataset.kind)));
    return option;
  }

  #key(event) {
    if (event.isComposing) return; // Enter ends a Hangul syllable here, and chooses nothing
    const open = !this.box.hidden;
    if (event.key === "ArrowDown" && !open && this.text) this.#search(this.text);
    else if (event.key === "ArrowDown" && open) this.#move((this.active + 1) % this.options.length);
    else if (event.key === "ArrowUp" && open) this.#move((this.active <= 0 ? this.options.length : this.active) - 1);
    else if (event.key === "Escape") this.close(); // also what is only being looked for
    else if (event.key === "Enter" && open && this.active >= 0) this.#take(this.active);
    else if (event.key === "Enter" && this.text) this.#finish({ text: this.text });
    else if (event.key !== "Enter") return;
    event.preventDefault();
  }

  #move(place) {
    this.active = place;
    $$("li", this.box).forEach((option, at) => option.setAttribute("aria-selected", String(at === place)));
    const option = this.box.children[place];
    if (!option) return this.input.removeAttribute("aria-activedescendant");
    this.input.setAttribute("aria-activedescendant", option.id);
    option.scrollIntoView({ block: "nearest" });
  }

  #take(place) {
    if (this.options[place]) this.#finish(this.options[place]);
  }

  #finish(entry) {
    this.close();
    this.input.value = this.keep ? nameOf(entry) : "";
    this.choose(entry);
  }
}

/** Return an entry's name as it is shown. */
export const nameOf = (entry) => entry.text ?? entry.drug ?? entry.title ?? entry.icd_code;

/** Return what tells entries of one name apart: code and version, or that the model does not know a drug to give. */
export function tagsOf(entry, kind) {
  if (entry.icd_code) return [tagOf(entry)];
  if (entry.drug) return entry.in_formulary === false && kind !== "allergy" ? [say("not_listed")] : [];
  return [say("own_words")];
}

function described(entry, kind) {
  const name = make("span", nameOf(entry));
  if (entry.title_ko) name.append(make("small", entry.title_ko));
  const tag = make("span", tagsOf(entry, kind).join(" "));
  tag.className = "tag";
  return [name, ...(tag.textContent ? [tag] : [])];
}
