"use strict";
// Tables that sort by a click on a column's name, and the ledger: searched, filtered, drawn in pages.
(() => {
  const PAGE = 100;
  const collator = new Intl.Collator(undefined, { numeric: true });
  const compare = (a, b) => {
    if (a === "" || b === "") return (a === "") - (b === "");
    const difference = Number(a) - Number(b);
    return Number.isNaN(difference) ? collator.compare(a, b) : difference;
  };
  // What is missing stays last, whichever way the rest is turned.
  const ordered = (items, value, down) => items.slice().sort((one, other) => {
    const a = value(one), b = value(other);
    const order = compare(a, b);
    return down && a !== "" && b !== "" ? -order : order;
  });

  const sorting = (table, sort) => {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      if (!head.textContent.trim()) return;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        sort(column, down);
      });
    });
  };

  for (const table of document.querySelectorAll("table.sorts")) {
    const body = table.tBodies[0];
    const value = (column) => (row) => {
      const cell = row.cells[column];
      return cell.dataset.value ?? cell.textContent.trim();
    };
    sorting(table, (column, down) => body.append(...ordered([...body.rows], value(column), down)));
  }

  const table = document.getElementById("ledger-table");
  if (table) {
    const { columns, rows } = JSON.parse(document.getElementById("ledger-data").textContent);
    const find = (id) => document.getElementById(id);
    const search = find("search"), outcome = find("outcome"), kind = find("kind");
    const marks = { used: "\u25cf ", dropped: "\u2715 ", "not needed": "\u25cb " };
    const at = Object.fromEntries(columns.map((name, number) => [name, number]));
    const texts = rows.map((row) => row.join("\u0001").toLowerCase());
    let order = rows.map((_, number) => number), shown = order, page = 0;

    const cell = (name, text) => {
      const td = document.createElement("td");
      td.textContent = name === "outcome" ? (marks[text] ?? "") + text : text;
      if (name === "outcome") td.className = text.replace(" ", "-");
      if (name === "path" || name === "products") td.className = "path";
      if (name === "reason") td.className = "long";
      if (name === "exposure" || name === "weight") td.className = "n";
      if (text.length > 160) {
        td.textContent = text.slice(0, 150) + " \u2026";
        td.title = text;
      }
      return td;
    };
    const draw = () => {
      const pages = Math.max(Math.ceil(shown.length / PAGE), 1);
      page = Math.min(Math.max(page, 0), pages - 1);
      table.tBodies[0].replaceChildren(...shown.slice(page * PAGE, (page + 1) * PAGE).map((number) => {
        const tr = document.createElement("tr");
        tr.append(...columns.map((name, column) => cell(name, rows[number][column])));
        return tr;
      }));
      find("count").textContent = `${shown.length} of ${rows.length} files` + (pages > 1 ? `, page ${page + 1} of ${pages}` : "");
      find("back").disabled = page === 0;
      find("on").disabled = page === pages - 1;
      find("pages").hidden = pages === 1;
    };
    const filter = () => {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      shown = order.filter((number) =>
        words.every((word) => texts[number].includes(word)) &&
        (!outcome.value || rows[number][at.outcome] === outcome.value) &&
        (!kind.value || rows[number][at.kind] === kind.value));
      page = 0;
      draw();
    };
    sorting(table, (column, down) => {
      order = ordered(order, (number) => rows[number][column], down);
      filter();
    });
    for (const control of [search, outcome, kind]) control.addEventListener("input", filter);
    find("back").addEventListener("click", () => { page -= 1; draw(); });
    find("on").addEventListener("click", () => { page += 1; draw(); });
    find("ledger-controls").hidden = false;
    filter();
  }

  window.addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) details.open = true;
  });
})();
