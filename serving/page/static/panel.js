// What a decision needs beside the choice: another drug, a reason, or only a confirmation.

import { alertElement } from "./alerts.js";
import { Combobox, nameOf } from "./combobox.js";
import { $, $$, put, show } from "./dom.js";
import { known, say } from "./words.js";

const REASONS = [
  "patient-contraindication",
  "risk-benefit-ratio",
  "indication-order-exists",
  "action-completed",
  "policy-contradicts",
  "does-not-align-latest-evidence",
  "expert-contradicts",
  "patient-ineligible",
  "patient-refuses",
  "recipient-does-not-trust",
  "need-more-info",
];

export class Panel {
  constructor(row) {
    Object.assign(this, { row, element: $(".more", row.element), kind: null });
  }

  /** Ask for what a decision needs; a problem's code says what the service found wanting. */
  open(kind, problem) {
    if (!this.ready) this.#build();
    const critical = this.row.isCritical || problem === "reason_required";
    this.kind = kind;
    this.needsReason = kind === "reject" || critical;
    show($(".instead", this.element), kind === "edit");
    show($(".reasons", this.element), this.needsReason);
    show($(".needed", this.element), critical);
    this.#complain(problem ? say(`problem_${problem}`) : "");
    show(this.element);
    show($(".fired", this.element), false);
    if (problem) this.reason.focus();
    if (problem && kind === "edit") this.#tellWhatFires();
  }

  /** An edit is not on the list yet, so no row shows what is critical about it. */
  async #tellWhatFires() {
    const alerts = await this.row.criticalOf(this.drug.text);
    const box = $(".fired", this.element);
    box.replaceChildren(...alerts.map((alert) => alertElement(alert)));
    show(box, alerts.length > 0);
  }

  close() {
    this.kind = null;
    show(this.element, false);
  }

  /** The decision as the API takes it; null while no panel is open. */
  get decision() {
    if (!this.kind) return null;
    const decision = { decision: this.kind };
    if (this.kind === "edit") decision.edited_drug = this.drug.text;
    if (this.needsReason && this.reason.value) decision.reason_code = this.reason.value;
    if (this.needsReason && this.words.value.trim()) decision.reason_text = this.words.value.trim();
    return decision;
  }

  #submit() {
    if (this.kind === "edit" && !this.drug.text) return this.#complain(say("drug_missing"), this.drug.input);
    if (this.kind === "edit" && this.row.isListed(this.drug.text))
      return this.#complain(say("already", { name: this.drug.text }), this.drug.input);
    if (this.needsReason && !this.reason.value) return this.#complain(say("reason_missing"), this.reason);
    this.#complain("");
    return this.row.save(this.decision);
  }

  #complain(text, input) {
    put(this.element, ".error", text);
    show($(".error", this.element), Boolean(text));
    input?.focus();
  }

  #build() {
    const { item } = this.row;
    this.element.append(document.getElementById("more").content.cloneNode(true));
    this.#nameIds(item.item_id);
    this.reason = $("select", this.element);
    this.words = $(".reasons input", this.element);
    this.reason.append(...REASONS.filter((code) => known(`reason_${code}`)).map((code) => new Option(say(`reason_${code}`), code)));
    this.drug = new Combobox($(".combobox", this.element), (entry) => (this.drug.input.value = nameOf(entry)), { keep: true });
    put(this.element, ".needed", say("reason_needed"));
    $("button[type=submit]", this.element).setAttribute("aria-label", say("save", { drug: item.drug }));
    $(".cancel", this.element).addEventListener("click", () => this.row.reset());
    this.element.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.ready = true;
  }

  /** The template's ids stand once in each row. */
  #nameIds(suffix) {
    for (const attribute of ["id", "for", "aria-controls"])
      for (const element of $$(`[${attribute}]`, this.element))
        element.setAttribute(attribute, `${element.getAttribute(attribute)}-${suffix}`);
  }
}
