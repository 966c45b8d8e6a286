// A range of time: its buttons, its chart, what was counted in it exactly, and what differs in a part of it.

import { current, go, href, noteNow, to } from "./address.js";
import { get, series as askSeries } from "./api.js";
import { StatusChart, withTimes } from "./chart.js";
import { fill, h } from "./dom.js";
import { hrefOf, partInWords, rangeBar, rangeOf } from "./range.js";
import { isNamed, levelOf, named, nameOf, STATUSES } from "./statuses.js";
import { count, exact, many, moment, ms, share, span } from "./words.js";

/** What goes on with time is asked for again as often. */
const AGAIN_MS = 5000;

const sum = (numbers) => numbers.reduce((all, one) => all + one, 0);

export class Over {
  /** `exactly` is where the exact numbers go; of a device, what is asked is asked of it. */
  constructor(exactly, device = null) {
    this.device = device;
    this.exactly = exactly;
    this.chart = new StatusChart((start, end, shift) => this.part(start, end, shift), !device);
    this.bar = h("div", {});
    this.legend = h("div", { class: "legend", role: "group", "aria-label": "Statuses that are shown" });
    this.problem = h("p", { class: "problem", role: "alert" });
    this.steps = h("details", { class: "steps" }, h("summary", {}, "Every step as a table"));
    this.steps.addEventListener("toggle", () => this.drawSteps());
    this.differing = h("div", { class: "differs" });
    this.element = h(
      "section",
      { class: "over", "aria-labelledby": "over-title" },
      h("h2", { id: "over-title" }, "Status over time"),
      this.bar,
      this.problem,
      this.chart.element,
      this.chart.readout,
      this.legend,
      this.differing,
      this.steps,
    );
    this.stopped = new AbortController();
    this.asked = 0;
  }

  get hidden() {
    return new Set((current().hide ?? "").split(",").filter(Boolean).map(Number));
  }

  /** Draws what the address says. */
  update() {
    this.range = rangeOf(current(), this.device ? 60 : 1);
    this.drawBar();
    if (this.series) this.draw();
    this.ask();
    this.askDiffers();
  }

  drawBar() {
    const { follows, preset } = this.range;
    if (follows) noteNow(preset);
    // Not under the hands of whoever fills in a range.
    if (!this.bar.querySelector("details[open]")) fill(this.bar, rangeBar(this.range));
  }

  live() {
    if (!this.range?.follows || Date.now() - this.asked < AGAIN_MS) return;
    this.range = rangeOf(current(), this.device ? 60 : 1);
    this.drawBar();
    this.ask();
  }

  async ask() {
    this.asked = Date.now();
    const { start, end, step } = this.range;
    const question = `${start} ${end} ${step}`;
    this.question = question;
    try {
      const answer = await askSeries({ start, end, step, device: this.device }, this.stopped.signal);
      // Who has gone on meanwhile asked something else.
      if (this.question !== question) return;
      this.series = withTimes(answer);
      this.problem.textContent = "";
      this.draw();
    } catch (error) {
      this.failed(error);
    }
  }

  failed(error) {
    if (error.name === "AbortError") return;
    // That nobody answers, or wants a token, is said at the top of the page.
    if (error.constructor.name === "Refused") this.problem.textContent = error.message;
    else if (error instanceof TypeError || error instanceof ReferenceError) throw error;
  }

  draw() {
    const { hidden } = this;
    this.chart.show(this.series, hidden);
    const toggle = (status) => {
      const others = new Set(hidden);
      if (!others.delete(status)) others.add(status);
      return href({ hide: [...others].sort().join(",") });
    };
    fill(
      this.legend,
      STATUSES.map((status) =>
        h("button", { type: "button", "data-key": `status-${status}`, "aria-pressed": `${!hidden.has(status)}`, onclick: () => go(toggle(status)) }, named(status)),
      ),
      this.series.missing && h("span", { class: "hatched" }, h("span", { class: "patch missing", "aria-hidden": "true" }), "missing"),
    );
    fill(this.exactly, this.table());
    this.drawSteps();
  }

