// The exact numbers of a range, what was not counted and why, and the same questions for programs.

import { metrics } from "./api.js";
import { copyButton, fill, h } from "./dom.js";
import { Over } from "./over.js";
import { count } from "./words.js";

const AGAIN_MS = 15000;

const KINDS = [
  ["rollcall_messages_rejected_total", "Messages that will never be counted"],
  ["rollcall_messages_dropped_total", "Messages that were received and not stored; devices send them again"],
  ["rollcall_gateway_refusals_total", "Clients and packets that were refused"],
  ["rollcall_http_refusals_total", "HTTP requests that were refused"],
];

const TOTALS = [
  ["rollcall_messages_received_total", "received"],
  ["rollcall_messages_accepted_total", "counted"],
  ["rollcall_messages_duplicate_total", "known already"],
  ["rollcall_messages_undecided_total", "undecided"],
];

export function dataView(root) {
  const exactly = h("section", { "aria-labelledby": "exactly-title" });
  const over = new Over(exactly);
  const drops = h("section", { class: "drops" });
  const asking = h("section", { class: "asking" });
  root.replaceChildren(h("h1", {}, "Data"), over.element, h("div", { class: "two" }, exactly, drops), asking);

  async function ask(signal) {
    drawAsking();
    try {
      draw(await metrics(signal));
    } catch {
      // What the page says of the host says it of this too.
    }
  }

  function draw(all) {
    const of = (name) => all.find(([one]) => one === name)?.[2] ?? 0;
    const takes = all.some(([name, labels]) => name === "rollcall_part_healthy" && labels.part === "source");
    const kind = ([name, title]) => {
      const reasons = all.filter(([one, , value]) => one === name && value > 0).sort((one, other) => other[2] - one[2]);
      return [h("h3", {}, title), reasons.length === 0 ? h("p", { class: "muted" }, "None.") : h("table", {}, h("tbody", {}, reasons.map(([, labels, value]) => h("tr", {}, h("th", { scope: "row" }, labels.reason.replaceAll("_", " ")), h("td", {}, count(value))))))];
    };
    fill(
      drops,
      h("h2", {}, "What was not counted, and why"),
      takes
        ? [h("p", { class: "muted" }, "Since this process started."), h("dl", { class: "facts" }, TOTALS.map(([name, word]) => h("div", {}, h("dt", {}, word), h("dd", {}, count(of(name)))))), KINDS.map(kind)]
        : [h("p", { class: "muted" }, "This process answers only. The one that takes messages counts what it refuses, at its own /metrics."), kind(KINDS[3])],
    );
  }

  function drawAsking() {
    const { start, end, step } = over.range;
    const command = (path) => h("div", { class: "command" }, h("code", {}, `curl '${location.origin}${path}'`), copyButton(`curl '${location.origin}${path}'`));
    fill(asking, h("h2", {}, "The same for programs"), command(`/v1/counts?start=${start}&end=${end}`), command(`/v1/series?start=${start}&end=${end}&step=${step}`), h("p", { class: "muted" }, "With tokens, show one: Authorization: Bearer TOKEN."));
  }

  return over.view(ask, AGAIN_MS);
}
