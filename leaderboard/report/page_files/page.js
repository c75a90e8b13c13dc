// What the page shows and how it answers. Numbers come in the page's data; none is made here, but for what is compared.
// Every text goes in as text: names of models and tasks may hold anything.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const MOST = 7; // models side by side: as many as there are colours
  const ALL = "all";
  const TITLES = { random_layer: "random", depth_0_7: "depth 0.7", oracle: "best of each task" };
  const title = (scheme) => TITLES[scheme] || scheme.replaceAll("_", "-");
  const WHAT = {
    score: "The mean score over the tasks. A small number: the tasks behind it, where they are not all of the model's; means over different tasks do not compare.",
    regret: "Points below the best single layer over the same tasks.",
    interval: "95% interval of the mean, by 1,000 resamples of the tasks at the layers that were picked.",
    tasks: "The number of tasks behind each mean.",
  };

  // At first, those that have most tasks come first: means over fewer do not compare.
  const inOrder = data.models
    .map((model, place) => ({ place, row: model.schemes[data.over] }))
    .sort((a, b) => b.row.n_best - a.row.n_best || (b.row.best ?? -1) - (a.row.best ?? -1))
    .map(({ place }) => place);
  const state = {
    active: inOrder[0],
    compared: inOrder.filter((place, i) => inOrder.findIndex((one) => data.models[one].model === data.models[place].model) === i).slice(0, 3),
    task: ALL,
    metric: data.metrics.length ? data.metrics[0].name : null,
    layer: null,
    sort: { key: null, up: false },
  };
  const model = () => data.models[state.active];
  const bestLayer = () => {
    const { best_layer: best } = model().schemes[$("over").value];
    return best ?? model().layers.at(-1);
  };

  function element(tag, text, properties = {}) {
    const made = Object.assign(document.createElement(tag), properties);
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function options(select, pairs, chosen) {
    select.replaceChildren(...pairs.map(([value, text]) => element("option", text, { value, selected: String(value) === String(chosen) })));
  }

  const points = (value) => (value === null || value === undefined ? "-" : value.toFixed(1));
  // A minus sign and no plus: regret may be negative where each task has a layer of its own.
  const cell = {
    score: (row, scheme) => points(row[scheme]),
    regret: (row, scheme) => points(row[`regret_${scheme}`]),
    interval: (row, scheme) => (row[scheme] === null ? "-" : `${points(row[`${scheme}_low`])} to ${points(row[`${scheme}_high`])}`),
    tasks: (row, scheme) => String(row[`n_${scheme}`]),
  };
  const sorted_by = {
    score: (row, scheme) => row[scheme],
    regret: (row, scheme) => row[`regret_${scheme}`],
    interval: (row, scheme) => row[scheme],
    tasks: (row, scheme) => row[`n_${scheme}`],
  };

  function columns() {
    const show = $("cells").value;
    const fixed = [
      { key: "name", title: "model", of: (m) => m.label.toLowerCase() },
      { key: "n_tasks", title: "tasks", of: (m, row) => row.n_tasks, text: (row) => String(row.n_tasks) },
    ];
    const schemes = data.schemes.map((scheme) => ({
      key: scheme,
      title: title(scheme),
      of: (m, row) => sorted_by[show](row, scheme),
      text: (row) => cell[show](row, scheme),
      behind: (row) => (show === "score" && row[`n_${scheme}`] > 0 && row[`n_${scheme}`] < row.n_tasks ? row[`n_${scheme}`] : null),
    }));
    const layer = { key: "best_layer", title: "at layer", of: (m, row) => row.best_layer, text: (row) => String(row.best_layer ?? "-") };
    return [...fixed, schemes[0], layer, ...schemes.slice(1)];
  }

  function showTable() {
    const shown = columns();
    const over = $("over").value;
    const wanted = $("filter").value.trim().toLowerCase();
    const head = element("tr");
    for (const column of shown) {
      const cellOfHead = element("th", undefined, { scope: "col", className: column.key === "name" ? "name" : "" });
      const sorts = element("button", column.title, { type: "button" });
      sorts.dataset.sorts = column.key;
      if (state.sort.key === column.key) cellOfHead.ariaSort = state.sort.up ? "ascending" : "descending";
      cellOfHead.append(sorts);
      head.append(cellOfHead);
    }
    const key = shown.find((column) => column.key === state.sort.key);
    const rows = inOrder
      .map((place) => ({ m: data.models[place], place, row: data.models[place].schemes[over] }))
      .filter(({ m }) => `${m.model} ${m.revision}`.toLowerCase().includes(wanted));
    if (key) rows.sort((a, b) => {
      const [x, y] = [key.of(a.m, a.row), key.of(b.m, b.row)];
      if (x === null || y === null || x === undefined || y === undefined) return (x ?? null) === (y ?? null) ? 0 : (x ?? null) === null ? 1 : -1;
      return (x < y ? -1 : x > y ? 1 : 0) * (state.sort.up ? 1 : -1);
    });
    $("table").tHead.replaceChildren(head);
    $("table").tBodies[0].replaceChildren(...rows.map(({ m, place, row }) => modelRow(m, place, row, shown)));
    $("shown").textContent = rows.length === data.models.length ? "" : `${rows.length} of ${data.models.length} models`;
    $("table-note").textContent = `${WHAT[$("cells").value]} Tick up to ${MOST} models to compare them below; a name opens its details.`;
  }

  function modelRow(m, place, row, shown) {
    const made = element("tr", undefined, { className: place === state.active ? "active" : "" });
    for (const column of shown) {
      if (column.key === "name") {
        const name = element("td", undefined, { className: "name" });
        const inside = element("div", undefined, { className: "cell" });
        const compare = element("input", undefined, { type: "checkbox", checked: state.compared.includes(place) });
        compare.ariaLabel = `compare ${m.label}`;
        compare.disabled = !compare.checked && state.compared.length >= MOST;
        compare.dataset.compares = place;
        const swatch = element("span", undefined, { className: "swatch" });
        const colour = state.compared.indexOf(place);
        if (colour >= 0) swatch.style.background = data.colours[colour];
        const opens = element("button", m.label, { type: "button" });
        opens.dataset.opens = place;
        inside.append(compare, swatch, opens);
        name.append(inside);
        made.append(name);
      } else {
        const behind = column.behind ? column.behind(row) : null;
        const value = element("td", column.text(row), { className: behind !== null ? "part" : column.key === "best" ? "best" : "" });
        if (behind !== null) value.append(element("small", `of ${behind}`));
        made.append(value);
      }
    }
    return made;
  }

  // The rows of a curve: of all tasks together, or of one.
  function curve(m, of) {
    if (!of || !of[state.task]) return [];
    const together = state.task === ALL;
    const values = together ? of[ALL].value : of[state.task];
    return m.layers.map((layer, i) => ({
      model: m.label,
      layer,
      depth: m.depths[i],
      value: values[i],
      n_tasks: together ? of[ALL].n_tasks[i] : 1,
      of_tasks: together ? of[ALL].of_tasks[i] : 1,
    })).filter((row) => row.value !== null);
  }

  // Of each model compared, the layers that schemes take; of the open one, the layer in use as well, and in words.
  function marked(rows) {
    return rows.flatMap((row) => {
      const m = data.models.find(({ label }) => label === row.model);
      const said = (m.marks[state.task] || {})[row.layer] || "";
      if (m !== model()) return said ? [{ ...row, said, word: "" }] : [];
      const used = row.layer === state.layer ? `layer ${row.layer}` : "";
      const word = [said, used].filter(Boolean).join(": ");
      return word ? [{ ...row, said: word, word }] : [];
    });
  }

  function showCharts() {
    const m = model();
    const compared = state.compared.map((place) => data.models[place]);
    const signals = { models: compared.map(({ label }) => label) };
    const scores = compared.flatMap((one) => curve(one, one.scores));
    const metrics = compared.flatMap((one) => curve(one, one.metrics[state.metric]));
    const named = state.task === ALL ? "the mean of all tasks" : data.tasks[state.task];
    const metric = data.metrics.find(({ name }) => name === state.metric);
    $("scores-title").textContent = `Score: ${named}`;
    $("scores").ariaLabel = `Score over depth, ${named}. Arrow keys take a layer of ${m.label}.`;
    $("metrics-figure").hidden = !data.metrics.length;
    if (metric) {
      const missing = metrics.length ? "" : " was not measured for these models";
      $("metrics-title").textContent = `${metric.title}, raw states: ${named}${missing}`;
      $("metrics").ariaLabel = `${metric.title} over depth, ${named}. Arrow keys take a layer of ${m.label}.`;
    }
    const heat = Object.entries(m.shares).flatMap(([task, shares]) =>
      shares.flatMap((share, i) =>
        share === null ? [] : [{ task: data.tasks[task], layer: m.layers[i], depth: m.depths[i], score: m.scores[task][i], share }]));
    $("heat-note").textContent = `${m.label}. Each task by itself, from its worst layer to its best, which has a dot.`;
    const bars = (m.associations[state.task] || []).map(([name, coefficient, value]) => ({ metric: name, coefficient, value }));
    $("associations-section").hidden = !data.metrics.length;
    $("associations-note").textContent = bars.length
      ? `${m.label}, over its layers, ${named}. dcor: distance correlation, 0 (nothing to do with each other) to 1.`
      : `${m.label}: no metric was measured here.`;
    reading();
    return charts.fill({
      scores: { rows: scores, marks: marked(scores), signals },
      metrics: { rows: metrics, marks: marked(metrics), signals },
      heat: { rows: heat },
      associations: { rows: bars },
    });
  }

  function reading() {
    const m = model();
    const i = m.layers.indexOf(state.layer);
    const of = (curves) => (curves && curves[state.task] ? (state.task === ALL ? curves[ALL].value[i] : curves[state.task][i]) : null);
    const metric = of(m.metrics[state.metric]);
    const told = [`${m.label}, layer ${state.layer} (depth ${m.depths[i].toFixed(2)}): score ${points(of(m.scores))}`];
    if (metric !== null && metric !== undefined) told.push(`${state.metric} ${Number(metric.toPrecision(4))}`);
    $("reading").textContent = told.join(", ");
  }

  function showUse() {
    const m = model();
    const i = m.layers.indexOf(state.layer);
    options($("use-model"), data.models.map(({ label }, place) => [place, label]), state.active);
    options($("use-layer"), m.layers.map((layer, j) => {
      const said = (m.marks[ALL] || {})[layer];
      return [layer, `${layer} (depth ${m.depths[j].toFixed(2)})${said ? `, ${said}` : ""}`];
    }), state.layer);
    $("python").textContent = m.use.python[i];
    $("command").textContent = m.use.command[i];
    $("use-note").textContent = m.use.note;
  }

  function take(layer) {
    state.layer = layer;
    showUse();
    return showCharts();
  }

  function open(place) {
    state.active = place;
    if (!state.compared.includes(place)) state.compared = [...state.compared.slice(0, MOST - 1), place];
    state.layer = bestLayer();
    showAll();
  }

  function showAll() {
    showTable();
    showUse();
    return showCharts();
  }

  const charts = new Charts(data.charts, (datum) => {
    const place = datum.model === undefined ? state.active : data.models.findIndex(({ label }) => label === datum.model);
    if (place !== state.active) open(place);
    take(datum.layer);
  });

  // Where the table is made anew, what had the focus is another element now.
  function keepingFocus(change) {
    const { dataset } = document.activeElement || { dataset: {} };
    const [name] = ["sorts", "compares", "opens"].filter((one) => dataset[one] !== undefined);
    const value = name && dataset[name];
    change();
    if (name) document.querySelector(`[data-${name}="${CSS.escape(value)}"]`)?.focus();
  }

  $("table").addEventListener("click", ({ target }) => {
    const { sorts, opens } = target.dataset;
    if (sorts !== undefined) {
      const again = state.sort.key === sorts;
      state.sort = { key: sorts, up: again ? !state.sort.up : sorts === "name" };
      keepingFocus(showTable);
    }
    if (opens !== undefined) keepingFocus(() => open(Number(opens)));
  });
  $("table").addEventListener("change", ({ target }) => {
    const place = Number(target.dataset.compares);
    state.compared = target.checked ? [...state.compared, place] : state.compared.filter((one) => one !== place);
    keepingFocus(showAll);
  });
  $("filter").addEventListener("input", showTable);
  $("cells").addEventListener("change", showTable);
  $("over").addEventListener("change", showAll);
  $("task").addEventListener("change", ({ target }) => { state.task = target.value; showCharts(); });
  $("metric").addEventListener("change", ({ target }) => { state.metric = target.value; showCharts(); });
  $("use-model").addEventListener("change", ({ target }) => open(Number(target.value)));
  $("use-layer").addEventListener("change", ({ target }) => take(Number(target.value)));
  for (const id of ["scores", "metrics"]) {
    $(id).addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (step === undefined || event.target !== $(id)) return;
      event.preventDefault();
      const { layers } = model();
      take(layers[Math.max(0, Math.min(layers.length - 1, layers.indexOf(state.layer) + step))]);
    });
  }
  for (const button of document.querySelectorAll("[data-copies]")) {
    button.addEventListener("click", async () => {
      const source = $(button.dataset.copies);
      try {
        await navigator.clipboard.writeText(source.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(source);
        button.textContent = "Selected";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
  }

  $("over").value = data.over;
  options($("task"), [[ALL, "the mean of all"], ...data.tasks.map((task, place) => [place, task])], state.task);
  options($("metric"), data.metrics.map(({ name, title: text }) => [name, text]), state.metric);
  $("metric").parentElement.hidden = !data.metrics.length;
  state.layer = bestLayer();
  showAll().then(() => { document.body.dataset.ready = "yes"; });
})();