  table() {
    const { counts, total, missing, time_uncertain, as_of } = this.series;
    const all = sum(total);
    const row = (status) => h("tr", {}, h("th", { scope: "row" }, named(status)), h("td", {}, count(sum(counts[status]))), h("td", {}, share(sum(counts[status]), all)));
    const doubts = [
      missing && many(sum(missing), "sample is missing", "samples are missing"),
      sum(time_uncertain.one_second) > 0 && `${count(sum(time_uncertain.one_second))} dated to ±1 s`,
      sum(time_uncertain.unknown) > 0 && `Of ${count(sum(time_uncertain.unknown))} it is not known how exactly they are dated`,
    ].filter(Boolean);
    return [
      h("div", { class: "heading" }, h("h2", { id: "exactly-title" }, "What was counted, exactly"), h("button", { type: "button", class: "quiet", "data-key": "csv", title: "Every step of this range", onclick: () => this.save() }, "Save as CSV")),
      h(
        "table",
        { class: "exact" },
        h("caption", {}, span(this.series.start * 1000, this.series.end * 1000)),
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Status"), h("th", { scope: "col" }, "Samples"), h("th", { scope: "col" }, "Share"))),
        h("tbody", {}, STATUSES.map(row)),
        h("tfoot", {}, h("tr", {}, h("th", { scope: "row" }, "Total"), h("td", { id: "total" }, count(all)), h("td", {}))),
      ),
      h("p", { class: "muted" }, `${doubts.map((doubt) => `${doubt}. `).join("")}As of ${exact(ms(as_of))}.`),
    ];
  }

  drawSteps() {
    if (!this.steps.open || !this.series) return;
    const { first_at, step, counts, total, missing } = this.series;
    const head = ["From", ...STATUSES.map(nameOf), "Total", ...(missing ? ["Missing"] : [])];
    const row = (second, at) => h("tr", {}, h("th", { scope: "row" }, moment(second * 1000) + (step < 60 ? `:${String(second % 60).padStart(2, "0")}` : "")), STATUSES.map((status) => h("td", {}, count(counts[status][at]))), h("td", {}, count(total[at])), missing && h("td", {}, count(missing[at])));
    const table = h("div", { class: "wide", tabindex: "0", role: "group", "aria-label": "Every step" }, h("table", {}, h("thead", {}, h("tr", {}, head.map((name) => h("th", { scope: "col" }, name)))), h("tbody", {}, first_at.map(row))));
    fill(this.steps, h("summary", { "data-key": "steps" }, "Every step as a table"), table);
  }

  /** What a spreadsheet reads: each step, times in UTC. */
  csv() {
    const { first_at, step, counts, total, missing, time_uncertain } = this.series;
    const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
    const level = (status) => (levelOf(status) ? ` (${levelOf(status)})` : "");
    const title = (status) => quoted(isNamed() ? `${status} ${nameOf(status)}${level(status)}` : `status ${status}`);
    const head = ["start", "seconds", ...STATUSES.map(title), "total", ...(missing ? ["missing"] : []), "dated to a second", "time not known"];
    const row = (second, at) => [new Date(second * 1000).toISOString(), step, ...STATUSES.map((status) => counts[status][at]), total[at], ...(missing ? [missing[at]] : []), time_uncertain.one_second[at], time_uncertain.unknown[at]];
    return [head, ...first_at.map(row)].map((cells) => cells.join(",")).join("\r\n") + "\r\n";
  }

  save() {
    const url = URL.createObjectURL(new Blob([this.csv()], { type: "text/csv" }));
    const { start, end } = this.series;
    const name = `rollcall-${this.device ? `${this.device}-` : ""}${new Date(start * 1000).toISOString()}-${new Date(end * 1000).toISOString()}.csv`;
    h("a", { href: url, download: name.replaceAll(":", "") }).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  }

