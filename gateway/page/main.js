// Puts the page together: signs in if the network asks for it, follows the feed, and shows what it says.

import { forgetToken, keepToken, token } from "./api.js";
import { byId, mark, say } from "./dom.js";
import { follow } from "./feed.js";
import { openCheck, openJob, prepareSheet } from "./job.js";
import { showJobs, tick } from "./jobs.js";
import { showLedger, showNetwork } from "./network.js";
import { offer, preparePlayground } from "./playground.js";

const WORDS = { live: "live", lost: "connection lost, trying again", paused: "paused", off: "signed out" };

let hello = { administrator: false };
let network = { operators: [], models: [] };
/** How far the network's clock is ahead of the viewer's, in seconds. */
let ahead = 0;
let end = () => {};

const now = () => Date.now() / 1000 + ahead;
const operators = () => network.operators.map((one) => one.operator);
const open = (name) => openJob(name, operators);

function show(name, value) {
  switch (name) {
    case "hello": {
      hello = value;
      ahead = value.now - Date.now() / 1000;
      const who = value.administrator ? "administrator" : `project ${value.project.replace("projects/", "")}`;
      say(byId("who"), value.signed_in ? who : `${who}, open to this machine`);
      say(byId("figure-money-name"), value.administrator ? "Available, all accounts" : "Available");
      byId("sign-out").hidden = !value.signed_in;
      byId("sign-in").hidden = true;
      byId("status").hidden = false;
      break;
    }
    case "network":
      network = value;
      showNetwork(value, now());
      offer(value.models, !hello.administrator);
      break;
    case "ledger":
      showLedger(value);
      break;
    case "jobs":
      showJobs(value, { open, now, projects: hello.administrator });
      break;
    case "trouble": {
      const words = Object.entries(value).map(([part, why]) => `${part}: ${why}`).join(" ");
      say(byId("trouble"), words);
      byId("trouble").hidden = !words;
      break;
    }
    default: // a newer network says more
  }
}

function live(state) {
  mark(byId("live"), "data-state", state);
  say(byId("live-text"), WORDS[state]);
}

function refused(problem) {
  forgetToken();
  live("off");
  if (byId("sheet").open) byId("sheet").close();
  byId("status").hidden = true;
  byId("sign-in").hidden = false;
  byId("sign-out").hidden = true;
  say(byId("who"), "");
  say(byId("sign-in-problem"), problem);
  byId("token").value = "";
  byId("token").focus();
}

function start() {
  end();
  end = follow({ on: show, state: live, refused });
}

byId("sign-in-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const given = byId("token").value.trim();
  // what no header can carry is no token
  if (!/^[\x21-\x7e]+$/.test(given)) {
    say(byId("sign-in-problem"), "A token has no spaces and no letters beyond ASCII.");
    return;
  }
  keepToken(given);
  say(byId("sign-in-problem"), "");
  start();
});
byId("sign-out").addEventListener("click", () => {
  end();
  // what was shown goes with who saw it
  forgetToken();
  location.reload();
});
byId("check-other").addEventListener("click", () => openCheck(operators));
prepareSheet();
preparePlayground(open);
setInterval(() => { if (!document.hidden) tick(now()); }, 500);
// asked for a token, there is no need to be refused first
if (token() || document.documentElement.dataset.token === "open") start();
else refused("");
