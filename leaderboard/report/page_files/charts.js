"use strict";

// The charts of the page: drawn once a theme, given other rows since. What is in the rows is page.js's.
class Charts {
  // `told(chart, datum)` hears of clicks on something that has a layer.
  constructor(charts, styles, told) {
    this.charts = charts;
    this.styles = styles;
    this.told = told;
    this.views = {};
    this.contents = {};
    this.dark = window.matchMedia("(prefers-color-scheme: dark)");
  }

  async draw() {
    for (const [name, chart] of Object.entries(this.charts)) {
      if (this.views[name]) this.views[name].finalize();
      const result = await vegaEmbed(document.getElementById(name), chart, {
        renderer: "svg",
        config: this.styles[this.dark.matches ? "dark" : "light"],
        actions: { export: true, source: false, compiled: false, editor: false },
        tooltip: { theme: this.dark.matches ? "dark" : "light" },
        downloadFileName: name,
      });
      const view = (this.views[name] = result.view);
      view.addEventListener("click", (event, item) => {
        if (item && item.datum && Number.isInteger(item.datum.layer)) this.told(name, item.datum);
      });
    }
    await this.fill(this.contents);
  }

  async drawAlways() {
    this.dark.addEventListener("change", () => this.draw());
    await this.draw();
  }

  // contents: for each chart its datasets by name, and under "signals" its signals.
  async fill(contents) {
    this.contents = { ...this.contents, ...contents };
    for (const [name, { signals = {}, ...datasets }] of Object.entries(contents)) {
      const view = this.views[name];
      if (!view) continue;
      for (const [signal, value] of Object.entries(signals)) view.signal(signal, value);
      for (const [dataset, rows] of Object.entries(datasets)) view.data(dataset, rows);
      await view.runAsync();
    }
  }
}