  /** A part was dragged over: it is looked at closer, or compared. */
  part(start, end, shift) {
    if (shift && !this.device) go(href({ differs: `${Math.floor(start / 60) * 60}-${Math.ceil(end / 60) * 60}` }));
    else go(hrefOf(start, end, { differs: null }));
  }

  async askDiffers() {
    const asked = current().differs;
    if (this.device) return;
    if (!asked) {
      const { start, end } = this.range;
      const here = `${Math.floor(start / 60) * 60}-${Math.ceil(Math.min(end, Date.now() / 1000) / 60) * 60}`;
      const ask = end - start <= 86400 && h("a", { href: href({ differs: here }) }, "What differs here from the time before?");
      return fill(this.differing, ask);
    }
    const [start, end] = asked.split("-").map(Number);
    try {
      const answer = await get("/v1/differs", { start, end }, this.stopped.signal);
      if (current().differs === asked) fill(this.differing, differs(answer));
    } catch (error) {
      if (error.name !== "AbortError") fill(this.differing, h("p", { class: "problem" }, error.message), h("a", { href: href({ differs: null }) }, "Close"));
    }
  }

  leave() {
    this.stopped.abort();
    this.chart.leave();
  }

  /** A view around it, which asks for what else it shows as often. */
  view(ask, againMs) {
    let asked = 0;
    const askNow = () => {
      asked = Date.now();
      ask(this.stopped.signal);
    };
    return {
      update: () => {
        this.update();
        askNow();
      },
      live: () => {
        this.live();
        if (Date.now() - asked > againMs) askNow();
      },
      leave: () => this.leave(),
    };
  }
}

/** What differs in a range from the same length before it, most first. */
function differs({ start, end, before, statuses, devices, devices_differing }) {
  const change = (was, is) => {
    const by = is - was;
    return by === 0 ? "the same" : `${by > 0 ? "+" : "−"}${count(Math.abs(by))}`;
  };
  const status = (one) => h("tr", {}, h("th", { scope: "row" }, named(one.status)), h("td", {}, count(one.before)), h("td", {}, count(one.here)), h("td", {}, change(one.before, one.here)));
  const ofDevice = (one) => {
    const [was, is] = [one.before, one.here].map((counts) => sum(Object.values(counts)));
    const [most] = STATUSES.toSorted((a, b) => Math.abs(one.here[b] - one.before[b]) - Math.abs(one.here[a] - one.before[a]));
    const how = is === 0 ? "nothing came" : was === 0 ? "nothing came before" : `${isNamed() ? nameOf(most) : `status ${most}`}: ${count(one.before[most])} before, ${count(one.here[most])} here`;
    return h("tr", {}, h("th", { scope: "row" }, h("a", { href: to("device", { device: one.device }) }, one.device)), h("td", {}, count(was)), h("td", {}, count(is)), h("td", { class: "words" }, how));
  };
  const heads = (...names) => h("thead", {}, h("tr", {}, names.map((name) => h("th", { scope: "col" }, name))));
  return [
    h("div", { class: "heading" }, h("h3", {}, `What differs in the ${partInWords(start, end)}`), h("a", { href: href({ differs: null }) }, "Close")),
    h("p", { class: "muted" }, `Compared with ${span(before * 1000, start * 1000)}.`),
    h(
      "div",
      { class: "two" },
      h("table", {}, h("caption", {}, "Statuses"), heads("Status", "Before", "Here", "Change"), h("tbody", {}, statuses.filter((one) => one.before + one.here > 0).map(status))),
      devices.length === 0
        ? h("p", { class: "muted" }, "Every device is as it was before.")
        : h("table", {}, h("caption", {}, devices.length < devices_differing ? `The ${devices.length} of ${many(devices_differing, "device")} that differ most` : many(devices_differing, "device that differs", "devices that differ")), heads("Device", "Before", "Here", "How"), h("tbody", {}, devices.map(ofDevice))),
    ),
  ];
}
