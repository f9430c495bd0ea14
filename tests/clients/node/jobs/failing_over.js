// Asks the runner to fail a node over in the middle of a job, and tells when that is done.
import { once } from "node:events";

/** A failover of the node that holds `key`: begins with the call, and over when `isOver`. */
export function failOver(key) {
  const state = { isOver: false };
  once(process.stdin, "data").then(([answer]) => (state.isOver = String(answer).trim() === "failed over"));
  console.log(`fail over the node of ${key}`);
  return state;
}

export const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

export async function waitUntil(what, condition) {
  const began = Date.now();
  while (!(await condition())) {
    if (Date.now() - began > 60_000) throw new Error(`never happened: ${what()}`);
    await pause(20);
  }
}
