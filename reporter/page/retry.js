// Pauses before a request is repeated: each twice as long as the one before, and over as soon as the network is back
// or the request is aborted.
export const FIRST_PAUSE_MS = 1000;
const MAX_PAUSE_MS = 30_000;

export const nextPause = (pause) => Math.min(2 * pause, MAX_PAUSE_MS);

export function wait(pause, signal) {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      removeEventListener("online", end);
      signal?.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, pause);
    addEventListener("online", end);
    signal?.addEventListener("abort", end);
  });
}
