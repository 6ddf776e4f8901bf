// What the rules said of the list as it reads now, above and in it; and below it, what they could not see.

import { alertElement, inWords } from "./alerts.js";
import { post } from "./api.js";
import { $, $$, make, put, show } from "./dom.js";
import { known, list, named, say } from "./words.js";

const SCREENED = ["current_drugs", "allergies", "age", "sex", "pregnant", "lactating", "creatinine_mg_dl", "egfr", "potassium_mmol_l"];

/** Return a draft's alerts of a tier. */
export const alertsOf = (draft, tier) => (draft.screening?.alerts ?? []).filter((alert) => alert.tier === tier);

/** Show a draft's screening; the rows get what concerns them. */
export function showScreening(draft, rows, paper) {
  const { screening } = draft;
  if (!screening) return;
  const all = screening.alerts;
  for (const row of rows.values()) row.warn(all.filter((alert) => alert.items.includes(row.item.item_id)));
  put(document, "#summary", inWords(screening.summary));
  const opened = new Set($$("#alerts details[open]").map((details) => details.dataset.rule));
  $("#alerts").replaceChildren(
    ...all
      .filter((alert) => alert.tier !== "info")
      .map((alert) => alertElement(alert, { open: paper || opened.has(alert.rule_id), rows: rowsOf(alert, rows) })),
  );
  showGaps(screening);
  showNotes(draft, rows, paper);
}

/** Return the drugs that are not rejected, as edited, of all rows but one. */
export const standing = ({ drugs }, { item_id: but }) =>
  drugs
    .filter((item) => item.item_id !== but && item.review?.decision !== "reject")
    .map(({ drug, review }) => review?.edited_drug ?? drug);

/** Ask the rules what is critical about a drug in another's place; nothing, where the facts are not kept. */
export async function criticalOf(draft, item, drug) {
  const { facts } = draft;
  if (!facts) return [];
  const known = Object.fromEntries(SCREENED.filter((name) => facts[name] !== undefined).map((name) => [name, facts[name]]));
  const diagnoses = facts.diagnoses.map(({ title, ...diagnosis }) => diagnosis);
  const body = { ...known, diagnoses, drugs: [...standing(draft, item), drug] };
  const { alerts } = await post("/v1/screen", body).catch(() => ({ alerts: [] }));
  return alerts.filter((alert) => alert.tier === "critical" && alert.drugs.includes(drug));
}

const rowsOf = (alert, rows) => alert.items.map((id) => rows.get(id)).filter(Boolean);

function showGaps({ unscreened, current_unscreened: current = [], allergies_unrecognised: allergies = [], not_evaluated: missed }) {
  const gaps = [
    ["gap_drugs", unscreened],
    ["gap_current", current],
    ["gap_allergies", allergies],
    ["gap_checks", missed.map(({ check, reason }) => `${named("check_", check)} (${named("why_", reason)})`)],
  ].filter(([, names]) => names.length);
  $("#gaps dl").replaceChildren(...gaps.flatMap(([key, names]) => [make("dt", say(key)), make("dd", list(names))]));
  show($("#gaps"), gaps.length > 0);
  show($("#gaps-none"), gaps.length === 0);
}

/** Folded away: rules' notes, what the model's reader should know, and how much was not shown at all. */
function showNotes(draft, rows, paper) {
  const notes = [
    ...alertsOf(draft, "info").map((alert) => alertElement(alert, { open: paper, rows: rowsOf(alert, rows) })),
    ...draft.warnings.map(({ code, position, detail }) => {
      const text = known(`note_${code}`) ? say(`note_${code}`, { position }) : detail;
      return make("li", text);
    }),
  ];
  if (draft.screening.suppressed) notes.push(make("li", say("suppressed", { n: draft.screening.suppressed })));
  const box = $("#notes");
  show(box, notes.length > 0);
  put(box, "summary", say("notes", { n: notes.length }));
  $("ul", box).replaceChildren(...notes);
}
