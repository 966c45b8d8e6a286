// The last hundred samples of a device, as the log has them: asked for when somebody wants to see them.

import { ask, Refused } from "./api.js";
import { fill, h } from "./dom.js";
import { named } from "./statuses.js";
import { duration, exact, ms, span } from "./words.js";

const MOST = 100;
const SUMMARY = "Its last hundred samples";

/** Where nothing is known of its period. */
const PERIOD_MS = 1000;

const known = { exact: "exactly", one_second: "± 1 s", unknown: "by when it came" };

// First comes what is where it is looked for; then all of the log is read for what came late. Who hears nothing for so long
// goes without.
const QUIET_MS = 2000;

/** What an answer says until its end, or until nothing more comes. */
async function read(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const quiet = new Promise((resolve) => setTimeout(resolve, QUIET_MS, null));
    const part = await Promise.race([reader.read(), quiet]);
    if (part === null) {
      reader.cancel().catch(() => {});
      return { text, isQuiet: true };
    }
    if (part.done) return { text, isQuiet: false };
    text += part.value;
  }
}

export class Samples {
  constructor(id) {
    this.id = id;
    this.last = null;
    this.content = h("div", {});
    this.element = h("details", { class: "samples" }, h("summary", {}, SUMMARY), this.content);
    this.element.addEventListener("toggle", () => this.element.open && this.ask());
  }

  /** What is known of the device now; what is asked for ends with its last sample. */
  of(device) {
    this.last = device.last_sample && { at: ms(device.last_sample.at), period: device.period_ms ?? PERIOD_MS };
    this.element.hidden = !this.last;
  }

  async ask() {
    const end = Math.floor(this.last.at / 1000) + 1;
    const start = Math.max(0, Math.floor((this.last.at - MOST * this.last.period) / 1000));
    fill(this.content, h("p", { class: "muted" }, "Asking …"));
    try {
      const { text, isQuiet } = await read(await ask("/v1/messages", { start, end, device: this.id }));
      const lines = text.split("\n").slice(0, -1).map((line) => JSON.parse(line));
      const messages = lines.filter((line) => line.device);
      this.draw(messages, isQuiet || lines.at(-1)?.complete, isQuiet, start * 1000, end * 1000);
    } catch (error) {
      const why = error instanceof Refused ? error.message : "The host does not answer.";
      fill(this.content, h("p", { class: "problem", role: "alert" }, `${why} Close this and open it again.`));
    }
  }

  draw(messages, isWhole, isQuiet, from, to) {
    const samples = messages.toSorted((one, other) => ms(other.sampled_at) - ms(one.sampled_at)).slice(0, MOST);
    const row = (sample) => {
      const later = ms(sample.received_at) - ms(sample.sampled_at);
      return h(
        "tr",
        {},
        h("th", { scope: "row" }, exact(ms(sample.sampled_at))),
        h("td", {}, named(sample.status)),
        h("td", {}, later < 1000 ? "at once" : `after ${duration(later / 1000)}`),
        h("td", {}, sample.kind === "undecided" ? "undecided, not counted" : known[sample.time_error]),
        h("td", { class: "number" }, sample.seq ?? ""),
      );
    };
    const heads = ["Taken", "Status", "Received", "Known", "Number"];
    const head = heads.map((name, at) => h("th", { scope: "col", class: at > 3 ? "number" : null }, name));
    fill(
      this.content,
      !isWhole && h("p", { class: "problem", role: "alert" }, "These are not all: the answer was cut off."),
      isQuiet && h("p", { class: "muted" }, "Samples that came late may not be among them: not all of the log was read."),
      h("p", { class: "muted" }, `From ${span(from, to)}, the latest first.`),
      h(
        "div",
        { class: "wide", tabindex: "0", role: "group", "aria-label": SUMMARY },
        h("table", {}, h("thead", {}, h("tr", {}, head)), h("tbody", {}, samples.map(row))),
      ),
    );
  }
}
