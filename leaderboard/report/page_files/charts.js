"use strict";

// The charts of the page, drawn anew when they get other rows or another theme. What is in the rows is page.js's.
class Charts {
  // charts: by theme and name, as Vega has them. `told(datum)` hears of clicks on something that has a layer.
  constructor(charts, told) {
    this.charts = charts;
    this.told = told;
    this.drawn = {};
    this.contents = {};
    this.busy = Promise.resolve();
    this.dark = window.matchMedia("(prefers-color-scheme: dark)");
    this.dark.addEventListener("change", () => this.fill(this.contents));
  }

  // contents: by chart, its datasets by name and its signals under "signals". A chart without rows is not shown.
  fill(contents) {
    this.contents = contents;
    // One change after the other; of several that wait, the last.
    this.busy = this.busy.then(async () => {
      for (const [name, content] of Object.entries(this.contents)) await this.show(name, content);
    });
    return this.busy;
  }

  async show(name, content) {
    const element = document.getElementById(name);
    const theme = this.dark.matches ? "dark" : "light";
    const wanted = JSON.stringify([theme, content]);
    element.hidden = !content.rows.length;
    if (element.hidden || this.drawn[name]?.wanted === wanted) return;
    this.drawn[name]?.view.finalize();
    const { signals = {}, ...datasets } = content;
    const chart = this.charts[theme][name];
    const filled = {
      ...chart,
      data: chart.data.map((one) => (one.name in datasets ? { ...one, values: datasets[one.name] } : one)),
      signals: chart.signals.map((one) => (one.name in signals ? { ...one, value: signals[one.name] } : one)),
    };
    element.style.minHeight = `${element.offsetHeight}px`; // what is below stays where it is
    const { view } = await vegaEmbed(element, filled, {
      mode: "vega",
      renderer: "svg",
      actions: { export: true, source: false, compiled: false, editor: false },
      tooltip: { theme },
      downloadFileName: name,
      logLevel: 1, // errors: a model none of whose layers has all tasks is none
    });
    element.style.minHeight = "";
    view.addEventListener("click", (event, item) => {
      if (item && item.datum && Number.isInteger(item.datum.layer)) this.told(item.datum);
    });
    this.drawn[name] = { view, wanted };
  }
}
