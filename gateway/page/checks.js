// What this page can check of a receipt by itself, in the browser: digests, counts and the price. No network, no document.

const HEX = /^[0-9a-f]*$/;
/** Why digests are not recomputed where a page is neither on this machine nor over HTTPS. */
const NO_DIGESTS = "not checked; this browser computes digests only on pages from this machine or over HTTPS";

/** Return a field under its name in protos or in JSON; servers say the one, `aos receipt` may say the other. */
export function field(message, name) {
  const camel = name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase());
  return message?.[name] ?? message?.[camel];
}

/** Return base64 as hex digits; what is none gives an empty string. */
export function hex(base64) {
  try {
    return [...atob(base64 ?? "")].map((char) => char.charCodeAt(0).toString(16).padStart(2, "0")).join("");
  } catch {
    return "";
  }
}

async function sha256(bytes) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Return token ids as their digest takes them: each 4 bytes, big-endian. */
function tokenBytes(tokens) {
  const view = new DataView(new ArrayBuffer(4 * tokens.length));
  tokens.forEach((token, index) => view.setUint32(4 * index, Number(token)));
  return view.buffer;
}

function equal(what, stated, found) {
  const good = stated === found;
  return { what, good, why: good ? "" : `the receipt says ${stated || "nothing"}, what is here gives ${found}` };
}

async function digest(what, stated, bytes) {
  if (!globalThis.crypto?.subtle) return { what, good: null, why: NO_DIGESTS };
  return equal(what, stated, await sha256(bytes));
}

/**
 * Return what this page finds of a bundle, `{what, good, why}` each; good is null for what it cannot tell. `expected` is what is known
 * besides: `job`, whose receipt was asked for, and `operators`, the addresses that the network has registered.
 */
export async function check(bundle, { job = "", operators = [] } = {}) {
  const receipt = bundle.receipt ?? {};
  const usage = receipt.usage ?? {};
  const tokens = field(bundle, "output_tokens") ?? [];
  const found = [];
  if (job) found.push(equal("the receipt is this job's", `jobs/${hex(receipt.job)}`, job));
  found.push(...await output(bundle, hex(field(receipt, "output_digest"))));
  const stated = hex(field(receipt, "output_tokens_digest"));
  found.push(await digest("the answer's tokens have the digest that was signed", stated, tokenBytes(tokens)));
  const drawn = Number(field(usage, "completion_tokens") ?? 0);
  if (tokens.length) found.push(equal("as many tokens as are charged", String(drawn), String(tokens.length)));
  found.push(price(bundle, receipt, usage));
  found.push(registered(receipt, operators));
  return found;
}

/** Vectors are left to the gateway: their digest is over their numbers, which JSON writes in many ways. */
async function output(bundle, stated) {
  const order = bundle.order ?? {};
  if (order.embedding) return [];
  if (order.picture) {
    const names = (bundle.pictures ?? []).map((one) => hex(one.sha256)).join("");
    const bytes = new Uint8Array((names.match(/../g) ?? []).map((pair) => parseInt(pair, 16)));
    return [await digest("the pictures' digests are the ones that were signed", stated, bytes)];
  }
  return [await digest("the answer's text has the digest that was signed", stated, new TextEncoder().encode(bundle.output ?? ""))];
}

function price(bundle, receipt, usage) {
  const what = "the price is that of these tokens";
  const [prompt, completion] = [field(usage, "prompt_tokens") ?? 0, field(usage, "completion_tokens") ?? 0];
  const rates = bundle.price ?? {};
  try {
    const whole = BigInt(field(rates, "prompt_token") ?? "") * BigInt(prompt)
      + BigInt(field(rates, "completion_token") ?? "") * BigInt(completion);
    return equal(what, receipt.price, whole.toString());
  } catch {
    return { what, good: false, why: "an amount in it is no number" };
  }
}

function registered(receipt, operators) {
  const address = hex(receipt.operator);
  const what = `operator 0x${address} is registered with this network`;
  if (address.length === 40 && HEX.test(address) && operators.includes(`0x${address}`)) return { what, good: true, why: "" };
  return { what, good: null, why: "not known; it may have left, or be another network's" };
}
