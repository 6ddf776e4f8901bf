// What every page can do: sign out.

import { signOut } from "./api.js";
import { $ } from "./dom.js";
import { complain } from "./problems.js";

$("#sign-out")?.addEventListener("click", async () => {
  try {
    await signOut();
    location.assign("/sign-in");
  } catch (problem) {
    complain(problem);
  }
});
