// Signing in with a key.

import { renew, signIn } from "./api.js";
import { $ } from "./dom.js";
import { calm, complain } from "./problems.js";

const form = $("#sign-in");
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  calm();
  try {
    await signIn($("#key").value.trim());
    location.assign(form.dataset.next);
  } catch (problem) {
    complain(problem);
    $("#key").select();
  }
});
$("#key").focus();

// A link from another site comes without the session's cookie, though there may be one: look from here.
renew().then(
  (signedIn) => signedIn && location.replace(form.dataset.next),
  (problem) => complain(problem),
);
