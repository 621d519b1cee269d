// "use server" actions of Next (App Router) that keep everpage up to date. As app/actions.js its first line is:
"use server";

import { revalidatePath } from "next/cache";

import { pool } from "./database.mjs"; // Yours: export const pool = new pg.Pool();
import { invalidate, transaction } from "./everpage.mjs";

export async function savePrice(slug, price) {
  await transaction(
    pool,
    async (client, changed) => {
      await client.query("UPDATE ice_cream SET price = $1 WHERE slug = $2", [price, slug]);
      changed.add("/ice-cream/").add(`/ice-cream/${encodeURIComponent(slug)}/`);
    },
    committed,
  );
}

/**
 * Next's own cache first: otherwise everpage would fetch the old page from it again.
 *
 * Without Next's cache (`export const dynamic = "force-dynamic"` on the page) leave that line out: one cache, everpage,
 * is enough. `export const revalidate = 60` means that Next may answer with a page that is a minute old, whatever
 * everpage does: for pages that a hook invalidates leave it at `false`.
 */
async function committed(changed) {
  for (const path of changed) revalidatePath(path);
  await invalidate(changed);
}
