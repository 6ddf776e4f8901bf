// The facts of the form: read as the API takes them, and checked before they are sent.

import { Entries } from "./entries.js";
import { nameOf } from "./combobox.js";
import { $, $$, show } from "./dom.js";
import { number, say } from "./words.js";
import { Height, Lab, Weight } from "./units.js";

const BOUNDS = { height_cm: [50, 260], weight_kg: [2, 600] };
const LIKELY_AGES = [10, 60]; // between which pregnancy is asked for

export class Facts {
  /** @param changed called when a list changes */
  constructor(form, changed) {
    Object.assign(this, { form, height: new Height(), weight: new Weight() });
    this.lists = Object.fromEntries($$(".entries", form).map((root) => [root.dataset.field, new Entries(root, changed)]));
    this.labs = $$(".lab", form).map((root) => new Lab(root));
    this.plain = ["age", "systolic_mmhg", "diastolic_mmhg"].map((id) => document.getElementById(id));
    form.addEventListener("input", () => this.#fit());
    this.#fit();
  }

  /** The request, without what is not known. */
  read() {
    const { diagnoses, allergies, current_drugs: current, previous_drugs: previous } = this.lists;
    const facts = {
      diagnoses: (diagnoses.value ?? []).map(asDiagnosis),
      allergies: allergies.value?.map((entry) => ({ substance: nameOf(entry) })),
      current_drugs: current.value?.map(nameOf),
      previous_drugs: previous.value?.map(nameOf),
      sex: this.#chosen("sex"),
      height_cm: this.height.value,
      weight_kg: this.weight.value,
      explain: $("#explain").checked,
      model: $("#model").value,
    };
    for (const input of this.plain) facts[input.id] = input.value === "" ? null : input.valueAsNumber;
    if (this.#maternity) for (const name of ["pregnant", "lactating"]) facts[name] = { yes: true, no: false }[this.#chosen(name)];
    for (const lab of this.labs) if (lab.value.value !== null) facts[lab.field] = lab.value;
    return Object.fromEntries(Object.entries(facts).filter(([, value]) => value !== null && value !== undefined && value !== ""));
  }

  /** What is wrong with the entries: [{input, text}], in the form's order. */
  check() {
    const wrong = [...this.#checkLists(), ...this.#checkNumbers(), ...this.#checkLabs()];
    for (const input of $$("[aria-invalid]", this.form)) input.removeAttribute("aria-invalid");
    for (const { input } of wrong) input.setAttribute("aria-invalid", "true");
    return wrong;
  }

  /** The field that a place of a 422 answer means, such as body/age. */
  inputAt(place) {
    const field = place.split("/")[1];
    return this.lists[field]?.input ?? document.getElementById(field);
  }

  labelOf(input) {
    return (input.getAttribute("aria-label") ?? input.labels?.[0]?.textContent ?? input.id).trim();
  }

  clear() {
    for (const list of Object.values(this.lists)) list.clear();
    this.#fit();
  }

  *#checkLists() {
    if (!this.lists.diagnoses.items.length && !this.lists.diagnoses.unfinished)
      yield { input: this.lists.diagnoses.input, text: say("wrong_diagnoses") };
    for (const { input, unfinished } of Object.values(this.lists))
      if (unfinished) yield { input, text: say("wrong_unfinished", { field: this.labelOf(input), text: unfinished }) };
  }

  *#checkNumbers() {
    for (const input of this.plain)
      if (!input.checkValidity()) yield this.#outside(input, Number(input.min), Number(input.max), "whole" in input.dataset);
    const [, systolic, diastolic] = this.plain.map((input) => input.valueAsNumber);
    if (systolic <= diastolic) yield { input: this.plain[1], text: say("wrong_pressure") };
    for (const [field, measure] of [["height_cm", this.height], ["weight_kg", this.weight]]) {
      const [least, most] = BOUNDS[field];
      if (measure.value !== null && !(measure.value >= least && measure.value <= most))
        yield this.#outside(measure.input, ...this.#shown(field, least, most));
    }
  }

  *#checkLabs() {
    for (const lab of this.labs) {
      for (const input of [lab.input, lab.hours])
        if (!input.checkValidity()) yield this.#outside(input, Number(input.min), Number(input.max));
      const { value, hours_ago: hours } = lab.value;
      const field = this.labelOf(lab.input);
      if (value !== null && hours === null) yield { input: lab.hours, text: say("wrong_age_of", { field }) };
      if (value === null && hours !== null) yield { input: lab.input, text: say("wrong_value_of", { field }) };
    }
  }

  #outside(input, least, most, whole = false) {
    const values = { field: this.labelOf(input), least: number(least), most: number(most) };
    return { input, text: say(whole ? "wrong_whole" : "wrong_number", values) };
  }

  /** Bounds in the unit that the reader sees. */
  #shown(field, least, most) {
    if (field === "height_cm" && this.height.imperial) return [2, 8];
    if (field === "weight_kg" && this.weight.pounds) return [5, 1322];
    return [least, most];
  }

  #chosen(name) {
    return this.form.elements[name].value || null;
  }

  get #maternity() {
    const age = this.plain[0].valueAsNumber;
    return this.#chosen("sex") === "F" && !(age < LIKELY_AGES[0] || age > LIKELY_AGES[1]);
  }

  #fit() {
    show($("#maternity"), this.#maternity);
  }
}

const asDiagnosis = ({ icd_code, icd_version, text }) => (icd_code ? { icd_code, icd_version } : { text });
