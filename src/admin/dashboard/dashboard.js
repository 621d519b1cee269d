// What does this node do? Asks the API every two seconds, while somebody looks.
//
// Paths, hosts, tags and reasons come from visitors and apps, hostile ones among them: they enter the document as text only.

const INTERVAL = 2000;
const SAMPLES = 60;
const PART = 25;
const OUTCOMES = {
  "hit": "from memory",
  "store-hit": "from the store",
  "soft-hit": "old, being renewed",
  "collapsed": "shared a fetch",
  "miss": "fetched and kept",
  "refused": "fetched, not kept",
  "bypass": "past the cache",
  "error": "the origin failed",
  "rejected": "not let in",
  "purge": "PURGE",
};
const ANSWERED = ["hit", "store-hit", "soft-hit", "collapsed"];

const $ = (id) => document.getElementById(id);

// An element with text or other elements in it; never markup.
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children.filter((child) => child !== null && child !== undefined).map((child) => child instanceof Node ? child : String(child)));
  return element;
}

// ---- numbers for people

const whole = (number) => number.toLocaleString("en");

function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (bytes >= 1024 && unit < units.length - 1) { bytes /= 1024; unit += 1; }
  return `${unit === 0 || bytes >= 100 ? Math.round(bytes) : bytes.toFixed(1)} ${units[unit]}`;
}

function span(seconds) {
  for (const [unit, length] of [["d", 86400], ["h", 3600], ["min", 60]]) {
    if (seconds >= length) return `${Math.floor(seconds / length)} ${unit}`;
  }
  return `${Math.max(0, Math.floor(seconds))} s`;
}

const ago = (time) => `${span((Date.now() - Date.parse(time)) / 1000)} ago`;

// ---- the API

class Failed extends Error {}

async function ask(path, options = {}) {
  const token = sessionStorage.getItem("token");
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  const response = await fetch(path, { ...options, headers, cache: "no-store" });
  if (response.status === 401) {
    askForToken(token ? "That was not it." : "");
    throw new Failed("a token is needed");
  }
  const answer = await response.json();
  if (!response.ok) throw new Failed(answer.detail ?? response.statusText);
  return answer;
}

function askForToken(note) {
  const dialog = $("token");
  if (dialog.open) return;
  sessionStorage.removeItem("token");
  $("token-note").textContent = note;
  dialog.showModal();
}

$("token").addEventListener("close", () => {
  const field = $("token").querySelector("input");
  if (field.value) sessionStorage.setItem("token", field.value);
  field.value = "";
  look();
});

// ---- status

let sequence = null;
const samples = [];

function showStatus(status) {
  const state = status.draining ? ["draining", "warn"] : status.degraded ? ["degraded", "warn"] : status.store_errors + status.invalidation_failures > 0 ? ["running, with errors", "warn"] : ["running", "good"];
  showState(...state);
  $("state").title = status.degraded ?? "";
  $("facts").textContent = `${status.version} · up ${span(status.uptime_seconds)} · ${status.config.listen} → ${status.config.origin.url}`;
  showRatio(status);
  showOutcomes(status.requests);
  showRoom("memory", "Memory", status.memory.bytes, status.memory.capacity, `${whole(status.memory.entries)} pages at hand`);
  const errors = status.store_errors > 0 ? ` · ${whole(status.store_errors)} errors` : "";
  const counting = status.store.exact ? "" : ", still counting";
  showRoom("store", "Store", status.store.bytes, status.store.limit_bytes, `${whole(status.store.objects)} objects · ${status.store.kind}${counting}${errors}`);
  const now = { connections: "Connections", flights: "Fetches", tunnels: "Tunnels" };
  $("now").replaceChildren(...Object.entries(now).map(([key, name]) => make("div", {}, make("dt", {}, name), make("dd", {}, whole(status.now[key] ?? 0)))));
  showReasons("refused", status.refused);
  showReasons("bypassed", status.bypassed);
  showCluster(status.cluster, status.degraded);
}

