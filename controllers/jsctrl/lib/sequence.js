// The sequence and the program that writes it: what is awaited, what the host is told, and what it did.
import { host } from "aici/host";
import { assert, detokenize, tell, tokenize, tokensRepr } from "aici/text";

const MOST_FORKS = 16, DETAIL = 10;
const program = {
    tokens: [],        // as they will be once `ahead` is done
    promptLength: 0,
    prompt: null,      // null: not known yet
    awaitsPrompt: null,
    next: null,        // the token that is awaited
    asked: null,       // the one whose answer the host has
    ahead: null,       // texts that the program believes written, and the host does not know of yet
    sent: null,        // those that the host was told to write
    forkGroup: [],
    started: false,
    ended: false,
    failed: null,      // { error } of the program
};

/** A set of tokens. */
export class TokenSet {
    constructor() { this.words = new Uint32Array((host.vocabulary >>> 5) + 1); }
    get length() { return host.vocabulary; }
    add(token) { if (token < host.vocabulary) this.words[token >>> 5] |= 1 << (token & 31); }
    delete(token) { this.words[token >>> 5] &= ~(1 << (token & 31)); }
    has(token) { return (this.words[token >>> 5] >>> (token & 31) & 1) === 1; }
    clear() { this.words.fill(0); }
    setAll(value) { this.words.fill(value ? 0xffffffff : 0); }
    numSet() { return host.count(this.words.buffer); }
    toString() { return `TokenSet: ${this.numSet()}/${this.length}`; }
}

/** Every token. */
export function allTokens() {
    const all = new TokenSet();
    all.setAll(true);
    return all;
}

export class Splice {
    constructor(backtrack, ffTokens, whenSampled = []) { Object.assign(this, { backtrack, ffTokens, whenSampled }); }
}

/** One way on: tokens to write, or, with a mask, a token to draw and what replaces it when certain ones are drawn. */
export class Branch {
    constructor({ splices = [], sampleMask = null, temperature = null } = {}) { Object.assign(this, { splices, sampleMask, temperature }); }
    isSplice() { return this.sampleMask === null && this.splices.length === 1; }
    static noop() { return new Branch({ splices: [new Splice(0, [])] }); }
    toJSON() {
        return {
            sample_mask: this.sampleMask && host.mask(this.sampleMask.words.buffer),
            temperature: this.temperature,
            splices: this.splices.map(s => ({ when_sampled: s.whenSampled, backtrack: s.backtrack, ff_tokens: s.ffTokens })),
        };
    }
}

/** What a token answers when it is asked how to go on. */
export class MidProcessResult {
    constructor(branches) { Object.assign(this, { branches, skipMe: false }); }
    isSplice() { return this.branches.length === 1 && this.branches[0].isSplice(); }
    static bias(set) { return new MidProcessResult([new Branch({ sampleMask: set })]); }
    static splice(backtrack, tokens) { return new MidProcessResult([new Branch({ splices: [new Splice(backtrack, tokens)] })]); }
    static stop() { return new MidProcessResult([]); }
    static noop() { return new MidProcessResult([Branch.noop()]); }
    static skipMe() { return Object.assign(MidProcessResult.noop(), { skipMe: true }); }
}

/** One step of the sequence; awaiting run() gives the tokens that came. Made for subclasses. */
export class NextToken {
    constructor() { Object.assign(this, { finished: false, currTokens: null }); }
    run() {
        assert(!program.next, "one token is awaited already: await one thing at a time");
        program.next = this;
        return new Promise(resolve => { this.resolve = resolve; });
    }
    /** How to go on. */
    midProcess() { return MidProcessResult.bias(allTokens()); }
    /** What came: `backtrack` tokens went, then `tokens` were appended. */
    postProcess(_backtrack, _tokens) {}
    /** Whether midProcess() is always a splice and postProcess() does nothing: then neighbours are written together. */
    isFixed() { return false; }
}

function apply(backtrack, tokens) {
    if (backtrack) program.tokens.splice(-backtrack, backtrack);
    program.tokens.push(...tokens);
}

function settle(token, backtrack, tokens) {
    if (program.next === token) program.next = null;
    if (tokens.includes(host.eos)) token.finished = true;
    token.postProcess(backtrack, tokens);
    token.currTokens = tokens;
    token.resolve(tokens);
}

function writeAhead({ backtrack, ffTokens }) {
    const ahead = program.ahead ??= { backtrack: 0, tokens: [] };
    const unwritten = Math.min(backtrack, ahead.tokens.length);
    if (unwritten) ahead.tokens.splice(-unwritten, unwritten);
    ahead.backtrack += backtrack - unwritten;
    ahead.tokens.push(...ffTokens);
    if (backtrack) tell(1, `BACKTRACK ${backtrack}`);
    tell(1, `FIXED ${JSON.stringify(detokenize(ffTokens).decode())}`);
    tell(DETAIL, tokensRepr(ffTokens));
    apply(backtrack, ffTokens);
}

