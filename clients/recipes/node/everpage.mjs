// Throws pages out of everpage after a commit: for Express, Fastify, Next or a bare node:http. Node 18 and later, no package.
//
// EVERPAGE_ADMIN_URL and EVERPAGE_TOKEN come from the environment.

import { randomUUID } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";

const TIMEOUT_MS = 5_000;
// Waits before further tries, about five minutes in all; then an error in the log names the paths.
const PAUSES_MS = [500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000, 60_000, 60_000, 60_000];

/**
 * Posts the paths. Call it after the COMMIT and await it before you answer: then who saved sees the new page.
 * The first try is awaited; further ones are made in the background. It never throws.
 */
export async function invalidate(paths, reason = "saved") {
  const named = [...new Set(paths)];
  if (named.length === 0) return;
  const left = await post(bodyOf(named, reason));
  if (left.length > 0) retry(left);
}

/**
 * Runs `work(client, changed)` in a transaction on a client of `pool` (pg's, or anything with the same `connect`,
 * `query` and `release`). The paths that it adds to the set `changed` are posted, or given to `committed`, once the
 * transaction has been committed, and forgotten if it was rolled back.
 */
export async function transaction(pool, work, committed = invalidate) {
  const client = await pool.connect();
  const changed = new Set();
  let result;
  let committing = false;
  try {
    await client.query("BEGIN");
    result = await work(client, changed);
    committing = true;
    await client.query("COMMIT");
  } catch (error) {
    // A connection that cannot even roll back is not used again.
    await client.query("ROLLBACK").then(() => client.release(), (broken) => client.release(broken));
    // A COMMIT whose answer was lost may have taken place: a page too many is thrown away, never one too few.
    if (committing) await committed(changed);
    throw error;
  }
  client.release();
  await committed(changed);
  return result;
}

/** The same id in each try: everpage makes it one invalidation, even if an answer was lost on the way. */
function bodyOf(paths, reason) {
  return { paths, reason, id: randomUUID() };
}

async function retry(bodies) {
  for (const wait of PAUSES_MS) {
    await pause(wait);
    bodies = (await Promise.all(bodies.map(post))).flat();
    if (bodies.length === 0) return;
  }
  console.error("everpage: not invalidated, old pages may stay:", bodies.flatMap(({ paths }) => paths));
}

/** What is to be tried again: nothing if everpage has taken it. */
async function post(body) {
  try {
    const answer = await fetch(new URL("/invalidate", process.env.EVERPAGE_ADMIN_URL), {
      method: "POST",
      headers: { authorization: `Bearer ${process.env.EVERPAGE_TOKEN}`, "content-type": "application/json" },
      body: JSON.stringify(body),
      redirect: "manual", // The token is for this address.
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    const text = await answer.text();
    if (answer.status === 200) return [];
    console.warn("everpage: did not take", body.paths, answer.status, text);
    if (answer.status === 400) return await postHalves(body);
  } catch (error) {
    console.warn("everpage: did not take", body.paths, error.cause ?? error);
  }
  return [body];
}

/** One wrong path, and everpage does nothing of a body: this finds it, and what was named beside it goes. */
async function postHalves({ paths, reason }) {
  if (paths.length === 1) {
    console.error("everpage: rejected, never to be invalidated:", paths[0]);
    return [];
  }
  const middle = paths.length >> 1;
  const halves = [paths.slice(0, middle), paths.slice(middle)];
  return (await Promise.all(halves.map((half) => post(bodyOf(half, reason))))).flat();
}
