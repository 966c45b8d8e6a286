// Status over time: stacked bars, hatched where samples are missing, empty where nothing came.

import { fill, h } from "./dom.js";
import { colours, isDark, nameOf, STATUSES } from "./statuses.js";
import { compact, count, day, isUtc, minute, clock, short, span } from "./words.js";

const DRAG_MIN_PX = 4;

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Lines across, which stand for what is missing. */
function hatch() {
  const size = 8 * devicePixelRatio;
  const tile = new OffscreenCanvas(size, size);
  const pen = tile.getContext("2d");
  pen.fillStyle = css("--ground");
  pen.fillRect(0, 0, size, size);
  pen.strokeStyle = css("--missing");
  pen.lineWidth = 1.5 * devicePixelRatio;
  for (const shift of [-size, 0, size]) {
    pen.moveTo(shift - 1, size + 1);
    pen.lineTo(shift + size + 1, -1);
  }
  pen.stroke();
  return pen.createPattern(tile, "repeat");
}

/** Times under the axis: with the day where it changes. */
function axisTimes(_, splits, __, ___, step) {
  let before = day(Date.now());
  return splits.map((second) => {
    const today = day(second * 1000);
    const isNew = today !== before;
    before = today;
    if (step >= 86400) return today;
    const time = step < 60 ? clock(second * 1000) : minute(second * 1000);
    return isNew ? `${time}\n${today}` : time;
  });
}

/**
 * A chart in an element. `onPart(start, end, shift)` hears of a part that was dragged over;
 * with Shift it is one to be compared, if it `compares`.
 */
export class StatusChart {
  constructor(onPart, compares) {
    this.plot = null;
    this.compares = compares;
    this.series = null;
    this.onPart = onPart;
    this.canvas = h("div", { class: "canvas" });
    this.readout = h("p", { class: "readout", "aria-live": "polite" });
    this.element = h(
      "div",
      { class: "chart", tabindex: "0", role: "group", "aria-label": "Status over time. Left and right arrows go through its steps.", onkeydown: (event) => this.key(event) },
      this.canvas,
    );
    this.resized = new ResizeObserver(() => this.fit());
    this.resized.observe(this.canvas);
  }

  /** Draws a series without the statuses that are hidden. */
  show(series, hidden) {
    const look = `${isDark()} ${isUtc()} ${colours()}`;
    const height = this.height();
    if (this.plot && (this.look !== look || this.plot.height !== height)) this.end();
    [this.series, this.hidden, this.look] = [series, hidden, look];
    const sums = series.first_at.map(() => 0);
    const stacked = STATUSES.map((status) => {
      if (hidden.has(status)) return sums.map(() => null);
      return series.counts[status].map((value, at) => (sums[at] += value) && value ? sums[at] : null);
    });
    const missing = sums.map((sum, at) => (series.missing?.[at] ? sum + series.missing[at] : null));
    const data = [series.first_at, missing, ...stacked.reverse()];
    if (this.plot) this.plot.setData(data);
    else this.plot = new uPlot(this.options(height), data, this.canvas);
    this.element.querySelector("canvas")?.setAttribute("aria-hidden", "true");
    this.tell(this.at ?? null);
  }

  height() {
    return innerWidth < 640 ? 200 : 264;
  }

  options(height) {
    const palette = colours();
    const bars = uPlot.paths.bars({ size: [1, Infinity], align: 1, gap: innerWidth < 640 ? 1 : 2 });
    const fillOf = (fillStyle) => ({ paths: bars, fill: fillStyle, stroke: css("--ground"), width: 0.5, points: { show: false } });
    const pattern = hatch();
    const axis = { stroke: css("--muted"), font: `12px ${css("--font")}`, grid: { stroke: css("--line"), width: 1 }, ticks: { show: false } };
    return {
      width: Math.max(200, this.canvas.clientWidth),
      height,
      padding: [8, 24, 0, 0],
      legend: { show: false },
      tzDate: (second) => (isUtc() ? uPlot.tzDate(new Date(second * 1000), "Etc/UTC") : new Date(second * 1000)),
      scales: {
        x: { time: true, range: () => [this.series.start, this.series.end] },
        y: { range: (_, __, most) => [0, most > 0 ? most * 1.05 : 1] },
      },
      axes: [
        { ...axis, grid: { show: false }, values: axisTimes, space: 64, size: 40 },
        { ...axis, values: (_, splits) => splits.map((value) => (Number.isInteger(value) ? compact(value) : "")), size: 48 },
      ],
      cursor: {
        y: false,
        points: { show: false },
        drag: { x: true, y: false, setScale: false, dist: DRAG_MIN_PX },
        dataIdx: (_, __, ___, second) => this.index(second),
      },
      series: [{}, fillOf(() => pattern), ...STATUSES.toReversed().map((status) => fillOf(palette[status]))],
      hooks: {
        ready: [(plot) => plot.over.addEventListener("mousedown", (event) => (this.shift = event.shiftKey))],
        setSelect: [(plot) => this.selected(plot)],
        setCursor: [(plot) => this.tell(plot.cursor.left >= 0 ? this.index(plot.posToVal(plot.cursor.left, "x")) : null)],
      },
    };
  }

  index(second) {
    const { first, step, first_at } = this.series;
    return Math.max(0, Math.min(first_at.length - 1, Math.floor((second - first) / step)));
  }

  selected(plot) {
    const { left, width } = plot.select;
    if (width < DRAG_MIN_PX) return;
    const { first, step } = this.series;
    const start = first + this.index(plot.posToVal(left, "x")) * step;
    const end = first + (this.index(plot.posToVal(left + width, "x")) + 1) * step;
    plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    this.onPart(start, end, this.shift);
  }

  key(event) {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by || !this.series || event.target !== this.element) return;
    event.preventDefault();
    const last = this.series.first_at.length - 1;
    const at = this.at === null || this.at === undefined ? (by > 0 ? 0 : last) : Math.max(0, Math.min(last, this.at + by));
    const left = this.plot.valToPos(this.series.first_at[at] + this.series.step / 2, "x");
    this.plot.setCursor({ left, top: 10 });
  }

  /** What a step holds, in numbers; without one, what the chart is of. */
  tell(at) {
    this.at = at;
    const { first_at, step, counts, total, missing } = this.series;
    if (at === null || first_at[at] === undefined) {
      fill(this.readout, h("span", { class: "muted" }, `Samples in ${short(step)} each. Drag to look closer${this.compares ? "; with Shift, to ask what differs there" : ""}.`));
      return;
    }
    const start = first_at[at] * 1000;
    const parts = STATUSES.filter((status) => counts[status][at] > 0).map((status) => `${nameOf(status)}: ${count(counts[status][at])}`);
    const lost = missing?.[at] ? ` · ${count(missing[at])} missing` : "";
    const soFar = start + step * 1000 > Date.now() ? ", so far" : "";
    fill(this.readout, h("b", {}, `${span(start, start + step * 1000)}${soFar}`), ` ${count(total[at])} samples${parts.length ? ` (${parts.join(", ")})` : ""}${lost}`);
  }

  fit() {
    const width = this.canvas.clientWidth;
    if (this.plot && width > 0 && Math.abs(width - this.plot.width) > 1) this.plot.setSize({ width, height: this.plot.height });
  }

  end() {
    this.plot?.destroy();
    this.plot = null;
  }

  leave() {
    this.end();
    this.resized.disconnect();
  }
}

/** When each step of a series begins. */
export function withTimes(series) {
  return { ...series, first_at: series.total.map((_, at) => series.first + at * series.step) };
}
