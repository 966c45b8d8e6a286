// The devices: searched, sorted and filtered by the host, a page at a time.

import { current, go, href, to } from "./address.js";
import { get, Refused } from "./api.js";
import { fill, h } from "./dom.js";
import { nameOf, patch, stateMark } from "./statuses.js";
import { ago, count, exact, ms, stateName } from "./words.js";

const AGAIN_MS = 5000;
const LIMIT = 50;
const TYPED_MS = 200;

const FILTERS = [[null, "All"], ["stale", "Silent"], ["offline", "Offline"], ["gaps", "Missing samples"], ["never_seen", "Never seen"], ["undecided", "Undecided"]];
const NONE = {
  stale: "No device is silent.",
  offline: "No device is offline.",
  gaps: "No sample is missing.",
  never_seen: "Every device that was issued has come.",
  undecided: "Of every sample it is known whether it was counted.",
};

export function devicesView(root) {
  const stopped = new AbortController();
  const problem = h("p", { class: "problem", role: "alert" });
  const search = h("input", { type: "search", id: "search", placeholder: "porch", autocomplete: "off", spellcheck: "false", autocapitalize: "none" });
  const filters = h("div", { class: "presets", role: "group", "aria-label": "Which devices" });
  const list = h("div", { class: "list" });
  const pages = h("p", { class: "pages" });
  let [asked, typed, latest, question] = [0, null, null, null];
  search.addEventListener("input", () => {
    clearTimeout(typed);
    typed = setTimeout(() => go(href({ prefix: search.value.trim() || null, after: null })), TYPED_MS);
  });
  root.replaceChildren(
    h("h1", {}, "Devices"),
    h("div", { class: "find" }, h("label", { for: "search" }, "Begins with"), search, filters),
    problem,
    list,
    pages,
  );

  async function ask() {
    asked = Date.now();
    const { sort, trouble, prefix, after } = current();
    const now = JSON.stringify([sort, trouble, prefix, after]);
    question = now;
    try {
      const answer = await get("/v1/devices", { sort, trouble, prefix, after, limit: LIMIT }, stopped.signal);
      if (question !== now) return;
      latest = answer;
      problem.textContent = "";
      draw();
    } catch (error) {
      if (error instanceof Refused) problem.textContent = error.message;
    }
  }

  function draw() {
    const address = current();
    const { devices, next, as_of } = latest;
    const head = (sort, name, kind) => {
      const isSorted = (address.sort ?? "id") === sort;
      const words = { id: "by name", silence: "silent longest first", missing: "most missing first" }[sort];
      return h("th", { scope: "col", class: kind, "aria-sort": isSorted ? (sort === "missing" ? "descending" : "ascending") : null }, h("a", { href: href({ sort: sort === "id" ? null : sort, after: null }), title: words }, name, h("span", { "aria-hidden": "true", class: "sorted" }, isSorted ? (sort === "missing" ? " ↓" : " ↑") : "")));
    };
    const table = h(
      "table",
      { class: "devices" },
      h("thead", {}, h("tr", {}, head("id", "Device"), h("th", { scope: "col" }, "State"), head("silence", "Last sample", "number"), h("th", { scope: "col" }, "Status"), head("missing", "Missing", "number"), h("th", { scope: "col", class: "number wide-only" }, "Seen"))),
      h("tbody", {}, devices.map((device) => line(device, ms(as_of)))),
    );
    const none = address.prefix ? `No ${address.trouble ? "such " : ""}device begins with “${address.prefix}”.` : (NONE[address.trouble] ?? "There is no device yet.");
    fill(list, devices.length ? table : h("p", { class: "muted" }, none));
    fill(
      pages,
      address.after && h("a", { href: href({ after: null }) }, "First page"),
      next && h("a", { href: href({ after: next }) }, `Next ${LIMIT}`),
      h("span", { class: "muted" }, `As of ${exact(ms(as_of))}.`),
    );
  }

  const line = (device, asOf) => {
    const last = device.last_sample;
    return h(
      "tr",
      { class: device.state },
      h("th", { scope: "row" }, h("a", { class: "id", href: to("device", { device: device.device }) }, device.device)),
      h("td", {}, h("span", { class: "state-word" }, stateMark(device.state, stateName(device.state)))),
      h("td", { class: "number", title: last ? exact(ms(last.at)) : null }, last ? ago(ms(last.at), asOf) : "–"),
      h("td", { class: device.state === "online" ? null : "old" }, last ? [patch(last.status), nameOf(last.status)] : "–"),
      h("td", { class: "number" }, device.missing ? count(device.missing) : (device.missing ?? "–")),
      h("td", { class: "number wide-only" }, device.seen === undefined ? "–" : count(device.seen)),
    );
  };

  return {
    update: () => {
      const address = current();
      if (document.activeElement !== search) search.value = address.prefix ?? "";
      fill(filters, FILTERS.map(([trouble, name]) => h("a", { class: "preset", href: href({ trouble, after: null }), "aria-current": (address.trouble ?? null) === trouble ? "true" : null }, name)));
      ask();
    },
    live: () => {
      if (Date.now() - asked > AGAIN_MS) ask();
    },
    search,
    leave: () => {
      clearTimeout(typed);
      stopped.abort();
    },
  };
}
