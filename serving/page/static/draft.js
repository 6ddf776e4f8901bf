// One draft's page: wait for it, then review it, or say why there is none.

import "./plain.js";
import { get } from "./api.js";
import { $, put, show } from "./dom.js";
import { complain, explain } from "./problems.js";
import { Review } from "./review.js";
import { isWaiting, wait } from "./waiting.js";
import { known, say } from "./words.js";

const RETRY_SECONDS = 5;
const page = $("#draft");
const address = `/v1/drafts/${encodeURIComponent(page.dataset.draftId)}`;

async function open() {
  show($("#loading"));
  try {
    const first = await get(address);
    show($("#loading"), false);
    const waited = isWaiting(first);
    const draft = waited ? await wait(address, first) : first;
    if (draft.state === "failed" || draft.state === "cancelled") return end(say(draft.state), whyOf(draft));
    return new Review(address, draft, { paper: "paper" in page.dataset, readOnly: "readOnly" in page.dataset }).open(waited);
  } catch (problem) {
    show($("#loading"), false);
    show($("#waiting"), false);
    if (problem.status === 404) return end(explain(problem));
    return complain(problem, open);
  }
}

const whyOf = ({ failure }) => (failure && known(`problem_${failure}`) ? say(`problem_${failure}`, { n: RETRY_SECONDS }) : "");

/** There is no list, and there will be none. */
function end(what, why = "") {
  const section = $("#ended");
  put(section, "h1", what);
  put(section, ".lead", why);
  show(section);
  $("h1", section).focus();
}

$("#print")?.addEventListener("click", () => print());
open();
