// Checks a unit's log in the browser: the same steps as `ostiary audit verify`, with WebCrypto.
"use strict";

const HEAD_TYPE = "application/ostiary-head+cbor";
const GENESIS = "ostiary chain v1\u0000";
const STEP = 200;

const form = document.getElementById("verify");
const steps = document.getElementById("steps");
const verdict = document.getElementById("verdict");
const progress = document.getElementById("progress");
const text = new TextEncoder();

const sentences = document.getElementById("verify-say").dataset;

class Wrong extends Error {}

// A sentence in the language of the page, with values where it has [name], [number], [count] and the like.
function said(name, values = {}) {
  const sentence = sentences["say" + name[0].toUpperCase() + name.slice(1)];
  return sentence.replace(/\[([a-z]+)\]/g, (_, value) => String(values[value]));
}

const wrong = (name, values) => new Wrong(said(name, values));

// -- CBOR (RFC 8949), the parts that a bundle uses

class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.at = 0;
  }
  take(count) {
    if (this.at + count > this.bytes.length) throw wrong("cut");
    this.at += count;
    return this.bytes.subarray(this.at - count, this.at);
  }
  head() {
    const first = this.take(1)[0];
    const major = first >> 5;
    let value = first & 31;
    if (value === 24) value = this.take(1)[0];
    else if (value === 25) { value = this.view.getUint16(this.at); this.take(2); }
    else if (value === 26) { value = this.view.getUint32(this.at); this.take(4); }
    else if (value === 27) {
      value = Number(this.view.getBigUint64(this.at));
      this.take(8);
      if (!Number.isSafeInteger(value)) throw wrong("large");
    } else if (value > 27) throw wrong("encoding");
    return [major, value];
  }
  item(depth = 0) {
    if (depth > 8) throw wrong("deep");
    const [major, value] = this.head();
    if (major === 0) return value;
    if (major === 1) return -1 - value;
    if (major === 2) return this.take(value);
    if (major === 3) return new TextDecoder("utf-8", { fatal: true }).decode(this.take(value));
    if (major === 4) {
      const items = [];
      for (let i = 0; i < value; i++) items.push(this.item(depth + 1));
      return items;
    }
    if (major === 5) {
      const map = new Map();
      for (let i = 0; i < value; i++) { const key = this.item(depth + 1); map.set(key, this.item(depth + 1)); }
      return map;
    }
    if (major === 6) return { tag: value, item: this.item(depth + 1) };
    throw wrong("value");
  }
  static whole(bytes) {
    const reader = new Reader(bytes);
    const item = reader.item();
    if (reader.at !== bytes.length) throw wrong("behind");
    return item;
  }
}

function header(major, length) {
  if (length < 24) return Uint8Array.of((major << 5) | length);
  if (length < 256) return Uint8Array.of((major << 5) | 24, length);
  return Uint8Array.of((major << 5) | 25, length >> 8, length & 255);
}

function join(...parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) { whole.set(part, at); at += part.length; }
  return whole;
}

const bytesOf = (value) => join(header(2, value.length), value);

// -- hashes

async function sha256(...parts) {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", join(...parts)));
}

