// Text that the model writes within a form, and the variables that sequences share.
import { host } from "aici/host";
import { assert, detokenize, inspect, tell, tokenize, tokensRepr } from "aici/text";
import { MidProcessResult, NextToken, TokenSet } from "aici/sequence";

const MOST_MASKS = 16, DEFAULT_TOKENS = 20, DETAIL = 10;

/** Allows every token; made for subclasses. */
export class Constraint {
    eosAllowed() { return true; }
    eosForced() { return false; }
    tokenAllowed(_token) { return true; }
    appendToken(_token) {}
    allowTokens(set) { set.setAll(true); }
}

/** Follows an automaton of C's. */
class AutomatonConstraint extends Constraint {
    constructor(automaton) {
        super();
        Object.assign(this, { automaton, state: 1, masks: new Map() });
    }
    eosAllowed() { return this.state !== 0 && host.accepts(this.automaton, this.state); }
    eosForced() { return this.eosAllowed() && host.ends(this.automaton, this.state); }
    tokenAllowed(token) { return token === host.eos ? this.eosAllowed() : host.step(this.automaton, this.state, token) !== 0; }
    appendToken(token) { if (token !== host.eos) this.state = host.step(this.automaton, this.state, token); }
    allowTokens(set) {
        const known = this.masks.get(this.state);
        if (known) return void set.words.set(known);
        set.clear();
        host.allow(this.automaton, this.state, set.words.buffer);
        if (this.eosAllowed()) set.add(host.eos);
        if (this.masks.size >= MOST_MASKS) this.masks.delete(this.masks.keys().next().value);
        this.masks.set(this.state, set.words.slice());
    }
}

/** Text that matches the pattern, from its first byte to its last. */
export function regexConstraint(pattern, flags = "") {
    const known = "isgyu", odd = [...flags].find(flag => !known.includes(flag));
    assert(!odd, `regex: the flag ${odd} cannot be had; there are i and s`);
    tell(1, `regex constraint: ${JSON.stringify(pattern)}`);
    const automaton = host.regex(pattern, flags);
    tell(1, `dfa: ${host.size(automaton)} bytes`);
    return new AutomatonConstraint(automaton);
}
/** Text of a grammar in yacc's notation. */
export function cfgConstraint(grammar) { return new AutomatonConstraint(host.grammar(grammar)); }
/** Some words of `text` as they stand there, then `end`. */
export function substrConstraint(text, end) { return new AutomatonConstraint(host.substring(text, end)); }

/** One of some texts, each in its own tokens. */
export class ChooseConstraint extends Constraint {
    constructor(options) {
        super();
        assert(options.length > 0, "options: there is nothing to choose from");
        Object.assign(this, { ptr: 0, options: options.map(option => tokenize(option)) });
    }
    eosAllowed() { return this.options.some(option => option.length === this.ptr); }
    eosForced() { return this.eosAllowed() && this.options.every(option => option.length === this.ptr); }
    tokenAllowed(token) { return token === host.eos ? this.eosAllowed() : this.options.some(option => option[this.ptr] === token); }
    appendToken(token) {
        if (token === host.eos) return;
        this.options = this.options.filter(option => option[this.ptr] === token);
        this.ptr += 1;
    }
    allowTokens(set) {
        set.clear();
        for (const option of this.options) set.add(option.length === this.ptr ? host.eos : option[this.ptr]);
    }
}

/** One token that the constraint allows; run() again for the next. The constraint is made when it is first needed. */
export class ConstrainedToken extends NextToken {
    constructor(mkConstraint) {
        super();
        Object.assign(this, { mkConstraint, constraint: null, set: new TokenSet() });
    }
    midProcess() {
        this.constraint ??= this.mkConstraint();
        this.constraint.allowTokens(this.set);
        if (this.set.numSet() === 0) {
            tell(1, "no token is allowed: EOS");
            this.set.add(host.eos);
        }
        return MidProcessResult.bias(this.set);
    }
    postProcess(_backtrack, tokens) {
        for (const token of tokens) this.constraint.appendToken(token);
        if (this.constraint.eosForced()) this.finished = true;
    }
}

