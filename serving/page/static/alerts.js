// A rule that fired, as a line: how severe in words, colour and shape; what it says; whose rule it is.

import { $, copy, make, put } from "./dom.js";
import { list, named, say } from "./words.js";

const language = document.documentElement.lang;

export const inWords = (text) => text[language] ?? text.en;

/** Make an alert's line: above the list with what it says and links to its rows; in a row, folded to a badge. */
export function alertElement(alert, { open = false, rows = null } = {}) {
  const element = copy("alert");
  const details = $("details", element);
  element.classList.add(alert.tier);
  details.dataset.rule = alert.rule_id;
  details.open = open || alert.tier === "critical";
  $(".tier", element).append(copy(`icon-of-${alert.tier}`), say(`tier_${alert.tier}`));
  put(element, rows ? ".message" : ".badge", rows ? inWords(alert.message) : named("check_", alert.check));
  put(element, ".whole", rows ? "" : inWords(alert.message));
  put(element, ".citation", alert.citation);
  if (alert.current?.length) $(".where", element).append(say("with_current", { drugs: list(alert.current) }), " · ");
  for (const row of rows ?? []) $(".where", element).append(lineToRow(row), " · ");
  const rule = $(".rule", element);
  rule.href = `/about/rules/${encodeURIComponent(alert.rule_id)}`;
  rule.textContent = `${alert.rule_id} ${alert.rule_version}`;
  return element;
}

/** Make a link that moves the focus to a row. */
function lineToRow({ item, heading }) {
  const link = make("a", say("on_row", { rank: item.rank, drug: item.review?.edited_drug ?? item.drug }));
  link.href = `#row-${item.item_id}`;
  link.addEventListener("click", (event) => {
    event.preventDefault();
    heading.focus();
  });
  return link;
}
