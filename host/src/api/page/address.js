// What is shown, as the address has it: every view can be sent to somebody and comes back by Back.

const known = ["view", "device", "last", "at", "start", "end", "hide", "differs", "prefix", "sort", "trouble", "after", "zone"];
const listeners = new Set();

/** An `at` that is so near to now goes on with time. */
const STILL_NOW_S = 150;

/** What goes on with time says as often in the address what it shows. */
const NOTED_S = 60;

/** What the address says now. */
export function current() {
  const asked = new URLSearchParams(location.search);
  const address = {};
  for (const name of known) if (asked.get(name)) address[name] = asked.get(name);
  address.view = address.device ? "device" : ["devices", "data"].includes(address.view) ? address.view : "fleet";
  return address;
}

/** The address of the same view with these changes; null takes away. */
export function href(changes, from = current()) {
  const merged = { ...from, ...changes };
  if (merged.view === "fleet" || merged.device) delete merged.view;
  const query = new URLSearchParams();
  for (const name of known) if (merged[name]) query.set(name, merged[name]);
  return `?${query}`;
}

/** The address of another view: it keeps the range and the zone. A range that goes on does so there, whenever one gets there. */
export function to(view, changes = {}) {
  const { last, at, start, end, zone } = current();
  return href({ ...changes, view: view === "device" ? null : view }, { last, at: goesOn(at) ? null : at, start, end, zone });
}

export function go(address) {
  if (address !== location.search) history.pushState(history.state, "", address);
  listeners.forEach((listener) => listener());
}

/** Whether this page wrote this `at`, here in the history: Back and Reload find it again, a link that is sent does not. */
const isOwn = (at) => at !== undefined && at === history.state?.at;

/** Whether what the address says of a time goes on with time, however long nobody looked. */
export const goesOn = (at) => isOwn(at) || !(at > 0 && Date.now() / 1000 - at >= STILL_NOW_S);

/** A link that is sent shows later what it shows now: no step in the history, and nothing is drawn anew. */
export function noteNow(last) {
  const now = Math.floor(Date.now() / 1000);
  const before = current().at;
  if (isOwn(before) && now - before < NOTED_S) return;
  const at = String(now);
  history.replaceState({ at }, "", href({ last, at }));
}

export function onChange(listener) {
  listeners.add(listener);
}

addEventListener("popstate", () => listeners.forEach((listener) => listener()));

addEventListener("click", (event) => {
  const link = event.target.closest?.('a[href^="?"]');
  if (!link || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  go(link.getAttribute("href"));
});