// The nodes that share the journal; nothing where there can be only one.
function showCluster(cluster, degraded) {
  $("cluster").hidden = !cluster;
  if (!cluster) return;
  const left = cluster.lease_remaining_seconds;
  const failed = Object.entries(cluster.ring_calls).filter(([word, count]) => word !== "acknowledged" && count > 0);
  $("cluster-note").textContent = degraded ?? [
    left > 0 ? `the lease has ${left.toFixed(1)} of ${cluster.lease_seconds.toFixed(1)} s left` : `at rest since ${span(cluster.lag_seconds)}: this node looks at the journal before it serves`,
    cluster.records_behind > 0 ? `invalidations not yet applied: ${whole(cluster.records_behind)}` : null,
    cluster.lease_waits > 0 ? `answers that waited for a lease: ${whole(cluster.lease_waits)}` : null,
    failed.length > 0 ? `calls in vain: ${failed.map(([word, count]) => `${word} ${whole(count)}`).join(", ")}` : null,
    cluster.swap_conflicts > 0 ? `lost races at the journal's head: ${whole(cluster.swap_conflicts)}` : null,
  ].filter(Boolean).join(" · ");
  $("nodes").replaceChildren(...cluster.members.map((member) => make("tr", { class: member.state },
    make("td", {}, make("span", { class: "dot" }), member.url ?? "no address", member.this ? make("span", { class: "soft" }, " this one") : null),
    make("td", {}, member.state === "serves" ? "serves" : "passed over: it did not answer"),
    make("td", { class: "soft small", title: `epoch ${member.epoch}` }, member.id),
    make("td", { class: "number" }, `${member.lease_seconds.toFixed(1)} s`),
    make("td", { class: "number", title: member.joined_at }, ago(member.joined_at)))));
}

function showState(word, mood) {
  $("state").textContent = word;
  $("state").className = `pill ${mood}`;
}

function showRatio(status) {
  const answered = ANSWERED.reduce((sum, word) => sum + (status.requests[word] ?? 0), 0);
  const total = Object.values(status.requests).reduce((sum, count) => sum + count, 0);
  if (status.hit_ratio !== null) {
    const percent = status.hit_ratio * 100;
    $("ratio").replaceChildren(percent > 99.95 || percent < 0.05 ? String(Math.round(percent)) : percent.toFixed(1), make("small", {}, "%"));
    $("ratio-note").textContent = `${whole(answered)} of ${whole(Math.round(answered / status.hit_ratio) || answered)} look-ups`;
    if (status.hit_ratio === 0) $("ratio-note").textContent = "No look-up found its page yet.";
  }
  samples.push({ at: performance.now(), total, answered });
  if (samples.length > SAMPLES + 1) samples.shift();
  drawSpark();
}

function drawSpark() {
  const rates = samples.slice(1).map((sample, place) => {
    const before = samples[place];
    const seconds = Math.max((sample.at - before.at) / 1000, 0.001);
    // After a restart the counters begin anew.
    return [sample.total - before.total, sample.answered - before.answered].map((count) => Math.max(0, count) / seconds);
  });
  const top = Math.max(1, ...rates.map(([all]) => all));
  const x = (place) => 240 - (rates.length - place) * (240 / SAMPLES);
  const shape = (name, column) => {
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("class", name);
    const bars = rates.map((rate, place) => `M${x(place).toFixed(1)} 48h3.2v-${(rate[column] / top * 46).toFixed(1)}h-3.2z`);
    path.setAttribute("d", bars.join(""));
    return path;
  };
  const ground = document.createElementNS("http://www.w3.org/2000/svg", "path");
  ground.setAttribute("class", "ground");
  ground.setAttribute("d", "M0 48H240");
  $("spark").replaceChildren(ground, shape("all", 0), shape("answered", 1));
  const now = rates.at(-1)?.[0] ?? 0;
  $("spark-note").textContent = `${now < 10 ? now.toFixed(1) : whole(Math.round(now))} requests per second`;
}

