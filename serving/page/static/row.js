// A drug of the list: what is known of it, and the decision on it. Nothing is preselected.

import { $, $$, copy, make, put, show } from "./dom.js";
import { alertElement } from "./alerts.js";
import { Panel } from "./panel.js";
import { criticalOf, standing } from "./screening.js";
import { list, named, number, percent, say } from "./words.js";

/** Return a decision in words. */
export function told(review) {
  if (!review) return say("undecided");
  return say({ accept: "accepted", edit: "edited", reject: "rejected" }[review.decision], { drug: review.edited_drug });
}

export class Row {
  constructor(review, item) {
    Object.assign(this, { review, item, alerts: [], element: copy("row") });
    this.element.id = `row-${item.item_id}`;
    this.heading = $(".drug", this.element);
    this.radios = $$("input[type=radio]", this.element);
    this.panel = new Panel(this);
    for (const radio of this.radios) radio.name = `decision-${item.item_id}`;
    put(this.element, "legend", say("legend", { drug: item.drug }));
    $("fieldset", this.element).addEventListener("keydown", (event) => this.#keyed(event));
    $("fieldset", this.element).addEventListener("change", () => this.#chosen());
    $(".undo", this.element).addEventListener("click", () => this.#save({ decision: "undo" }));
    $(".undo", this.element).setAttribute("aria-label", say("undo", { drug: item.drug }));
    this.#describe();
  }

  get isCritical() {
    return this.alerts.some((alert) => alert.tier === "critical");
  }

  get decision() {
    return this.radios.find((radio) => radio.checked)?.value ?? null;
  }

  /** Show the row as the service has it now. */
  show(item) {
    this.item = item;
    this.#showDecision();
    this.element.dataset.decision = item.review?.decision ?? "";
  }

  /** Show what the rules say of the row; called after each screening. */
  warn(alerts) {
    const open = new Set($$(".alerts details[open]", this.element).map((details) => details.dataset.rule));
    this.alerts = alerts;
    const shown = alerts.filter((alert) => alert.tier !== "info");
    const opened = ({ rule_id: id }) => ({ open: open.has(id) || this.review.paper });
    $(".alerts", this.element).replaceChildren(...shown.map((alert) => alertElement(alert, opened(alert))));
    this.element.dataset.tier = this.isCritical ? "critical" : shown.length ? "warning" : "";
  }

  /** Send what could not be saved once more. */
  again() {
    return this.#save(this.unsaved);
  }

  /** Take a decision that the panel has put together. */
  save(decision) {
    return this.#save(decision);
  }

  /** Whether another row stands for this drug already. */
  isListed(drug) {
    return standing(this.review.draft, this.item).some((other) => other.toLowerCase() === drug.toLowerCase());
  }

  /** Return what would be critical about another drug in this one's place. */
  criticalOf(drug) {
    return criticalOf(this.review.draft, this.item, drug);
  }

  /** Forget what was chosen but not saved. */
  reset() {
    this.panel.close();
    this.#showDecision();
    (this.radios.find((radio) => radio.checked) ?? this.radios[0]).focus();
  }

  // Arrow keys pass over the choices one by one: what they come by is not meant yet, and is not saved.
  #keyed(event) {
    this.passing = event.key.startsWith("Arrow");
    if (event.key === "Enter" && this.decision) this.#chosen((this.passing = false));
  }

  #chosen() {
    const plain = this.decision === "accept" && !this.isCritical && !this.passing;
    this.passing = false;
    if (plain) return this.#save({ decision: "accept" });
    return this.panel.open(this.decision);
  }

  async #save(decision) {
    this.unsaved = decision;
    this.#wait(true);
    const outcome = await this.review.decide(this.item, decision);
    this.#wait(false);
    if (outcome === "reason_required") this.panel.open(decision.decision, outcome);
    else if (outcome !== "failed") this.panel.close();
    this.#showDecision();
    if (outcome === "saved") $(decision.decision === "undo" ? "input" : ".undo", this.element).focus();
  }

  #wait(is) {
    $("fieldset", this.element).disabled = is;
    this.element.setAttribute("aria-busy", String(is));
  }

  #showDecision() {
    const { review } = this.item;
    const chosen = this.panel.kind ?? review?.decision;
    for (const radio of this.radios) radio.checked = radio.value === chosen;
    show($("fieldset", this.element), !this.review.locked);
    if (this.review.locked) this.panel.close();
    const box = $(".decided", this.element);
    show(box, Boolean(review) || this.review.locked);
    put(box, ".what", told(review));
    const reason = [review?.reason_code && named("reason_", review.reason_code), review?.reason_text].filter(Boolean);
    put(box, ".why", reason.length ? say("with_reason", { reason: list(reason) }) : "");
    show($(".undo", box), Boolean(review) && !this.review.locked);
    const edited = review?.decision === "edit";
    show($(".changed", this.element), edited);
    show($(".drafted .label", this.element), edited);
    put(this.element, ".changed .name", edited ? review.edited_drug : "");
    show($(".codes", this.element), !edited); // they are the original's
    for (const note of $$(".of-drafted", this.element)) show(note, edited);
  }

  #describe() {
    const { drug, rank, ingredients = [], atc = [] } = this.item;
    put(this.element, ".rank", rank);
    put(this.element, ".drafted .name", drug);
    const others = ingredients.filter((name) => name.toLowerCase() !== drug.toLowerCase());
    put(this.element, ".codes", [...others, ...atc].join(" · "));
    this.#describeProbability();
    this.#describeEvidence();
    this.#describeReasons();
  }

  #describeProbability() {
    const { drug, probability } = this.item;
    const known = probability !== undefined && probability !== null;
    const meter = $("meter", this.element);
    show(meter, known);
    put(this.element, ".percent", known ? percent(probability) : say("no_probability"));
    if (!known) return;
    meter.value = probability;
    meter.setAttribute("aria-label", say("probability", { drug, percent: percent(probability) }));
  }

  #describeEvidence() {
    const { evidence } = this.item;
    if (!evidence) {
      const inWords = this.review.draft.facts?.diagnoses[0]?.text;
      put(this.element, ".evidence .category", inWords ? say("evidence_needs_code") : "");
      return put(this.element, ".evidence .count", say("evidence_none"));
    }
    const { ordered, admissions, category } = evidence;
    const hidden = ordered === null || ordered === undefined;
    const key = hidden ? "evidence_hidden" : "evidence";
    put(this.element, ".evidence .count", say(key, { n: hidden ? "" : number(ordered), m: number(admissions) }));
    return put(this.element, ".evidence .category", say("evidence_category", { category }));
  }

  #describeReasons() {
    const { because } = this.item;
    if (!because) return;
    const lines = because.map(({ fact, position, drop }) => {
      const title = this.review.draft.facts?.[fact]?.[position - 1]?.title;
      const name = say(`fact_${fact}`, { position }) + (title ? ` (${title})` : "");
      return say("because", { fact: name, drop: say("points", { n: number(drop * 100) }) });
    });
    const items = (lines.length ? lines : [say("because_none")]).map((line) => make("li", line));
    $(".because ul", this.element).replaceChildren(...items);
    show($(".because", this.element));
  }
}
