// One stream of seconds while somebody looks; tried again when it ends.

import { ask, Gone, NeedsToken } from "./api.js";
import { ms } from "./words.js";

/** Without an event for so long, nobody is there. */
const SILENT_MS = 5000;
const PAUSES_S = [1, 2, 4, 8, 10];

/** A stream that ends is followed by another at once, but one in so long at most. */
const APART_MS = 1000;

/** What is older than this is not live. */
const FRESH_MS = 6000;

/** What is known: the latest second, since when there is none, and how far this clock is ahead of the host's, in milliseconds. */
export const live = { second: null, problem: null, goneSince: null, nextAt: null, heardAt: null, ahead: 0 };

/** Now, by the host's clock. */
export const hostNow = () => Date.now() - live.ahead;

/** Whether what was told last is of now, whenever it was heard. */
export const isFresh = () => live.goneSince === null && live.problem === null && (live.second === null || hostNow() - ms(live.second.as_of) <= FRESH_MS);

let changed = () => {};
let needsToken = () => {};
let stream = null;
let timer = null;
let failures = 0;

export function onLive(onChanged, onNeedsToken) {
  [changed, needsToken] = [onChanged, onNeedsToken];
}

/** Asks now, whatever was to happen. */
export function listen() {
  stop();
  const own = new AbortController();
  stream = own;
  live.nextAt = null;
  const began = Date.now();
  const ended = () => {
    if (stream === own) timer = setTimeout(listen, began + APART_MS - Date.now());
  };
  read(own).then(ended, (error) => {
    if (stream !== own) return;
    stream = null;
    if (error instanceof NeedsToken) return needsToken(error.message);
    // Others have a problem that the host names; here it is the connection.
    live.problem = error instanceof Gone || error.name === "AbortError" ? null : error.message;
    live.goneSince ??= live.heardAt ?? Date.now();
    const pause = PAUSES_S[Math.min(failures++, PAUSES_S.length - 1)] * 1000;
    live.nextAt = Date.now() + pause;
    timer = setTimeout(listen, pause);
    changed();
  });
}

export function stop() {
  clearTimeout(timer);
  stream?.abort();
  stream = null;
}

/** Until the host ends the stream, as it does now and then. */
async function read(own) {
  let watchdog = setTimeout(() => own.abort(), SILENT_MS);
  try {
    const response = await ask("/v1/live", {}, own.signal);
    const told = ms(response.headers.get("date"));
    if (!Number.isNaN(told)) live.ahead = Date.now() - told;
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let [rest, isHeard] = ["", false];
    for (;;) {
      const { done, value } = await reader.read();
      if (done && isHeard) return;
      if (done) throw new Gone("The host has ended the stream.");
      clearTimeout(watchdog);
      watchdog = setTimeout(() => own.abort(), SILENT_MS);
      rest += value;
      const events = rest.split("\n\n");
      rest = events.pop();
      isHeard ||= events.length > 0;
      events.forEach(take);
    }
  } finally {
    clearTimeout(watchdog);
  }
}

function take(text) {
  const lines = text.split("\n").map((line) => /^(event|data): ?(.*)$/.exec(line));
  const of = (name) => lines.find((line) => line?.[1] === name)?.[2];
  const data = of("data");
  if (data === undefined) return;
  failures = 0;
  [live.goneSince, live.nextAt] = [null, null];
  if (of("event") === "second") {
    [live.second, live.problem, live.heardAt] = [JSON.parse(data), null, Date.now()];
  } else {
    live.problem = JSON.parse(data).detail;
  }
  changed();
}
