"use strict";
// Tables that sort by a column and filter by words. Without this script they are plain tables.
(() => {
  const FILTERED_FROM = 9; // rows: fewer are seen at a glance
  const UNKNOWN = new Set(["", "n/a"]);
  const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

  // The first number of a text such as "1,234 ± 5", "−0.041 †" or "<1"; NaN if it has none.
  function numberOf(text) {
    const plain = text.replaceAll("−", "-").replace(/(\d),(?=\d{3})/g, "$1");
    return Number(plain.match(/[+-]?\d+(\.\d+)?(e[+-]?\d+)?/i)?.[0] ?? NaN);
  }

  // What is not known comes last, whichever way a column is sorted.
  function compare(one, other, isNumber, sign) {
    const [a, b] = [one, other].map((text) => (isNumber ? numberOf(text) : text));
    const unknown = (key, text) => (isNumber ? Number.isNaN(key) : UNKNOWN.has(text));
    const missing = unknown(a, one) - unknown(b, other);
    if (missing || unknown(a, one)) return missing;
    // As numbers, whole ones beyond 2^53 may seem equal; as texts their digits are all compared.
    return sign * ((isNumber && a - b) || collator.compare(one, other));
  }

  function element(name, properties, ...children) {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  }

  function sortable(table, rows, say) {
    const body = table.tBodies[0];
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const name = head.textContent;
      const button = element("button", { type: "button" }, ...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const next = { ascending: "descending", descending: null }[head.ariaSort];
        const order = next === undefined ? "ascending" : next;
        heads.forEach((each) => each.removeAttribute("aria-sort"));
        if (order) head.setAttribute("aria-sort", order);
        const sign = order === "descending" ? -1 : 1;
        const isNumber = head.classList.contains("number");
        const text = (row) => row.cells[column].textContent.trim();
        const sorted = order
          ? [...rows].sort((a, b) => compare(text(a), text(b), isNumber, sign))
          : rows;
        body.append(...sorted);
        say(order ? `sorted by ${name}, ${order}` : "in the original order");
      });
    });
  }

  function filterable(rows, controls, say) {
    const input = element("input", { type: "search", autocomplete: "off" });
    controls.prepend(element("label", {}, "Filter", input));
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
      }
      say("");
    });
  }

  for (const block of document.querySelectorAll(".block")) {
    const table = block.querySelector("table");
    const rows = [...table.tBodies[0].rows];
    if (rows.length < 2) continue;
    const status = element("span", { className: "status" });
    status.setAttribute("role", "status");
    const controls = element("div", { className: "controls" }, status);
    const isLong = rows.length >= FILTERED_FROM;
    const say = (text) => {
      const shown = rows.filter((row) => !row.hidden).length;
      const count = isLong ? `${shown} of ${rows.length} rows` : "";
      status.textContent = [count, text].filter(Boolean).join(", ");
    };
    sortable(table, rows, say);
    if (isLong) filterable(rows, controls, say);
    block.querySelector(".table").before(controls);
    say("");
  }
})();