function same(a, b) {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

// -- signed heads (RFC 9052 COSE_Sign1, ES256)

async function openHead(message, key, unit) {
  const outer = Reader.whole(message);
  if (outer.tag !== 18 || !Array.isArray(outer.item) || outer.item.length !== 4) throw wrong("unsigned");
  const [guarded, , payload, signature] = outer.item;
  const header_ = Reader.whole(guarded);
  if (header_.get(1) !== -7 || header_.get(3) !== HEAD_TYPE) throw wrong("algorithm");
  const name = text.encode("Signature1");
  const signed = join(header(4, 4), header(3, name.length), name, bytesOf(guarded), header(2, 0), bytesOf(payload));
  const right = await crypto.subtle.verify({ name: "ECDSA", hash: "SHA-256" }, key, signature, signed);
  if (!right) throw wrong("signature");
  const fields = Reader.whole(payload);
  const head = { unit: fields.get(1), size: fields.get(2), chain: fields.get(3), root: fields.get(4), counter: fields.get(7), previous: fields.get(8) };
  if (head.unit !== unit) throw wrong("foreign");
  head.hash = await sha256(message);
  return head;
}

// -- the Merkle tree (RFC 9162 2.1)

async function grow(nodes, size, leaf) {
  let carry = leaf;
  for (let bits = size; bits & 1; bits >>>= 1) carry = await sha256(Uint8Array.of(1), nodes.pop(), carry);
  nodes.push(carry);
}

async function rootOf(nodes) {
  let root = nodes[nodes.length - 1];
  for (let i = nodes.length - 2; i >= 0; i--) root = await sha256(Uint8Array.of(1), nodes[i], root);
  return root;
}

// An event's first three fields: version, unit, sequence.
function placeOf(body) {
  const reader = new Reader(body);
  const [major, pairs] = reader.head();
  const fields = [];
  for (let i = 0; major === 5 && i < Math.min(3, pairs); i++) fields.push(reader.item(), reader.item());
  const [zero, version, one, unit, two, sequence] = fields;
  if (zero !== 0 || one !== 1 || two !== 2 || version !== 1) throw wrong("malformed");
  return [unit, sequence];
}

// -- what is shown

function step(what, good) {
  const item = document.createElement("li");
  item.className = good ? "good" : "bad";
  item.textContent = what;
  steps.append(item);
}

function finish(good, what) {
  verdict.className = "message " + (good ? "good" : "alarm");
  verdict.textContent = what;
  verdict.hidden = false;
  progress.hidden = true;
}

async function check(file, unit, checkpoint) {
  const bundle = Reader.whole(file);
  if (!(bundle instanceof Map) || bundle.get(0) !== "ostiary-bundle-1" || bundle.get(1) !== "log") throw wrong("nolog");
  const [name, keyBytes, first, startChain, frontier, events, heads] = bundle.get(2);
  if (name !== unit) throw wrong("other", { name });
  const key = await crypto.subtle.importKey("spki", keyBytes, { name: "ECDSA", namedCurve: "P-256" }, false, ["verify"]);
  const print = [...await sha256(keyBytes)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  step(said("key", { name: print.slice(0, 16) + "…" }), true);

  // 1. Every head is signed, and follows the one before.
  const bySize = new Map();
  let previous = null;
  for (let i = 0; i < heads.length; i++) {
    const head = await openHead(heads[i], key, unit);
    const expected = previous ? previous.hash : first === 1 ? new Uint8Array(32) : head.previous;
    if (!same(head.previous, expected)) throw wrong("follow", { number: i + 1 });
    if (previous && (head.size <= previous.size || head.counter < previous.counter)) throw wrong("newer", { number: i + 1 });
    bySize.set(head.size, head);
    previous = head;
    if (i % STEP === 0) progress.value = 0.5 * i / heads.length;
  }
  if (previous === null) throw wrong("nohead");
  step(said("heads", { count: heads.length }), true);

  // 2. The log starts where a log starts, or where a signed head pins it down.
  let link = startChain;
  const nodes = [];
  for (let at = 8; at < frontier.length; at += 32) nodes.push(frontier.subarray(at, at + 32));
  if (first === 1) {
    if (!same(link, await sha256(text.encode(GENESIS + unit))) || nodes.length) throw wrong("start");
    step(said("first"), true);
  } else {
    const pinned = bySize.get(first - 1);
    if (!pinned || !same(pinned.chain, link) || !same(pinned.root, await rootOf(nodes))) throw wrong("pin");
    step(said("retention", { number: first }), true);
  }

  // 3. Every event, in its place, hashes to what was signed.
  let covered = first - 1;
  const chains = new Map([[covered, link]]);
  for (let i = 0; i < events.length; i++) {
    const sequence = first + i;
    const [owner, number] = placeOf(events[i]);
    if (owner !== unit || number !== sequence) throw wrong("place", { number: sequence });
    const leaf = await sha256(Uint8Array.of(0), events[i]);
    link = await sha256(link, leaf);
    await grow(nodes, sequence - 1, leaf);
    const head = bySize.get(sequence);
    if (head) {
      if (!same(head.chain, link)) throw wrong("edited", { from: covered + 1, number: sequence });
      covered = sequence;
      chains.set(sequence, link);
    }
    if (i % STEP === 0) progress.value = 0.5 + 0.5 * i / events.length;
  }
  const last = first + events.length - 1;
  if (covered !== last || previous.size !== last) throw wrong("uncovered");
  if (!same(previous.root, await rootOf(nodes))) throw wrong("root");
  step(said("events", { count: events.length }), true);

  // 4. What you kept from before is still true.
  if (checkpoint) {
    const kept = await openHead(checkpoint, key, unit);
    if (kept.size > last) throw wrong("short", { number: kept.size });
    if (kept.size < first - 1) step(said("older"), true);
    else if (!chains.has(kept.size) || !same(chains.get(kept.size), kept.chain)) throw wrong("rewritten");
    else step(said("contains", { count: kept.size }), true);
  }
  return [events.length, last];
}

form.addEventListener("submit", async (submitted) => {
  submitted.preventDefault();
  const button = form.querySelector("button");
  button.disabled = true;
  steps.replaceChildren();
  verdict.hidden = true;
  progress.hidden = false;
  progress.value = 0;
  try {
    const kept = document.getElementById("checkpoint").files[0];
    const checkpoint = kept ? new Uint8Array(await kept.arrayBuffer()) : null;
    const body = new URLSearchParams({ csrf: form.elements.csrf.value });
    const answer = await fetch(form.dataset.bundle, { method: "POST", body });
    if (!answer.ok) throw wrong("fetch");
    const [count, last] = await check(new Uint8Array(await answer.arrayBuffer()), form.dataset.unit, checkpoint);
    finish(true, said("sound", { count, number: last }) + (checkpoint ? "" : " " + said("early")));
  } catch (err) {
    step(err.message, false);
    finish(false, said(err instanceof Wrong ? "unsound" : "failed", { why: err.message }));
  }
  button.disabled = false;
});
