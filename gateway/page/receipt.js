// A receipt and its verification: what this page checked, what the gateway checked, and what nobody did.

import { call } from "./api.js";
import { check } from "./checks.js";
import { el, say } from "./dom.js";

const MARKS = { true: "✓", false: "✗", null: "?" };
const WORDS = { true: "good", false: "bad", null: "not checked" };

const UNCHECKED = {
  what: "that the model really gives this answer",
  good: null,
  why: "not checked; aos verify --replay --model FILE runs the order again on the weights",
};

/** Return the view of a receipt's JSON text, which can be changed and checked again. `expected` is as for `check`. */
export function receiptView(text, expected) {
  const banner = el("p", { class: "banner", role: "status" });
  const findings = el("div", { class: "groups" });
  const area = el("textarea", { class: "json", rows: 12, spellcheck: "false", "aria-label": "Receipt as JSON" });
  area.value = text;
  const file = el("input", { type: "file", accept: ".json,application/json", "aria-label": "Receipt file", onchange: async () => {
    if (!file.files[0]) return;
    area.value = await file.files[0].text();
    run();
  } });
  const again = el("button", { type: "button", onclick: () => run() }, "Check this text");
  const json = el("details", {},
    el("summary", {}, "The receipt as JSON"),
    el("p", { class: "small" }, "Saved as receipt.json, it is checked on your own machine, without this page and the gateway, by ",
      el("code", {}, "aos verify receipt.json"), "."),
    area, el("div", { class: "row" }, again, file));
  json.open = !text;
  const view = el("section", { class: "receipt", "aria-label": "Receipt" }, el("h3", {}, "Receipt"), banner, findings, json);

  let latest = 0;
  async function run() {
    const mine = ++latest;
    show("", "Checking…", []);
    const result = await verify(area.value, expected());
    if (mine === latest) show(...result);
  }

  function show(good, words, groups) {
    banner.dataset.good = good;
    say(banner, words);
    findings.replaceChildren(...groups.filter(([, list]) => list.length).map(group));
  }

  if (text) run();
  else say(banner, "Paste a receipt below, or choose its file.");
  return view;
}

/** Return how a receipt's text fares: whether it holds, in a word and in words, and the findings by who found them. */
async function verify(text, expected) {
  let bundle;
  try {
    bundle = JSON.parse(text);
  } catch (error) {
    return ["false", `This is not JSON: ${error.message}`, []];
  }
  if (!bundle || typeof bundle !== "object" || !bundle.receipt) return ["false", "This is JSON, but no receipt.", []];
  const own = await check(bundle, expected);
  const groups = [["Checked by this page", own]];
  let told = null;
  try {
    told = await (await call("/status/check", { body: text })).json();
    groups.push(["Checked by the gateway", told.findings]);
  } catch (error) {
    groups.push(["Checked by the gateway", [{ what: "signature, request, steps", good: null, why: error.message }]]);
  }
  groups.push(["Not checked", [UNCHECKED]]);
  const bad = own.some((one) => one.good === false) || told?.holds === false;
  if (bad) return ["false", "The receipt does NOT hold.", groups];
  if (!told) return ["", "Nothing is wrong as far as this page can tell; the gateway did not check the signature.", groups];
  return ["true", "The receipt holds.", groups];
}

function group([name, list]) {
  return el("div", { class: "group" }, el("h4", {}, name), el("ul", {}, ...list.map(finding)));
}

function finding({ what, good, why }) {
  return el("li", { class: "finding", "data-good": String(good) },
    el("span", { class: "tick", role: "img", "aria-label": WORDS[good] }, MARKS[good]),
    el("span", {}, what, why ? el("span", { class: "why" }, `: ${why}`) : null));
}
