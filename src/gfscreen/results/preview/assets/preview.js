"use strict";
// The lists beside the viewer: a click on a case or a finding shows it, and what is chosen in the picture is chosen
// here; what Glance thought is told for where the cross is.
(() => {
  const byId = (id) => document.getElementById(id);
  const all = (selector) => document.querySelectorAll(selector);
  const { cases } = JSON.parse(byId("viewer-data").textContent);
  const WORDS = {
    read: "read by Focus", unread: "suspicious, not read: no time", skipped: "skipped", unglanced: "not glanced at: no time",
  };
  const ORDER = ["unglanced", "skipped", "unread", "read"];
  // A byte for each of Glance's cells, where it judges those: a probability in steps, or one of these.
  const NO_BODY = 254, UNKNOWN = 255;
  const bytes = cases.map(({ cells }) => cells && Uint8Array.from(atob(cells.p), (character) => character.charCodeAt(0)));

  const go = (detail) => document.dispatchEvent(new CustomEvent("viewer:go", { detail }));
  const select = (rows, chosen) => rows.forEach((row) => row.setAttribute("aria-selected", String(row === chosen)));
  const rowsOf = (index) => [...all(`[data-row="${index}"]`)];

  all("[data-case]").forEach((row) => row.addEventListener("click", (event) => {
    if (event.target.closest("a")) return;
    byId("viewer").scrollIntoView();
    go({ index: Number(row.dataset.case) });
  }));
  all("[data-row]").forEach((row) => row.addEventListener("click", () => {
    go({ index: Number(row.dataset.row), finding: Number(row.dataset.number) });
    byId("stage").scrollIntoView({ block: "nearest" }); // in a narrow window the picture lies above the list
  }));
  // Arrows walk through the list.
  all("[data-findings]").forEach((list) => list.addEventListener("keydown", (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const rows = rowsOf(list.dataset.findings);
    const to = rows[rows.indexOf(event.target.closest("[data-row]")) + by];
    if (!by || !to) return;
    event.preventDefault();
    to.querySelector("button").focus({ preventScroll: true });
    to.click();
  }));

  // Into the view of its list, whatever of the page is in the window.
  function reveal(row) {
    const list = row.closest(".scroll"), head = list.querySelector("thead").offsetHeight;
    const top = row.getBoundingClientRect().top - list.getBoundingClientRect().top;
    if (top < head) list.scrollTop += top - head;
    else if (top + row.offsetHeight > list.clientHeight) list.scrollTop += top + row.offsetHeight - list.clientHeight;
  }

  // The probability of Glance's cell at a voxel, in words.
  function cellAt(index, voxel) {
    const { shape, slope, offset, steps } = cases[index].cells;
    const at = voxel.map((v, axis) => Math.min(Math.max(Math.floor(slope[axis] * v + offset[axis]), 0), shape[axis] - 1));
    const code = bytes[index][(at[0] * shape[1] + at[1]) * shape[2] + at[2]];
    return code === NO_BODY ? "cell without body" : `cell ${code === UNKNOWN ? "–" : (code / steps).toFixed(2)}`;
  }

  // What the layer shows at a voxel: the furthest that any sub-volume there went, and the probability of Glance's cell, or
  // the highest of the sub-volumes.
  function glanceAt(index, voxel) {
    const windows = cases[index].windows;
    if (!windows.length) return "";
    if (windows.every(({ p, fate }) => p === null && fate !== "unglanced")) return "Glance was not asked (gate 0)";
    const here = windows.filter(({ low, high }) => voxel.every((v, axis) => low[axis] <= v && v < high[axis]));
    if (!here.length) return "Glance here: no sub-volume";
    const fate = ORDER[Math.max(...here.map((window) => ORDER.indexOf(window.fate)))];
    if (cases[index].cells) return `Glance here: ${cellAt(index, voxel)}, ${WORDS[fate]}`;
    const known = here.map(({ p }) => p).filter((p) => p !== null);
    return `Glance here: ${known.length ? Math.max(...known).toFixed(2) : "–"}, ${WORDS[fate]}`;
  }

  document.addEventListener("viewer:case", ({ detail: { index } }) => {
    all("[data-findings]").forEach((list) => { list.hidden = Number(list.dataset.findings) !== index; });
    select(all("[data-case]"), document.querySelector(`[data-case="${index}"]`));
    byId("legend").hidden = !cases[index].layers.includes("glance");
  });
  document.addEventListener("viewer:finding", ({ detail: { index, finding } }) => {
    const rows = rowsOf(index);
    select(rows, rows[finding]);
    reveal(rows[finding]);
  });
  document.addEventListener("viewer:move", ({ detail: { index, voxel } }) => {
    byId("glance-here").textContent = glanceAt(index, voxel);
  });
  // The colour bars are as strong as the layer.
  const opacity = byId("opacity-glance");
  const bars = () => byId("legend").style.setProperty("--opacity", opacity.value / 100);
  opacity.addEventListener("input", bars);
  bars();
})();
