// Answers of the HTTP API, with entity tags: an answer that is shown already costs next to nothing.

const tags = new Map(); // URL → entity tag of the answer shown
const TOKEN = "leadpulse-token"; // in the tab's storage: it goes with the tab

/** The answer of a URL, or null if it is the one shown already. */
export async function ask(url) {
  const headers = tags.has(url) ? { "If-None-Match": tags.get(url) } : {};
  const token = sessionStorage.getItem(TOKEN);
  if (token) headers.Authorization = `Bearer ${token}`;
  const response = await fetch(url, { headers, cache: "no-store", signal: AbortSignal.timeout(5000) });
  if (response.status === 304) return null;
  const body = await response.json();
  if (response.status === 401) askForToken();
  if (!response.ok) throw new Error(body.detail);
  const tag = response.headers.get("ETag");
  if (tag) tags.set(url, tag);
  return body;
}

let isAsking = false;

/** Asks the person for a token, once until the page is loaded again; the next request carries it. */
function askForToken() {
  if (isAsking) return;
  isAsking = true;
  const token = window.prompt("This server wants a token");
  if (!token) return; // not asked again: the page stays readable
  sessionStorage.setItem(TOKEN, token.trim());
  isAsking = false;
}

/** From now on every answer is new. */
export function forgetAnswers() {
  tags.clear();
}
