// One job on a sheet of its own: what was asked and answered, its events as they come, its receipt.

import { call, events } from "./api.js";
import { hex } from "./checks.js";
import { byId, el, pill, repill, say } from "./dom.js";
import { facts } from "./network.js";
import { receiptView } from "./receipt.js";
import { count, exactly, many, moment, money, rate, short, time } from "./units.js";

let opened = new AbortController();

/** Make the sheet close as its button, Escape and a click beside it say. */
export function prepareSheet() {
  const sheet = byId("sheet");
  byId("sheet-close").addEventListener("click", () => sheet.close());
  sheet.addEventListener("click", (event) => { if (event.target === sheet) sheet.close(); });
  sheet.addEventListener("close", () => {
    opened.abort();
    byId("sheet-body").replaceChildren();
  });
}

function show(title, ...parts) {
  opened.abort();
  opened = new AbortController();
  say(byId("sheet-title"), title);
  byId("sheet-body").replaceChildren(...parts);
  if (!byId("sheet").open) byId("sheet").showModal();
  byId("sheet").scrollTop = 0;
  return opened.signal;
}

/** Open the sheet for a receipt from elsewhere. `operators()` gives the registered operators' addresses. */
export function openCheck(operators) {
  show("Check a receipt", receiptView("", () => ({ operators: operators() })));
}

/** Open the sheet of a job, `jobs/…`. */
export async function openJob(name, operators) {
  const state = pill("");
  const what = el("dl", { class: "facts" });
  const asked = el("pre", { class: "text" });
  const answer = el("pre", { class: "text" });
  const log = el("ol", { class: "events" });
  const problem = el("p", { class: "problem", role: "alert" });
  const receipt = el("div", {});
  const head = el("div", { class: "line" }, el("code", { class: "name", title: name }, name), state);
  const signal = show("Job", head, problem, what,
    el("h3", {}, "Asked"), asked, el("h3", {}, "Answer"), answer,
    el("details", { open: true }, el("summary", {}, "Events"), log), receipt);
  try {
    const job = await read(name, signal);
    describe(job, { state, what, asked });
    await watch(name, { log, asked, answer, state, signal });
    describe(await read(name, signal), { state, what, asked });
    if (state.dataset.state === "completed") {
      const text = await (await call(`/v1/${name}/receipt`, { signal })).text();
      receipt.replaceChildren(receiptView(pretty(text), () => ({ job: name, operators: operators() })));
    } else {
      receipt.replaceChildren(el("h3", {}, "Receipt"), el("p", {}, "Only completed jobs have a receipt."));
    }
  } catch (error) {
    if (!signal.aborted) say(problem, error.message);
  }
}

const read = async (name, signal) => (await call(`/v1/${name}`, { signal })).json();

/** Indent JSON; every number in it is small enough to stay what it is, the others are strings. */
const pretty = (text) => JSON.stringify(JSON.parse(text), null, 2);

const word = (value, prefix) => (value ?? "").replace(prefix, "").toLowerCase();

function describe(job, { state, what, asked }) {
  repill(state, word(job.state, "JOB_STATE_"));
  const order = job.order;
  say(asked, order.prompt ?? order.picture?.prompt ?? order.embedding?.texts.join("\n")
    ?? order.chat.messages.map((turn) => `${turn.role}: ${turn.content}`).join("\n"));
  const outcome = job.outcome;
  const rows = [["Model", order.model], ["Accepted", moment(Date.parse(job.created) / 1000)]];
  if (job.operator) rows.push(["Operator", short(job.operator), job.operator]);
  if (job.attempts > 1) rows.push(["Attempts", count(job.attempts)]);
  if (outcome) {
    const seconds = (Date.parse(job.ended) - Date.parse(job.created)) / 1000;
    const { prompt_tokens: prompt, completion_tokens: completion } = outcome.usage ?? {};
    rows.push(["Took", time(seconds)]);
    if (completion) rows.push(["Tokens", `${count(prompt)} in, ${count(completion)} out`]);
    if (completion && seconds > 0) rows.push(["Speed", `${rate(completion / seconds)} tokens/s`]);
    if (outcome.receipt) rows.push(["Price", money(outcome.receipt.price), exactly(outcome.receipt.price)]);
    if (outcome.error) rows.push(["Failure", outcome.error.message]);
  }
  const verdict = word(job.verdict, "VERDICT_");
  if (outcome && verdict && verdict !== "unspecified") rows.push(["Verdict", [verdict, job.verdict_reason].filter(Boolean).join(": ")]);
  facts(what, rows.map(([key, value, title]) => [key, value, title ?? ""]));
}

/** Show pictures by links to their files; of those that are not kept any more, or are another project's, that they were there. */
async function draw(pictures, { answer, asked, signal }) {
  for (const one of pictures) {
    try {
      const { path } = await read(`blobs/${hex(one.sha256)}:share`, signal);
      answer.append(el("img", { src: path, alt: asked.textContent, width: one.width, height: one.height }));
    } catch (error) {
      if (signal.aborted) throw error;
      answer.append(`1 picture of ${one.width} × ${one.height}: ${error.message}\n`);
    }
  }
}

/** Follow the job's own log to its end. Pieces of text that come one behind the other share a line. */
async function watch(name, { log, asked, answer, state, signal }) {
  let pieces = null;
  for await (const { data } of events(await call(`/v1/${name}:watch`, { signal }))) {
    const event = JSON.parse(data);
    if (event.error) throw new Error(event.error.message ?? "The log broke off.");
    if (event.chunk) {
      const { text, tokens, pictures = [], embeddings = [] } = event.chunk;
      pieces ??= { first: event.sequence, counts: [0, 0, 0], line: log.appendChild(el("li", {})) };
      [tokens, pictures, embeddings].forEach((part, index) => { pieces.counts[index] += part.length; });
      answer.append(text);
      const which = pieces.first === event.sequence ? `#${pieces.first}` : `#${pieces.first}–${event.sequence}`;
      const parts = ["token", "picture", "vector"].map((one, index) => pieces.counts[index] && many(pieces.counts[index], one));
      say(pieces.line, `${which} ${parts.filter(Boolean).join(", ") || "text"}`);
      continue;
    }
    pieces = null;
    const now = word(event.outcome?.state ?? event.state, "JOB_STATE_");
    repill(state, now);
    log.append(el("li", {}, `#${event.sequence} ${now}`));
    if (event.outcome?.pictures?.length) await draw(event.outcome.pictures, { answer, asked, signal });
    if (event.outcome?.embeddings?.length) answer.append(many(event.outcome.embeddings.length, "vector"));
    if (event.outcome?.error) log.append(el("li", {}, event.outcome.error.message));
  }
}
