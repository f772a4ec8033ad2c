// The list of jobs: newest first, running ones with their text as it comes.

import { byId, el, keep, mark, pill, repill, say } from "./dom.js";
import { figure } from "./network.js";
import { count, elapsed, many, rate, short, time } from "./units.js";

const GOING = new Set(["queued", "assigned", "running"]);

/** Show a `jobs` event; `open(name)` is called for the job that is chosen, `now()` gives the network's time in seconds;
 *  `projects` is whether each job's project is shown. */
export function showJobs(told, { open, now, projects }) {
  const { jobs, queue } = told;
  const more = queue.more ? " or more" : "";
  figure("running", count(queue.running), `${queue.running === 1 ? "job" : "jobs"}${more}`);
  figure("waiting", count(queue.waiting), waiting(queue, more));
  figure("rate", told.rate ? rate(told.rate) : "0");
  say(byId("jobs-note"), jobs.length ? `${many(jobs.length, "job")}, newest first` : "");
  say(byId("queue-why"), queue.why && `The oldest waiting job: ${queue.why.replace(/^It waits: /, "")}`);
  byId("queue-why").hidden = !queue.why;
  byId("jobs").hidden = jobs.length === 0;
  byId("jobs-empty").hidden = jobs.length > 0;
  const body = byId("jobs").tBodies[0];
  keep(body, jobs, (job) => job.job, (job) => row(job, open), (item, job) => show(item, job, now(), projects));
}

function waiting(queue, more) {
  const all = queue.waiting_in_network > queue.waiting ? `; ${count(queue.waiting_in_network)} in the network` : "";
  return `${queue.waiting === 1 ? "job" : "jobs"}${more}${all}`;
}

function row(job, open) {
  const asked = el("button", { type: "button", class: "link asked", onclick: () => open(job.job) });
  const cell = el("td", { class: "job" }, asked, el("p", { class: "said" }), el("p", { class: "small" }));
  const state = el("td", { class: "state" }, pill(job.state));
  return el("tr", {}, state, cell,
    el("td", { class: "number" }),
    el("td", { class: "number", "data-unit": "tokens/s" }),
    el("td", { class: "number" }));
}

function show(item, job, now, projects) {
  const [state, cell, tokens, speed, took] = item.children;
  const [asked, said, small] = cell.children;
  repill(state.firstElementChild, job.state);
  say(asked, job.input || "(empty)");
  mark(asked, "title", `Open ${job.job}`);
  say(said, job.error || job.output);
  mark(said, "data-kind", job.error ? "error" : "");
  said.hidden = !said.textContent;
  const by = job.operator ? `operator ${short(job.operator)}` : "";
  const verdict = job.verdict && job.verdict !== "unchecked" ? job.verdict : "";
  const tries = job.attempts > 1 ? many(job.attempts, "attempt") : "";
  say(small, [job.model, projects && job.project.replace("projects/", ""), by, tries, verdict].filter(Boolean).join(" · "));
  say(tokens, job.tokens ? count(job.tokens) : "");
  mark(tokens, "data-unit", job.tokens === 1 ? "token" : "tokens");
  say(speed, rate(job.rate));
  mark(speed, "title", job.rate === null ? "" : GOING.has(job.state) ? "in the last seconds" : "from acceptance to end");
  item.dataset.created = job.created;
  item.dataset.going = String(GOING.has(job.state));
  say(took, GOING.has(job.state) ? elapsed(now - job.created) : time(job.seconds));
}

/** Move the clocks of jobs that have not ended. */
export function tick(now) {
  for (const item of byId("jobs").tBodies[0].children) {
    if (item.dataset.going === "true") say(item.lastElementChild, elapsed(now - Number(item.dataset.created)));
  }
}
