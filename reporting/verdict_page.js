"use strict";
// Sorts the table by a click on the title of a column, and shows the rows of one verdict.
const table = document.querySelector("table.verdicts");
const form = document.querySelector("form");

function key(row, column) {
  const cell = row.cells[column];
  return "key" in cell.dataset ? Number(cell.dataset.key) : cell.textContent;
}

function compare(a, b) {
  return typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true });
}

function sort(header) {
  const other = { ascending: "descending", descending: "ascending" };
  const order = other[header.getAttribute("aria-sort")] || header.dataset.first;
  const sign = order === "ascending" ? 1 : -1;
  const column = header.cellIndex;
  const rows = [...table.tBodies[0].rows];
  rows.sort((a, b) => sign * compare(key(a, column), key(b, column)));
  table.tBodies[0].append(...rows);
  for (const one of table.tHead.rows[0].cells) one.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", order);
}

function filter() {
  const shown = form.elements.namedItem("show").value;
  for (const row of table.tBodies[0].rows) {
    row.hidden = shown !== "" && row.dataset.verdict !== shown;
  }
}

for (const button of table.tHead.querySelectorAll("button")) {
  button.addEventListener("click", () => sort(button.parentElement));
}
form.addEventListener("change", filter);
form.querySelector("input").checked = true;
form.hidden = false;
