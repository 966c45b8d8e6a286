// The range of time that is shown: the last so long, or from one time to another.

import { current, go, goesOn, href } from "./address.js";
import { h } from "./dom.js";
import { duration, isUtc, moment, short, span, zone } from "./words.js";

const PRESETS = [["15m", 900, "15 min"], ["1h", 3600, "1 h"], ["6h", 21600, "6 h"], ["24h", 86400, "24 h"], ["7d", 604800, "7 d"], ["30d", 2592000, "30 d"]];
const STEPS = [1, 5, 10, 30, 60, 120, 300, 600, 900, 1800, 3600, 10800, 21600, 43200, 86400, 604800, 2592000, 31536000];
const DEFAULT = "1h";

/** The last second of the year 9999: the host knows none behind it. */
const LAST_S = 253402300799;

/** As many bars as can be told from another. */
const bars = () => (innerWidth < 640 ? 45 : 96);

/** The range of an address: seconds, in whole steps, and whether it goes on. */
export function rangeOf(address, leastStep = 1) {
  const now = Math.floor(Date.now() / 1000);
  let [start, end] = [Number(address.start), Number(address.end)];
  const preset = PRESETS.find(([name]) => name === (address.last ?? DEFAULT)) ?? PRESETS[1];
  const isFixed = start >= 0 && end > start && end <= LAST_S;
  const follows = !isFixed && goesOn(address.at);
  if (!isFixed) {
    end = follows ? now : Number(address.at);
    start = end - preset[1];
  }
  const step = stepFor(end - start, leastStep);
  end = Math.ceil(end / step) * step;
  start = isFixed ? Math.floor(start / step) * step : end - Math.ceil(preset[1] / step) * step;
  return { start: Math.max(0, start), end, step, follows, preset: isFixed ? null : preset[0] };
}

function stepFor(length, least) {
  const fits = (step) => step >= least && length / step <= bars();
  return STEPS.find(fits) ?? STEPS.at(-1);
}

const fixed = (start, end) => ({ start: Math.max(0, Math.floor(start)), end: Math.floor(end), last: null, at: null, after: null });

/** The address of a part of time. */
export const hrefOf = (start, end, more = {}) => href({ ...fixed(start, end), ...more });

/** Half a length earlier (-1) or later (1); shorter (0.5) or longer (2). */
export function move(direction) {
  const { start, end } = rangeOf(current());
  const by = (direction * (end - start)) / 2;
  go(hrefOf(start + by, end + by));
}

export function scale(factor) {
  const { start, end } = rangeOf(current());
  const length = Math.max(10, (end - start) * factor);
  const middle = (start + end) / 2;
  const last = Math.min(middle + length / 2, Math.max(end, Date.now() / 1000));
  go(hrefOf(last - length, last));
}

/** The buttons, and what is shown in words. */
export function rangeBar(range) {
  const address = current();
  const preset = ([name, , words]) =>
    h("a", { href: href({ last: name, at: null, start: null, end: null, differs: null }), "aria-current": range.preset === name && range.follows ? "true" : null, class: "preset" }, words);
  const custom = h("details", { class: "custom" }, h("summary", { class: "preset", "data-key": "custom" }, "Custom"), form(range));
  return h(
    "div",
    { class: "range" },
    h("div", { class: "presets", role: "group", "aria-label": "Range of time" }, PRESETS.map(preset), custom),
    h(
      "p",
      { class: "shown" },
      h("button", { type: "button", "data-key": "earlier", title: "Earlier ([)", "aria-label": "Earlier", onclick: () => move(-1) }, "‹"),
      h("span", {}, `${span(range.start * 1000, range.end * 1000)}`),
      h("button", { type: "button", "data-key": "later", title: "Later (])", "aria-label": "Later", onclick: () => move(1) }, "›"),
      h("span", { class: "muted" }, `step ${short(range.step)}`),
      !range.follows && h("a", { href: href({ last: address.last ?? DEFAULT, at: null, start: null, end: null, differs: null }) }, "Back to now"),
    ),
  );
}

/** Times as a field has them, in the zone that is shown. */
const pad = (number) => String(number).padStart(2, "0");
function toField(second) {
  const date = new Date(second * 1000 - (isUtc() ? 0 : new Date(second * 1000).getTimezoneOffset() * 60000));
  return `${date.getUTCFullYear()}-${pad(date.getUTCMonth() + 1)}-${pad(date.getUTCDate())}T${pad(date.getUTCHours())}:${pad(date.getUTCMinutes())}`;
}
const fromField = (text) => Date.parse(isUtc() ? `${text}Z` : text) / 1000;

function form(range) {
  const field = (name, words, second) => h("label", {}, words, h("input", { type: "datetime-local", name, value: toField(second), required: true }));
  const problem = h("p", { class: "problem", role: "alert" });
  return h(
    "form",
    {
      class: "custom-form",
      onsubmit: (event) => {
        event.preventDefault();
        const fields = new FormData(event.target);
        const [start, end] = [fromField(fields.get("start")), fromField(fields.get("end"))];
        if (!(end > start)) problem.textContent = "The end has to be after the start.";
        else go(hrefOf(start, end, { differs: null }));
      },
    },
    field("start", "From", range.start),
    field("end", "To", range.end),
    h("p", { class: "muted" }, `Times in ${zone()}`),
    problem,
    h("button", { type: "submit" }, "Show"),
  );
}

/** "the 12 minutes from 03:02". */
export const partInWords = (start, end) => `${duration(end - start)} from ${moment(start * 1000)}`;
