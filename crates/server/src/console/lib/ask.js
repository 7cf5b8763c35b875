// Requests to the HTTP API. Answers have entity tags, so the browser's cache makes an unchanged one cost some hundred bytes.

const TOKEN = "leadpulse-token"; // in the tab's storage: it goes with the tab
const PATIENCE_MS = 15_000;

/** A refusal, in the words of the problem document. */
class Problem extends Error {
  constructor(status, document) {
    super(document.detail ?? "the answer cannot be read");
    this.status = status;
    this.title = document.title ?? `Status ${status}`;
    this.hint = document.hint ?? "";
    this.document = document;
  }
}

/** Headers that every request has. */
export function identity() {
  const token = sessionStorage.getItem(TOKEN);
  return token ? { Authorization: `Bearer ${token}` } : {};
}

/** Keeps a token for this tab. */
export const keepToken = (token) => sessionStorage.setItem(TOKEN, token);

/** Called once when a request is refused for want of a known client. */
let onUnknown = () => {};
export function whenUnknown(handler) {
  onUnknown = handler;
}

/** The JSON of a path such as `api/v1/status`, relative to the page. Throws a `Problem` for a refusal. `stop` ends the request. */
export async function ask(path, parameters = {}, { body, patience = PATIENCE_MS, stop } = {}) {
  const query = queryOf(parameters);
  const request = { headers: identity(), cache: "no-cache", signal: AbortSignal.any([AbortSignal.timeout(patience), ...(stop ? [stop] : [])]) };
  if (body !== undefined) {
    request.method = "POST";
    request.headers["Content-Type"] = "application/json";
    request.body = JSON.stringify(body);
  }
  const response = await fetch(query ? `${path}?${query}` : path, request);
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  const problem = new Problem(response.status, answer);
  if (response.status === 401) onUnknown(problem);
  throw problem;
}

/** A query string; empty and absent values are left out. */
export function queryOf(parameters) {
  const given = Object.entries(parameters).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
}

/** The path of an entity at the API. */
export const entityPath = (table, id, rest = "") => `api/v1/${encodeURIComponent(table)}/${encodeURIComponent(id)}${rest}`;

/** The address of an entity's page. */
export const entityAddress = (table, id, task) => `entity?${queryOf({ table, id, task })}`;
