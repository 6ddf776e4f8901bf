// Signing in again without leaving the page, so that nothing that was entered is lost.

import { $, announce, put, show } from "./dom.js";
import { explain } from "./problems.js";
import { say } from "./words.js";

let asking = null;

/** Ask for the key in a dialog until it is right; reject with the problem if the reader gives up. */
export function signInAgain(signIn) {
  asking ??= ask(signIn).finally(() => (asking = null));
  return asking;
}

function ask(signIn) {
  const dialog = $("#session");
  const field = $("#session-key");
  const before = document.activeElement;
  field.value = "";
  show($(".error", dialog), false);
  dialog.showModal();
  return new Promise((resolve, reject) => {
    dialog.onclose = () => {
      before?.focus();
      dialog.returnValue === "signed-in" ? resolve() : reject(Object.assign(new Error(), { code: "signed_out" }));
    };
    $("button[value=cancel]", dialog).onclick = () => dialog.close("");
    $("form", dialog).onsubmit = async (event) => {
      event.preventDefault();
      try {
        await signIn(field.value.trim());
        dialog.close("signed-in");
        announce(say("signed_in"));
      } catch (problem) {
        put(dialog, ".error", explain(problem));
        show($(".error", dialog));
        field.select();
      }
    };
  });
}
