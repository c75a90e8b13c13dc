"use strict";

// A finger does not hover, so a tap shows the numbers that a mouse would see, until the next touch.
const hasNoMouse = window.matchMedia("(hover: none)");

function hoverAt({ clientX, clientY }) {
  const under = document.elementFromPoint(clientX, clientY);
  under?.dispatchEvent(new PointerEvent("pointermove", { clientX, clientY, bubbles: true }));
}

function hideTooltip() {
  if (hasNoMouse.matches) byId("vg-tooltip-element")?.classList.remove("visible");
}

// The charts of the page, redrawn when their rows or the colour theme change.
class Charts {
  // specs: Vega specs by theme and name. onSelect(datum): called for clicks on a datum with a layer; redraws what changes.
  constructor(specs, onSelect) {
    this.specs = specs;
    this.onSelect = onSelect;
    this.drawn = {};
    this.contents = {};
    this.queue = Promise.resolve();
    this.dark = window.matchMedia("(prefers-color-scheme: dark)");
    this.dark.addEventListener("change", () => this.fill(this.contents));
    for (const name of ["pointerdown", "scroll"]) document.addEventListener(name, hideTooltip, { capture: true, passive: true });
  }

  // contents: for each chart, its datasets by name, its signals, and the name of its file if it is saved. A chart without rows is hidden.
  fill(contents) {
    this.contents = contents;
    // Changes are drawn one after the other; waiting ones are replaced by the latest.
    this.queue = this.queue.then(async () => {
      for (const [name, content] of Object.entries(this.contents)) await this.show(name, content);
    });
    return this.queue;
  }

  async show(name, content) {
    const element = byId(name);
    const theme = this.dark.matches ? "dark" : "light";
    const key = JSON.stringify([theme, content]);
    element.hidden = !content.rows.length;
    if (element.hidden || this.drawn[name]?.key === key) return;
    this.drawn[name]?.view.finalize();
    const { file, signals: given, ...datasets } = content;
    // Names in the legend may be as long as the chart is wide, less its axis, its symbols and the menu.
    const signals = { ...given, legend_limit: Math.max(100, element.clientWidth - 130) };
    const spec = this.specs[theme][name];
    const filled = {
      ...spec,
      data: spec.data.map((one) => (one.name in datasets ? { ...one, values: datasets[one.name] } : one)),
      signals: spec.signals.map((one) => (one.name in signals ? { ...one, value: signals[one.name] } : one)),
    };
    element.style.minHeight = `${element.offsetHeight}px`; // keeps the content below in place
    const { view } = await vegaEmbed(element, filled, {
      mode: "vega",
      renderer: "svg",
      actions: { export: true, source: false, compiled: false, editor: false },
      tooltip: { theme },
      downloadFileName: file,
      logLevel: 1, // errors only: Vega warns about a model without a layer that has all tasks
    });
    element.style.minHeight = "";
    view.addEventListener("click", async (event, item) => {
      if (item && item.datum && Number.isInteger(item.datum.layer)) await this.onSelect(item.datum);
      if (hasNoMouse.matches) hoverAt(event);
    });
    this.drawn[name] = { view, key };
  }
}
