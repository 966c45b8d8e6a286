// What is asked of the host. A token is kept for this session only, and sent as a header.

const KEY = "rollcall-token";
let token = null;
try {
  token = sessionStorage.getItem(KEY);
} catch {
  // Then it lasts as long as this page.
}

/** The host wants a token, or another one. */
export class NeedsToken extends Error {}
/** Nobody answers. */
export class Gone extends Error {}
/** The host answers that it cannot; the message is its own. */
export class Refused extends Error {}

export const hasToken = () => token !== null;

export function setToken(value) {
  token = value;
  try {
    if (value === null) sessionStorage.removeItem(KEY);
    else sessionStorage.setItem(KEY, value);
  } catch {
    // See above.
  }
}

/** The response to a GET that is an answer. */
export async function ask(path, parameters = {}, signal = undefined) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== null && value !== undefined && value !== "") query.set(name, value);
  }
  const url = query.size ? `${path}?${query}` : path;
  const headers = token === null ? {} : { authorization: `Bearer ${token}` };
  let response;
  try {
    response = await fetch(url, { headers, signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Gone("The host does not answer.");
  }
  if (response.status === 401) throw new NeedsToken(token === null ? "" : "This token is not known to the host.");
  if (!response.ok) {
    const problem = await response.json().catch(() => ({}));
    throw new Refused(problem.detail ?? `The host answers ${response.status}.`);
  }
  return response;
}

export const get = async (path, parameters, signal) => (await ask(path, parameters, signal)).json();

/** Numbers of /metrics: [name, labels, value]. */
export async function metrics(signal) {
  const text = await (await ask("/metrics", {}, signal)).text();
  const line = /^([a-z_]+)(?:\{(.*)\})? ([0-9.eE+-]+)$/;
  return text.split("\n").flatMap((one) => {
    const found = line.exec(one);
    if (!found) return [];
    const labels = Object.fromEntries([...(found[2] ?? "").matchAll(/([a-z_]+)="([^"]*)"/g)].map(([, name, value]) => [name, value]));
    return [[found[1], labels, Number(found[3])]];
  });
}

/** The series of a range, by step, and what is missing of each step. */
export async function series(parameters, signal) {
  const answer = await get("/v1/series", { ...parameters, completeness: true }, signal);
  const counts = Array.from({ length: 7 }, (_, status) => answer.counts[status]);
  return { ...answer, counts, missing: answer.completeness.missing };
}
