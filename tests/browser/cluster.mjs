// What does the dashboard show of several nodes on one bucket? Two real nodes, one of which stops answering.
//
//   eval "$(tests/s3/up)"; node --test tests/browser/cluster.mjs      after `cargo build`; screenshots go to target/browser-tests/
//
// EVERPAGE names another binary, CHROMIUM another browser.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:http";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

import { chromium } from "playwright-core";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const BINARY = process.env.EVERPAGE ?? path.join(ROOT, "target/debug/everpage");
const SCREENSHOTS = path.join(ROOT, "target/browser-tests");

let folder, app, nodes, browser;

before(async () => {
  assert.ok(process.env.TEST_S3_MOTO, 'start the S3 servers: eval "$(tests/s3/up)"');
  await mkdir(SCREENSHOTS, { recursive: true });
  folder = await mkdtemp(path.join(tmpdir(), "everpage-cluster-"));
  app = createServer((request, response) => response.setHeader("content-type", "text/html").end("a page"));
  await once(app.listen(0, "127.0.0.1"), "listening");
  const bucket = `dashboard-${process.pid}-${Date.now()}`;
  nodes = [await serve(bucket), await serve(bucket)];
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium" });
});

after(async () => {
  await browser?.close();
  for (const node of nodes ?? []) node.process.kill("SIGKILL");
  app?.close();
  await rm(folder, { recursive: true, force: true, maxRetries: 3 });
});

// A node on this bucket, once it answers.
async function serve(bucket) {
  const settings = {
    STORE__KIND: "s3", STORE__S3__BUCKET: bucket, STORE__S3__CREATE_BUCKET: "true", STORE__S3__REGION: "us-east-1",
    STORE__S3__ENDPOINT_URL: process.env.TEST_S3_MOTO, STORE__S3__ADDRESSING_STYLE: "path",
    STORE__S3__ACCESS_KEY: "AKIAX", STORE__S3__SECRET_KEY: "SECRETX", CLUSTER__LEASE: "500ms",
  };
  const environment = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("EVERPAGE_")));
  for (const [name, value] of Object.entries(settings)) environment[`EVERPAGE_${name}`] = value;
  const options = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--origin", `http://127.0.0.1:${app.address().port}`];
  const node = spawn(BINARY, ["serve", ...options], { cwd: folder, env: environment, stdio: ["ignore", "ignore", "pipe"] });
  let logged = "";
  const ready = new Promise((resolve, reject) => {
    node.on("exit", (code) => reject(new Error(`the node ended with ${code} before it was ready:\n${logged}`)));
    node.stderr.setEncoding("utf8").on("data", (text) => {
      logged += text;
      const dashboard = /dashboard on (http:\/\/[^/\s]+)/.exec(logged)?.[1];
      if (dashboard) resolve({ process: node, dashboard });
    });
  });
  const late = once(AbortSignal.timeout(30_000), "abort").then(() => Promise.reject(new Error(`not ready in time:\n${logged}`)));
  return Promise.race([ready, late]);
}

test("the dashboard shows who serves, and names the node that had to be waited for", async () => {
  const [here, there] = nodes;
  const board = await browser.newPage({ viewport: { width: 1200, height: 900 } });
  const complaints = [];
  board.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
  board.on("pageerror", (error) => complaints.push(String(error)));
  await board.goto(here.dashboard);
  const row = (node) => board.locator("#nodes tr").filter({ hasText: node.dashboard });
  await row(here).getByText("this one").waitFor();
  await row(there).getByText("serves").waitFor();

  there.process.kill("SIGSTOP");
  await board.getByLabel("Paths or URLs, one per line").fill("/");
  await board.getByRole("button", { name: "Dry run" }).click();
  await board.locator("#do-it:enabled").click();
  const result = board.locator("#invalidate-result");
  await result.getByText("Done as number 1, on 2 nodes, in ").waitFor();
  assert.match(await result.innerText(), new RegExp(`did not answer, and their leases were waited for:\\s+${there.dashboard}`));
  await row(there).getByText("passed over: it did not answer").waitFor();
  await board.locator("#cluster-note").getByText("answers that waited for a lease: 1").waitFor();
  await board.screenshot({ path: path.join(SCREENSHOTS, "cluster.png"), fullPage: true });

  await board.setViewportSize({ width: 360, height: 740 });
  const overflow = await board.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(overflow <= 0, "it does not scroll sideways on a telephone");
  assert.deepEqual(complaints, []);
  await board.close();
});
