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

class Wrong extends Error {}

// -- CBOR (RFC 8949), the parts that a bundle uses

class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.at = 0;
  }
  take(count) {
    if (this.at + count > this.bytes.length) throw new Wrong("the file was cut off");
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
      if (!Number.isSafeInteger(value)) throw new Wrong("a number is too large");
    } else if (value > 27) throw new Wrong("an encoding that we do not use");
    return [major, value];
  }
  item(depth = 0) {
    if (depth > 8) throw new Wrong("nested too deeply");
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
    throw new Wrong("a value that we do not use");
  }
  static whole(bytes) {
    const reader = new Reader(bytes);
    const item = reader.item();
    if (reader.at !== bytes.length) throw new Wrong("there is something behind the end");
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
  if (outer.tag !== 18 || !Array.isArray(outer.item) || outer.item.length !== 4) throw new Wrong("a head is not signed as it should be");
  const [guarded, , payload, signature] = outer.item;
  const header_ = Reader.whole(guarded);
  if (header_.get(1) !== -7 || header_.get(3) !== HEAD_TYPE) throw new Wrong("a head has another algorithm or type");
  const name = text.encode("Signature1");
  const signed = join(header(4, 4), header(3, name.length), name, bytesOf(guarded), header(2, 0), bytesOf(payload));
  const right = await crypto.subtle.verify({ name: "ECDSA", hash: "SHA-256" }, key, signature, signed);
  if (!right) throw new Wrong("a head's signature is not by this unit's key");
  const fields = Reader.whole(payload);
  const head = { unit: fields.get(1), size: fields.get(2), chain: fields.get(3), root: fields.get(4), counter: fields.get(7), previous: fields.get(8) };
  if (head.unit !== unit) throw new Wrong("a head is another unit's");
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
  if (zero !== 0 || one !== 1 || two !== 2 || version !== 1) throw new Wrong("an event is not well formed");
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
  if (!(bundle instanceof Map) || bundle.get(0) !== "ostiary-bundle-1" || bundle.get(1) !== "log") throw new Wrong("this is not a log");
  const [name, keyBytes, first, startChain, frontier, events, heads] = bundle.get(2);
  if (name !== unit) throw new Wrong("this log is of " + name);
  const key = await crypto.subtle.importKey("spki", keyBytes, { name: "ECDSA", namedCurve: "P-256" }, false, ["verify"]);
  const print = [...await sha256(keyBytes)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  step("The log names the key " + print.slice(0, 16) + "…", true);

  // 1. Every head is signed, and follows the one before.
  const bySize = new Map();
  let previous = null;
  for (let i = 0; i < heads.length; i++) {
    const head = await openHead(heads[i], key, unit);
    const expected = previous ? previous.hash : first === 1 ? new Uint8Array(32) : head.previous;
    if (!same(head.previous, expected)) throw new Wrong("head " + (i + 1) + " does not follow the one before it");
    if (previous && (head.size <= previous.size || head.counter < previous.counter)) throw new Wrong("head " + (i + 1) + " is not newer than the one before it");
    bySize.set(head.size, head);
    previous = head;
    if (i % STEP === 0) progress.value = 0.5 * i / heads.length;
  }
  if (previous === null) throw new Wrong("no head is signed yet, so nothing can be proven");
  step(heads.length + " signatures are the unit's, and each head follows the one before", true);

  // 2. The log starts where a log starts, or where a signed head pins it down.
  let link = startChain;
  const nodes = [];
  for (let at = 8; at < frontier.length; at += 32) nodes.push(frontier.subarray(at, at + 32));
  if (first === 1) {
    if (!same(link, await sha256(text.encode(GENESIS + unit))) || nodes.length) throw new Wrong("the log does not start as a new log of this unit does");
    step("It starts with the unit's first event", true);
  } else {
    const pinned = bySize.get(first - 1);
    if (!pinned || !same(pinned.chain, link) || !same(pinned.root, await rootOf(nodes))) throw new Wrong("no signed head covers the event before the first one here");
    step("Events before " + first + " have passed their retention; a signed head pins them down", true);
  }

  // 3. Every event, in its place, hashes to what was signed.
  let covered = first - 1;
  const chains = new Map([[covered, link]]);
  for (let i = 0; i < events.length; i++) {
    const sequence = first + i;
    const [owner, number] = placeOf(events[i]);
    if (owner !== unit || number !== sequence) throw new Wrong("event " + sequence + " says that it is another one");
    const leaf = await sha256(Uint8Array.of(0), events[i]);
    link = await sha256(link, leaf);
    await grow(nodes, sequence - 1, leaf);
    const head = bySize.get(sequence);
    if (head) {
      if (!same(head.chain, link)) throw new Wrong("events " + (covered + 1) + " to " + sequence + " are not what the unit signed");
      covered = sequence;
      chains.set(sequence, link);
    }
    if (i % STEP === 0) progress.value = 0.5 + 0.5 * i / events.length;
  }
  const last = first + events.length - 1;
  if (covered !== last || previous.size !== last) throw new Wrong("no signed head covers the last event");
  if (!same(previous.root, await rootOf(nodes))) throw new Wrong("the Merkle root is not what the unit signed");
  step(events.length + " events hash to what the unit signed, up to the newest head and its Merkle root", true);

  // 4. What you kept from before is still true.
  if (checkpoint) {
    const kept = await openHead(checkpoint, key, unit);
    if (kept.size > last) throw new Wrong("the log ends before event " + kept.size + " of the head that you kept");
    if (kept.size < first - 1) step("The head that you kept is older than this log", true);
    else if (!chains.has(kept.size) || !same(chains.get(kept.size), kept.chain)) throw new Wrong("the head that you kept disagrees: the log was rewritten");
    else step("It contains the head that you kept, over " + kept.size + " events", true);
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
    if (!answer.ok) throw new Wrong("the log could not be fetched; load the page again");
    const [count, last] = await check(new Uint8Array(await answer.arrayBuffer()), form.dataset.unit, checkpoint);
    finish(true, "Sound: nobody edited, removed, added or reordered any of " + count + " events up to number " + last + "." +
      (checkpoint ? "" : " Without a head from before, a log that ends early cannot be told from an older one."));
  } catch (err) {
    step(err.message, false);
    finish(false, err instanceof Wrong ? "Not sound: " + err.message + "." : "The check could not be made: " + err.message);
  }
  button.disabled = false;
});
