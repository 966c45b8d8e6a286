// One device: how it is and since when, its statuses over time, its boots, and what of them is missing.

import { to } from "./address.js";
import { get, Refused } from "./api.js";
import { fill, h } from "./dom.js";
import { Over } from "./over.js";
import { Samples } from "./samples.js";
import { inWords, patch, stateMark } from "./statuses.js";
import { ago, count, duration, exact, many, moment, ms, span } from "./words.js";

const AGAIN_MS = 5000;
const GAPS = 20;

export function deviceView(root, id) {
  const exactly = h("section", { "aria-labelledby": "exactly-title" });
  const over = new Over(exactly, id);
  const samples = new Samples(id);
  const how = h("div", { class: "now" });
  const boots = h("section", { class: "boots" });
  const lost = h("section", { class: "lost" });
  const problem = h("p", { class: "problem", role: "alert" });
  root.replaceChildren(h("p", { class: "back" }, h("a", { href: to("devices") }, "All devices")), h("h1", { class: "id" }, id), how, problem, over.element, h("div", { class: "two" }, lost, exactly), samples.element, boots);

  async function ask(signal) {
    try {
      draw(await get(`/v1/devices/${encodeURIComponent(id)}`, {}, signal));
      problem.textContent = "";
    } catch (error) {
      if (error instanceof Refused) problem.textContent = error.message;
    }
  }

  function draw(device) {
    samples.of(device);
    const asOf = ms(device.as_of);
    const last = device.last_sample;
    const at = last && ms(last.at);
    const words = {
      online: () => (last ? `Answers; the last sample came ${ago(at, asOf)}.` : "Answers."),
      stale: () => `Silent since ${moment(at)}, for ${duration((asOf - at) / 1000)}.`,
      offline: () => (last ? `Offline; its last sample is of ${exact(at)}, ${ago(at, asOf)}.` : "Offline."),
      never_seen: () => "It was issued a credential, and never came.",
    }[device.state]();
    const fact = (name, ...value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));
    fill(
      how,
      h("p", { class: "sentence-small" }, stateMark(device.state, words)),
      device.first_seen &&
        h(
          "dl",
          { class: "facts" },
          last && fact("last status", h("span", { class: device.state === "online" ? null : "old" }, patch(last.status), inWords(last.status))),
          fact("first seen", exact(ms(device.first_seen))),
          fact("last seen", exact(ms(device.last_seen))),
          fact("period", device.period_ms ? `${device.period_ms / 1000} s` : "not known"),
          fact("samples seen", count(device.seen)),
          fact("missing", count(device.missing)),
          device.undecided > 0 && fact("undecided", count(device.undecided)),
        ),
    );
    const gaps = device.boots.flatMap((boot) => boot.gaps).reverse();
    fill(
      lost,
      h("h2", {}, "What is missing"),
      gaps.length === 0
        ? h("p", { class: "muted" }, "Nothing, of the boots below.")
        : h("ul", { class: "plain" }, gaps.slice(0, GAPS).map((gap) => h("li", {}, h("b", {}, `${many(gap.missing, "sample")} `), `between ${span(ms(gap.after), ms(gap.before)).replace(" to ", " and ")}`))),
      gaps.length > GAPS && h("p", { class: "muted" }, `and ${many(gaps.length - GAPS, "earlier gap")}`),
    );
    const heads = ["Boot", "First sample", "Last sample", "Seen", "Missing"];
    fill(
      boots,
      h("h2", {}, "Boots"),
      device.boots.length === 0
        ? h("p", { class: "muted" }, "It says of no sample to which boot it belongs.")
        : h(
            "div",
            { class: "wide", tabindex: "0", role: "group", "aria-label": "Boots" },
            h(
              "table",
              {},
              h("thead", {}, h("tr", {}, heads.map((name, at) => h("th", { scope: "col", class: at > 2 ? "number" : null }, name)))),
              h("tbody", {}, device.boots.toReversed().map((boot) => h("tr", {}, h("th", { scope: "row", class: "id" }, boot.boot), h("td", {}, exact(ms(boot.first_at))), h("td", {}, exact(ms(boot.last_at))), h("td", { class: "number" }, count(boot.seen)), h("td", { class: "number" }, count(boot.missing))))),
            ),
          ),
      h("p", { class: "muted" }, `As of ${exact(asOf)}.`),
    );
  }

  return over.view(ask, AGAIN_MS);
}
