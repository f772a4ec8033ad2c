// Numbers as people read them, each with its unit.

const COIN = 10n ** 18n;
const PLACES = 9;
/** Amounts below this are shown in neurons, the coin's smallest part: as coins they would be mostly zeros. */
const SMALL = 10n ** 9n;
const grouped = new Intl.NumberFormat("en", { useGrouping: true });

/** 12345 -> 12,345. */
export const count = (value) => grouped.format(value);

/** "1 job", "2 jobs". */
export const many = (value, one) => `${count(value)} ${one}${Number(value) === 1 ? "" : "s"}`;

/** Neurons, as decimal digits, as an amount with its unit. */
export function money(neurons) {
  const amount = BigInt(neurons);
  if (amount < SMALL && amount > -SMALL) return many(amount, "neuron");
  const sign = amount < 0n ? "−" : "";
  const whole = amount < 0n ? -amount : amount;
  const part = (whole % COIN).toString().padStart(18, "0").slice(0, PLACES).replace(/0+$/, "");
  return `${sign}${grouped.format(whole / COIN)}${part ? `.${part}` : ""} coin${whole === COIN ? "" : "s"}`;
}

/** The same for a large figure: `[number, unit]`, cut to four places, never rounded up. */
export function cut(neurons) {
  const [number, unit] = money(neurons).split(" ");
  return [number.replace(/(\.\d{4})\d+$/, "$1"), unit];
}

/** The exact amount, for a title. */
export const exactly = (neurons) => `${grouped.format(BigInt(neurons))} neurons; a coin has 10^18`;

/** What a million tokens cost, from what one does. */
export const million = (neurons) => money(BigInt(neurons) * 1_000_000n);

/** Seconds as a time. */
export function time(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds < 1) return `${Math.max(0, Math.round(seconds * 1000))} ms`;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const rounded = Math.round(seconds);
  if (rounded < 3600) return `${Math.floor(rounded / 60)} min ${rounded % 60} s`;
  return `${Math.floor(rounded / 3600)} h ${Math.floor((rounded % 3600) / 60)} min`;
}

/** Seconds of something that goes on: whole ones. */
export const elapsed = (seconds) => (seconds < 60 ? `${Math.max(0, Math.floor(seconds))} s` : time(seconds));

/** A moment, in seconds since 1970, as the viewer's clock and language have it. */
export const moment = (seconds) => new Date(seconds * 1000).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });

/** Tokens a second, without its unit, which stands above the column. */
export function rate(value) {
  if (value === null || value === undefined) return "";
  return value < 100 ? value.toFixed(1) : count(Math.round(value));
}

/** An address or id, shortened in the middle; the whole belongs into a title. */
export const short = (id) => (id.length <= 16 ? id : `${id.slice(0, 8)}…${id.slice(-6)}`);
