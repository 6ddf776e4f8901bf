// The review of a draft: all that is shown of it, decisions one by one, and the end of them.
// The service holds the state; what it answers to a decision is shown anew.

import { get, post } from "./api.js";
import { showAbout } from "./about.js";
import { $, announce, make, put, show } from "./dom.js";
import { calm, complain } from "./problems.js";
import { Row, told } from "./row.js";
import { alertsOf, showScreening } from "./screening.js";
import { say } from "./words.js";

const isOvertaken = ({ code }) => code === "version_conflict" || code === "finalised";

export class Review {
  constructor(address, draft, { paper, readOnly }) {
    Object.assign(this, { address, draft, paper, readOnly, rows: new Map(), turn: Promise.resolve() });
    for (const item of draft.drugs) this.rows.set(item.item_id, new Row(this, item));
    $("#drugs tbody").append(...[...this.rows.values()].map((row) => row.element));
    $("#finalise")?.addEventListener("click", () => this.#askToFinalise());
  }

  /** @param waited whether the reader has waited for it, and is told that it is here */
  open(waited) {
    if (waited) announce(say("ready", { n: this.draft.drugs.length }));
    showAbout(this.draft);
    this.show(this.draft);
    show($("#review"));
    const critical = [...this.rows.values()].find((row) => row.isCritical && !row.item.review);
    if (this.paper) return;
    (critical?.heading ?? $("#review h1")).focus({ preventScroll: !critical });
    if (critical) announce(say("critical_now", { n: alertsOf(this.draft, "critical").length }));
  }

  get locked() {
    return this.paper || this.readOnly || this.draft.state !== "ready";
  }

  show(draft) {
    this.draft = draft;
    for (const item of draft.drugs) this.rows.get(item.item_id).show(item);
    showScreening(draft, this.rows, this.paper);
    show($("#empty"), draft.drugs.length === 0);
    show($("#drugs"), draft.drugs.length > 0);
    show($("#drugs caption"), !this.locked);
    const tag = $("#review .state-tag");
    tag.textContent = say(`state_${draft.state}`);
    tag.dataset.state = draft.state;
    this.#progress();
  }

  /** Record a decision after those before it; return what became of it: saved, overtaken, failed or reason_required. */
  decide(item, decision) {
    this.turn = this.turn.then(() => this.#send(item, decision));
    return this.turn;
  }

  async #send(item, decision) {
    calm();
    try {
      const before = alertsOf(this.draft, "critical").length;
      const body = { item_id: item.item_id, if_version: this.draft.version, ...decision };
      this.show(await post(`${this.address}/reviews`, body));
      show($("#changed"), false);
      const row = this.rows.get(item.item_id).item;
      const said = row.review ? say("saved", { drug: row.drug, decision: told(row.review) }) : say("undone", { drug: row.drug });
      const now = alertsOf(this.draft, "critical").length;
      announce(`${said} ${$("#count").textContent}${now > before ? ` ${say("critical_now", { n: now })}` : ""}`);
      return "saved";
    } catch (problem) {
      if (problem.code === "reason_required") return problem.code;
      if (isOvertaken(problem)) return this.#reread(problem);
      complain(problem, () => this.rows.get(item.item_id).again());
      return "failed";
    }
  }

  /** Show what somebody else changed meanwhile, line by line. */
  async #reread(problem) {
    const before = new Map(this.draft.drugs.map((item) => [item.item_id, told(item.review)]));
    try {
      this.show(await get(this.address));
    } catch (again) {
      complain(again, () => this.#reread(problem));
      return "failed";
    }
    const lines = this.draft.drugs
      .filter((item) => before.get(item.item_id) !== told(item.review))
      .map(({ item_id: id, drug, review }) => say("changed_row", { drug, before: before.get(id), after: told(review) }));
    const box = $("#changed");
    put(box, "p", problem.code === "finalised" ? say("problem_finalised") : say("changed"));
    $("ul", box).replaceChildren(...(lines.length ? lines : [say("changed_nothing")]).map((line) => make("li", line)));
    show(box);
    box.scrollIntoView({ block: "nearest" });
    return "overtaken";
  }

  get #decided() {
    return this.draft.drugs.filter((item) => item.review).length;
  }

  #progress() {
    const all = this.draft.drugs.length;
    const done = this.#decided;
    if (!$("#bar")) return;
    const final = this.draft.state === "final";
    put(document, "#count", final ? say("final") : say("decided", { n: done, m: all }));
    Object.assign($("#bar progress"), { max: Math.max(all, 1), value: done });
    show($("#bar progress"), !final);
    show($("#finalise"), !this.locked);
    $("#finalise").disabled = this.locked || done < all || all === 0;
  }

  #askToFinalise() {
    const dialog = $("#sure");
    const count = (decision) => this.draft.drugs.filter((item) => item.review?.decision === decision).length;
    const counts = { accept: count("accept"), edit: count("edit"), reject: count("reject") };
    put(dialog, ".counts", say("finalise_counts", counts));
    dialog.returnValue = "";
    dialog.onclose = () => (dialog.returnValue === "yes" ? this.#finalise() : $("#finalise").focus());
    dialog.showModal();
  }

  async #finalise() {
    calm();
    try {
      this.show(await post(`${this.address}/finalize`, { if_version: this.draft.version }));
      $("#review h1").focus();
      scrollTo({ top: 0 });
      announce(say("finalised"));
    } catch (problem) {
      if (isOvertaken(problem)) await this.#reread(problem);
      else complain(problem, problem.status === 409 || problem.status === 422 ? undefined : () => this.#finalise());
      $("#finalise").focus();
    }
  }
}
