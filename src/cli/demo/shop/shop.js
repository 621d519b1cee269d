// Says how this copy of the page came: as it was kept, or rendered while the browser waited.
// Shop and browser share a clock, so a page that is older than the request for it was kept by somebody.
"use strict";

const [navigation] = performance.getEntriesByType("navigation");
const rendered = Date.parse(document.querySelector(".bar time").dateTime);
const asked = Date.now() - performance.now() + navigation.requestStart;
const waited = navigation.responseEnd - navigation.requestStart;
const kept = rendered < asked;

const arrival = document.getElementById("arrival");
arrival.textContent = `${kept ? "from the cache" : "from the app"} in ${waited.toFixed(1)} ms`;
arrival.dataset.from = kept ? "cache" : "app";
