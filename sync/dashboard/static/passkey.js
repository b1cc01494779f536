// Asks the browser for a passkey, to log in with or to add.
"use strict";

async function post(address, values) {
  const answer = await fetch(address, { method: "POST", body: new URLSearchParams(values) });
  if (answer.headers.get("content-type") !== "application/json") throw new Error(form.dataset.sayAgain);
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.message);
  return told;
}

const form = document.getElementById("passkey");
const problem = document.getElementById("passkey-problem");
const able = window.PublicKeyCredential && PublicKeyCredential.parseRequestOptionsFromJSON;

async function run() {
  const adding = form.dataset.purpose === "add";
  const csrf = form.elements.csrf ? { csrf: form.elements.csrf.value } : {};
  const options = await post(form.dataset.begin, csrf);
  const credential = adding
    ? await navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(options) })
    : await navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(options) });
  const next = form.elements.next ? { next: form.elements.next.value } : {};
  const told = await post(form.dataset.finish, { ...csrf, ...next, credential: JSON.stringify(credential.toJSON()) });
  window.location.assign(told.go);
}

if (form && able) {
  form.hidden = false;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    problem.hidden = true;
    run().catch((err) => {
      problem.textContent = err.name === "NotAllowedError" ? form.dataset.sayNone : err.message;
      problem.hidden = false;
    });
  });
}
