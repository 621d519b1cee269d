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
  // The same id in each try: everpage makes it one invalidation, even if an answer was lost on the way.
  const body = { paths: [...new Set(paths)], reason, id: randomUUID() };
  if (body.paths.length > 0 && !(await post(body))) retry(body);
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

async function retry(body) {
  for (const wait of PAUSES_MS) {
    await pause(wait);
    if (await post(body)) return;
  }
  console.error("everpage: not invalidated, old pages may stay:", body.paths);
}

async function post(body) {
  try {
    const answer = await fetch(new URL("/invalidate", process.env.EVERPAGE_ADMIN_URL), {
      method: "POST",
      headers: { authorization: `Bearer ${process.env.EVERPAGE_TOKEN}`, "content-type": "application/json" },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    const text = await answer.text();
    if (answer.status === 200) return true;
    console.warn("everpage: did not take", body.paths, answer.status, text);
  } catch (error) {
    console.warn("everpage: did not take", body.paths, error.cause ?? error);
  }
  return false;
}
