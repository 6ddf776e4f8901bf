// The wait for a draft: where it stands, how long it has taken, and the way out.

import { get, post } from "./api.js";
import { $, announce, put, show } from "./dom.js";
import { calm, complain } from "./problems.js";
import { say } from "./words.js";

const FIRST_MS = 250;
const LONGEST_MS = 2000;
const PATIENT_MS = 1000; // a wait that is longer is worth a reason
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

export const isWaiting = (draft) => draft.state === "queued" || draft.state === "running";

/** Wait until a draft is made, failed or cancelled, and return it; asks more and more seldom. */
export async function wait(address, draft) {
  const section = $("#waiting");
  show(section);
  $("#cancel").onclick = () => cancel(address);
  $("h1", section).focus();
  const clock = setInterval(() => tell(draft), 1000);
  let said = "";
  for (let delay = FIRST_MS; isWaiting(draft); delay = Math.min(delay * 1.5, LONGEST_MS)) {
    if (draft.position === 1 && delay > PATIENT_MS) draft.loading = await isLoading(draft);
    const state = tell(draft);
    if (state !== said) announce((said = state));
    await pause(delay);
    draft = await patiently(address, draft);
  }
  clearInterval(clock);
  show(section, false);
  return draft;
}

/** Whether the draft waits for its model, and for no other draft. */
async function isLoading({ facts }) {
  const { models } = await get("/v1/models").catch(() => ({ models: [] }));
  return models.some(({ name, state, default: preferred }) => state === "loading" && (facts?.model ? facts.model === name : preferred));
}

function tell({ state, position, loading, created_at: made }) {
  const queued = loading ? say("loading_model") : say("queued", { n: Math.max(0, (position ?? 1) - 1) });
  const words = state === "queued" ? queued : say("running");
  put($("#waiting"), ".what", words);
  const seconds = Math.max(0, Math.round((Date.now() - new Date(made)) / 1000));
  put($("#waiting"), ".seconds", say("seconds", { n: seconds }));
  return words;
}

/** Ask again; what goes wrong meanwhile is told, and the wait goes on. */
async function patiently(address, draft) {
  try {
    const now = await get(address);
    calm();
    return now;
  } catch (problem) {
    if (problem.status === 404 || problem.code === "signed_out") throw problem;
    complain(problem);
    await pause(LONGEST_MS);
    return draft;
  }
}

async function cancel(address) {
  try {
    await post(`${address}/cancel`, {});
  } catch (problem) {
    complain(problem);
  }
}
