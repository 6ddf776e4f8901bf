// A list that is filled from a search: diagnoses in their order, allergies, drugs.

import { Combobox, nameOf, tagsOf } from "./combobox.js";
import { $, announce, copy, make, put, show } from "./dom.js";
import { say } from "./words.js";

export class Entries {
  constructor(root, changed) {
    Object.assign(this, { root, changed, items: [] });
    this.field = root.dataset.field;
    this.ordered = "ordered" in root.dataset;
    this.kind = $(".combobox", root).dataset.kind;
    this.box = $("ol", root);
    this.none = $(".check input", root);
    this.combobox = new Combobox($(".combobox", root), (entry) => this.add(entry));
    this.none?.addEventListener("change", () => this.#render());
  }

  /** What the API takes: null while nothing is known, an empty list where there is none. */
  get value() {
    if (this.items.length) return this.items;
    return this.none?.checked ? [] : null;
  }

  get unfinished() {
    return this.combobox.text;
  }

  get input() {
    return this.combobox.input;
  }

  add(entry) {
    const name = nameOf(entry);
    if (this.items.some((item) => nameOf(item) === name && item.icd_code === entry.icd_code))
      return announce(say("already", { name }));
    this.items.push(entry);
    this.#render();
    announce(say("added", { name }));
  }

  clear() {
    this.items = [];
    if (this.none) this.none.checked = false;
    this.#render();
  }

  #move(place, by) {
    const [item] = this.items.splice(place, 1);
    this.items.splice(place + by, 0, item);
    this.#render();
    const row = this.box.children[place + by];
    const wanted = $(by < 0 ? ".up" : ".down", row);
    (wanted.disabled ? $(by < 0 ? ".down" : ".up", row) : wanted).focus();
    announce(say("moved", { name: nameOf(item), n: place + by + 1 }));
  }

  #remove(place) {
    const [item] = this.items.splice(place, 1);
    this.#render();
    const next = this.box.children[Math.min(place, this.items.length - 1)];
    (next ? $(".remove", next) : this.input).focus();
    announce(say("removed", { name: nameOf(item) }));
  }

  #render() {
    this.box.replaceChildren(...this.items.map((item, place) => this.#row(item, place)));
    show(this.box, this.items.length > 0);
    if (this.none) {
      this.input.disabled = this.none.checked;
      this.none.disabled = this.items.length > 0;
    }
    this.changed();
  }

  #row(item, place) {
    const row = copy("entry");
    const name = nameOf(item);
    put(row, ".name", name);
    if (this.ordered) put(row, ".place", place + 1);
    const tags = tagsOf(item, this.kind).map((text) => Object.assign(make("span", text), { className: "tag" }));
    if (this.ordered && place === 0) tags.unshift(copy("principal"));
    $(".tags", row).append(...tags);
    const tools = { up: () => this.#move(place, -1), down: () => this.#move(place, 1), remove: () => this.#remove(place) };
    for (const [tool, act] of Object.entries(tools)) {
      const button = $(`.${tool}`, row);
      button.setAttribute("aria-label", say(tool, { name }));
      button.addEventListener("click", act);
      if (tool !== "remove") show(button, this.ordered && this.items.length > 1);
    }
    $(".up", row).disabled = place === 0;
    $(".down", row).disabled = place === this.items.length - 1;
    return row;
  }
}
