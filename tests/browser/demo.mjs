// What does a visitor of `everpage demo` see? A real browser walks through the shop and the dashboard.
//
//   node --test tests/browser/demo.mjs      after `cargo build`; screenshots go to target/browser-tests/
//
// EVERPAGE names another binary, CHROMIUM another browser.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

import { chromium } from "playwright-core";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const BINARY = process.env.EVERPAGE ?? path.join(ROOT, "target/debug/everpage");
const SCREENSHOTS = path.join(ROOT, "target/browser-tests");

const SHOWING_VANILLA = ["/", "/flavors/vanilla/", "/toppings/hot-fudge/", "/toppings/sprinkles/", "/toppings/waffle-cone/"];
const OTHERS = ["/flavors/chocolate/", "/flavors/strawberry/", "/toppings/whipped-cream/", "/toppings/fresh-berries/"];

let folder, demo, shop, dashboard, browser, page;

before(async () => {
  await mkdir(SCREENSHOTS, { recursive: true });
  folder = await mkdtemp(path.join(tmpdir(), "everpage-demo-"));
  const options = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data", folder];
  demo = spawn(BINARY, ["demo", ...options], { stdio: ["ignore", "pipe", "inherit"] });
  ({ shop, dashboard } = await addresses(demo));
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium" });
  page = await browser.newPage({ baseURL: shop, viewport: { width: 1200, height: 900 } });
});

after(async () => {
  await browser?.close();
  demo?.kill("SIGKILL");
  await rm(folder, { recursive: true, force: true, maxRetries: 3 });
});

// The two addresses that the demo prints when it is ready.
async function addresses(demo) {
  let printed = "";
  const ready = new Promise((resolve, reject) => {
    demo.on("error", reject);
    demo.on("exit", (code) => reject(new Error(`the demo ended with ${code} before it was ready:\n${printed}`)));
    demo.stdout.setEncoding("utf8").on("data", (text) => {
      printed += text;
      const shop = /^shop through everpage: (http:\S+)$/m.exec(printed)?.[1];
      const dashboard = /^dashboard: (http:\S+)$/m.exec(printed)?.[1];
      if (shop && dashboard) resolve({ shop, dashboard });
    });
  });
  const late = AbortSignal.timeout(30_000);
  const timeout = once(late, "abort").then(() => Promise.reject(new Error(`not ready in time:\n${printed}`)));
  return Promise.race([ready, timeout]);
}

// What a page tells of itself: the number of its rendering, and whether this copy came from the app or from the cache.
async function visit(path) {
  const response = await page.goto(path);
  assert.equal(response.status(), 200, path);
  return about();
}

async function about() {
  await page.locator("#arrival[data-from]").waitFor();
  return {
    render: Number(await page.locator(".bar").getAttribute("data-render")),
    from: await page.locator("#arrival").getAttribute("data-from"),
  };
}

async function renders(paths) {
  const found = {};
  for (const path of paths) found[path] = (await visit(path)).render;
  return found;
}

const screenshot = (name) => page.screenshot({ path: path.join(SCREENSHOTS, `${name}.png`) });

test("the first visit comes from the app, the second one from the cache", async () => {
  for (const path of [...SHOWING_VANILLA, ...OTHERS]) {
    const first = await visit(path);
    assert.equal(first.from, "app", path);
    assert.deepEqual(await visit(path), { render: first.render, from: "cache" }, path);
  }
  await page.goto("/");
  await screenshot("home");
});

test("a new price is on exactly the pages that show it, at once, and all others are kept", async () => {
  const showing = await renders(SHOWING_VANILLA);
  const others = await renders(OTHERS);

  await page.goto("/");
  await page.getByRole("link", { name: "Vanilla" }).click();
  await page.waitForURL("**/flavors/vanilla/");
  await screenshot("flavor");
  await page.getByRole("link", { name: "Change this flavor" }).click();
  await page.getByLabel("Price").fill("4.25");
  await screenshot("form");
  await page.getByRole("button", { name: "Save" }).click();
  await page.waitForURL("**/flavors/vanilla/");
  assert.match(await page.locator("main").innerText(), /4\.25/);
  await screenshot("changed");

  for (const path of SHOWING_VANILLA) {
    const { render } = await visit(path);
    assert.ok(render > showing[path], `${path} was rendered anew`);
    assert.match(await page.locator("main").innerText(), path === "/flavors/vanilla/" ? /4\.25/ : /Vanilla\s+€ 4\.25/);
    assert.deepEqual(await visit(path), { render, from: "cache" }, `${path} is kept again`);
  }
  assert.deepEqual(await renders(OTHERS), others);
});

