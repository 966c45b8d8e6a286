// The page: which view is shown, how fresh it is, whether the host answers, the keys.

import { current, go, href, onChange, to } from "./address.js";
import { hasToken, NeedsToken, setToken } from "./api.js";
import { dataView } from "./data.js";
import { deviceView } from "./device.js";
import { devicesView } from "./devices.js";
import { fill, h, say } from "./dom.js";
import { fleetView } from "./fleet.js";
import { hostNow, isFresh, listen, live, onLive, stop } from "./live.js";
import { move, scale } from "./range.js";
import { readStatuses } from "./statuses.js";
import { ago, clock, duration, isUtc, ms, setUtc, zone } from "./words.js";

const [main, notice, freshness] = ["main", "notice", "freshness"].map((id) => document.getElementById(id));
const button = Object.fromEntries(["zone", "theme", "sign-out"].map((id) => [id, document.getElementById(id)]));
let [view, shown, isSigningIn] = [null, null, false];

function draw() {
  const address = current();
  setUtc(address.zone === "utc");
  const name = address.device ? `device ${address.device}` : address.view;
  if (name !== shown) {
    view?.leave();
    const isFirst = shown === null;
    shown = name;
    view = address.device ? deviceView(main, address.device) : { fleet: fleetView, devices: devicesView, data: dataView }[address.view](main);
    scrollTo(0, 0);
    // Whoever reads by ear hears where they are.
    if (!isFirst && !document.activeElement?.closest(".top")) main.focus({ preventScroll: true });
  }
  document.title = { fleet: "Rollcall", devices: "Devices – Rollcall", data: "Data – Rollcall", device: `${address.device} – Rollcall` }[address.view];
  for (const link of document.querySelectorAll("nav [data-view], .name")) {
    const target = link.dataset.view ?? "fleet";
    link.setAttribute("href", to(target));
    const isHere = link.dataset.view === address.view || (address.view === "device" && target === "devices" && link.dataset.view);
    if (isHere) link.setAttribute("aria-current", address.view === target ? "page" : "true");
    else link.removeAttribute("aria-current");
  }
  button.zone.textContent = isUtc() ? "Local time" : "UTC";
  button.zone.hidden = !isUtc() && zone() === "UTC";
  button.zone.title = isUtc() ? "Show times in your zone (u)" : "Show times in UTC (u)";
  say(document.getElementById("zone-named"), `Times are in ${zone()}.`);
  view.update();
  view.live();
  tick();
}

/** What goes on without news. */
function tick() {
  const asOf = live.second && ms(live.second.as_of);
  const isOld = !isFresh();
  document.documentElement.dataset.fresh = isOld ? "old" : "yes";
  fill(
    freshness,
    asOf && [h("span", { class: "as-of" }, `as of ${clock(asOf)}, `), h("span", {}, ago(asOf, hostNow()), " ")],
    h("span", { class: isOld || !asOf ? "pulse off" : "pulse", "aria-hidden": "true" }),
    isOld ? "not live" : asOf ? "live" : "connecting",
  );
  tell();
}

/** What is wrong between this page and the host, and what happens next. */
function tell() {
  const [now, isGone] = [Date.now(), live.goneSince !== null];
  if (!isGone && live.problem === null) return notice.replaceChildren();
  const since = `${isGone ? "No answer from the host" : "The host cannot answer"}${isGone ? ` since ${clock(live.goneSince)}` : ""}.`;
  if (!notice.firstChild) {
    const again = h("button", { type: "button", onclick: listen }, "Try now");
    notice.append(h("div", { class: "notice" }, h("p", {}, h("b", {}, ""), h("span", {}, " "), h("span", { "aria-live": "off" }, "")), again));
  }
  const [bold, because, next] = notice.querySelectorAll("b, p span");
  say(bold, since);
  say(because, ` ${live.problem ?? ""} ${live.second ? "What stands below is from before. " : ""}`);
  say(next, isGone ? (live.nextAt && live.nextAt > now ? `Next attempt in ${duration(Math.ceil((live.nextAt - now) / 1000))}.` : "Trying again …") : "");
}

