"use strict";
// The measured axes of the findings whose slice is shown, as lines over the axial picture; the chosen one's with lengths.
function drawFindingAxes(svg, nv, findings, slice, chosen) {
  svg.replaceChildren();
  const add = (kind, attributes, text = "") => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", kind);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.textContent = text;
    svg.append(element);
  };
  // The ends lie on the slice that is shown, whose voxels may be thicker than the slice that was measured.
  const onScreen = (mm) => {
    const place = nv.mm2frac(mm);
    place[2] = nv.scene.crosshairPos[2];
    return nv.frac2canvasPosWithTile(place, 0)?.pos.map((pixels) => pixels / nv.uiData.dpr);
  };
  findings.forEach((finding, index) => {
    if (finding.voxel[2] !== slice) return;
    for (const { name, ends, mm } of finding.lines) {
      const [from, to] = ends.map(onScreen);
      if (!from || !to) continue;
      const [x1, y1, x2, y2] = [...from, ...to].map((pixels) => pixels.toFixed(1));
      const kind = index === chosen ? "chosen" : "other";
      add("line", { x1, y1, x2, y2, class: `halo ${kind}` });
      add("line", { x1, y1, x2, y2, class: kind, "data-finding": index, "data-axis": name });
      if (index !== chosen) continue;
      const [right, left] = to[0] >= from[0] ? [to, from] : [from, to];
      const length = Math.hypot(right[0] - left[0], right[1] - left[1]) || 1;
      const beyond = right.map((value, axis) => value + ((value - left[axis]) / length) * 6);
      add("text", { x: beyond[0].toFixed(1), y: (beyond[1] + 4).toFixed(1) }, `${mm.toFixed(1)} mm`);
    }
  });
}
