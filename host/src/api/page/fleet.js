// The first view: is it fine, since when, who is missing, what changed.

import { to } from "./address.js";
import { get, metrics } from "./api.js";
import { copyButton, fill, h, say } from "./dom.js";
import { live } from "./live.js";
import { Over } from "./over.js";
import { inWords, stateMark } from "./statuses.js";
import { count, duration, many, moment, ms, rate } from "./words.js";

const ATTENTION_MS = 10000;
const METRICS_MS = 15000;
const NAMED = 8;

/** One sentence that says how the fleet is. */
export function sentence(devices) {
  const { online, stale, offline, never_seen, silent } = devices;
  const all = online + stale + offline;
  const never = never_seen ? ` ${many(never_seen, "device")} never came.` : "";
  if (all === 0) return `No device has answered yet.${never}`;
  const left = (more) => (offline ? ` ${count(offline)}${more} ${offline === 1 ? "is" : "are"} offline.` : "");
  if (stale === 0 && offline === 0) return `${all === 1 ? "The one device answers" : `All ${count(all)} devices answer`}.${never}`;
  if (stale === 0) return `${count(offline)} of ${many(all, "device")} ${offline === 1 ? "is" : "are"} offline; ${online ? "all others answer" : "none answers"}.${never}`;
  const [first, last] = [moment(ms(silent.first)), moment(ms(silent.last))];
  if (stale === all && all > 1) return `All ${count(all)} devices are silent, ${first === last ? "" : "the first "}since ${first}.${never}`;
  const who = `${count(stale)} of ${many(all, "device")}`;
  const what = first === last ? `${stale === 1 ? "has" : "have"} not answered since ${first}` : `do not answer, the first since ${first}`;
  return `${who} ${what}.${left(" more")}${never}`;
}

