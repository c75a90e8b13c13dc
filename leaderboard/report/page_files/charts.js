"use strict";

// The charts of the page: each drawn when it first has rows, and again for another theme; given other rows in between.
// What is in the rows is page.js's.
class Charts {
  // charts: by theme and name, as Vega has them. `told(datum)` hears of clicks on something that has a layer.
  constructor(charts, told) {
    this.charts = charts;
    this.told = told;
    this.views = {};
    this.contents = {};
    this.busy = Promise.resolve();
    this.dark = window.matchMedia("(prefers-color-scheme: dark)");
    this.dark.addEventListener("change", () => this.again());
  }

  // contents: by chart, its datasets by name and its signals under "signals". A chart without rows is not shown.
  fill(contents) {
    this.contents = contents;
    return this.inTurn(async () => {
      for (const [name, content] of Object.entries(contents)) {
        const element = document.getElementById(name);
        element.hidden = !content.rows.length;
        if (element.hidden) continue;
        if (this.views[name]) await this.give(this.views[name], content);
        else await this.embed(name, element, content);
      }
    });
  }

  again() {
    return this.inTurn(async () => {
      for (const [name, view] of Object.entries(this.views)) {
        view.finalize();
        await this.embed(name, document.getElementById(name), this.contents[name]);
      }
    });
  }

  // One change after the other: what comes last is what is seen.
  inTurn(change) {
    this.busy = this.busy.then(change);
    return this.busy;
  }

  async give(view, { signals = {}, ...datasets }) {
    for (const [signal, value] of Object.entries(signals)) view.signal(signal, value);
    for (const [dataset, rows] of Object.entries(datasets)) view.data(dataset, rows);
    await view.runAsync();
  }

  async embed(name, element, { signals = {}, ...datasets }) {
    const theme = this.dark.matches ? "dark" : "light";
    const chart = this.charts[theme][name];
    const filled = {
      ...chart,
      data: chart.data.map((one) => (one.name in datasets ? { ...one, values: datasets[one.name] } : one)),
      signals: chart.signals.map((one) => (one.name in signals ? { ...one, value: signals[one.name] } : one)),
    };
    const { view } = await vegaEmbed(element, filled, {
      mode: "vega",
      renderer: "svg",
      actions: { export: true, source: false, compiled: false, editor: false },
      tooltip: { theme },
      downloadFileName: name,
      logLevel: 1, // errors: a model none of whose layers has all tasks is none
    });
    view.addEventListener("click", (event, item) => {
      if (item && item.datum && Number.isInteger(item.datum.layer)) this.told(item.datum);
    });
    this.views[name] = view;
  }
}
