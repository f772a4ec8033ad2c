// The playground: a conversation that streams, or a picture. Every answer leads to its job and receipt.

import { call, events } from "./api.js";
import { byId, el, keep, mark, say } from "./dom.js";
import { many, rate } from "./units.js";

const SIZES = ["64x64", "128x128", "256x256", "512x512", "1024x1024"];
const SIZE = "256x256";
/** Turns of the conversation that are sent along. */
const TURNS = 20;

let turns = [];
let running = null;
let models = [];
let allowed = true;

/** Make the form work; `open(name)` is called for the job that is chosen. */
export function preparePlayground(open) {
  byId("size").append(...SIZES.map((size) => el("option", { value: size, selected: size === SIZE }, `${size.replace("x", " × ")} px`)));
  byId("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    if (!running && !byId("send").disabled) ask(open);
  });
  byId("prompt").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      byId("ask").requestSubmit();
    }
  });
  byId("stop").addEventListener("click", () => running?.abort());
  byId("model").addEventListener("change", suit);
  byId("fresh").addEventListener("click", () => {
    running?.abort();
    turns = [];
    byId("talk").replaceChildren();
    suit();
    byId("prompt").focus();
  });
}

/** Offer these models; `may` is whether the viewer may hand jobs in. */
export function offer(rows, may) {
  allowed = may;
  models = rows.filter((one) => one.state === "ready" && (one.images || !one.embeddings || one.chat));
  const label = (one) => `${one.id}${one.images ? " (pictures)" : ""}`;
  keep(byId("model"), models, (one) => one.id, (one) => el("option", { value: one.id }), (item, one) => say(item, label(one)));
  suit();
}

const chosen = () => models.find((one) => one.id === byId("model").value);

function suit() {
  const model = chosen();
  byId("size").hidden = !model?.images;
  byId("stop").hidden = !running;
  byId("send").hidden = Boolean(running);
  byId("send").disabled = !model || !allowed;
  byId("talk").hidden = byId("talk").children.length === 0;
  byId("fresh").hidden = byId("talk").hidden;
  mark(byId("prompt"), "placeholder", model?.images ? "a red circle on a white background" : "What is AI?");
  say(byId("ask-problem"), allowed ? (models.length ? "" : "No model is ready.") : "Jobs are handed in with a project's token.");
}

async function ask(open) {
  const prompt = byId("prompt").value.trim() || byId("prompt").placeholder;
  const model = chosen();
  byId("prompt").value = "";
  const answer = el("div", { class: "words" });
  const note = el("p", { class: "small" });
  byId("talk").append(
    el("div", { class: "turn", "data-role": "user" }, el("div", { class: "words" }, prompt)),
    el("div", { class: "turn", "data-role": "assistant" }, answer, note));
  running = new AbortController();
  suit();
  scroll(true);
  try {
    const job = model.images ? await paint(model, prompt, answer, note) : await speak(model, prompt, answer, note);
    if (job) note.append(" · ", el("button", { type: "button", class: "link", onclick: () => open(job) }, "receipt"));
  } catch (error) {
    say(note, running.signal.aborted ? "Stopped; its job is cancelled." : error.message);
    mark(note, "class", running.signal.aborted ? "small" : "problem");
  } finally {
    running = null;
    suit();
    scroll(true);
  }
}

/** Stream an answer. Returns its job's name. */
async function speak(model, prompt, answer, note) {
  const conversation = [...turns, { role: "user", content: prompt }].slice(-TURNS);
  const [path, input] = model.chat ? ["/v1/chat/completions", { messages: conversation }] : ["/v1/completions", { prompt }];
  const body = JSON.stringify({ model: model.id, stream: true, stream_options: { include_usage: true }, ...input });
  const began = performance.now();
  let first = 0;
  let [said, job, usage] = ["", "", null];
  say(note, "waiting for an operator…");
  for await (const { data } of events(await call(path, { body, signal: running.signal }))) {
    if (data === "[DONE]") break;
    const part = JSON.parse(data);
    if (part.error) throw new Error(part.error.message);
    const choice = part.choices?.[0];
    const text = choice?.delta?.content ?? choice?.text ?? "";
    if (text) {
      first ||= performance.now();
      said += text;
      answer.append(text);
      scroll(false);
      say(note, "answering…");
    }
    job = part.aos?.job ?? job;
    usage = part.usage ?? usage;
  }
  turns = [...conversation, { role: "assistant", content: said }];
  say(note, pace(usage, began, first));
  return job;
}

function pace(usage, began, first) {
  const ended = performance.now();
  const wait = first ? `first text after ${((first - began) / 1000).toFixed(2)} s` : "no text";
  if (!usage) return wait;
  const seconds = (ended - began) / 1000;
  return `${many(usage.completion_tokens, "token")} · ${rate(usage.completion_tokens / seconds)} tokens/s · ${wait}`;
}

/** Make a picture and show it. Returns its job's name. */
async function paint(model, prompt, answer, note) {
  const body = JSON.stringify({ model: model.id, prompt, size: byId("size").value, response_format: "b64_json" });
  const began = performance.now();
  say(note, "painting…");
  const reply = await (await call("/v1/images/generations", { body, signal: running.signal })).json();
  for (const picture of reply.data) {
    // a URL of data, whatever the text is: it can become a broken picture, nothing else
    answer.append(el("img", { src: `data:image/png;base64,${picture.b64_json}`, alt: prompt }));
  }
  say(note, `${many(reply.data.length, "picture")} in ${((performance.now() - began) / 1000).toFixed(1)} s`);
  return reply.aos?.job ?? "";
}

/** Keep the end in sight, unless the viewer has scrolled away from it. */
function scroll(always) {
  const talk = byId("talk");
  if (always || talk.scrollHeight - talk.scrollTop - talk.clientHeight < 80) talk.scrollTop = talk.scrollHeight;
}
