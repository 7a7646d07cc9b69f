// Waits before something is asked for again: twice as long each time, until the network is back, or until it is no longer
// wanted.
export const SOON = 1000;
const LONGEST = 30_000;

export const longer = (pause) => Math.min(2 * pause, LONGEST);

export function wait(pause, signal) {
  return new Promise((over) => {
    const end = () => {
      clearTimeout(timer);
      removeEventListener("online", end);
      signal?.removeEventListener("abort", end);
      over();
    };
    const timer = setTimeout(end, pause);
    addEventListener("online", end);
    signal?.addEventListener("abort", end);
  });
}
