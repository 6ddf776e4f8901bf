// The list of one's drafts; it asks for more from where it ends.

import "./plain.js";
import { get } from "./api.js";
import { $, copy, put, show } from "./dom.js";
import { complain } from "./problems.js";
import { named, time } from "./words.js";

const PAGE = 25;
let last = null;

async function more() {
  const before = last ? `&before=${encodeURIComponent(last)}` : "";
  try {
    const { drafts } = await get(`/v1/drafts?limit=${PAGE}${before}`);
    $("#history tbody").append(...drafts.map(line));
    last = drafts.at(-1)?.draft_id ?? last;
    show($("#history"), Boolean(last));
    show($("#none"), !last);
    show($("#older"), drafts.length === PAGE);
  } catch (problem) {
    complain(problem, more);
  }
}

function line({ draft_id: id, state, created_at: made, drugs, decided }) {
  const row = copy("line");
  const has = state === "ready" || state === "final";
  $("a", row).href = `/drafts/${encodeURIComponent(id)}`;
  put(row, "time", time(made));
  $("time", row).dateTime = made;
  put(row, ".state-tag", named("state_", state));
  $(".state-tag", row).dataset.state = state;
  put(row, ".drugs", has ? drugs : "–");
  put(row, ".done-of", has ? `${decided} / ${drugs}` : "–");
  return row;
}

$("#older").addEventListener("click", more);
more();