/** A host with tokens asks for one; it is kept for this session only. */
function signIn(why) {
  stop();
  view?.leave();
  [view, shown, isSigningIn] = [null, null, true];
  notice.replaceChildren();
  fill(freshness);
  button["sign-out"].hidden = true;
  setToken(null);
  const field = h("input", { type: "password", id: "token", required: true, autocomplete: "current-password", spellcheck: "false" });
  const problem = h("p", { class: "problem", role: "alert" }, why);
  const form = h(
    "form",
    {
      class: "sign-in",
      onsubmit: (event) => {
        event.preventDefault();
        setToken(field.value.trim());
        start();
      },
    },
    h("h1", {}, "This host asks for a token"),
    h("p", {}, "Whoever runs it makes one: ", h("code", {}, "rollcall token create NAME --role read --tokens-file FILE"), ". It is kept until you close this tab."),
    h("label", { for: "token" }, "Token"),
    field,
    problem,
    h("button", { type: "submit", class: "main" }, "Sign in"),
  );
  main.replaceChildren(form);
  field.focus();
}

async function start() {
  try {
    await readStatuses();
  } catch (error) {
    if (error instanceof NeedsToken) return signIn(error.message);
    // What is wrong is said by whoever listens; names come when the host does.
  }
  isSigningIn = false;
  button["sign-out"].hidden = !hasToken();
  draw();
  if (!document.hidden) listen();
}

let wasGone = false;
onLive(
  () => {
    if (!view) return;
    const isGone = live.goneSince !== null;
    if (wasGone && !isGone) {
      // It may be another host than before, with other names.
      readStatuses().then(() => view?.update(), () => {});
    }
    wasGone = isGone;
    tick();
    if (!isGone) view.live();
  },
  (why) => signIn(why),
);

onChange(() => isSigningIn || draw());
document.addEventListener("visibilitychange", () => {
  if (isSigningIn) return;
  if (document.hidden) stop();
  else listen();
});
setInterval(() => isSigningIn || document.hidden || tick(), 1000);

const changeZone = () => go(href({ zone: isUtc() ? null : "utc" }));
button.zone.addEventListener("click", changeZone);
button["sign-out"].addEventListener("click", () => signIn(""));

const themes = [null, "light", "dark"];
function showTheme() {
  const theme = document.documentElement.dataset.theme ?? null;
  button.theme.textContent = { light: "Light", dark: "Dark" }[theme] ?? "Auto";
  button.theme.title = "Light, dark, or as the system is";
  button.theme.setAttribute("aria-label", `Colours: ${button.theme.textContent}`);
}
button.theme.addEventListener("click", () => {
  const next = themes[(themes.indexOf(document.documentElement.dataset.theme ?? null) + 1) % themes.length];
  if (next) document.documentElement.dataset.theme = next;
  else delete document.documentElement.dataset.theme;
  try {
    if (next) localStorage.setItem("rollcall-theme", next);
    else localStorage.removeItem("rollcall-theme");
  } catch {
    // Then it lasts as long as this page.
  }
  showTheme();
  if (view) draw();
});
// A phone that is turned has room for other steps.
matchMedia("(max-width: 639px)").addEventListener("change", () => view && draw());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => view && draw());

const keys = document.getElementById("keys");
const does = {
  "/": () => {
    if (!view?.search) go(to("devices"));
    view?.search?.focus();
  },
  "[": () => move(-1),
  "]": () => move(1),
  "+": () => scale(0.5),
  "-": () => scale(2),
  u: changeZone,
  f: () => go(to("fleet")),
  d: () => go(to("devices")),
  a: () => go(to("data")),
  "?": () => keys.showModal(),
  ArrowDown: () => step(1),
  ArrowUp: () => step(-1),
};

/** To the next link of the list in which the focus is. */
function step(by) {
  const focused = document.activeElement;
  const list = focused?.closest(".rows, .devices tbody") ?? (focused === view?.search && by > 0 ? document.querySelector(".devices tbody") : null);
  if (!list) return false;
  const links = [...list.querySelectorAll("a")];
  const at = links.indexOf(focused) + by;
  if (at < 0 && view?.search) view.search.focus();
  links[Math.min(at, links.length - 1)]?.focus();
  return true;
}

addEventListener("keydown", (event) => {
  if (event.metaKey || event.ctrlKey || event.altKey || isSigningIn || keys.open) return;
  const isArrow = event.key.startsWith("Arrow");
  if (event.target.closest?.("input, select, textarea") && !(isArrow && event.target === view?.search)) return;
  if (does[event.key]?.() !== false && does[event.key]) event.preventDefault();
});

showTheme();
start();
