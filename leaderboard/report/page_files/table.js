"use strict";

// The table of models: one row per model, one column per scheme. Models with different tasks are never ranked together.
const MAX_COMPARED = 7; // as many as there are colours

// What the cells of a scheme can show: note below the table, text, and value to sort by.
const CELLS = {
  score: {
    note: "Mean score over the tasks. A small number is the number of tasks in a mean that lacks some of the model's tasks; means over different tasks are not comparable.",
    text: (row, scheme) => formatPoints(row[scheme]),
    value: (row, scheme) => row[scheme],
  },
  // Without a plus sign; regret may be negative for schemes that pick a layer for each task.
  regret: {
    note: "Points below the best single layer over the same tasks.",
    text: (row, scheme) => formatPoints(row[`regret_${scheme}`]),
    value: (row, scheme) => row[`regret_${scheme}`],
  },
  interval: {
    note: "95% interval of the mean, from 1,000 resamples of the tasks with the chosen layers fixed.",
    text: (row, scheme) => (row[scheme] === null ? "-" : `${formatPoints(row[`${scheme}_low`])} to ${formatPoints(row[`${scheme}_high`])}`),
    value: (row, scheme) => row[scheme],
  },
  tasks: {
    note: "Number of tasks in each mean.",
    text: (row, scheme) => String(row[`n_${scheme}`]),
    value: (row, scheme) => row[`n_${scheme}`],
  },
};

function buildColumns(schemes, shown) {
  const { text, value } = CELLS[shown];
  const [best, ...others] = schemes.map(({ scheme, name, meaning }) => ({
    key: scheme,
    title: name,
    meaning,
    value: (model, row) => value(row, scheme),
    text: (row) => text(row, scheme),
    fewerTasks: (row) => {
      const n = row[`n_${scheme}`];
      return shown !== "tasks" && n > 0 && n < row.n_tasks ? n : null;
    },
  }));
  return [
    { key: "name", title: "model", value: (model) => model.label.toLowerCase() },
    { key: "n_tasks", title: "tasks", value: (model, row) => row.n_tasks, text: (row) => String(row.n_tasks) },
    best,
    { key: "best_layer", title: "at layer", value: (model, row) => row.best_layer, text: (row) => String(row.best_layer ?? "-") },
    ...others,
  ];
}

function compareValues(a, b, ascending) {
  return (a < b ? -1 : a > b ? 1 : 0) * (ascending ? 1 : -1);
}

function buildHeader(columns, sort) {
  const header = buildElement("tr");
  for (const { key, title, meaning = "" } of columns) {
    const cell = buildElement("th", undefined, { scope: "col", className: key === "name" ? "name" : "" });
    const button = buildElement("button", title, { type: "button", title: meaning });
    button.dataset.sorts = key;
    if (sort.key === key) cell.ariaSort = sort.ascending ? "ascending" : "descending";
    cell.append(button);
    header.append(cell);
  }
  return header;
}

// The name of a model, with its checkbox and its colour in the charts.
function buildNameCell(model, index, state, colours) {
  const checkbox = buildElement("input", undefined, { type: "checkbox", checked: state.compared.includes(index) });
  checkbox.ariaLabel = `compare ${model.label}`;
  checkbox.disabled = !checkbox.checked && state.compared.length >= MAX_COMPARED;
  checkbox.dataset.compares = index;
  const swatch = buildElement("span", undefined, { className: "swatch" });
  const colour = state.compared.indexOf(index);
  if (colour >= 0) swatch.style.background = colours[colour];
  const button = buildElement("button", model.label, { type: "button" });
  button.dataset.opens = index;
  const content = buildElement("div", undefined, { className: "cell" });
  content.append(checkbox, swatch, button);
  const cell = buildElement("td", undefined, { className: "name" });
  cell.append(content);
  return cell;
}

function buildValueCell(column, row) {
  const fewer = column.fewerTasks ? column.fewerTasks(row) : null;
  const className = fewer !== null ? "part" : column.key === "best" ? "best" : "";
  const text = column.text(row);
  const cell = buildElement("td", text, { className, title: text === "-" ? "no value" : "" });
  if (fewer !== null) cell.append(" ", buildElement("small", `of ${fewer}`, { title: `mean of ${fewer} tasks only` }));
  return cell;
}

// In either direction, means that lack tasks come after the others, as they are not comparable, and so do transforms that
// have seen the evaluated texts; missing means are last.
function sortRows(rows, column, ascending) {
  const value = ({ model, row }) => column.value(model, row) ?? null;
  const place = (one) => (value(one) === null ? 3 : column.fewerTasks?.(one.row) ? 2 : one.model.transductive ? 1 : 0);
  return rows.sort((a, b) => place(a) - place(b) || compareValues(value(a), value(b), ascending));
}

function buildGroup(group, columns) {
  const row = buildElement("tr", undefined, { className: "group" });
  const cell = buildElement("th", undefined, { scope: "rowgroup", colSpan: columns.length });
  cell.append(buildElement("span", group.title));
  row.append(cell);
  return row;
}

// state: active, compared and sort of the page.
function showTable(data, state) {
  const columns = buildColumns(data.schemes, byId("cells").value);
  const over = byId("over").value;
  const filter = byId("filter").value.trim().toLowerCase();
  const sorted = columns.find((column) => column.key === state.sort.key);
  const table = byId("table");
  let shown = 0;
  for (const body of [...table.tBodies]) body.remove();
  table.tHead.replaceChildren(buildHeader(columns, state.sort));
  for (const group of data.groups[over]) {
    const rows = group.models
      .map((index) => ({ index, model: data.models[index], row: data.models[index].schemes[over] }))
      .filter(({ model }) => `${model.label} ${model.revision}`.toLowerCase().includes(filter));
    if (!rows.length) continue;
    shown += rows.length;
    const body = table.createTBody();
    body.append(buildGroup(group, columns), ...sortRows(rows, sorted, state.sort.ascending).map(({ index, model, row }) => {
      const built = buildElement("tr", undefined, { className: index === state.active ? "active" : "" });
      built.append(...columns.map((column) =>
        column.key === "name" ? buildNameCell(model, index, state, data.colours) : buildValueCell(column, row)));
      return built;
    }));
  }
  byId("shown").textContent = shown === data.models.length ? "" : `${shown} of ${data.models.length} models`;
  const notes = [CELLS[byId("cells").value].note];
  for (const note of data.notes[over]) notes.push(`${note[0].toUpperCase()}${note.slice(1)}.`);
  if (data.models.length > 1) notes.push(`Select up to ${MAX_COMPARED} rows to compare them below; click a name for its details.`);
  byId("table-note").textContent = notes.join(" ");
}

// A table that is in the page already: a click on a title sorts its rows by the values of the cells; missing ones are last.
function makeSortable(table) {
  const titles = [...table.tHead.rows[0].cells];
  const sortBy = (title, place) => {
    const ascending = title.ariaSort !== "ascending";
    for (const one of titles) one.ariaSort = null;
    title.ariaSort = ascending ? "ascending" : "descending";
    const value = (row) => {
      const { value: found } = row.cells[place].dataset;
      return found === "" ? null : Number.isNaN(Number(found)) ? found : Number(found);
    };
    const isMissing = (row) => Number(value(row) === null);
    table.tBodies[0].append(...[...table.tBodies[0].rows].sort((a, b) =>
      isMissing(a) - isMissing(b) || compareValues(value(a), value(b), ascending)));
  };
  titles.forEach((title, place) => {
    const button = buildElement("button", title.textContent, { type: "button" });
    button.addEventListener("click", () => sortBy(title, place));
    title.replaceChildren(button);
  });
}
