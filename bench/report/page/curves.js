"use strict";
// Interactive loss curves. The pictures that show the same stay where these cannot be drawn.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif';
  const SYMBOLS = {
    circle: "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0",
    square: "M-4-4h8v8h-8z",
    "triangle-up": "M0-5L5 4H-5z",
    diamond: "M0-5L5 0L0 5L-5 0z",
    "triangle-down": "M0 5L5-4H-5z",
    x: "M-5-3L-3-5L0-2L3-5L5-3L2 0L5 3L3 5L0 2L-3 5L-5 3L-2 0z",
    "triangle-left": "M-5 0L4-5V5z",
    cross: "M-2-5h4v3h3v4h-3v3h-4v-3h-3v-4h3z",
    "triangle-right": "M5 0L-4-5V5z",
    star: "M0-5L1.5-1.5H5L2.2 1L3.2 5L0 2.6L-3.2 5L-2.2 1L-5-1.5H-1.5z",
  };
  const MANY_ARMS = 4; // from more of them on, all are switched at once as well
  const HOW =
    "Thick lines: mean over seeds; thin lines: single seeds. Point at a line to read it; drag to zoom, " +
    "double-click to go back. The loss axis ends at the highest loss after the first tenth of the evaluations.";
  const costs = new Intl.NumberFormat("en", { maximumSignificantDigits: 5 });
  const losses = new Intl.NumberFormat("en", { minimumFractionDigits: 4, maximumFractionDigits: 4 });

  // Plotly is on the page as text, packed; the page's policy lets this very script run.
  let loading = null;
  function plotly() {
    loading ??= (async () => {
      const packed = atob(document.getElementById("plotly").textContent);
      const bytes = Uint8Array.from(packed, (sign) => sign.charCodeAt(0));
      const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
      const script = document.createElement("script");
      script.textContent = await new Response(stream).text();
      document.head.append(script);
      return window.Plotly;
    })();
    return loading;
  }

  // Plotly takes some markup in texts; a name is none.
  const plain = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");

  function element(name, properties, ...children) {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  }

  function drawn(name, attributes) {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  }

  function swatch(arm) {
    const dash = arm.dash === "solid" ? "none" : arm.dash.replaceAll("px", "");
    const svg = drawn("svg", { width: 34, height: 14, viewBox: "-17 -7 34 14", "aria-hidden": "true" });
    const line = { d: "M-17 0H17", stroke: arm.colour, "stroke-width": 2.5, "stroke-dasharray": dash };
    svg.append(drawn("path", line), drawn("path", { d: SYMBOLS[arm.symbol], fill: arm.colour }));
    return svg;
  }

  // What a point has cost: on each axis on which the curve has the same evaluations.
  function hover(data, title, curves, axis) {
    const [x, y] = curves[axis];
    const same = data.axes.filter(({ key }) => curves[key]?.[1] === y);
    return data.arrays[x].map((_, point) => {
      const told = same.map(
        ({ key, label }) => `${label}: ${costs.format(data.arrays[curves[key][0]][point])}`,
      );
      const loss = `validation loss: <b>${losses.format(data.arrays[y][point])}</b>`;
      return [`<b>${plain(title)}</b>`, loss, ...told].join("<br>");
    });
  }

  function trace(data, arm, title, curves, axis, extra) {
    const [x, y] = curves[axis];
    return {
      type: "scatter",
      name: plain(title),
      x: data.arrays[x],
      y: data.arrays[y],
      hoverinfo: "text",
      hovertext: hover(data, title, curves, axis),
      meta: arm.label,
      ...extra,
    };
  }

  // All traces of an axis, the means above the seeds.
  function traces(data, axis, isShown, withSeeds) {
    const seeds = data.arms.flatMap((arm, index) =>
      arm.seeds
        .filter((seed) => seed.curves[axis])
        .map((seed) =>
          trace(data, arm, `${arm.label}, seed ${seed.seed}`, seed.curves, axis, {
            mode: "lines",
            line: { color: arm.colour, width: 1 },
            opacity: 0.4,
            visible: isShown[index] && withSeeds,
          }),
        ),
    );
    const means = data.arms.flatMap((arm, index) =>
      arm.mean[axis]
        ? trace(data, arm, `${arm.label}, mean of ${arm.n}`, arm.mean, axis, {
            mode: "lines+markers",
            line: { color: arm.colour, width: 2.5, dash: arm.dash },
            marker: { symbol: arm.symbol, size: 8, color: arm.colour, maxdisplayed: 9 },
            visible: isShown[index],
          })
        : [],
    );
    return [...seeds, ...means];
  }

  function layout(data, axis) {
    const [low, high] = data.range;
    const room = 0.04 * (high - low || 1);
    const lines = { gridcolor: "#e6e8eb", linecolor: "#57606a", ticks: "outside", zeroline: false, automargin: true };
    const isTouched = matchMedia("(pointer: coarse)").matches;
    return {
      font: { family: FONT, size: 13, color: "#1b1f24" },
      margin: { l: 56, r: 12, t: 12, b: 48 },
      showlegend: false,
      hovermode: "closest",
      hoverlabel: { align: "left", bgcolor: "#fff", font: { color: "#1b1f24" } },
      dragmode: isTouched ? false : "zoom", // a finger scrolls the page
      uirevision: axis, // a zoom stays until the axis changes
      xaxis: {
        ...lines,
        title: { text: data.axes.find(({ key }) => key === axis).label },
        ...(axis === "flops" ? { exponentformat: "power" } : { tickformat: ",~f" }),
      },
      yaxis: {
        ...lines,
        title: { text: data.loss },
        ...(data.range.length ? { range: [low - room, high + room] } : {}),
      },
    };
  }

  function controls(data, state, redraw) {
    const select = element("select", {});
    for (const { key, label } of data.axes) select.append(element("option", { value: key }, label));
    select.addEventListener("change", () => redraw({ axis: select.value }));
    const first = element("div", { className: "controls" }, element("label", {}, "Loss against", select));
    if (data.arms.some((arm) => arm.seeds.length)) {
      const box = element("input", { type: "checkbox", checked: true });
      box.addEventListener("change", () => redraw({ withSeeds: box.checked }));
      first.append(element("label", {}, box, "single seeds"));
    }
    const arms = element("fieldset", { className: "controls arms" }, element("legend", {}, "Configurations"));
    const boxes = data.arms.map((arm, index) => {
      const box = element("input", { type: "checkbox", checked: true });
      box.addEventListener("change", () => {
        state.isShown[index] = box.checked;
        redraw({});
      });
      arms.append(element("label", {}, box, swatch(arm), arm.label));
      return box;
    });
    if (boxes.length > MANY_ARMS) {
      for (const [name, checked] of [["all", true], ["none", false]]) {
        const button = element("button", { type: "button" }, name);
        button.addEventListener("click", () => {
          for (const box of boxes) box.checked = checked;
          state.isShown.fill(checked);
          redraw({});
        });
        arms.append(button);
      }
    }
    return [first, arms];
  }

  function missing(data, axis) {
    const label = data.axes.find(({ key }) => key === axis).label;
    const names = data.arms.filter((arm) => !arm.mean[axis]).map((arm) => arm.label);
    const lacking = names.length ? `No mean against ${label}: ${names.join(", ")}.` : "";
    return [data.note, lacking].filter(Boolean).join(" ");
  }

  // The tables have the figures; this says what is drawn.
  function described(data, { axis, isShown }) {
    const label = data.axes.find(({ key }) => key === axis).label;
    const arms = data.arms.filter((_, index) => isShown[index]).map((arm) => arm.label);
    return `Line chart: validation loss against ${label} of ${arms.join(", ") || "no configuration"}.`;
  }

  async function draw(block) {
    const place = block.querySelector(".interactive");
    const message = block.querySelector(".message");
    const data = JSON.parse(block.querySelector("script").textContent);
    const state = { axis: data.axes[0].key, withSeeds: true, isShown: data.arms.map(() => true) };
    const plot = element("div", { className: "plot", role: "group" });
    const library = await plotly();
    const config = {
      responsive: true,
      displaylogo: false,
      modeBarButtonsToRemove: ["select2d", "lasso2d", "toImage", "autoScale2d"],
    };
    const redraw = async (change) => {
      Object.assign(state, change);
      message.textContent = missing(data, state.axis);
      plot.setAttribute("aria-label", described(data, state));
      const shown = traces(data, state.axis, state.isShown, state.withSeeds);
      await library.react(plot, shown, layout(data, state.axis), config);
      // Icons of buttons that have names, and where plotly measures its texts.
      for (const svg of document.querySelectorAll(".modebar svg, #js-plotly-tester")) {
        svg.setAttribute("aria-hidden", "true");
      }
    };
    place.append(...controls(data, state, redraw), plot, element("p", { className: "note" }, HOW));
    await redraw({});
  }

  function prepare(block) {
    const place = block.querySelector(".interactive");
    if (!place) return;
    const fail = (why) => {
      place.hidden = true;
      block.classList.remove("drawn");
      block.querySelector(".message").textContent = `${why} The pictures show the same curves.`;
    };
    if (!("DecompressionStream" in window)) {
      fail("This browser cannot unpack the interactive curves.");
      return;
    }
    place.hidden = false;
    block.classList.add("drawn");
    // Drawn when they come near: plotly takes a second to start.
    const observer = new IntersectionObserver(
      (entries) => {
        if (!entries.some((entry) => entry.isIntersecting)) return;
        observer.disconnect();
        draw(block).catch((error) => fail(`The interactive curves cannot be drawn (${error.message}).`));
      },
      { rootMargin: "800px" },
    );
    observer.observe(place);
  }

  for (const block of document.querySelectorAll(".curves")) prepare(block);
})();
