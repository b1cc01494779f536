// Keeps a page up to date by server-sent events. Reading holds it: new rows then wait behind a button.
"use strict";

const MOST_ROWS = 400;
const MOST_WAITING = 1000;

const holder = document.querySelector("[data-stream]");
const list = document.querySelector(".events[data-stream]");
const words = document.getElementById("say").dataset;
const badge = document.getElementById("live");
const chip = document.getElementById("chip");
const template = document.getElementById("row");

let source = null;
let waiting = [];
let staleSince = null;
let behind = false;
let pointer = false;

function say(state, text) {
  if (!badge || (badge.dataset.state === state && badge.textContent === text)) return;
  badge.dataset.state = state;
  badge.textContent = text;
}

// Somebody reads: they scrolled away from the top, selected text, point at a row, or have focus in the list.
function reading() {
  const selected = String(document.getSelection() || "").length > 0;
  const focused = list && list.contains(document.activeElement);
  return window.scrollY > 120 || selected || focused || pointer;
}

function status() {
  if (staleSince !== null) {
    say("stale", words.sayStale.replace("[at]", new Date(staleSince).toLocaleTimeString()));
  } else if (source === null || source.readyState !== EventSource.OPEN) {
    say("off", words.sayAgain);
  } else if (waiting.length) {
    say("held", words.sayHeld);
  } else {
    say("live", words.sayLive);
  }
  if (!chip) return;
  chip.hidden = !(waiting.length || behind);
  chip.textContent = behind
    ? words.sayNewest
    : words.sayNew.replace("[count]", waiting.length + (waiting.length >= MOST_WAITING ? "+" : ""));
}

function makeRow(event) {
  const row = template.content.firstElementChild.cloneNode(true);
  row.classList.add("tone-" + event.tone, "news");
  row.dataset.key = event.key;
  const time = row.querySelector("time");
  time.textContent = event.clock;
  time.dateTime = event.iso;
  const what = row.querySelector(".what");
  const link = what.querySelector("a");
  if (event.url) {
    link.textContent = event.short;
    link.href = event.url;
  } else {
    link.replaceWith(event.short);
  }
  if (event.silent) what.append(" ", tag(words.saySilent, "tag alarm"));
  const place = row.querySelector(".place");
  place.textContent = event.place;
  place.href = event.door_url;
  row.querySelector(".why").textContent = event.sentence;
  const who = row.querySelector(".who");
  if (event.person) {
    const person = document.createElement("a");
    person.className = "person";
    person.href = "/people/" + event.person_id;
    person.textContent = event.person;
    who.append(person);
  }
  if (event.late) who.append(" ", tag(words.sayLate, "tag"));
  row.dataset.time = event.time_ms;
  return row;
}

function tag(text, name) {
  const made = document.createElement("span");
  made.className = name;
  made.textContent = text;
  return made;
}

function dayList(event) {
  for (const section of list.querySelectorAll(".day")) {
    if (section.dataset.day === event.day) return section.querySelector("ol");
  }
  const section = document.createElement("section");
  section.className = "day";
  section.dataset.day = event.day;
  const heading = document.createElement("h2");
  heading.textContent = event.day;
  const rows = document.createElement("ol");
  rows.className = "list";
  section.append(heading, rows);
  const newest = list.querySelector(".day time");
  if (newest && Date.parse(newest.dateTime) > event.time_ms) list.append(section);
  else list.prepend(section);
  return rows;
}

// In its place by time: what was late does not push itself to the top.
function insert(event) {
  const rows = dayList(event);
  let before = rows.firstElementChild;
  while (before && Date.parse(before.querySelector("time").dateTime) > event.time_ms) before = before.nextElementSibling;
  rows.insertBefore(makeRow(event), before);
}

function insertAll(events) {
  const fresh = events.slice(-MOST_ROWS);
  const known = new Set([...list.querySelectorAll(".event")].map((row) => row.dataset.key));
  for (const event of fresh) if (!known.has(event.key)) insert(event);
  const rows = list.querySelectorAll(".event");
  for (let i = MOST_ROWS; i < rows.length; i++) rows[i].remove();
  for (const section of list.querySelectorAll(".day")) if (!section.querySelector(".event")) section.remove();
  const empty = document.querySelector(".empty");
  if (empty && rows.length) empty.remove();
}

function doorNews(event) {
  const tile = document.querySelector('[data-door="' + CSS.escape(event.door) + '"]');
  if (!tile) return;
  if (event.state && !tile.classList.contains("state-down")) {
    tile.querySelector(".word").textContent = event.state[0];
    tile.className = tile.className.replace(/state-\w+/, "state-" + event.state[1]);
  }
  const last = tile.querySelector(".last");
  if (!last || event.tone === "door") return;
  last.className = "last tone-" + event.tone;
  const time = document.createElement("time");
  time.dateTime = event.iso;
  time.textContent = event.clock;
  const short = document.createElement("span");
  short.className = "short";
  short.textContent = event.short;
  last.replaceChildren(time, " ", short);
  tile.classList.remove("news");
  void tile.offsetWidth;
  tile.classList.add("news");
}

function receive(events) {
  for (const event of events) doorNews(event);
  if (list) {
    if (reading() || waiting.length) {
      waiting = waiting.concat(events).slice(-MOST_WAITING);
    } else {
      insertAll(events);
    }
  }
  status();
}

function release() {
  if (behind) {
    window.location.reload();
    return;
  }
  const events = waiting;
  waiting = [];
  window.scrollTo({ top: 0 });
  insertAll(events);
  status();
}

function connect() {
  if (source !== null) source.close();
  source = new EventSource(holder.dataset.stream);
  source.addEventListener("open", status);
  source.addEventListener("error", status);
  source.addEventListener("events", (message) => receive(JSON.parse(message.data)));
  source.addEventListener("stale", (message) => { staleSince = JSON.parse(message.data).since_ms; status(); });
  source.addEventListener("fresh", () => { staleSince = null; status(); });
  source.addEventListener("hello", status);
  source.addEventListener("gap", () => {
    behind = true;
    if (!reading()) window.location.reload();
    else status();
  });
  source.addEventListener("ended", () => {
    source.close();
    say("ended", words.sayEnded);
    window.location.reload();
  });
}

if (holder) {
  connect();
  if (list) {
    list.addEventListener("pointerenter", () => { pointer = true; });
    list.addEventListener("pointerleave", () => { pointer = false; });
  }
  if (chip) chip.addEventListener("click", release);
  // A hidden page needs no stream; when it is looked at again, it starts from what is true then.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      source.close();
    } else if (reading()) {
      behind = true;
      connect();
      status();
    } else {
      window.location.reload();
    }
  });
  // Sums and ages on the page of doors are as old as the page.
  if (!list) window.setInterval(() => { if (!document.hidden && window.scrollY < 120) window.location.reload(); }, 60000);
}
