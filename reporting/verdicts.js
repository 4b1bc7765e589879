"use strict";
// A click on the title of a column sorts by it, numbers from the highest; the form filters.
const body = document.querySelector("tbody");
const form = document.querySelector("form");
for (const button of document.querySelectorAll("button")) {
  button.onclick = () => {
    const header = button.parentElement;
    const cell = (row) => row?.cells[header.cellIndex];
    const compare = (a, b) => cell(a).dataset.key - cell(b).dataset.key ||
      cell(a).textContent.localeCompare(cell(b).textContent, undefined, { numeric: true });
    const isNumber = cell(body.rows[0])?.dataset.key !== undefined;
    const falls = header.ariaSort ? header.ariaSort === "ascending" : isNumber;
    const rows = [...body.rows].sort(compare);
    body.append(...(falls ? rows.reverse() : rows));
    for (const other of header.parentElement.cells) other.ariaSort = null;
    header.ariaSort = falls ? "descending" : "ascending";
  };
}
form.onchange = () => {
  const shown = form.elements.show.value;
  for (const row of body.rows) row.hidden = shown !== "" && row.dataset.verdict !== shown;
};
form.querySelector("input").checked = true;
form.hidden = false;