function showOutcomes(requests) {
  const words = [...Object.keys(OUTCOMES), ...Object.keys(requests).filter((word) => !(word in OUTCOMES))];
  const counts = words.map((word) => [word, requests[word] ?? 0]);
  $("stack").replaceChildren(...counts.filter(([, count]) => count > 0).map(([word, count]) => {
    const part = make("span", { class: word, title: `${word}: ${whole(count)}` });
    part.style.flexGrow = count;
    return part;
  }));
  $("outcomes").replaceChildren(...counts.map(([word, count]) =>
    make("li", { class: count > 0 ? "" : "none", title: OUTCOMES[word] ?? "" }, make("i", { class: word }), make("span", {}, word), make("span", { class: "soft small" }, OUTCOMES[word] ?? ""), make("b", {}, whole(count)))));
}

function showRoom(id, name, bytes, limit, note) {
  const fill = make("span", { class: "fill" });
  // A little is not nothing.
  fill.style.width = limit && bytes > 0 ? `max(2px, ${Math.min(100, bytes / limit * 100)}%)` : "0";
  const figures = limit ? `${size(bytes)} of ${size(limit)}` : size(bytes);
  $(id).replaceChildren(make("b", {}, name), make("span", { class: "soft small" }, figures), make("span", { class: "track" }, fill), make("span", { class: "note" }, note));
}

function showReasons(id, reasons) {
  const sorted = Object.entries(reasons).filter(([, count]) => count > 0).sort(([, one], [, other]) => other - one);
  const most = sorted[0]?.[1] ?? 1;
  const shown = sorted.map(([word, count]) => {
    const bar = make("span", { class: `bar ${id === "refused" ? "refused" : "bypass"}` });
    bar.style.width = `${count / most * 100}%`;
    return make("li", {}, make("span", { class: "line" }, make("code", {}, word), make("b", {}, whole(count))), bar);
  });
  $(id).replaceChildren(...(shown.length > 0 ? shown : [make("li", { class: "empty" }, "None so far.")]));
}

// ---- invalidations

async function showLatest() {
  const { invalidations } = await ask("invalidations?limit=30");
  const shown = invalidations.map((made) => {
    const names = [
      ...made.paths.map((path) => [null, (path.host ?? "") + path.path]),
      ...made.prefixes.map((prefix) => ["prefix", (prefix.host ?? "") + prefix.path]),
      ...made.tags.map((tag) => ["tag", tag]),
      ...(made.all ? [["everything", made.host ?? ""]] : []),
    ];
    const what = make("div", { class: "what" });
    for (const [badge, name] of names.slice(0, 4)) what.append(make("div", {}, badge && make("span", { class: "badge" }, badge), name));
    const more = made.named + (made.all ? 1 : 0) - Math.min(4, names.length);
    const why = [made.reason, more > 0 ? `and ${whole(more)} more` : null, made.soft ? "soft" : null].filter(Boolean).join(" · ");
    return make("li", {}, make("span", { class: "sequence" }, `#${made.sequence}`), what, make("time", { datetime: made.at }, ago(made.at)), why ? make("div", { class: "why" }, why) : null);
  });
  $("latest").replaceChildren(...(shown.length > 0 ? shown : [make("li", { class: "empty" }, "Nothing has been invalidated yet.")]));
}

let rehearsed = null;

function wanted() {
  const form = new FormData($("invalidate"));
  const kind = form.get("kind");
  const names = String(form.get("names") ?? "").split("\n").map((line) => line.trim()).filter(Boolean);
  const body = kind === "all" ? { all: true } : { [kind]: names };
  for (const key of ["host", "reason"]) if (form.get(key)) body[key] = form.get(key);
  for (const key of ["refresh", "soft"]) if (form.get(key)) body[key] = true;
  return body;
}

const invalidate = (body) => ask("invalidate", { method: "POST", body: JSON.stringify(body) });

