// What the seven statuses are called, and their colours.

import { get } from "./api.js";
import { h } from "./dom.js";

export const STATUSES = [0, 1, 2, 3, 4, 5, 6];

// Okabe and Ito's, in an order in which neighbours differ most. Their vermilion is kept for what is bad.
const palettes = {
  light: {
    plain: ["#0072b2", "#56b4e9", "#009e73", "#e0c81e", "#e69f00", "#cc79a7", "#5b6068"],
    good: ["#0072b2", "#56b4e9", "#009e73", "#7fc8b0", "#2f5d8a", "#9ac7e8", "#1d6b54"],
    warning: ["#e69f00", "#e0c81e", "#b97a00", "#f2c14e", "#8f6b00", "#d9b36c", "#c98f2b"],
    bad: ["#d55e00", "#a3255c", "#ee8a4a", "#7c1f1f", "#cc79a7", "#b5482f", "#e0607e"],
  },
  dark: {
    plain: ["#2f8fd0", "#8fd0f5", "#1fb58c", "#f0e442", "#e69f00", "#dd96bc", "#9aa2ab"],
    good: ["#2f8fd0", "#8fd0f5", "#1fb58c", "#a5dfcb", "#5c8fc4", "#bfe0f7", "#3a9b7d"],
    warning: ["#e69f00", "#f0e442", "#c78a1e", "#f7d584", "#a98416", "#e3c48a", "#d9a441"],
    bad: ["#f0702a", "#d6488b", "#ffa36b", "#c0443c", "#e79ac2", "#d9654a", "#f28aa4"],
  },
};

let meanings = STATUSES.map(() => null);

export async function readStatuses() {
  const { statuses } = await get("/v1/statuses");
  meanings = STATUSES.map((status) => statuses[status]);
}

export const isNamed = () => meanings[0] !== null;
export const levelOf = (status) => meanings[status]?.level ?? null;
export const nameOf = (status) => meanings[status]?.name ?? `${status}`;

/** Where a number alone would not be understood. */
export const inWords = (status) => (isNamed() ? nameOf(status) : `status ${status}`);

export function isDark() {
  const theme = document.documentElement.dataset.theme;
  return theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

export function colours() {
  const palette = palettes[isDark() ? "dark" : "light"];
  const used = {};
  return STATUSES.map((status) => {
    const level = levelOf(status) ?? "plain";
    used[level] = (used[level] ?? -1) + 1;
    return palette[level][used[level]];
  });
}

/** A patch of a status's colour, beside its name. */
export const patch = (status) => h("span", { class: "patch", "aria-hidden": "true", colour: colours()[status] });

/** Its name, its number where it has a name, and whether it is good. */
export function named(status) {
  const level = levelOf(status);
  return [
    patch(status),
    h("span", { class: "status-name" }, nameOf(status)),
    isNamed() && h("span", { class: "muted" }, ` ${status}`),
    level && level !== "good" && h("span", { class: `level ${level}` }, level),
  ];
}

/** The shape of a device's state, and its word. */
export function stateMark(state, word) {
  return [h("span", { class: `state ${state}`, "aria-hidden": "true" }), h("span", {}, word)];
}
