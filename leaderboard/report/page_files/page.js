"use strict";

// State of the page and its controls. The table is drawn by table.js, the charts by charts.js with rows from rows.js.
class LeaderboardPage {
  constructor(data) {
    this.data = data;
    // Groups of models with the same tasks, the best model of each group first.
    this.order = data.groups[data.over].flatMap(({ models }) => models);
    this.state = {
      active: this.order[0],
      compared: this.firstRevisions(data.groups[data.over][0].models).slice(0, 3),
      task: ALL,
      metric: data.metrics.length ? data.metrics[0].metric : null,
      layer: null,
      sort: { key: "best", ascending: false },
    };
    this.charts = new Charts(data.charts, (datum) => this.selectDatum(datum));
  }

  get model() {
    return this.data.models[this.state.active];
  }

  get layerIndex() {
    return this.model.layers.indexOf(this.state.layer);
  }

  // The first revision of each of these models and recipes.
  firstRevisions(models) {
    const name = (index) => JSON.stringify([this.data.models[index].model, this.data.models[index].recipe]);
    return models.filter((index, i) => models.findIndex((one) => name(one) === name(index)) === i);
  }

  // The tasks of a model, as the place of its group.
  groupOf(index) {
    return this.data.groups.available.findIndex(({ models }) => models.includes(index));
  }

  // The curves of the recipes of the model, if it has several.
  get recipes() {
    const { state } = this;
    return this.data.recipes.find(({ rows }) => rows.some(({ place }) => place === state.active))?.curves;
  }

  // The compared models with their names in charts: their recipes, if they differ in nothing else.
  namedInCharts() {
    const { data, state } = this;
    const compared = state.compared.map((place) => ({ ...data.models[place], place }));
    const isOne = new Set(compared.map(({ base, revision }) => JSON.stringify([base, revision]))).size === 1;
    return compared.map((one) => ({ ...one, name: isOne && compared.length > 1 ? one.short : one.label }));
  }

  bestLayer() {
    const { best_layer: best } = this.model.schemes[byId("over").value];
    return best ?? this.model.layers.at(-1);
  }

  start() {
    const { data, state } = this;
    byId("over").value = data.over;
    fillSelect(byId("task"), [[ALL, "mean of all tasks"], ...data.tasks.map((task, index) => [index, task])], state.task);
    fillSelect(byId("metric"), data.metrics.map(({ metric, name }) => [metric, name]), state.metric);
    byId("metric").parentElement.hidden = !data.metrics.length;
    for (const scroll of document.querySelectorAll(".scroll")) hintAtScroll(scroll);
    if (byId("regret-table")) makeSortable(byId("regret-table"));
    state.layer = this.bestLayer();
    for (const name of document.querySelectorAll("[data-place]")) {
      const button = buildElement("button", name.textContent, { type: "button" });
      button.dataset.opens = name.dataset.place;
      name.replaceWith(button);
    }
    this.listen();
    return this.showAll();
  }

  showAll() {
    this.showTable();
    this.showUse();
    return this.showCharts();
  }

  showTable() {
    showTable(this.data, this.state);
  }

  // The code that loads the selected layer.
  showUse() {
    const { data, model, state } = this;
    fillSelect(byId("use-model"), data.models.map(({ label }, index) => [index, label]), state.active);
    fillSelect(byId("use-layer"), model.layers.map((layer, i) => {
      const mark = (model.marks[ALL] || {})[layer];
      return [layer, `${layer} (depth ${model.depths[i].toFixed(2)})${mark ? `, ${mark}` : ""}`];
    }), state.layer);
    byId("python").textContent = model.use.python[this.layerIndex];
    byId("use-way").textContent = model.use.way;
    byId("command").textContent = model.use.command[this.layerIndex];
    byId("use-note").textContent = model.use.note;
  }

  showCharts() {
    const { data, model, state } = this;
    const compared = this.namedInCharts();
    const signals = { models: compared.map(({ name }) => name) };
    const scores = compared.flatMap((one) => curveRows(one, one.scores, state.task));
    const metrics = compared.flatMap((one) => curveRows(one, one.metrics[state.metric], state.task));
    const bars = associationRows(model, state.task);
    const marks = (rows) => markRows(rows, data.models, model, state.layer, state.task);
    const recipes = this.recipes;
    this.showTitles(metrics.length > 0, bars.length > 0);
    this.showReading();
    return this.charts.fill({
      scores: { rows: scores, marks: marks(scores), signals, file: "score over depth" },
      metrics: { rows: metrics, marks: marks(metrics), signals, file: `${state.metric} over depth` },
      ...(this.data.recipes.length ? { "recipes-chart": {
        rows: recipes?.rows ?? [], marks: recipes?.marks ?? [], signals: { models: recipes?.names ?? [] }, file: "recipes over depth",
      } } : {}),
      heat: { rows: heatMapRows(model, data.tasks), file: `heat map ${model.label}` },
      associations: { rows: bars, file: `associations ${model.label}` },
    });
  }

