// The one feed that keeps the page up to date. It rests while nobody looks, and comes back by itself, later each time that it fails.

import { call, events, Refused, token } from "./api.js";

/** Seconds before the next try, by how often it failed; the last one repeats. */
const PAUSES = [1, 2, 4, 8, 15, 30];
/** A feed that lasted so many seconds was a good one. */
const STEADY = 10;
/** Seconds after which a page that nobody looks at stops listening. */
const HIDDEN = 10;
/** Seconds of silence after which a feed is taken for dead; the network says something every ten. */
const SILENCE = 30;

/**
 * Follow the network. `on(name, value)` gets each event; `state(word)` is told `live`, `lost`, `paused`; `refused(problem)` is called,
 * and the feed ends, when a token is asked for. Returns a function that ends it.
 */
export function follow({ on, state, refused }) {
  let stopped = false;
  let attempt = new AbortController();
  let wake = () => {};
  let hiding = 0;

  function looked() {
    clearTimeout(hiding);
    if (document.hidden) hiding = setTimeout(() => attempt.abort(), HIDDEN * 1000);
    else wake();
  }
  document.addEventListener("visibilitychange", looked);

  async function listen() {
    attempt = new AbortController();
    let dog = 0;
    const heard = () => {
      clearTimeout(dog);
      dog = setTimeout(() => attempt.abort(), SILENCE * 1000);
    };
    try {
      heard();
      const response = await call("/status/feed", { signal: attempt.signal });
      const listening = new Response(response.body.pipeThrough(new TransformStream({
        transform(part, onward) {
          heard();
          onward.enqueue(part);
        },
      })));
      for await (const event of events(listening)) {
        state("live");
        on(event.name, JSON.parse(event.data));
      }
    } finally {
      clearTimeout(dog);
    }
  }

  (async () => {
    let failures = 0;
    while (!stopped) {
      if (document.hidden) {
        state("paused");
        await new Promise((resolve) => { wake = resolve; });
      }
      if (stopped) break;
      const began = Date.now();
      try {
        await listen();
      } catch (error) {
        if (stopped) break;
        if (error instanceof Refused && (error.status === 401 || error.status === 403)) {
          stop();
          refused(token() ? "The network does not know this token." : "");
          break;
        }
      }
      // one that ends as soon as it begins is no better than none
      failures = Date.now() - began > STEADY * 1000 ? 0 : failures + 1;
      if (stopped || document.hidden) continue;
      if (failures) state("lost");
      const seconds = failures ? PAUSES[Math.min(failures, PAUSES.length) - 1] * (0.75 + Math.random() / 2) : 0.2;
      await new Promise((resolve) => {
        wake = resolve;
        setTimeout(resolve, seconds * 1000);
      });
    }
  })();

  function stop() {
    stopped = true;
    document.removeEventListener("visibilitychange", looked);
    clearTimeout(hiding);
    attempt.abort();
    wake();
  }
  return stop;
}
