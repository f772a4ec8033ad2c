// What C gives. Programs cannot reach it: the global is gone before they run.
export const host = globalThis.__host;
