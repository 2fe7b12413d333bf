"use strict";
// Draws the rows that can be seen; thousands of others cost nothing but their data.
(() => {
  const HEADS = ["Name", "Status", "Region", "Suspicion", "Highest p", "Lesions", "Volume (ml)", "Longest (mm)", "Seconds", "Message"];
  const DIGITS = { 3: 3, 4: 2, 6: 2, 7: 1, 8: 1 };
  const FIRST_NUMBER = 3, LAST_NUMBER = 8, HEIGHT = 68, MARGIN = 5;
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const rows = read("rows").map((cells, index) => ({ cells, index, text: `${cells[0]} ${cells[2] || ""} ${cells[9]}`.toLowerCase() }));
  const pictures = read("pictures");
  const at = (id) => document.getElementById(id);
  const list = at("list"), space = at("space"), seen = at("seen"), heads = at("heads");
  let shown = rows, order = { column: null, down: true };

  const cell = (text, number) => {
    const element = document.createElement("div");
    element.textContent = text;
    if (number) element.className = "num";
    element.setAttribute("role", "cell");
    element.title = text;
    return element;
  };

  const told = (value, column) => {
    if (value === null || value === undefined) return "–";
    return column in DIGITS ? value.toFixed(DIGITS[column]) : String(value);
  };

  function draw() {
    const first = Math.max(0, Math.floor(list.scrollTop / HEIGHT) - MARGIN);
    const last = Math.min(shown.length, Math.ceil((list.scrollTop + list.clientHeight) / HEIGHT) + MARGIN);
    seen.style.transform = `translateY(${first * HEIGHT}px)`;
    seen.replaceChildren(...shown.slice(first, last).map((row) => {
      const line = document.createElement("div");
      line.className = "row";
      line.setAttribute("role", "row");
      const picture = document.createElement(row.index in pictures ? "img" : "span");
      if (row.index in pictures) {
        picture.src = `data:image/png;base64,${pictures[row.index]}`;
        picture.alt = "";
      }
      line.append(picture, ...row.cells.map((value, column) =>
        cell(told(value, column), column >= FIRST_NUMBER && column <= LAST_NUMBER)));
      return line;
    }));
  }

  function choose() {
    const words = at("find").value.toLowerCase().split(/\s+/).filter(Boolean);
    const status = at("status").value, least = Number(at("least").value) || 0;
    shown = rows.filter((row) =>
      words.every((word) => row.text.includes(word)) &&
      (!status || row.cells[1] === status) &&
      (least <= 0 || (row.cells[3] !== null && row.cells[3] >= least)));
    if (order.column !== null) {
      const sign = order.down ? -1 : 1, column = order.column;
      shown = [...shown].sort((a, b) => {
        const x = a.cells[column], y = b.cells[column];
        if (x === null || y === null) return (x === null) - (y === null) || a.index - b.index;
        return (x < y ? -sign : x > y ? sign : 0) || a.index - b.index;
      });
    }
    at("count").textContent = `${shown.length} of ${rows.length}`;
    space.style.height = `${shown.length * HEIGHT}px`;
    list.scrollTop = 0;
    draw();
  }

  heads.append(document.createElement("span"), ...HEADS.map((name, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = name;
    button.addEventListener("click", () => {
      order = { column, down: order.column === column ? !order.down : column >= FIRST_NUMBER && column <= LAST_NUMBER };
      choose();
    });
    return button;
  }));
  list.addEventListener("scroll", () => requestAnimationFrame(draw));
  window.addEventListener("resize", draw);
  for (const id of ["find", "status", "least"]) at(id).addEventListener("input", choose);
  choose();
})();
