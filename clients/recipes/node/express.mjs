// A small ice-cream shop in Express that keeps everpage up to date.
//
//   import { shop } from "./express.mjs";
//   const app = express().use(express.urlencoded());
//   shop(app, new pg.Pool()).listen(8000);

import { transaction } from "./everpage.mjs";

const LIST = "/ice-cream/";
const pathOf = (slug) => `/ice-cream/${encodeURIComponent(slug)}/`;

/** Adds the shop's pages to an Express app; `pool` is pg's, or one like it. */
export function shop(app, pool) {
  app.get("/ice-cream/", async (request, response) => {
    const { rows } = await pool.query("SELECT name, price FROM ice_cream ORDER BY name");
    response.send(rows.map(({ name, price }) => `<p>${escape(name)} ${escape(price)}</p>`).join(""));
  });

  app.get("/ice-cream/:slug/", async (request, response) => {
    const row = await find(pool, request.params.slug);
    if (row) response.send(`<h1>${escape(row.name)}</h1><p>${escape(row.price)}</p>`);
    else response.sendStatus(404);
  });

  app.post("/ice-cream/", async ({ body }, response) => {
    await transaction(pool, async (client, changed) => {
      const { slug, name, price } = body;
      await client.query("INSERT INTO ice_cream (slug, name, price) VALUES ($1, $2, $3)", [slug, name, price]);
      changed.add(LIST).add(pathOf(slug));
    });
    response.sendStatus(201);
  });

  app.post("/ice-cream/:slug/", async ({ params, body }, response) => {
    const found = await transaction(pool, async (client, changed) => {
      const old = await find(client, params.slug);
      if (!old) return false;
      const { slug, name, price } = { ...old, ...body };
      await client.query("UPDATE ice_cream SET slug = $1, name = $2, price = $3 WHERE id = $4", [slug, name, price, old.id]);
      // The old address too: nothing must stay there.
      changed.add(LIST).add(pathOf(old.slug)).add(pathOf(slug));
      if (price === "free") throw Object.assign(new Error("nothing is free"), { status: 422 });
      return true;
    });
    response.sendStatus(found ? 204 : 404);
  });

  app.post("/sale/", async ({ body }, response) => {
    await transaction(pool, async (client, changed) => {
      const { rows } = await client.query("SELECT slug FROM ice_cream");
      await client.query("UPDATE ice_cream SET price = $1", [body.price]);
      changed.add(LIST);
      for (const { slug } of rows) changed.add(pathOf(slug));
    });
    response.sendStatus(204);
  });

  app.post("/ice-cream/:slug/delete/", async ({ params }, response) => {
    await transaction(pool, async (client, changed) => {
      await client.query("DELETE FROM ice_cream WHERE slug = $1", [params.slug]);
      changed.add(LIST).add(pathOf(params.slug));
    });
    response.sendStatus(204);
  });
  return app;
}

async function find(database, slug) {
  const { rows } = await database.query("SELECT id, slug, name, price FROM ice_cream WHERE slug = $1", [slug]);
  return rows[0];
}

function escape(text) {
  return String(text).replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
