"use strict";
// Tables beside the viewer: a click on a case or a lesion shows it; what Glance thought is told for where the cross is.
(() => {
  const byId = (id) => document.getElementById(id);
  const all = (selector) => document.querySelectorAll(selector);
  const { cases } = JSON.parse(byId("viewer-data").textContent);
  const WORDS = {
    read: "read by Focus", unread: "suspicious, not read: no time", skipped: "skipped", unglanced: "not glanced at: no time",
  };
  const ORDER = ["unglanced", "skipped", "unread", "read"];

  const go = (index, voxel) => document.dispatchEvent(new CustomEvent("viewer:go", { detail: { index, voxel } }));
  const voxelOf = (row) => row.dataset.voxel.split(" ").map(Number);
  const select = (rows, chosen) => rows.forEach((row) => row.setAttribute("aria-selected", String(row === chosen)));

  all("[data-case]").forEach((row) => row.addEventListener("click", () => {
    byId("viewer").scrollIntoView();
    go(Number(row.dataset.case));
  }));
  all("[data-row]").forEach((row) => row.addEventListener("click", () => go(Number(row.dataset.row), voxelOf(row))));

  // What the layer shows at a voxel: the furthest that any sub-volume there went, and the highest probability.
  function glanceAt(index, voxel) {
    const windows = cases[index].windows;
    if (!windows.length) return "";
    if (windows.every(({ p, fate }) => p === null && fate !== "unglanced")) return "Glance was not asked (gate 0)";
    const here = windows.filter(({ low, high }) => voxel.every((v, axis) => low[axis] <= v && v < high[axis]));
    if (!here.length) return "Glance here: no sub-volume";
    const fate = ORDER[Math.max(...here.map((window) => ORDER.indexOf(window.fate)))];
    const known = here.map(({ p }) => p).filter((p) => p !== null);
    return `Glance here: ${known.length ? Math.max(...known).toFixed(2) : "–"}, ${WORDS[fate]}`;
  }

  document.addEventListener("viewer:case", ({ detail: { index } }) => {
    all("[data-lesions]").forEach((table) => { table.hidden = Number(table.dataset.lesions) !== index; });
    select(all("[data-case]"), document.querySelector(`[data-case="${index}"]`));
    byId("legend").classList.toggle("off", !cases[index].layers.includes("glance"));
  });
  document.addEventListener("viewer:move", ({ detail: { index, voxel } }) => {
    byId("glance-here").textContent = glanceAt(index, voxel);
    const rows = [...all(`[data-row="${index}"]`)];
    select(rows, rows.find((row) => row.dataset.voxel === voxel.join(" ")));
  });
})();
