// The recipe's shop in the real Express, on SQLite as WebAssembly behind the interface of pg's Pool.
//
//   node express-app.mjs PORT

import express from "express";
import initSqlJs from "sql.js";

import { shop } from "../recipes/node/express.mjs";

const database = new (await initSqlJs()).Database();
database.run(`CREATE TABLE ice_cream (id INTEGER PRIMARY KEY, slug TEXT UNIQUE, name TEXT, price TEXT)`);

async function query(text, values = []) {
  const statement = database.prepare(text.replace(/\$(\d+)/g, "?$1"));
  try {
    statement.bind(values);
    const rows = [];
    while (statement.step()) rows.push(statement.getAsObject());
    return { rows };
  } finally {
    statement.free();
  }
}

// One connection: who wants it waits until it is released.
let free = Promise.resolve();
const pool = {
  connect: () => {
    const earlier = free;
    let release;
    free = new Promise((resolve) => (release = resolve));
    return earlier.then(() => ({ query, release }));
  },
  query: async (...given) => {
    const client = await pool.connect();
    return client.query(...given).finally(client.release);
  },
};

const app = shop(express().use(express.urlencoded({ extended: false })), pool);
app.use((error, request, response, next) => response.sendStatus(error.status ?? 500) || next);
app.listen(Number(process.argv[2]), "127.0.0.1");
