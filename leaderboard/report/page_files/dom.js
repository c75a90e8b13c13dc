"use strict";

// Elements of the page. All text is inserted as text, never as HTML: names of models and tasks may contain anything.
const byId = (id) => document.getElementById(id);

function buildElement(tag, text, properties = {}) {
  const built = Object.assign(document.createElement(tag), properties);
  if (text !== undefined) built.textContent = text;
  return built;
}

function fillSelect(select, options, selected) {
  select.replaceChildren(...options.map(([value, text]) =>
    buildElement("option", text, { value, selected: String(value) === String(selected) })));
}

// Run a change that rebuilds the table, then focus the element that replaces the focused one.
function keepFocus(change) {
  const { dataset } = document.activeElement || { dataset: {} };
  const [name] = ["sorts", "compares", "opens"].filter((one) => dataset[one] !== undefined);
  const value = name && dataset[name];
  change();
  if (name) document.querySelector(`[data-${name}="${CSS.escape(value)}"]`)?.focus();
}

const formatPoints = (value) => (value === null || value === undefined ? "-" : value.toFixed(1));

// A region that is wider than the screen fades where it goes on, and says so in words.
function hintAtScroll(region) {
  const hint = byId(region.getAttribute("aria-describedby"));
  const update = () => {
    const more = region.scrollWidth - region.clientWidth;
    hint.hidden = more <= 1;
    region.parentElement.classList.toggle("more", region.scrollLeft < more - 1);
  };
  region.addEventListener("scroll", update, { passive: true });
  const observer = new ResizeObserver(update);
  for (const element of [region, region.firstElementChild]) observer.observe(element);
}
