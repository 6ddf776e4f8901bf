// Height and weight in the reader's units; what is sent is always centimetres and kilograms.

import { $, show } from "./dom.js";

const CM_PER_INCH = 2.54;
const KG_PER_POUND = 0.45359237;
const INCHES_PER_FOOT = 12;

const round = (value, digits) => Number(value.toFixed(digits));
const amount = (input) => (input.value === "" ? null : input.valueAsNumber);

/** Height as two fields, feet and inches, or one in centimetres; switching converts what stands there. */
export class Height {
  constructor() {
    Object.assign(this, { cm: $("#height_cm"), feet: $("#height_ft"), inches: $("#height_in"), unit: $("#height_unit") });
    this.unit.addEventListener("change", () => this.#switch());
  }

  get input() {
    return this.imperial ? this.feet : this.cm;
  }

  get imperial() {
    return this.unit.value === "in";
  }

  /** Centimetres; null: not given; NaN: no number. */
  get value() {
    if (!this.imperial) return this.cm.validity.badInput ? NaN : amount(this.cm);
    if (this.feet.validity.badInput || this.inches.validity.badInput) return NaN;
    if (amount(this.feet) === null && amount(this.inches) === null) return null;
    return round((amount(this.feet) * INCHES_PER_FOOT + amount(this.inches)) * CM_PER_INCH, 1);
  }

  #switch() {
    const imperial = this.imperial;
    if (imperial && amount(this.cm)) {
      const inches = round(amount(this.cm) / CM_PER_INCH, 1);
      this.feet.value = Math.floor(inches / INCHES_PER_FOOT);
      this.inches.value = round(inches % INCHES_PER_FOOT, 1);
    } else if (!imperial && (amount(this.feet) || amount(this.inches))) {
      this.cm.value = round((amount(this.feet) * INCHES_PER_FOOT + amount(this.inches)) * CM_PER_INCH, 1);
    }
    show(this.cm, !imperial);
    show(this.feet.parentElement, imperial);
  }
}

/** Weight in one field, in kilograms or pounds. */
export class Weight {
  constructor() {
    Object.assign(this, { input: $("#weight_kg"), unit: $("#weight_unit") });
    this.unit.addEventListener("change", () => {
      const value = amount(this.input);
      if (value !== null) this.input.value = round(this.pounds ? value / KG_PER_POUND : value * KG_PER_POUND, 1);
    });
  }

  get pounds() {
    return this.unit.value === "lb";
  }

  /** Kilograms; null: not given; NaN: no number. */
  get value() {
    if (this.input.validity.badInput) return NaN;
    const value = amount(this.input);
    return value === null || !this.pounds ? value : round(value * KG_PER_POUND, 2);
  }
}

/** The last value of a laboratory test in its unit, and its age in hours. */
export class Lab {
  constructor(root) {
    Object.assign(this, { field: root.dataset.lab, input: $(".value", root), hours: $(".hours", root), unit: $("select", root) });
  }

  /** {value, hours_ago}; either may be null or NaN. */
  get value() {
    const [value, hours] = [this.input, this.hours].map((field) => (field.validity.badInput ? NaN : amount(field)));
    const factor = Number(this.unit?.value ?? 1);
    return { value: value === null ? null : round(value / factor, 3), hours_ago: hours };
  }
}
