// Numbers, times and durations as people read them.

let utc = false;
const formats = new Map();

export const isUtc = () => utc;
export const setUtc = (on) => {
  utc = on;
  formats.clear();
};

function format(options) {
  const key = JSON.stringify(options);
  if (!formats.has(key)) {
    const zone = utc ? { timeZone: "UTC" } : {};
    formats.set(key, new Intl.DateTimeFormat("en-GB", { hourCycle: "h23", ...zone, ...options }));
  }
  return formats.get(key);
}

const two = { hour: "2-digit", minute: "2-digit" };
const date = { day: "numeric", month: "short" };

/** Milliseconds of a time that an answer names. */
export const ms = (text) => Date.parse(text);

/** The zone in which times are shown. */
export function zone() {
  const name = utc ? "UTC" : Intl.DateTimeFormat().resolvedOptions().timeZone;
  const parts = format({ timeZoneName: "shortOffset" }).formatToParts(new Date());
  const offset = parts.find((part) => part.type === "timeZoneName")?.value.replace("GMT", "UTC") ?? "";
  return name === offset || name === "UTC" ? "UTC" : `${name} (${offset})`;
}

export const clock = (at) => format({ ...two, second: "2-digit" }).format(at);
export const minute = (at) => format(two).format(at);
export const day = (at) => format(date).format(at);
const isSameDay = (one, other) => format({ ...date, year: "numeric" }).format(one) === format({ ...date, year: "numeric" }).format(other);

/** As short as it can be said at the time of `now`. */
export function moment(at, now = Date.now()) {
  return isSameDay(at, now) ? minute(at) : `${day(at)}, ${minute(at)}`;
}

/** To the second, with its day. */
export const exact = (at) => `${format({ ...date, year: "numeric" }).format(at)}, ${clock(at)}`;

/** From one time to another; seconds where they matter. */
export function span(start, end) {
  const time = start % 60000 || end % 60000 ? clock : minute;
  const from = isSameDay(start, Date.now()) && isSameDay(start, end) ? time(start) : `${day(start)}, ${time(start)}`;
  return `${from} to ${isSameDay(start, end) ? time(end) : `${day(end)}, ${time(end)}`}`;
}

const units = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

/** "12 minutes". */
export function duration(seconds) {
  const [name, length] = units.find(([, length]) => seconds >= length) ?? units[3];
  const count = Math.floor(seconds / length);
  return `${count} ${name}${count === 1 ? "" : "s"}`;
}

/** "12 min ago"; what is to come by a clock that differs is now. */
export function ago(at, now = Date.now()) {
  const seconds = Math.max(0, Math.floor((now - at) / 1000));
  return seconds < 60 ? `${seconds} s ago` : `${duration(seconds)} ago`;
}

/** The length of a step, short. */
export function short(seconds) {
  const names = { day: "d", hour: "h", minute: "min", second: "s" };
  const [name, length] = units.find(([, length]) => seconds >= length && seconds % length === 0) ?? units[3];
  return `${seconds / length} ${names[name]}`;
}

const whole = new Intl.NumberFormat("en");
export const count = (number) => whole.format(number);
export const rate = (number) => (number >= 100 || Number.isInteger(number) ? whole.format(Math.round(number)) : number.toFixed(1));
export const many = (number, name, names = `${name}s`) => `${count(number)} ${number === 1 ? name : names}`;

/** A share in percent; nothing is 0 % that is not 0. */
export function share(part, all) {
  if (!part || !all) return "0 %";
  const percent = (100 * part) / all;
  return percent < 0.1 ? "< 0.1 %" : `${percent.toFixed(1)} %`;
}

const compactFormat = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
export const compact = (number) => compactFormat.format(number);

const states = { online: "online", stale: "silent", offline: "offline", never_seen: "never seen" };
export const stateName = (state) => states[state] ?? state;
