// Keeps the newest copy of each open roll call, so that the list is there when the registry is not.
// Nothing else is kept, and logging out takes the copies away (Clear-Site-Data).
"use strict";

const KEPT = "roll-calls";
const wanted = (url) =>
  url.origin === self.location.origin &&
  (/^\/muster\/\d+$/.test(url.pathname) || url.pathname.startsWith("/static/"));

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  if (event.request.method !== "GET" || !wanted(url)) return;
  event.respondWith(answer(event.request, url));
});

async function answer(request, url) {
  const cache = await caches.open(KEPT);
  try {
    const fresh = await fetch(request);
    // The page answers, and its database does not: the copy stays.
    if (fresh.status >= 500) return (await cache.match(url.href)) || fresh;
    // Only the page itself is kept: not a login page, and not a refusal.
    if (fresh.ok && !fresh.redirected) await cache.put(url.href, fresh.clone());
    else if (!url.pathname.startsWith("/static/")) await cache.delete(url.href);
    return fresh;
  } catch (gone) {
    const kept = await cache.match(url.href);
    if (kept) return kept;
    throw gone;
  }
}
