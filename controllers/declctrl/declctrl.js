// Runs a list of steps, given as JSON: {"steps": [{"Fixed": {...}}, {"Gen": {...}}, ...]}.
//
// What each step is: docs/reference/controller-programs.md. A step or a field that is not known is refused when the run begins.
import {
    ConstrainedToken, Constraint, ChooseConstraint, FixedTokens, Label, argument, assert, detokenize, fork, getVar, helpers, setVar,
    start, stop, waitVars,
} from "aici";

const SEPARATOR = "\uFF0C", IN_ELEMENTS = ", ", MOST_REPEATS = 1000;
const ATTRIBUTES = ["stmts", "tag", "label"];
const STEPS = {
    Fixed: ["text", "following", ...ATTRIBUTES],
    Choose: ["options", ...ATTRIBUTES],
    Gen: ["rx", "yacc", "inner", "stop_at", "max_tokens", "max_words", "max_bytes", "mask_tags", ...ATTRIBUTES],
    Fork: ["branches"],
    Wait: ["vars"],
    Stop: [],
};
const EXPRESSIONS = {
    String: ["str"], Var: ["var"], Current: [], Concat: ["parts", "list"], IfEq: ["a", "b", "eq", "neq"],
    Extract: ["from", "rx", "template", "list"],
};
const labels = new Map();

/** The one name and the fields of {"Name": {...}}. */
function opened(value, known, what) {
    const entries = Object.entries(value ?? {});
    assert(entries.length === 1, `${what}: one of ${Object.keys(known).join(", ")}, in an object of its own`);
    const [[name, fields]] = entries;
    assert(known[name], `${what}: there is no ${name}; there are ${Object.keys(known).join(", ")}`);
    const odd = Object.keys(fields ?? {}).find(field => !known[name].includes(field));
    assert(!odd, `${name}: there is no field ${odd}; there are ${known[name].join(", ")}`);
    return [name, fields ?? {}];
}

function check(steps) {
    assert(Array.isArray(steps), "steps: a list");
    for (const step of steps) {
        const [name, fields] = opened(step, STEPS, "a step");
        if (name === "Fork") fields.branches.forEach(check);
        assert(!fields.mask_tags?.length, "mask_tags: no part of the text can be hidden from the model");
    }
}

const template = (pattern, match) => pattern.replace(/\$(\d+|\$)/g, (_, which) => which === "$" ? "$" : match[Number(which)] ?? "");

/** The value of an expression; `current` is what the step has written. */
function value(expression, current) {
    const [name, fields] = opened(expression, EXPRESSIONS, "an expression");
    const inner = one => value(one, current);
    switch (name) {
        case "String": return fields.str;
        case "Var": return getVar(fields.var)?.decode() ?? "";
        case "Current":
            assert(current !== undefined, "Current: only in stmts");
            return current;
        case "Concat": return fields.parts.map(inner).join(fields.list ? SEPARATOR : "");
        case "IfEq": return inner(fields.a) === inner(fields.b) ? inner(fields.eq) : inner(fields.neq);
        default: {
            const matches = [...inner(fields.from).matchAll(new RegExp(fields.rx, "g"))];
            const found = matches.map(match => template(fields.template ?? "$1", match));
            if (!fields.list) return found[0] ?? "";
            return found.map(text => text.replaceAll(SEPARATOR, IN_ELEMENTS)).join(SEPARATOR);
        }
    }
}

const listed = text => text.split(SEPARATOR).filter(one => one !== "");

function constraintOf({ rx, yacc, max_words: words, max_bytes: bytes }) {
    const given = Object.entries({ rx, yacc, max_words: words, max_bytes: bytes }).filter(([, one]) => one !== undefined && one !== null);
    assert(given.length <= 1, `Gen: one of ${given.map(([name]) => name).join(", ")}, not several`);
    if (!given.length) return new Constraint();
    const [[name, wanted]] = given;
    if (name === "rx") return helpers.regex_constraint(wanted);
    if (name === "yacc") return helpers.cfg_constraint(wanted);
    assert(Number.isInteger(wanted) && wanted >= 1 && wanted <= MOST_REPEATS, `Gen: ${name}: 1 to ${MOST_REPEATS}`);
    return helpers.regex_constraint(name === "max_words" ? ` ?[^ ]+(?: [^ ]+){0,${wanted - 1}}` : `(?:.|\\n){1,${wanted}}`);
}

async function write(constraint, most, done) {
    const token = new ConstrainedToken(() => constraint), tokens = [];
    while (tokens.length < most && !token.finished && !done(tokens)) tokens.push(...await token.run());
    return tokens;
}

async function generate(fields) {
    const { inner = [], stop_at: stopAt, max_tokens: most = Infinity } = fields;
    assert(!inner.length || !(fields.rx || fields.yacc), "Gen: inner stands for itself: without rx and yacc");
    const constraint = constraintOf(fields), tokens = [], text = () => detokenize(tokens).decode();
    let rest = most;
    for (;;) {
        let chosen = null;
        const done = more => {
            const now = detokenize([...tokens, ...more]).decode();
            chosen = more.length ? inner.find(one => now.endsWith(one.after)) ?? null : null;
            return chosen || (stopAt && now.includes(stopAt));
        };
        const more = await write(constraint, rest, done);
        tokens.push(...more);
        rest -= more.length;
        if (!chosen || (stopAt && text().includes(stopAt))) return text();
        tokens.push(...await write(new ChooseConstraint(listed(value(chosen.options))), Infinity, () => false));
    }
}

async function run(step) {
    const [name, fields] = opened(step, STEPS, "a step");
    const from = new Label();
    switch (name) {
        case "Fixed": {
            assert(!fields.following || labels.has(fields.following), `following: no step before has the label ${fields.following}`);
            await new FixedTokens(value(fields.text), fields.following ? labels.get(fields.following) : null).run();
            break;
        }
        case "Choose": {
            const options = listed(value(fields.options));
            await write(new ChooseConstraint(options), Infinity, () => false);
            break;
        }
        case "Gen": await generate(fields); break;
        case "Fork": {
            const which = await fork(fields.branches.length);
            for (const one of fields.branches[which]) await run(one);
            break;
        }
        case "Wait": await waitVars(...fields.vars); break;
        default: await stop();
    }
    const current = from.textSince();
    for (const statement of fields.stmts ?? []) {
        const [, { var: variable, expr }] = opened(statement, { Set: ["var", "expr"] }, "a statement");
        setVar(variable, value(expr, current));
    }
    if (fields.label) labels.set(fields.label, new Label());
}

const { steps } = JSON.parse(argument());
check(steps);
start(async () => { for (const step of steps) await run(step); });