function result(id, mood, title, ...more) {
  $(id).className = `result ${mood}`;
  $(id).replaceChildren(make("p", {}, title), ...more);
}

// A title and what it is for; nothing where there is nothing.
function names(title, list) {
  if (!list?.length) return [];
  return [make("div", { class: "soft" }, title), make("ul", {}, ...list.slice(0, 50).map((name) => make("li", {}, name)))];
}

const unmatched = (answer) => names("Nothing is stored of:", answer.unmatched);

$("invalidate").addEventListener("submit", async (event) => {
  event.preventDefault();
  const body = wanted();
  try {
    const answer = await invalidate({ ...body, dry_run: true });
    const count = `${answer.complete === false ? "At least " : ""}${whole(answer.stored)} stored ${answer.stored === 1 ? "page" : "pages"}`;
    result("invalidate-result", "", `${count} would go.`, ...unmatched(answer));
    rehearse(JSON.stringify(body));
  } catch (error) {
    rehearse(null);
    result("invalidate-result", "bad", error.message);
  }
});

function rehearse(text) {
  rehearsed = text;
  $("do-it").disabled = text === null;
  $("do-it-note").hidden = text !== null;
}

$("invalidate").addEventListener("input", () => {
  rehearse(null);
  const kind = new FormData($("invalidate")).get("kind");
  const field = $("invalidate").elements.names;
  field.disabled = kind === "all";
  field.placeholder = { paths: "/ice-cream/vanilla/", prefixes: "/ice-cream/", tags: "flavor-7", all: "" }[kind];
  $("names-label").textContent = { paths: "Paths or URLs, one per line", prefixes: "Prefixes, one per line: by whole segments", tags: "Tags, one per line", all: "Everything that is stored" }[kind];
});

$("do-it").addEventListener("click", async () => {
  const body = rehearsed;
  rehearse(null);
  try {
    const answer = await invalidate(JSON.parse(body));
    const stored = answer.stored === undefined ? "" : ` ${whole(answer.stored)} stored ${answer.stored === 1 ? "page is" : "pages are"} gone.`;
    const where = answer.nodes === 1 ? "this node" : `${answer.nodes} nodes`;
    result("invalidate-result", "good", `Done as number ${answer.sequence}, on ${where}, in ${answer.took_ms} ms.${stored}`,
      ...names("These did not answer, and their leases were waited for:", answer.waited_out), ...unmatched(answer));
  } catch (error) {
    result("invalidate-result", "bad", error.message);
  }
  look();
});

// ---- explain

$("explain").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = new FormData($("explain"));
  const query = new URLSearchParams({ url: form.get("url"), method: form.get("method") });
  for (const line of String(form.get("headers")).split("\n").filter((line) => line.trim())) query.append("header", line);
  try {
    showExplanation(await ask(`explain?${query}`));
  } catch (error) {
    result("explain-result", "bad", error.message);
  }
});