function constraintOf({ regex, yacc, substring, substringEnd = '"', options }) {
    const given = { regex, yacc, substring, options };
    const names = Object.keys(given).filter(name => given[name] !== undefined && given[name] !== null);
    assert(names.length <= 1, `gen: one of ${names.join(", ")}, not several`);
    switch (names[0]) {
        case "regex":
            return regex instanceof RegExp ? regexConstraint(regex.source, regex.flags) : regexConstraint(String(regex));
        case "yacc": return cfgConstraint(yacc);
        case "substring": return substrConstraint(substring, substringEnd);
        case "options": return new ChooseConstraint(options);
        default: return new Constraint();
    }
}

const OPTIONS = ["regex", "yacc", "substring", "substringEnd", "options", "storeVar", "stopAt", "maxTokens"];

/** Lets the model write; gives its tokens. */
export async function genTokens(options = {}) {
    const odd = Object.keys(options).find(name => !OPTIONS.includes(name));
    assert(!odd, `gen: there is no option ${odd}; there are ${OPTIONS.join(", ")}`);
    const { maxTokens = DEFAULT_TOKENS, stopAt, storeVar } = options;
    tell(1, `GEN-OPT ${inspect(options)}`);
    const step = new ConstrainedToken(() => constraintOf(options)), tokens = [];
    while (tokens.length < maxTokens && !step.finished) {
        tokens.push(...await step.run());
        if (stopAt && detokenize(tokens).decode().includes(stopAt)) break;
    }
    tell(1, `GEN ${JSON.stringify(detokenize(tokens).decode())}`);
    tell(DETAIL, tokensRepr(tokens));
    if (storeVar !== undefined && storeVar !== null) setVar(storeVar, detokenize(tokens));
    return tokens;
}

/** Lets the model write; gives its text. */
export async function gen(options = {}) { return detokenize(await genTokens(options)).decode(); }

const toHex = bytes => Array.from(bytes, byte => byte.toString(16).padStart(2, "0")).join("");
const fromHex = hex => Uint8Array.from({ length: hex.length / 2 }, (_, i) => parseInt(hex.slice(2 * i, 2 * i + 2), 16));

function write(op, name, value) {
    const bytes = typeof value === "string" ? value.toBuffer() : value;
    assert(bytes instanceof Uint8Array, `${name}: a variable holds a string or bytes`);
    host.storage(JSON.stringify({ WriteVar: { name, value: toHex(bytes), op, when_version_is: null } }));
}
/** The bytes of a variable; undefined when nobody has set it. */
export function getVar(name) {
    const { ReadVar: read } = host.storage(JSON.stringify({ ReadVar: { name } }));
    return read ? fromHex(read.value) : undefined;
}
export function setVar(name, value) { write("Set", name, value); }
export function appendVar(name, value) { write("Append", name, value); }

class WaitToken extends NextToken {
    constructor(names) {
        super();
        this.names = names;
    }
    midProcess() {
        return this.names.every(name => getVar(name) !== undefined) ? MidProcessResult.skipMe() : MidProcessResult.noop();
    }
}

/** Waits until all these variables are set; gives their bytes. */
export async function waitVars(...names) {
    const missing = () => names.some(name => getVar(name) === undefined);
    while (missing()) await new WaitToken(names).run();
    return names.map(getVar);
}

/** Fails unless the variable is `value`. */
export function checkVar(name, value) {
    const found = getVar(name)?.decode();
    assert(found === value, `check_vars: ${name}: ${inspect(found)} is not ${inspect(value)}`);
}
export function checkVars(values) { for (const [name, value] of Object.entries(values)) checkVar(name, value); }
