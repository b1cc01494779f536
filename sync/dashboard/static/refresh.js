// Loads a page again while it still changes; not while somebody reads further down or has something selected.
"use strict";

const every = Number(document.querySelector("[data-refresh]").dataset.refresh) * 1000;
window.setInterval(() => {
  if (!document.hidden && !String(document.getSelection() || "")) window.location.reload();
}, every);