function initPrompt({ prompt }) {
    program.prompt = prompt;
    program.tokens = [...prompt];
    program.promptLength = prompt.length;
    program.awaitsPrompt?.(prompt);
    program.awaitsPrompt = null;
    return JSON.stringify({ prompt });
}

function begin({ backtrack, tokens, fork_group: group }) {
    program.forkGroup = group;
    const { asked, sent } = program;
    program.asked = program.sent = null;
    if (sent) {
        if (!backtrack && !tokens.length) program.ahead = sent; // the host was busy: again
    } else if (asked) {
        apply(backtrack, tokens);
        settle(asked, backtrack, tokens);
    }
}

/** What the host is told, or undefined: ask again when the program has gone on. */
function answer() {
    if (program.failed) throw program.failed.error;
    const { next, ahead } = program;
    assert(next || program.ended, "the program awaits something that never comes");
    if (next?.isFixed()) {
        const [splice] = next.midProcess().branches[0].splices;
        writeAhead(splice);
        settle(next, splice.backtrack, splice.ffTokens);
        return undefined;
    }
    program.ahead = null;
    if (ahead && (ahead.backtrack || ahead.tokens.length)) {
        program.sent = ahead;
        return JSON.stringify({ branches: [new Branch({ splices: [new Splice(ahead.backtrack, ahead.tokens)] })] });
    }
    if (!next) return '{"branches":[]}';
    const result = next.midProcess();
    if (result.skipMe) {
        settle(next, 0, []);
        return undefined;
    }
    assert(result.branches.filter(branch => branch.sampleMask).length <= 1, "only one branch of a fork can draw a token at once");
    program.asked = next;
    return JSON.stringify({ branches: result.branches });
}

/** Runs `main`; to be called once, by the program's top level. */
export function start(main) {
    assert(!program.started, "start() was called twice");
    program.started = true;
    host.register(initPrompt, begin, answer);
    const fail = error => { program.failed = { error }; };
    const end = () => { program.ended = true; tell(1, "JsCtrl: done"); };
    try {
        Promise.resolve(main()).then(end, fail);
    } catch (error) {
        fail(error);
    }
}

/** Runs `main` and says so when it did not fail. */
export function test(main) {
    return start(async () => { await main(); host.write("TEST OK\n"); });
}

/** The prompt's tokens; to be awaited before anything else. */
export function getPrompt() {
    if (program.prompt) return Promise.resolve(program.prompt);
    return new Promise(resolve => { program.awaitsPrompt = resolve; });
}
/** All tokens so far, the prompt's too. */
export function getTokens() { return [...program.tokens]; }
export function getPromptLen() { return program.promptLength; }

class FixedTokens extends NextToken {
    constructor(text, following = null) {
        super();
        this.fixedTokens = tokenize(text);
        this.following = following;
    }
    isFixed() { return true; }
    midProcess() {
        return MidProcessResult.splice(this.following ? program.tokens.length - this.following.ptr : 0, this.fixedTokens);
    }
}

class StopToken extends NextToken {
    midProcess() { return MidProcessResult.stop(); }
}

/** Writes `text`. */
export async function fixed(text) { await new FixedTokens(text).run(); }
/** Writes the text between backticks. */
export async function $(strings, ...values) {
    await fixed(strings.reduce((text, part, i) => text + String(values[i - 1]) + part));
}
/** Ends the sequence here. */
export async function stop() { await new StopToken().run(); }

/** A place in the sequence. */
export class Label {
    constructor() { this.ptr = program.tokens.length; }
    tokensSince() { return program.tokens.slice(this.ptr); }
    textSince() { return detokenize(this.tokensSince()).decode(); }
    /** Writes `text` in place of everything after the label. */
    async fixedAfter(text) { await new FixedTokens(text, this).run(); }
}

class Fork extends NextToken {
    constructor(ways) {
        super();
        this.ways = ways;
    }
    midProcess() { return new MidProcessResult(Array.from({ length: this.ways }, () => Branch.noop())); }
}

export function forkSupported() { return host.config("fork") === 1; }

/** Goes on in several sequences: in each, its number from 0. A list of functions: the sequence's own one is run first. */
export async function fork(ways) {
    const branches = Array.isArray(ways) ? ways : null, count = branches ? branches.length : ways;
    assert(forkSupported(), "this host does not fork");
    assert(Number.isInteger(count) && count >= 1 && count <= MOST_FORKS, `a fork has 1 to ${MOST_FORKS} ways`);
    await new Fork(count).run();
    const which = program.forkGroup.indexOf(host.self());
    await branches?.[which]?.();
    return which;
}

export { FixedTokens, StopToken };
