// Calls to the network this page came from, with the viewer's token, if there is one. The token stays in this tab's session storage.

const KEY = "aos-token";
/** Longest event that is read, in characters: one list of jobs has some ten thousand. */
const EVENT_CHARS = 8 << 20;

/** The network said no. `status` is the HTTP status; 0: it did not answer. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export const token = () => sessionStorage.getItem(KEY) ?? "";
export const keepToken = (value) => sessionStorage.setItem(KEY, value);
export const forgetToken = () => sessionStorage.removeItem(KEY);

/** Return the response of a call that went well. Raises Refused, with the network's own words. */
export async function call(path, { body, signal } = {}) {
  const headers = {};
  if (token()) headers.authorization = `Bearer ${token()}`;
  if (body !== undefined) headers["content-type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method: body === undefined ? "GET" : "POST", headers, body, signal, cache: "no-store", credentials: "omit",
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refused(0, "The network does not answer.");
  }
  if (!response.ok) throw new Refused(response.status, said(await response.text()) || `The network answered ${response.status}.`);
  return response;
}

/** Return a failure's message in any of the network's dialects. */
function said(text) {
  try {
    const body = JSON.parse(text);
    return body.error?.message ?? body.message ?? "";
  } catch {
    return text.slice(0, 300);
  }
}

/** Yield a response's server-sent events, `{name, data}`, as they come. */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let unread = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      unread += value;
      let end;
      while ((end = unread.indexOf("\n\n")) >= 0) {
        const lines = unread.slice(0, end).split("\n");
        unread = unread.slice(end + 2);
        const data = lines.filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart());
        const name = lines.find((line) => line.startsWith("event:"))?.slice(6).trim() ?? "message";
        if (data.length) yield { name, data: data.join("\n") };
      }
      if (unread.length > EVENT_CHARS) throw new Refused(0, "The network sent an event that is too long.");
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
