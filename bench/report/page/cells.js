"use strict";
// A link to a cell's details opens them, also one that leads here from elsewhere.
(() => {
  function open() {
    const details = document.getElementById(location.hash.slice(1))?.closest("details");
    if (!details) return;
    details.open = true;
    details.scrollIntoView();
    details.querySelector("summary").focus();
  }

  addEventListener("load", open); // not before: a browser that has found the place takes the focus away
  addEventListener("hashchange", open);
  // The hash does not change when the same link is followed again.
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a");
    if (link && link.hash && link.hash === location.hash) open();
  });
})();
