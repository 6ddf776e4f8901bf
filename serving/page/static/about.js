// What a draft was made from, and by what.

import { tagOf } from "./codes.js";
import { $, make, put, show } from "./dom.js";
import { list, named, number, say, time } from "./words.js";

const UNITS = {
  height_cm: "cm",
  weight_kg: "kg",
  bmi: "kg/m²",
  systolic_mmhg: "mmHg",
  diastolic_mmhg: "mmHg",
  creatinine_mg_dl: "mg/dL",
  egfr: "mL/min/1.73 m²",
  potassium_mmol_l: "mmol/L",
};
const DIGEST = 12;

/** Fill in what does not change while a draft is reviewed. */
export function showAbout(draft) {
  const { facts, inputs = { used: [], missing: [] } } = draft;
  $("#used").replaceChildren(...inputs.used.flatMap((name) => [make("dt", named("input_", name)), valueOf(name, facts?.[name])]));
  put(document, "#missing", inputs.missing.length ? list(inputs.missing.map((name) => named("input_", name))) : say("none"));
  show($("#not-kept"), !facts);
  put(document, "#not-kept", say("not_kept"));
  showVersions(draft.versions ?? {});
  put(document, "#meaning", meaningOf(draft));
  put(document, "#review time", time(draft.created_at));
  $("#review time").dateTime = draft.created_at;
  put(document, "#review .id", draft.draft_id);
}

function valueOf(name, value) {
  const cell = document.createElement("dd");
  if (value === undefined || value === null) cell.textContent = "✓";
  else if (Array.isArray(value) && value.length && name.endsWith("diagnoses")) cell.append(diagnoses(value));
  else cell.textContent = inWords(name, value);
  return cell;
}

function diagnoses(given) {
  const items = given.map((diagnosis) => {
    const item = make("li", diagnosis.text ?? diagnosis.title ?? "");
    if (diagnosis.icd_code) item.append(" ", Object.assign(make("span", tagOf(diagnosis)), { className: "tag" }));
    return item;
  });
  return make("ol", "", ...items);
}

function inWords(name, value) {
  if (Array.isArray(value)) return value.length ? list(value.map((item) => item.substance ?? item)) : say("none");
  if (typeof value === "boolean") return say(value ? "yes" : "no");
  if (name === "sex") return say(`sex_${value}`);
  if (name === "age") return say("value_age", { n: value });
  if (value.hours_ago !== undefined) return say("lab", { value: number(value.value), unit: UNITS[name], hours: number(value.hours_ago) });
  return `${number(value)} ${UNITS[name] ?? ""}`.trim();
}

function showVersions(versions) {
  const shown = Object.entries(versions).filter(([, value]) => value);
  $("#versions").replaceChildren(
    ...shown.flatMap(([name, value]) => {
      const cell = make("dd", name.endsWith("sha256") ? value.slice(0, DIGEST) : value);
      cell.className = "mono";
      return [make("dt", named("version_", name)), cell];
    }),
  );
}

function meaningOf({ probabilities, model }) {
  if (!probabilities) return say("no_probabilities");
  return model?.calibrated_on ? say("calibrated", { n: number(model.calibrated_on) }) : say("uncalibrated");
}
