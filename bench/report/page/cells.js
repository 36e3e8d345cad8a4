"use strict";
// A link to a cell's details opens them, also one that leads here from elsewhere.
(() => {
  function open() {
    const found = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const details = found?.closest("details");
    if (!details) return;
    details.open = true;
    details.scrollIntoView();
    details.querySelector("summary").focus();
  }

  addEventListener("hashchange", open);
  // The hash does not change when the same link is followed again.
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a");
    if (link && link.hash && link.hash === location.hash) open();
  });
  open();
})();
