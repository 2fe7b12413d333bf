"use strict";
// Which finding a voxel belongs to. Voxels are [x, y, z], x running fastest in memory.

// The number of the finding, from 1, of every marked voxel: what is joined (26 neighbours) to a finding's own voxel.
// Findings that touch on a coarser grid share the marked voxels by their distance within the mask.
function labelFindings(marked, [nx, ny, nz], voxels) {
  const labels = new Int32Array(nx * ny * nz);
  let front = [];
  const reach = (at, number) => {
    if (labels[at]) return;
    labels[at] = number;
    front.push(at);
  };
  voxels.forEach(([x, y, z], index) => reach(x + nx * (y + ny * z), index + 1));
  while (front.length) {
    const last = front;
    front = [];
    for (const at of last) {
      const x = at % nx, y = Math.floor(at / nx) % ny, z = Math.floor(at / (nx * ny));
      for (let w = Math.max(0, z - 1); w <= Math.min(nz - 1, z + 1); w++)
        for (let v = Math.max(0, y - 1); v <= Math.min(ny - 1, y + 1); v++)
          for (let u = Math.max(0, x - 1); u <= Math.min(nx - 1, x + 1); u++) {
            const to = u + nx * (v + ny * w);
            if (marked(to)) reach(to, labels[at]);
          }
    }
  }
  return labels;
}

// The index, from 0, of the finding at a voxel or at most `reachMm` beside it, the nearest; -1 if there is none.
function findingNear(labels, shape, voxel, spacingMm, reachMm) {
  const span = spacingMm.map((mm) => Math.floor(reachMm / mm));
  const low = voxel.map((v, axis) => Math.max(0, v - span[axis]));
  const high = voxel.map((v, axis) => Math.min(shape[axis] - 1, v + span[axis]));
  let best = -1, bestMm = reachMm;
  for (let z = low[2]; z <= high[2]; z++)
    for (let y = low[1]; y <= high[1]; y++)
      for (let x = low[0]; x <= high[0]; x++) {
        const number = labels[x + shape[0] * (y + shape[1] * z)];
        if (!number) continue;
        const mm = Math.hypot(...[x, y, z].map((v, axis) => (v - voxel[axis]) * spacingMm[axis]));
        if (mm < bestMm || (mm === bestMm && best < 0)) [best, bestMm] = [number - 1, mm];
      }
  return best;
}
