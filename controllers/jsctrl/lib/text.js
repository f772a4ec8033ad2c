// Text, bytes and what is said: console, inspect, assert, buffers.
import { host } from "aici/host";

const DEPTH = 4, ITEMS = 100;
let level = 1;

/** Says how much the library itself logs: 0 nothing, 1 what was fixed and generated (the start), 10 everything. */
export function setLogLevel(wanted) { level = wanted; }

export function tell(least, text) { if (level >= least) host.write(text + "\n"); }

/** What a value looks like, for people. */
export function inspect(value, depth = 0, above = []) {
    if (typeof value === "string") return JSON.stringify(value);
    if (typeof value === "bigint") return `${value}n`;
    if (typeof value === "function") return value.name ? `[Function: ${value.name}]` : "[Function]";
    if (typeof value !== "object" || value === null) return String(value);
    if (value instanceof Error) return value.stack ? `${value}\n${value.stack}` : String(value);
    if (above.includes(value) || depth >= DEPTH) return "...";
    const inner = item => inspect(item, depth + 1, [...above, value]);
    if (value instanceof Uint8Array) return `b${JSON.stringify(value.decode())}`;
    if (Array.isArray(value) || ArrayBuffer.isView(value)) {
        const more = value.length > ITEMS ? `, ... ${value.length - ITEMS} more` : "";
        return `[${Array.from(value.slice(0, ITEMS), inner).join(", ")}${more}]`;
    }
    const made = Object.getPrototypeOf(value) ?? Object.prototype;
    if (made !== Object.prototype && Object.hasOwn(made, "toString")) return String(value);
    const fields = Object.entries(value).slice(0, ITEMS).map(([name, item]) => `${name}: ${inner(item)}`);
    return `{${fields.join(", ")}}`;
}

export function log(...items) {
    host.write(items.map(item => typeof item === "string" ? item : inspect(item)).join(" ") + "\n");
}

export class AssertionError extends Error {}
AssertionError.prototype.name = "AssertionError";

export function assert(condition, message = "assertion failed") {
    if (!condition) throw new AssertionError(message);
}

/** The tokens of a text, or of bytes. */
export function tokenize(text) { return host.tokenize(text); }
/** The bytes of tokens; those that stand for nothing written have none. */
export function detokenize(tokens) { return host.detokenize(tokens); }
export function tokenRepr(token) { return JSON.stringify(host.detokenize([token]).decode()); }
export function tokensRepr(tokens) {
    const parts = tokens.map(token => token === host.eos ? "≺EOS≻" : JSON.stringify(host.detokenize([token]).decode()).slice(1, -1));
    return `"${parts.join("‧")}"`;
}
export function eosToken() { return host.eos; }
export function getConfig(name) { return host.config(name); }

const hidden = (target, name, value) => Object.defineProperty(target, name, { value, writable: true, configurable: true });
hidden(Uint8Array.prototype, "decode", function () { return host.decode(this); });
hidden(String.prototype, "toBuffer", function () { return host.encode(String(this)); });
hidden(String, "fromBuffer", bytes => host.decode(bytes));
globalThis.console = { log, info: log, warn: log, error: log, debug: log, trace: log };
globalThis.assert = assert;
