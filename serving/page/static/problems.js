// What went wrong, in words, at the top of the page.

import { $, put, show } from "./dom.js";
import { known, say } from "./words.js";

/** Return a problem in the reader's words; the request's number helps whoever runs the service. */
export function explain(problem) {
  const key = known(`problem_${problem.code}`) ? `problem_${problem.code}` : "problem_other";
  const text = say(key, { n: problem.seconds, code: problem.code ?? problem.name });
  return key === "problem_other" && problem.requestId ? `${text} ${say("request_id", { id: problem.requestId })}` : text;
}

/** Show a problem; with `retry`, a button for it. */
export function complain(problem, retry) {
  const notice = $("#notice");
  put(notice, "p", explain(problem));
  const button = $("button", notice);
  show(button, Boolean(retry));
  button.onclick = () => {
    calm();
    retry();
  };
  show(notice);
  notice.scrollIntoView({ block: "nearest" });
  if (problem.code === "offline" && retry) addEventListener("online", () => button.click(), { once: true });
}

export function calm() {
  show($("#notice"), false);
}