function showExplanation(explained) {
  const rows = [
    ["decision", explained.decision + (explained.reason ? `: ${explained.reason}` : "")],
    ["ignored by", explained.ignored_by.join("   ")],
    ["page", `${explained.method} ${explained.scheme}://${explained.host}${explained.path}${explained.query === null ? "" : `?${explained.query}`}`],
    ["object", explained.object],
    ["varies by", explained.varies_by.join(", ")],
    ["settling", explained.settling ? "yes: invalidated less than cache.settle ago, so what is fetched now is not kept" : ""],
    ["in memory", copy(explained.memory)],
    ["in the store", copy(explained.store)],
  ].filter(([, value]) => value);
  if (explained.decision === "look-up" && !explained.memory && !explained.store) rows.push(["stored", "not yet"]);
  const list = make("dl", {}, ...rows.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
  result("explain-result", explained.decision === "look-up" ? "good" : explained.decision === "reject" ? "bad" : "", explained.because, list);
}

const copy = (page) => page && `${page.judgement}, as of #${page.as_of}, ${span(page.age_seconds)} old, ${size(page.bytes)}`;

// ---- stored pages

let next = null;
let asked = 0;

async function showPages(more = false) {
  const number = ++asked;
  const prefix = $("filter").elements.prefix.value.trim();
  const query = new URLSearchParams({ prefix, limit: PART });
  if (more && next) query.set("after", next);
  const answer = await ask(`pages?${query}`);
  if (number !== asked) return;
  next = answer.next;
  // They come in the order of their hashes, which is none for people.
  const address = (page) => `${page.host}${page.path}?${page.query ?? ""}`;
  const rows = answer.pages.sort((one, other) => address(one) < address(other) ? -1 : 1).map(row);
  if (more) $("pages").append(...rows); else $("pages").replaceChildren(...rows);
  $("more").hidden = next === null;
  const shown = $("pages").childElementCount;
  $("pages-note").textContent = shown > 0 ? "" : prefix ? `Nothing ${next ? "found yet" : "is stored"} below “${prefix}”.` : "Nothing is stored yet.";
}

function row(page) {
  const name = make("td", { title: page.object }, make("span", { class: "dot", title: page.judgement }),
    page.method === "GET" ? null : make("span", { class: "badge" }, page.method),
    make("span", { class: "host" }, page.host), make("span", { class: "path" }, page.path + (page.query === null ? "" : `?${page.query}`)),
    ...Object.entries(page.varied_by).filter(([, value]) => value).map(([field, value]) => make("span", { class: "soft small" }, ` ${field}: ${value}`)));
  const pick = make("button", { type: "button", class: "quiet" }, "Invalidate");
  pick.addEventListener("click", () => {
    const form = $("invalidate");
    form.elements.kind.value = "paths";
    form.elements.names.value = page.path;
    form.elements.host.value = page.host;
    form.dispatchEvent(new Event("input"));
    form.requestSubmit();
    form.scrollIntoView({ block: "center", behavior: "smooth" });
  });
  const tags = page.tags.slice(0, 4).map((tag) => make("span", { class: "badge" }, tag));
  return make("tr", { class: page.judgement === "soft" ? "soft-page" : page.judgement }, name,
    make("td", {}, page.status), make("td", {}, (page.content_type ?? "").split(";")[0]),
    make("td", { class: "number" }, size(page.bytes)), make("td", { class: "number", title: page.stored_at }, span(page.age_seconds)),
    make("td", { class: "number" }, `#${page.as_of}`),
    make("td", {}, ...tags, page.tags.length > 4 ? `+${page.tags.length - 4}` : null), make("td", {}, pick));
}

const quietly = (work) => work.catch((error) => { if (!(error instanceof Failed)) showState("out of reach", "bad"); });

let typing;
$("filter").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(() => quietly(showPages()), 200); });
$("filter").addEventListener("submit", (event) => { event.preventDefault(); quietly(showPages()); });
$("more").addEventListener("click", () => quietly(showPages(true)));

// ---- the loop

let timer;
let objects = null;

async function look() {
  clearTimeout(timer);
  if (document.visibilityState !== "visible" || $("token").open) return;
  try {
    const status = await ask("status");
    showStatus(status);
    const isNew = status.journal.sequence !== sequence;
    if (isNew) {
      sequence = status.journal.sequence;
      await showLatest();
    }
    for (const time of $("latest").querySelectorAll("time")) time.textContent = ago(time.dateTime);
    // Whoever has opened further parts keeps them.
    if ((isNew || status.store.objects !== objects) && $("pages").childElementCount <= PART) {
      objects = status.store.objects;
      await showPages();
    }
  } catch (error) {
    if (error instanceof Failed) showState(error.message, "warn"); else showState("out of reach", "bad");
  }
  clearTimeout(timer);
  if (!$("token").open) timer = setTimeout(look, INTERVAL);
}

document.addEventListener("visibilitychange", look);
look();
