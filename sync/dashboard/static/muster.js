// The roll call without the registry: marks made meanwhile are kept in this page and sent when it is back.
"use strict";

if ("serviceWorker" in navigator) {
  // The page's policy takes an address of a script from this one place only.
  const policy = window.trustedTypes?.createPolicy("roll-call", {
    createScriptURL: () => "/muster-worker.js",
  });
  const worker = policy ? policy.createScriptURL("") : "/muster-worker.js";
  // A page that was opened before the worker ran is not kept yet: fetch it once more through the worker.
  navigator.serviceWorker.register(worker, { scope: "/muster/" }).then(async () => {
    await navigator.serviceWorker.ready;
    if (!navigator.serviceWorker.controller)
      navigator.serviceWorker.addEventListener("controllerchange", keep, { once: true });
    else keep();
  });
}

async function keep() {
  try {
    await fetch(location.pathname, { cache: "no-store" });
    for (const link of document.querySelectorAll("link[rel=stylesheet], script[src]"))
      await fetch(link.href || link.src);
    document.documentElement.dataset.kept = "yes";
  } catch {
    // The registry is gone already; the page says so below.
  }
}

const key = "muster " + location.pathname;
const note = document.getElementById("offline");
const waiting = () => JSON.parse(sessionStorage.getItem(key) || "[]");
const save = (list) => sessionStorage.setItem(key, JSON.stringify(list));

function show(gone) {
  const count = waiting().length;
  note.hidden = !gone && !count;
  if (gone || count)
    note.textContent = note.dataset.sayGone.replace("[at]", note.dataset.at).replace("[count]", String(count));
  for (const fields of waiting()) {
    const button = document.querySelector(`button[value=safe][data-entry="${Number(fields.entry)}"]`);
    if (button) button.disabled = true;
  }
}

async function send(fields) {
  // The token of the session that there is now: a mark may be older.
  const csrf = document.querySelector("input[name=csrf]").value;
  const answer = await fetch(location.pathname, {
    method: "POST",
    body: new URLSearchParams({ ...fields, csrf }),
    redirect: "manual",
  });
  // The session ended meanwhile: the mark stays here until somebody has logged in again.
  if (answer.status === 401) location.assign("/login?next=" + encodeURIComponent(location.pathname));
  if (answer.status === 403) location.reload();
  if (answer.status >= 500 || answer.status === 401 || answer.status === 403) throw new Error("not now");
}

document.addEventListener("submit", async (event) => {
  const button = event.submitter;
  if (!button || button.value !== "safe") return;
  event.preventDefault();
  const fields = Object.fromEntries(new FormData(event.target, button));
  try {
    await send(fields);
    location.reload();
  } catch {
    save([...waiting(), fields]);
    show(true);
  }
});

let busy = false;

async function again() {
  if (busy) return;
  busy = true;
  const list = waiting();
  try {
    if (list.length) {
      await send(list[0]);
      save(waiting().filter((fields) => fields.entry !== list[0].entry));
      if (!waiting().length) location.reload();
    } else {
      const answer = await fetch("/health", { cache: "no-store" });
      if (!answer.ok) show(true);
      else if (!note.hidden) location.reload();
    }
  } catch {
    show(true);
  } finally {
    busy = false;
  }
}

show(false);
again();
setInterval(again, 3000);