export function fleetView(root) {
  const words = h("h1", { class: "sentence", id: "sentence" }, "Asking the host how the fleet is …");
  const counters = h("div", { class: "counters" });
  const attention = h("section", { class: "attention", "aria-labelledby": "attention-title" });
  const exactly = h("section", { "aria-labelledby": "exactly-title" });
  const over = new Over(exactly);
  let [refused, asked, measured, isEmpty, checked] = [undefined, 0, 0, false, false];
  let stopped = new AbortController();
  const shown = h("div", { class: "fleet" }, h("div", { class: "now" }, words, counters), over.element, h("div", { class: "two" }, attention, exactly));
  root.replaceChildren(shown);

  function counted() {
    const { second } = live;
    if (!second?.devices) return;
    const { devices } = second;
    say(words, sentence(devices));
    const state = (name, number, word) => h("a", { class: `figure${number ? "" : " none"}`, href: to("devices", { trouble: name === "online" ? null : name }) }, h("b", {}, count(number)), stateMark(name, word));
    fill(
      counters,
      h("div", { class: "figures" }, state("online", devices.online, "online"), state("stale", devices.stale, "silent"), state("offline", devices.offline, "offline"), state("never_seen", devices.never_seen, "never seen")),
      h(
        "div",
        { class: "figures" },
        h("span", { class: "figure" }, h("b", {}, rate(second.rate)), "samples/s"),
        h("a", { class: `figure${refused ? "" : " none"}`, href: to("data"), title: refused === null ? "The process that takes messages counts this" : null }, h("b", {}, refused === null || refused === undefined ? "–" : count(refused)), "refused"),
        h("a", { class: `figure${devices.missing ? "" : " none"}`, href: to("devices", { trouble: "gaps", sort: "missing" }) }, h("b", {}, count(devices.missing)), "missing"),
      ),
    );
  }

  async function needAttention() {
    const { devices } = live.second ?? {};
    if (!devices) return;
    const kinds = [
      [devices.stale, { trouble: "stale", sort: "silence" }],
      [devices.offline, { trouble: "offline", sort: "silence" }],
      [devices.missing, { trouble: "gaps", sort: "missing" }],
      [devices.never_seen, { trouble: "never_seen" }],
    ];
    const [rows, names] = [[], new Set()];
    let asOf = null;
    for (const [number, question] of kinds) {
      if (!number || rows.length >= NAMED) continue;
      const answer = await get("/v1/devices", { ...question, limit: NAMED }, stopped.signal);
      asOf = ms(answer.as_of);
      for (const device of answer.devices) {
        if (rows.length >= NAMED || names.has(device.device)) continue;
        names.add(device.device);
        rows.push(device);
      }
    }
    fill(
      attention,
      h("h2", { id: "attention-title" }, "Needs attention"),
      rows.length === 0 ? h("p", { class: "muted" }, "Nothing. Every device answers, and nothing is missing.") : h("ul", { class: "rows" }, rows.map((device) => row(device, asOf))),
      h("p", {}, h("a", { href: to("devices") }, "See all devices")),
    );
  }

  async function notCounted() {
    const all = await metrics(stopped.signal);
    const takes = all.some(([name, labels]) => name === "rollcall_part_healthy" && labels.part === "source");
    const of = all.filter(([name]) => name === "rollcall_messages_rejected_total");
    refused = takes ? of.reduce((sum, [, , value]) => sum + value, 0) : null;
    counted();
  }

  /** A host to which nothing ever came says how to begin. */
  async function lookWhetherEmpty() {
    const { devices } = live.second ?? {};
    if (!devices) return;
    const none = devices.online + devices.stale + devices.offline === 0;
    if (none && !checked) {
      const answer = await get("/v1/counts", { start: 0, end: Math.floor(Date.now() / 1000) + 60 }, stopped.signal);
      [checked, isEmpty] = [true, answer.total === 0];
      if (isEmpty) root.replaceChildren(emptyState());
    } else if (!none && isEmpty) {
      isEmpty = false;
      root.replaceChildren(shown);
      over.update();
    }
  }

  const quietly = (work) => work.catch((error) => error.name === "AbortError" || over.failed(error));
  return {
    update: () => over.update(),
    live: () => {
      counted();
      quietly(lookWhetherEmpty());
      if (live.second?.devices && Date.now() - asked > ATTENTION_MS) {
        asked = Date.now();
        quietly(needAttention());
      }
      if (Date.now() - measured > METRICS_MS) {
        measured = Date.now();
        quietly(notCounted());
      }
      over.live();
    },
    leave: () => {
      stopped.abort();
      over.leave();
    },
  };
}

/** A device in one line: what is wrong with it, first. */
function row(device, asOf) {
  const last = device.last_sample;
  const since = last && ms(last.at);
  const wrong = {
    online: () => `${many(device.missing, "sample")} missing`,
    stale: () => `silent since ${moment(since)}, ${duration((asOf - since) / 1000)}`,
    offline: () => (since ? `offline, last sample ${moment(since)}` : "offline"),
    never_seen: () => "never seen",
  }[device.state]();
  const more = device.state !== "online" && device.missing ? `, ${count(device.missing)} missing` : "";
  return h(
    "li",
    {},
    h("a", { class: "row", href: to("device", { device: device.device }) }, h("span", { class: `state ${device.state}`, "aria-hidden": "true" }), h("span", { class: "id" }, device.device), h("span", { class: "wrong" }, wrong + more), h("span", { class: "muted" }, last ? `last ${inWords(last.status)}` : "")),
  );
}

function emptyState() {
  const port = live.second?.mqtt_port;
  const host = location.hostname;
  const run = `cargo xtask run-device --broker ${host}:${port}`;
  const publish = `mosquitto_pub -V 5 -q 1 -h ${host} -p ${port} -t rollcall/5/porch/status -m '{"status":3}'`;
  const command = (text) => h("div", { class: "command" }, h("code", {}, text), copyButton(text));
  const how = port
    ? [h("p", {}, "Start a device on this machine:"), command(run), h("p", {}, "or publish with any MQTT client:"), command(publish)]
    : h("p", {}, "Devices publish to the broker that this host reads from.");
  return h("div", { class: "empty" }, h("h1", { class: "sentence" }, "Nothing has arrived yet."), how, h("p", { class: "muted" }, "This page shows it as soon as something does."));
}
