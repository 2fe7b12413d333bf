"use strict";
// Controls around NiiVue. Volumes are in RAS order: voxel [x, y, z] runs to right, front, head. What is told of places
// are the file's indices from 0 and LPS mm. Other scripts of the page hear `viewer:case` and `viewer:move`, and
// `viewer:finding` when one is chosen; they may send `viewer:go` with { index } and { finding } or { voxel }.
(async () => {
  const byId = (id) => document.getElementById(id);
  const { cases, presets, layers, fill } = JSON.parse(byId("viewer-data").textContent);
  const box = byId("view"), canvas = byId("canvas"), message = byId("message"), slider = byId("slice");
  const LAYERS = layers.map((layer) => layer.key); // from the lowest to the uppermost
  const AXIS = { multi: 2, axial: 2, coronal: 1, sagittal: 0 };
  const AXIS_NAME = ["Sagittal", "Coronal", "Axial"];
  const VIEWS = Object.keys(AXIS), WINDOWS = ["auto", ...Object.keys(presets)];
  const REACH_MM = 3; // a click this close to a finding means it
  const NARROW = matchMedia("(max-width: 700px)").matches;
  // chosen: the window that the user has set: a preset's key, [low, high], or null for that of the finding.
  const state = { index: -1, view: NARROW ? "axial" : "multi", finding: -1, chosen: null, labels: null, ticket: 0 };

  const gl = document.createElement("canvas").getContext("webgl2");
  if (!gl) {
    message.textContent = "This browser has no WebGL 2, which the viewer needs; the stills need nothing.";
    return;
  }
  gl.getExtension("WEBGL_lose_context")?.loseContext();

  const nv = new niivue.Niivue({
    logLevel: "error", loadingText: "", dragAndDropEnabled: false, isRadiologicalConvention: true,
    backColor: [0, 0, 0, 1], crosshairColor: [0.95, 0.85, 0.3, 1], crosshairWidth: 0.5, crosshairWidthUnit: "mm", crosshairGap: 12,
    fontColor: [1, 0.85, 0.2, 1], fontMinPx: 14, fontSizeScaling: 0.3, isColorbar: false, show3Dcrosshair: false,
    multiplanarShowRender: 0, multiplanarPadPixels: 4, viewModeHotKey: "", clipPlaneHotKey: "", cycleClipPlaneHotKey: "",
    invertScrollDirection: true, // downwards is towards the feet
    sagittalNoseLeft: true, showAllOrientationMarkers: true,
  });
  await nv.attachToCanvas(canvas);
  const PLANES = [
    { sliceType: 0, position: [0, 0, 0.6, 1] },
    { sliceType: 1, position: [0.6, 0, 0.4, 0.5] },
    { sliceType: 2, position: [0.6, 0.5, 0.4, 0.5] },
  ];

  const current = () => cases[state.index];
  const voxel = () => Array.from(nv.frac2vox(nv.scene.crosshairPos, 0)).map(Math.round);
  const press = (attribute, values) => box.querySelectorAll(`[data-${attribute}]`).forEach((button) =>
    button.setAttribute("aria-pressed", String(values.includes(button.dataset[attribute]))));

  const tell = (what, detail) => document.dispatchEvent(new CustomEvent(`viewer:${what}`, { detail }));

  // Whatever NiiVue draws anew, the axes follow.
  const drawScene = nv.drawScene.bind(nv);
  nv.drawScene = () => {
    const drawn = drawScene();
    const shown = state.index >= 0 && nv.volumes.length > 0;
    drawFindingAxes(byId("axes"), nv, shown ? current().findings : [], shown ? voxel()[2] : -1, state.finding);
    return drawn;
  };

  function goTo(target) {
    const here = voxel();
    nv.moveCrosshairInVox(...target.map((value, axis) => value - here[axis]));
    nv.drawScene();
    report();
  }

  function step(by) {
    const target = voxel(), axis = AXIS[state.view];
    target[axis] = Math.min(current().shape[axis] - 1, Math.max(0, target[axis] + by));
    goTo(target);
  }

  // First and last index of the file, from 0, that a voxel stands for along x, y or z.
  function fileIndices(axis, value) {
    const { first, factors, axes } = current(), { size, flipped } = axes[axis];
    const low = first[axis] + value * factors[axis], high = Math.min(size - 1, low + factors[axis] - 1);
    return flipped ? [size - 1 - high, size - 1 - low] : [low, high];
  }

  function report() {
    if (state.index < 0 || !nv.volumes.length) return;
    const axis = AXIS[state.view], at = voxel(), { axes, shape } = current();
    const [x, y, z] = Array.from(nv.frac2mm(nv.scene.crosshairPos));
    const [low, high] = fileIndices(axis, at[axis]);
    const slice = `${axes[axis].name} ${low === high ? low : `${low}–${high}`} (0 to ${axes[axis].size - 1})`;
    slider.max = shape[axis] - 1;
    slider.value = at[axis];
    slider.setAttribute("aria-valuetext", slice);
    byId("slice-name").textContent = AXIS_NAME[axis];
    byId("slice-number").textContent = slice;
    const indices = axes.map(({ name }, a) => `${name} ${Math.floor((fileIndices(a, at[a])[0] + fileIndices(a, at[a])[1]) / 2)}`);
    const lps = [-x, -y, z].map((mm) => (Math.round(mm) + 0).toString());
    const { cal_min: from, cal_max: to } = nv.volumes[0];
    byId("place").textContent = `L, P, S ${lps.join(", ")} mm · ${indices.sort().join(", ")} · ` +
      `${Math.round(nv.volumes[0].getValue(...at))} HU · window W ${Math.round(to - from)} L ${Math.round((to + from) / 2)}`;
    box.dataset.slice = at[axis];
    box.dataset.voxel = at.join(" ");
    tell("move", { index: state.index, voxel: at });
  }

  function setView(name) {
    state.view = name;
    nv.clearCustomLayout();
    nv.setSliceType({ multi: 3, axial: 0, coronal: 1, sagittal: 2 }[name]);
    if (name === "multi") nv.setCustomLayout(PLANES);
    press("view", [name]);
    report();
  }

  // The window that the user has set, else that of the chosen finding.
  function applyWindow() {
    const name = state.chosen ?? current().findings[state.finding]?.preset ?? current().preset;
    const [low, high] = Array.isArray(name) ? name : [presets[name].low, presets[name].high];
    [nv.volumes[0].cal_min, nv.volumes[0].cal_max] = [low, high];
    nv.updateGLVolume();
    press("window", state.chosen === null ? ["auto", name] : [name]);
    box.dataset.window = Array.isArray(name) ? "own" : name;
    report();
  }

  function setWindow(name) {
    if (state.index < 0) return;
    state.chosen = name === "auto" ? null : name;
    applyWindow();
  }

  function nextWindow() {
    const at = WINDOWS.indexOf(state.chosen ?? "auto");
    setWindow(WINDOWS[(at + 1) % WINDOWS.length]);
  }

  const opacityOf = (kind) => byId(`show-${kind}`).checked ? byId(`opacity-${kind}`).value / 100 : 0;
  const kindOf = (volume) => volume.name.split(".")[0];

  function setLayers() {
    for (const volume of nv.volumes.slice(1)) volume.opacity = opacityOf(kindOf(volume));
    nv.updateGLVolume();
    tell("layers", {});
  }

  // Outlines alone, or filled: what lies within is there either way, at another opacity.
  function setFill() {
    const [from, to] = byId("fill").checked ? [fill.off, fill.on] : [fill.on, fill.off];
    for (const volume of nv.volumes.slice(1)) {
      if (!layers.find(({ key }) => key === kindOf(volume)).outlined) continue;
      const bytes = bytesOf(volume);
      for (let at = 3; at < bytes.length; at += 4) if (bytes[at] === from) bytes[at] = to;
    }
    nv.updateGLVolume();
  }

  const bytesOf = ({ img }) => new Uint8Array(img.buffer, img.byteOffset, img.byteLength);

  const findingHere = (reachMm) => {
    const { shape, spacing } = current();
    return findingNear(state.labels, shape, voxel(), spacing, reachMm);
  };

  // Choose a finding; the picture goes there unless it is there already.
  function choose(number, move) {
    const found = current().findings;
    state.finding = number;
    byId("finding").textContent = `${found[number].label} (${number + 1} of ${found.length})`;
    if (state.chosen === null) applyWindow();
    if (move) goTo(found[number].voxel);
    else nv.drawScene();
    tell("finding", { index: state.index, finding: number });
  }

  // From the finding under the cross, else from the one that was chosen.
  function stepFinding(by) {
    const count = state.index < 0 ? 0 : current().findings.length;
    if (!count) return;
    const here = findingHere(0), from = here >= 0 ? here : state.finding;
    choose((from + by + count) % count, true);
  }

  function load(index, kind) {
    const { low, high } = presets[cases[index].preset];
    return niivue.NVImage.loadFromBase64({
      base64: byId(`volume-${index}-${kind}`).textContent, name: `${kind}.nii.gz`,
      ...(kind === "image" ? { colormap: "gray", cal_min: low, cal_max: high } : { opacity: opacityOf(kind) }),
    });
  }

  async function show(index) {
    const ticket = ++state.ticket;
    delete box.dataset.ready;
    message.textContent = "loading";
    await new Promise((resolve) => setTimeout(resolve)); // let the message be painted
    const kinds = ["image", ...LAYERS].filter((kind) => cases[index].layers.includes(kind));
    const volumes = await Promise.all(kinds.map((kind) => load(index, kind)));
    if (ticket !== state.ticket) return; // another case was asked for meanwhile
    state.index = -1; // nothing is to be told of a case that is half there
    nv.volumes = volumes.slice(0, -1);
    nv.addVolume(volumes.at(-1)); // uploads all of them once; addVolume for each would do it three times
    nv.setPan2Dxyzmm([0, 0, 0, 1]);
    const found = cases[index].findings;
    const masks = volumes.slice(1).filter((volume) => layers.find(({ key }) => key === kindOf(volume)).outlined).map(bytesOf);
    const marked = (at) => masks.some((bytes) => bytes[4 * at + 3] > 0);
    const labels = labelFindings(marked, cases[index].shape, found.map((finding) => finding.voxel));
    Object.assign(state, { index, finding: -1, labels });
    message.textContent = "";
    byId("case").value = index;
    byId("facts").textContent = current().facts;
    byId("finding").textContent = "nothing marked";
    byId("previous").disabled = byId("next").disabled = !found.length;
    for (const kind of LAYERS) byId(`show-${kind}`).disabled = byId(`opacity-${kind}`).disabled = !kinds.includes(kind);
    if (byId("fill").checked) setFill();
    setView(state.view);
    tell("case", { index });
    if (found.length) choose(0, true);
    else {
      applyWindow();
      goTo(current().start);
    }
    box.dataset.ready = current().name;
  }

  document.addEventListener("viewer:go", async ({ detail: { index, finding, voxel: target } }) => {
    if (index !== state.index) await show(index);
    if (index !== state.index) return;
    if (finding !== undefined) choose(finding, true);
    else if (target) goTo(target);
  });
  nv.onLocationChange = report;
  nv.onIntensityChange = ({ cal_min: low, cal_max: high }) => {
    state.chosen = [low, high];
    press("window", []);
    box.dataset.window = "own";
    report();
  };
  // NiiVue has moved the cross when the button or finger comes down.
  canvas.addEventListener("pointerup", ({ button }) => {
    if (button !== 0 || state.index < 0) return;
    const here = findingHere(REACH_MM);
    if (here >= 0 && here !== state.finding) choose(here, false);
  });
  // Instead of NiiVue's own, which would take a window from the scan's extremes.
  nv.resetBriCon = () => setWindow("auto");
  box.addEventListener("dblclick", (event) => {
    if (event.target !== canvas || state.index < 0) return;
    event.stopPropagation();
    setWindow("auto");
  }, true);
  byId("case").addEventListener("change", (event) => show(Number(event.target.value)));
  byId("previous").addEventListener("click", () => stepFinding(-1));
  byId("next").addEventListener("click", () => stepFinding(1));
  byId("fill").addEventListener("change", setFill);
  LAYERS.forEach((kind) => byId(`show-${kind}`).addEventListener("change", setLayers));
  LAYERS.forEach((kind) => byId(`opacity-${kind}`).addEventListener("input", setLayers));
  box.querySelectorAll("[data-view]").forEach((b) => b.addEventListener("click", () => setView(b.dataset.view)));
  box.querySelectorAll("[data-window]").forEach((b) => b.addEventListener("click", () => setWindow(b.dataset.window)));
  slider.addEventListener("input", () => step(Number(slider.value) - voxel()[AXIS[state.view]]));

  const toggle = (kind) => byId(`show-${kind}`).click();
  const SLICES = {
    ArrowUp: () => step(1), ArrowDown: () => step(-1), PageUp: () => step(5), PageDown: () => step(-5),
  };
  const KEYS = {
    n: () => stepFinding(1), b: () => stepFinding(-1), w: nextWindow,
    ...Object.fromEntries(layers.map(({ key, letter }) => [letter, () => toggle(key)])),
    ...Object.fromEntries(VIEWS.map((view, at) => [String(at + 1), () => setView(view)])),
  };
  // Before NiiVue's own keys; in the list beside the picture, too, but for those that scroll it.
  (box.closest(".reader") ?? box).addEventListener("keydown", (event) => {
    const inside = box.contains(event.target);
    const own = event.key.length === 1 ? KEYS[event.key.toLowerCase()] : inside ? SLICES[event.key] : undefined;
    const taken = event.target.matches("select") || (event.target.matches("input") && event.key.length > 1);
    if (event.ctrlKey || event.metaKey || event.altKey || taken || !own || state.index < 0) return;
    event.preventDefault();
    event.stopPropagation();
    own();
  }, true);

  try {
    await show(0);
  } catch (error) {
    message.textContent = `The viewer could not start: ${error.message}`;
    throw error;
  }
})();