test("a page that moved is gone from its old address", async () => {
  await visit("/flavors/hazelnut/");
  await visit("/flavors/hazelnut/");
  await page.goto("/edit/hazelnut/");
  await page.getByLabel("Address").fill("nocciola");
  await page.getByRole("button", { name: "Save" }).click();
  await page.waitForURL("**/flavors/nocciola/");
  assert.equal((await page.goto("/flavors/hazelnut/")).status(), 404);
});

test("a mistake in the form is named, and changes nothing", async () => {
  const before = await renders(OTHERS);
  await page.goto("/edit/chocolate/");
  await page.getByLabel("Price").fill("free");
  const answer = page.waitForResponse((response) => response.request().method() === "POST");
  await page.getByRole("button", { name: "Save" }).click();
  assert.equal((await answer).status(), 422);
  assert.match(await page.locator("#price-note").innerText(), /A price from/);
  await screenshot("mistake");
  assert.deepEqual(await renders(OTHERS), before);
});

test("the shop is usable on a telephone in the dark", async () => {
  const context = await browser.newContext({ baseURL: shop, viewport: { width: 360, height: 740 }, colorScheme: "dark" });
  const telephone = await context.newPage();
  for (const path of ["/", "/flavors/vanilla/", "/edit/vanilla/"]) {
    await telephone.goto(path);
    const overflow = await telephone.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(overflow <= 0, `${path} does not scroll sideways`);
  }
  await telephone.goto("/");
  await telephone.screenshot({ path: path.join(SCREENSHOTS, "telephone.png") });
  await context.close();
});

test("the dashboard loads without a complaint of the browser", async () => {
  const board = await browser.newPage();
  const complaints = [];
  board.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
  board.on("pageerror", (error) => complaints.push(String(error)));
  board.on("request", (request) => {
    if (!request.url().startsWith(dashboard) && !request.url().startsWith("data:")) complaints.push(request.url());
  });
  const response = await board.goto(dashboard);
  assert.equal(response.status(), 200);
  await board.waitForLoadState("load");
  assert.match(await board.title(), /everpage/i);
  assert.notEqual((await board.locator("body").innerText()).trim(), "");
  await board.screenshot({ path: path.join(SCREENSHOTS, "dashboard.png"), fullPage: true });
  assert.deepEqual(complaints, []);
  await board.close();
});

test("the dashboard explains, and invalidates after a dry run", async () => {
  const before = await visit("/flavors/vanilla/");
  const board = await browser.newPage();
  const complaints = [];
  board.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
  board.on("pageerror", (error) => complaints.push(String(error)));
  await board.goto(dashboard);

  await board.getByLabel("URL or path").fill("/edit/vanilla/");
  await board.getByRole("button", { name: "What happens to it?" }).click();
  await board.locator("#explain-result").getByText("bypass: ignored").waitFor();

  const invalidate = board.locator("#do-it");
  assert.equal(await invalidate.isDisabled(), true);
  await board.getByLabel("Paths or URLs, one per line").fill("/flavors/vanilla/");
  await board.getByRole("button", { name: "Dry run" }).click();
  await board.locator("#do-it:enabled").waitFor();
  assert.deepEqual(await visit("/flavors/vanilla/"), { render: before.render, from: "cache" });
  await invalidate.click();
  await board.locator("#latest li").filter({ hasText: "#3" }).waitFor();
  assert.ok((await visit("/flavors/vanilla/")).render > before.render);

  await board.screenshot({ path: path.join(SCREENSHOTS, "dashboard-used.png"), fullPage: true });
  await board.setViewportSize({ width: 360, height: 740 });
  const overflow = await board.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(overflow <= 0, "it does not scroll sideways on a telephone");
  await board.emulateMedia({ colorScheme: "dark" });
  await board.screenshot({ path: path.join(SCREENSHOTS, "dashboard-telephone.png"), fullPage: true });
  assert.deepEqual(complaints, []);
  await board.close();
});

test("the demo ends on SIGTERM", async () => {
  await browser.close();
  const ended = once(demo, "exit");
  demo.kill("SIGTERM");
  const [code] = await ended;
  assert.equal(code, 0);
});
