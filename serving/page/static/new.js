// Asking for a draft.

import "./plain.js";
import { call, get } from "./api.js";
import { $, announce, make, show } from "./dom.js";
import { Facts } from "./facts.js";
import { calm, complain } from "./problems.js";
import { named, say } from "./words.js";

const form = $("#facts");
const facts = new Facts(form, touched);
let dirty = false;
let last = { body: null, key: null };

function touched() {
  dirty = true;
}

/** Ask once: the same facts asked for again carry the same key, so that no draft is made twice. */
function keyFor(body) {
  const text = JSON.stringify(body);
  if (text !== last.body) last = { body: text, key: [...crypto.getRandomValues(new Uint8Array(16))].map(hex).join("") };
  return last.key;
}

const hex = (byte) => byte.toString(16).padStart(2, "0");

async function submit() {
  calm();
  if (list(facts.check())) return;
  const body = facts.read();
  const headers = { "Idempotency-Key": keyFor(body), Prefer: "respond-async" };
  busy(true);
  try {
    const answer = await call("POST", "/v1/drafts", body, { headers });
    dirty = false;
    location.assign(`/drafts/${encodeURIComponent(answer.body.draft_id)}`);
  } catch (problem) {
    busy(false);
    list((problem.errors ?? []).map(described));
    complain(problem, problem.status === 422 ? undefined : submit);
  }
}

/** Show what is wrong, each line leading to its field. */
function list(wrong) {
  const box = $("#errors");
  $("ul", box).replaceChildren(...wrong.map(({ input, text }) => make("li", "", lineTo(input, text))));
  show(box, wrong.length > 0);
  if (wrong.length) box.focus();
  return wrong.length > 0;
}

function lineTo(input, text) {
  if (!input) return text;
  const line = make("a", text);
  line.href = `#${input.id}`;
  line.addEventListener("click", (event) => {
    event.preventDefault();
    input.focus();
  });
  return line;
}

function described({ at }) {
  const input = facts.inputAt(at);
  input?.setAttribute("aria-invalid", "true");
  return { input, text: say("wrong_other", { field: input ? facts.labelOf(input) : at }) };
}

function busy(is) {
  const button = $("button[type=submit]", form);
  button.disabled = is;
  if (is) announce(say("sending"));
}

/** Offer the models where there is a choice. */
async function offerModels() {
  const { models } = await get("/v1/models");
  $("#model").append(
    ...models.map(({ name, state, default: preferred }) => {
      const option = new Option(state === "ready" ? name : `${name} (${named("model_state_", state)})`, preferred ? "" : name);
      option.selected = preferred;
      return option;
    }),
  );
  show($("#models"), models.length > 1);
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});
form.addEventListener("reset", (event) => {
  if (!confirm(say("clear_sure"))) return event.preventDefault();
  setTimeout(() => {
    facts.clear();
    list([]);
    calm();
    dirty = false;
    facts.lists.diagnoses.input.focus();
  });
});
form.addEventListener("input", touched);
addEventListener("beforeunload", (event) => dirty && event.preventDefault());
offerModels().catch((problem) => complain(problem, offerModels));
