"use strict";

// Rows of the charts, selected from the page's data. No numbers are computed here.
const ALL = "all"; // key of the mean over all tasks

// task: index of a task, or ALL. curves: values by task, each a list over the layers.
// model: with its `place` in the data, and its `name` in the charts.
function curveRows(model, curves, task) {
  if (!curves || !curves[task]) return [];
  const isMean = task === ALL;
  const values = isMean ? curves[ALL].value : curves[task];
  return model.layers.map((layer, i) => ({
    model: model.name,
    place: model.place,
    layer,
    depth: model.depths[i],
    value: values[i],
    n_tasks: isMean ? curves[ALL].n_tasks[i] : 1,
    of_tasks: isMean ? curves[ALL].of_tasks[i] : 1,
  })).filter((row) => row.value !== null);
}

// Marks the layers that schemes pick; for the active model, also labels them and the selected layer.
function markRows(rows, models, active, layer, task) {
  return rows.flatMap((row) => {
    const model = models[row.place];
    const said = (model.marks[task] || {})[row.layer] || "";
    if (model !== active) return said ? [{ ...row, said, word: "" }] : [];
    const selected = row.layer === layer ? `layer ${row.layer}` : "";
    const word = [said, selected].filter(Boolean).join(": ");
    return word ? [{ ...row, said: word, word }] : [];
  });
}

function heatMapRows(model, tasks) {
  return Object.entries(model.shares).flatMap(([task, shares]) =>
    shares.map((share, i) =>
      ({ task: tasks[task], layer: model.layers[i], depth: model.depths[i], score: model.scores[task][i], share })));
}

function associationRows(model, task) {
  return (model.associations[task] || []).map(([metric, coefficient, value]) => ({ metric, coefficient, value }));
}

// The value of one layer, by its index.
function curveValue(curves, task, i) {
  if (!curves || !curves[task]) return null;
  return task === ALL ? curves[ALL].value[i] : curves[task][i];
}
