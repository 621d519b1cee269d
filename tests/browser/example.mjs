// What do a visitor and an editor of the Django example see? Both sit before real browsers, everpage in between.
//
//   node --test tests/browser/example.mjs   after `cargo build` and clients/tests/run, which installs Django;
//                                           screenshots go to target/browser-tests/
//
// EVERPAGE names another binary, CHROMIUM another browser.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";

import { chromium } from "playwright-core";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const BINARY = process.env.EVERPAGE ?? path.join(ROOT, "target/debug/everpage");
const PYTHON = path.join(ROOT, "target/clients/venv/bin/python");
const EXAMPLE = path.join(ROOT, "clients/django/example");
const SCREENSHOTS = path.join(ROOT, "target/browser-tests");

let folder, django, proxy, shop, browser;

before(async () => {
  await mkdir(SCREENSHOTS, { recursive: true });
  folder = await mkdtemp(path.join(tmpdir(), "everpage-example-"));
  const [origin, listen, admin] = [await freePort(), await freePort(), await freePort()].map((port) => `127.0.0.1:${port}`);
  shop = `http://${listen}`;
  const environment = {
    ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("EVERPAGE"))),
    PYTHONPATH: path.join(ROOT, "clients/django"),
    DJANGO_SETTINGS_MODULE: "shop.settings",
    DEBUG: "",
    SECRET_KEY: "of the tests",
    DATABASE_URL: `sqlite:///${folder}/shop.sqlite3`,
    STATIC_ROOT: `${folder}/static`,
    DJANGO_SUPERUSER_PASSWORD: "secret",
  };
  const given = { cwd: EXAMPLE, env: { ...environment, EVERPAGE_ADMIN_URL: `http://${admin}` } };
  const manage = (...command) => execFileSync(PYTHON, ["manage.py", ...command], { ...given, stdio: "pipe" });
  manage("migrate");
  manage("collectstatic", "--no-input");
  manage("createsuperuser", "--no-input", "--username=maria", "--email=maria@shop.example");
  const quiet = ["ignore", "ignore", "inherit"];
  const gunicorn = ["-m", "gunicorn", "--threads", "4", "--no-control-socket", "--log-level", "warning"];
  django = spawn(PYTHON, [...gunicorn, "--bind", origin, "shop.wsgi"], { ...given, stdio: quiet });
  await answers(`http://${origin}/about/`);
  const options = ["--origin", `http://${origin}`, "--listen", listen, "--admin", admin, "--data", `${folder}/data`];
  proxy = spawn(BINARY, ["serve", ...options], { cwd: folder, env: { ...environment, EVERPAGE_LOG__LEVEL: "warn" }, stdio: quiet });
  await answers(`${shop}/about/`);
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium" });
});

after(async () => {
  await browser?.close();
  for (const process of [proxy, django]) {
    if (process && process.exitCode === null) {
      process.kill("SIGTERM");
      await once(process, "exit");
    }
  }
  await rm(folder, { recursive: true, force: true, maxRetries: 3 });
});

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  return port;
}

async function answers(url) {
  const late = AbortSignal.timeout(60_000);
  for (;;) {
    late.throwIfAborted();
    try {
      if ((await fetch(url)).status === 200) return;
    } catch {
      // Nobody listens yet.
    }
    await pause(50);
  }
}

// A page of the shop as somebody sees it, and where it came from.
async function look(page, path) {
  const response = await page.goto(path);
  const status = response.headers()["cache-status"];
  return { from: /; hit/.test(status) ? "cache" : "app", rendered: await page.locator("footer").innerText(), status };
}

test("an editor saves in Django's admin, and the visitor's next look shows it", async () => {
  const complaints = [];
  const visitor = await browser.newPage({ baseURL: shop, viewport: { width: 1100, height: 800 } });
  visitor.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
  visitor.on("pageerror", (error) => complaints.push(String(error)));
  const editor = await (await browser.newContext({ baseURL: shop })).newPage();

  const first = await look(visitor, "/");
  const second = await look(visitor, "/");
  assert.equal(second.from, "cache", second.status);
  assert.equal(second.rendered, first.rendered);
  await visitor.screenshot({ path: path.join(SCREENSHOTS, "example-menu.png") });

  await editor.goto("/admin/");
  await editor.getByLabel("Username").fill("maria");
  await editor.getByLabel("Password").fill("secret");
  await editor.getByRole("button", { name: "Log in" }).click();
  await editor.goto("/ice-cream/pistachio/");
  await editor.getByRole("link", { name: "Edit as maria" }).click();
  await editor.getByLabel("Price").fill("9.75");
  await editor.screenshot({ path: path.join(SCREENSHOTS, "example-admin.png"), fullPage: true });
  await editor.getByRole("button", { name: "Save", exact: true }).click();
  await editor.getByText("was changed successfully").waitFor();

  const changed = await look(visitor, "/");
  assert.equal(changed.from, "app", changed.status);
  assert.match(await visitor.locator("main").innerText(), /Pistachio\s+€ 9\.75/);
  assert.equal(await visitor.getByText("Edit as").count(), 0);
  const kept = await look(visitor, "/");
  assert.deepEqual([kept.from, kept.rendered], ["cache", changed.rendered]);

  await visitor.getByRole("link", { name: "Pistachio" }).click();
  await visitor.waitForURL("**/ice-cream/pistachio/");
  assert.match(await visitor.locator("main").innerText(), /€ 9\.75/);
  await visitor.screenshot({ path: path.join(SCREENSHOTS, "example-flavor.png") });
  assert.deepEqual(complaints, []);
});

test("a visitor's wish is thanked for once, and nobody else reads it", async () => {
  const visitor = await (await browser.newContext({ baseURL: shop })).newPage();
  await visitor.goto("/suggest/");
  await visitor.getByLabel("Which flavor do you miss?").fill("Sea buckthorn");
  await visitor.getByRole("button", { name: "Send" }).click();
  await visitor.getByText("We will think about Sea buckthorn.").waitFor();
  await visitor.screenshot({ path: path.join(SCREENSHOTS, "example-message.png") });
  await visitor.reload();
  assert.equal(await visitor.getByText("Sea buckthorn").count(), 0);
  const other = await (await browser.newContext({ baseURL: shop })).newPage();
  await other.goto("/");
  assert.equal(await other.getByText("Sea buckthorn").count(), 0);
});

test("the shop is usable on a telephone in the dark", async () => {
  const context = await browser.newContext({ baseURL: shop, viewport: { width: 360, height: 740 }, colorScheme: "dark" });
  const telephone = await context.newPage();
  for (const path of ["/", "/ice-cream/vanilla/", "/sizes/cone/", "/about/", "/suggest/"]) {
    await telephone.goto(path);
    const overflow = await telephone.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(overflow <= 0, `${path} does not scroll sideways`);
  }
  await telephone.goto("/");
  await telephone.screenshot({ path: path.join(SCREENSHOTS, "example-telephone.png") });
});
