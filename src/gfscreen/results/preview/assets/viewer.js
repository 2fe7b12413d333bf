"use strict";
// Controls around NiiVue. Volumes are in RAS order: voxel [x, y, z] runs to right, front, head.
// Other scripts of the page hear `viewer:case` and `viewer:move`, and may send `viewer:go` with { index, voxel }.
(async () => {
  const byId = (id) => document.getElementById(id);
  const { cases, windows, layers } = JSON.parse(byId("viewer-data").textContent);
  const box = byId("view"), canvas = byId("canvas"), message = byId("message"), slider = byId("slice");
  const LAYERS = layers.map((layer) => layer.key); // from the lowest to the uppermost
  const AXIS = { multi: 2, axial: 2, coronal: 1, sagittal: 0 };
  const AXIS_NAME = ["Sagittal", "Coronal", "Axial"];
  const VIEWS = Object.keys(AXIS);
  const state = { index: -1, view: "multi", finding: -1, ticket: 0 };

  const gl = document.createElement("canvas").getContext("webgl2");
  if (!gl) {
    message.textContent = "This browser has no WebGL 2, which the viewer needs; the overlays below need nothing.";
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
  const press = (attribute, value) => box.querySelectorAll(`[data-${attribute}]`).forEach((button) =>
    button.setAttribute("aria-pressed", String(button.dataset[attribute] === value)));

  const tell = (what, detail) => document.dispatchEvent(new CustomEvent(`viewer:${what}`, { detail }));

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

  function report() {
    if (state.index < 0 || !nv.volumes.length) return;
    const axis = AXIS[state.view], at = voxel();
    const mm = Array.from(nv.frac2mm(nv.scene.crosshairPos)).slice(0, 3);
    const hu = nv.volumes[0].getValue(...at);
    slider.max = current().shape[axis];
    slider.value = at[axis] + 1;
    byId("slice-name").textContent = AXIS_NAME[axis];
    byId("slice-number").textContent = `${at[axis] + 1} / ${current().shape[axis]}`;
    const side = (value, plus, minus) => `${value < 0 ? minus : plus} ${Math.abs(value).toFixed(0)}`;
    byId("place").textContent =
      `${side(mm[0], "R", "L")}, ${side(mm[1], "A", "P")}, ${side(mm[2], "S", "I")} mm · ${Math.round(hu)} HU · ` +
      `window ${Math.round(nv.volumes[0].cal_min)} to ${Math.round(nv.volumes[0].cal_max)}`;
    box.dataset.slice = at[axis];
    box.dataset.voxel = at.join(" ");
    tell("move", { index: state.index, voxel: at });
  }

  function setView(name) {
    state.view = name;
    nv.clearCustomLayout();
    nv.setSliceType({ multi: 3, axial: 0, coronal: 1, sagittal: 2 }[name]);
    if (name === "multi") nv.setCustomLayout(PLANES);
    press("view", name);
    report();
  }

  function setWindow(name) {
    [nv.volumes[0].cal_min, nv.volumes[0].cal_max] = windows[name];
    nv.updateGLVolume();
    press("window", name);
    report();
  }

  const opacityOf = (kind) => byId(`show-${kind}`).checked ? byId("opacity").value / 100 : 0;

  function setLayers() {
    for (const volume of nv.volumes.slice(1)) volume.opacity = opacityOf(volume.name.split(".")[0]);
    nv.updateGLVolume();
  }

  function nextFinding() {
    const found = current().findings;
    if (!found.length) return;
    state.finding = (state.finding + 1) % found.length;
    goTo(found[state.finding].voxel);
    byId("finding").textContent = `${found[state.finding].label} (${state.finding + 1} of ${found.length})`;
  }

  function load(index, kind) {
    const [low, high] = windows[cases[index].region];
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
    nv.volumes = volumes.slice(0, -1);
    nv.addVolume(volumes.at(-1)); // uploads all of them once; addVolume for each would do it three times
    nv.setPan2Dxyzmm([0, 0, 0, 1]);
    Object.assign(state, { index, finding: -1 });
    message.textContent = "";
    byId("case").value = index;
    byId("facts").textContent = current().facts;
    const found = current().findings;
    byId("finding").textContent = found.length ? `${found.length} to look at` : "nothing marked";
    byId("next").disabled = !found.length;
    for (const kind of LAYERS) byId(`show-${kind}`).disabled = !kinds.includes(kind);
    press("window", current().region);
    setView(state.view);
    goTo(current().start);
    box.dataset.ready = current().name;
    tell("case", { index });
  }

  document.addEventListener("viewer:go", async ({ detail: { index, voxel: target } }) => {
    if (index !== state.index) await show(index);
    if (index === state.index && target) goTo(target);
  });
  nv.onLocationChange = report;
  nv.onIntensityChange = () => { press("window", ""); report(); };
  byId("case").addEventListener("change", (event) => show(Number(event.target.value)));
  byId("next").addEventListener("click", nextFinding);
  byId("opacity").addEventListener("input", setLayers);
  LAYERS.forEach((kind) => byId(`show-${kind}`).addEventListener("change", setLayers));
  box.querySelectorAll("[data-view]").forEach((b) => b.addEventListener("click", () => setView(b.dataset.view)));
  box.querySelectorAll("[data-window]").forEach((b) => b.addEventListener("click", () => setWindow(b.dataset.window)));
  slider.addEventListener("input", () => step(Number(slider.value) - 1 - voxel()[AXIS[state.view]]));

  const toggle = (kind) => byId(`show-${kind}`).click();
  const KEYS = {
    ArrowUp: () => step(1), ArrowDown: () => step(-1), PageUp: () => step(5), PageDown: () => step(-5),
    n: nextFinding, ...Object.fromEntries(layers.map(({ key, letter }) => [letter, () => toggle(key)])),
    ...Object.fromEntries(VIEWS.map((view, at) => [String(at + 1), () => setView(view)])),
  };
  // Before NiiVue's own keys, and not while a control has the focus.
  box.addEventListener("keydown", (event) => {
    const own = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    const typing = event.target.matches("select, input");
    if (event.ctrlKey || event.metaKey || event.altKey || typing || !own || state.index < 0) return;
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
