// Operators, models and money.

import { byId, el, keep, mark, pill, repill, say } from "./dom.js";
import { count, cut, elapsed, exactly, many, million, moment, money, short } from "./units.js";

/** Show the operators and models of a `network` event; `now` is the network's time, in seconds. */
export function showNetwork(network, now) {
  const ready = (rows) => rows.filter((row) => row.state === "ready").length;
  const { operators, models } = network;
  figure("operators", count(ready(operators)), `of ${many(operators.length, "operator")} in use`);
  figure("models", count(ready(models)), `of ${many(models.length, "model")} ready`);
  say(byId("models-note"), network.more ? "The first of them; aos models lists all." : "");
  byId("models-empty").hidden = models.length > 0;
  byId("operators-empty").hidden = operators.length > 0;
  keep(byId("models"), models, (one) => one.id, entry, (item, one) => showModel(item, one, now));
  keep(byId("operators"), operators, (one) => one.operator, entry, showOperator);
}

function entry() {
  return el("li", {},
    el("div", { class: "line" }, el("span", { class: "name" }), pill("")),
    el("p", { class: "reason", hidden: true }),
    el("p", { class: "small" }),
    el("ul", { class: "replicas", hidden: true }));
}

function fill(item, { name, title, state, reason, more }) {
  const [line, why, small] = item.children;
  say(line.firstElementChild, name);
  mark(line.firstElementChild, "title", title);
  repill(line.lastElementChild, state);
  say(why, reason);
  why.hidden = !reason;
  say(small, more);
}

function showModel(item, one, now) {
  const kinds = [one.chat && "chat", one.images && "pictures", one.embeddings && "embeddings", one.exact && "exact"];
  const price = one.price
    ? `a million tokens: ${million(one.price.prompt_token)} in, ${million(one.price.completion_token)} out`
    : "";
  const context = one.context_length && !one.images ? `context ${many(one.context_length, "token")}` : "";
  const operators = one.operators.length ? many(one.operators.length, "operator") : "";
  fill(item, {
    name: one.id,
    title: one.weight_hash ? `weights ${one.weight_hash}` : "",
    state: one.state,
    // said below, where it belongs
    reason: one.replicas.some((replica) => replica.reason === one.reason) ? "" : one.reason,
    more: [kinds.filter(Boolean).join(", "), context, operators, price].filter(Boolean).join(" · "),
  });
  const list = item.lastElementChild;
  list.hidden = one.replicas.length === 0;
  keep(list, one.replicas, (replica) => replica.id, entry, (inner, replica) => showReplica(inner, replica, now));
}

function showReplica(item, one, now) {
  const next = one.next_probe === null ? "" : `next look ${one.next_probe > now ? `in ${elapsed(one.next_probe - now)}` : "now"}`;
  fill(item, {
    name: one.api,
    title: one.id,
    state: one.state,
    reason: one.reason,
    more: [one.project, one.capabilities.join(", "), many(one.running, "request"), next].filter(Boolean).join(" · "),
  });
}

function showOperator(item, one) {
  const slots = one.models.reduce((sum, model) => sum + model.slots, 0);
  const offers = one.models.map((model) => model.model).join(", ");
  fill(item, {
    name: short(one.operator),
    title: one.operator,
    state: one.state,
    reason: one.reason,
    more: [offers, `${many(slots, "job")} at once`, one.vrf ? "can be drawn to check" : "", `since ${moment(one.registered)}`]
      .filter(Boolean).join(" · "),
  });
}

/** Show the money of a `ledger` event: one account's, or, for the administrator, that of all. */
export function showLedger(ledger) {
  const whole = BigInt(ledger.available) + BigInt(ledger.held);
  const [number, unit] = cut(ledger.available);
  figure("money", number, `${unit}; ${money(ledger.held)} held`);
  mark(byId("figure-money"), "title", exactly(ledger.available));
  const rows = ledger.account === undefined
    ? [["Accounts", count(ledger.accounts), ""]]
    : [["Account", ledger.account.replace("accounts/", ""), ledger.account]];
  rows.push(["Available", money(ledger.available), exactly(ledger.available)]);
  rows.push(["Held for jobs", money(ledger.held), exactly(ledger.held)]);
  rows.push(["Together", money(whole), exactly(whole)]);
  if (ledger.deposited !== undefined) rows.push(["Deposited", money(ledger.deposited), exactly(ledger.deposited)]);
  facts(byId("ledger"), rows);
  const sum = byId("ledger-sum");
  sum.hidden = ledger.adds_up === undefined;
  mark(sum, "data-good", String(ledger.adds_up));
  say(sum, ledger.adds_up ? "What was deposited is what is there." : "What was deposited is NOT what is there.");
}

/** Write rows of name, value and title into a list of terms. */
export function facts(list, rows) {
  const make = ([name]) => el("div", {}, el("dt", {}, name), el("dd", {}));
  keep(list, rows, ([name]) => name, make, (item, [, value, title]) => {
    say(item.lastElementChild, value);
    mark(item.lastElementChild, "title", title);
  });
}

/** Write one of the large numbers on top, and the words below it. */
export function figure(name, value, words) {
  say(byId(`figure-${name}`), value);
  if (words !== undefined) say(byId(`figure-${name}-of`), words);
}