  showTitles(hasMetric, hasAssociations) {
    const { data, model, state } = this;
    const task = state.task === ALL ? "mean of all tasks" : data.tasks[state.task];
    const keys = `Arrow keys select a layer of ${model.label}.`;
    const mixed = state.task === ALL && new Set(state.compared.map((index) => this.groupOf(index))).size > 1;
    const warning = mixed ? ". These models have different tasks: do not compare their means" : "";
    byId("scores-title").textContent = `Score: ${task}${warning}`;
    byId("scores").ariaLabel = `Score over depth, ${task}. ${keys}`;
    const metric = data.metrics.find((one) => one.metric === state.metric);
    byId("metrics-figure").hidden = !data.metrics.length;
    if (metric) {
      const good = hasMetric ? ` (${metric.good})` : " (not measured for these models)";
      byId("metrics-title").textContent = `${metric.name} of raw states: ${task}${good}`;
      byId("metrics").ariaLabel = `${metric.name} over depth, ${task}. ${keys}`;
    }
    if (this.data.recipes.length) {
      const { recipes } = this;
      byId("recipes-figure").hidden = !recipes;
      byId("recipes-caption").textContent = recipes ? `Score over depth. ${recipes.note}` : "";
    }
    byId("heat-note").textContent = `${model.label}. Each task is scaled from its worst layer to its best layer, which is marked by a dot. Empty frames have no score.`;
    byId("associations-section").hidden = !data.metrics.length;
    byId("associations-note").textContent = hasAssociations
      ? `${model.label}: association over the layers, ${task}. dcor is the distance correlation, from 0 (independent) to 1.`
      : `${model.label}: no layers have both a metric and a score.`;
  }

  // The numbers of the selected layer in words.
  showReading() {
    const { model, state, layerIndex: i } = this;
    const parts = [`${model.label}, layer ${state.layer} (depth ${model.depths[i].toFixed(2)}): score ${formatPoints(curveValue(model.scores, state.task, i))}`];
    const metric = curveValue(model.metrics[state.metric], state.task, i);
    if (metric !== null && metric !== undefined) parts.push(`${state.metric} ${Number(metric.toPrecision(4))}`);
    byId("reading").textContent = parts.join(", ");
  }

  selectLayer(layer) {
    this.state.layer = layer;
    this.showUse();
    return this.showCharts();
  }

  selectModel(index) {
    const { state } = this;
    state.active = index;
    if (!state.compared.includes(index)) state.compared = [...state.compared.slice(0, MAX_COMPARED - 1), index];
    state.layer = this.bestLayer();
    return this.showAll();
  }

  selectDatum(datum) {
    const { state } = this;
    const index = datum.place ?? state.active;
    if (index !== state.active) this.selectModel(index);
    return this.selectLayer(datum.layer);
  }

  sortBy(key) {
    const { sort } = this.state;
    this.state.sort = { key, ascending: sort.key === key ? !sort.ascending : key === "name" };
    this.showTable();
  }

  compare(index, isCompared) {
    const { state } = this;
    state.compared = isCompared ? [...state.compared, index] : state.compared.filter((one) => one !== index);
    return this.showAll();
  }

  listen() {
    const { state } = this;
    byId("table").addEventListener("click", ({ target }) => {
      const { sorts, opens } = target.dataset;
      if (sorts !== undefined) keepFocus(() => this.sortBy(sorts));
      if (opens !== undefined) keepFocus(() => this.selectModel(Number(opens)));
    });
    byId("recipes-table")?.addEventListener("click", ({ target }) => {
      if (target.dataset.opens !== undefined) this.selectModel(Number(target.dataset.opens));
    });
    byId("table").addEventListener("change", ({ target }) =>
      keepFocus(() => this.compare(Number(target.dataset.compares), target.checked)));
    byId("filter").addEventListener("input", () => this.showTable());
    byId("cells").addEventListener("change", () => this.showTable());
    byId("over").addEventListener("change", () => this.showAll());
    byId("task").addEventListener("change", ({ target }) => { state.task = target.value; this.showCharts(); });
    byId("metric").addEventListener("change", ({ target }) => { state.metric = target.value; this.showCharts(); });
    byId("use-model").addEventListener("change", ({ target }) => this.selectModel(Number(target.value)));
    byId("use-layer").addEventListener("change", ({ target }) => this.selectLayer(Number(target.value)));
    for (const id of ["scores", "metrics"]) byId(id).addEventListener("keydown", (event) => this.stepLayer(event));
    for (const button of document.querySelectorAll("[data-copies]")) {
      button.addEventListener("click", () => copyCode(button));
    }
  }

  // Arrow keys on a chart.
  stepLayer(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step === undefined || event.target !== event.currentTarget) return;
    event.preventDefault();
    const { layers } = this.model;
    this.selectLayer(layers[Math.max(0, Math.min(layers.length - 1, this.layerIndex + step))]);
  }
}

async function copyCode(button) {
  const source = byId(button.dataset.copies);
  try {
    await navigator.clipboard.writeText(source.textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(source);
    button.textContent = "Selected";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 2000);
}

new LeaderboardPage(JSON.parse(byId("data").textContent)).start().then(() => { document.body.dataset.ready = "yes"; });
