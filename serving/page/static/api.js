// Calls of the service. A call that fails throws a Problem; a session that has ended is renewed in place, once.

import { $ } from "./dom.js";
import { signInAgain } from "./session.js";

const DEFAULT_WAIT_SECONDS = 5;
let csrf = $("meta[name=csrf]")?.content;

export class Problem extends Error {
  /** @param {number} status 0: the service could not be reached */
  constructor(status, { code = "other", errors = [], request_id = null } = {}, seconds = DEFAULT_WAIT_SECONDS) {
    super(code);
    Object.assign(this, { status, code, errors, requestId: request_id, seconds });
  }
}

/** Call the service; return what it answers: {status, body}. */
export async function call(method, path, body, { headers = {}, signal } = {}) {
  try {
    return await once(method, path, body, headers, signal);
  } catch (problem) {
    if (problem.code !== "unauthenticated" && problem.code !== "csrf") throw problem;
    if (!(await renew())) await signInAgain(signIn);
    return once(method, path, body, headers, signal);
  }
}

export const get = async (path, options) => (await call("GET", path, undefined, options)).body;
export const post = async (path, body, options) => (await call("POST", path, body, options)).body;

/** Sign in with a key. */
export async function signIn(key) {
  await once("POST", "/session", { key }, {});
  await renew();
}

export async function signOut() {
  await once("DELETE", "/session", undefined, {});
}

/** Take the session's token anew, if there is a session: another tab may have signed in. */
export async function renew() {
  try {
    csrf = (await once("GET", "/session", undefined, {})).body.csrf;
    return true;
  } catch (problem) {
    if (problem.status === 0) throw problem;
    return false;
  }
}

async function once(method, path, body, headers, signal) {
  const sent = { Accept: "application/json", ...headers };
  if (body !== undefined) sent["Content-Type"] = "application/json";
  if (csrf && method !== "GET") sent["X-CSRF-Token"] = csrf;
  let answer;
  try {
    answer = await fetch(path, { method, headers: sent, signal, body: body && JSON.stringify(body), cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { code: "offline" });
  }
  if (!answer.ok) throw await problemOf(answer);
  return { status: answer.status, body: answer.status === 204 ? null : await answer.json() };
}

async function problemOf(answer) {
  const told = await answer.json().catch(() => ({}));
  const code = told.code ?? (answer.status === 401 ? "unauthenticated" : answer.status === 404 ? "not_found" : undefined);
  return new Problem(answer.status, { ...told, code }, Number(answer.headers.get("Retry-After")) || undefined);
}
