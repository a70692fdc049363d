/* What the pages share, whoever predicts: where images come from, and how a label map is shown. */

export const find = (id) => document.getElementById(id);
const OVERLAY_DEFAULT = { opacity: 60, split: 0 };
/* classes: id, name, color each. labels: a function that makes the PNG. confidence: ImageData that may be
   shown in place of the classes, grey; null until it was asked for. */
export const state = { classes: [], ids: null, width: 0, height: 0, hidden: new Set(), labels: null,
  name: "image", cursor: null, confidence: null };

export function say(text, bad = false) {
  find("status").textContent = text;
  find("status").classList.toggle("bad", bad);
}

/* Show a result: ids, width, height, name, labels, and `picture`, an ImageBitmap. `isNext` keeps
   sliders, switches and the cursor, as for the next frame of a camera. `confidence` may come with it. */
export function show({ picture, isNext = false, ...result }) {
  Object.assign(state, { confidence: null }, result, { name: result.name.replace(/\.[^.]*$/, "") });
  for (const canvas of [find("photo"), find("colors")]) {
    if (canvas.width !== state.width) canvas.width = state.width;
    if (canvas.height !== state.height) canvas.height = state.height;
  }
  const context = find("photo").getContext("2d");
  context.clearRect(0, 0, state.width, state.height);
  context.drawImage(picture, 0, 0, state.width, state.height);
  picture.close();
  find("view").hidden = find("facts").hidden = false;
  if (!isNext) {
    state.hidden.clear();
    state.cursor = null;
    find("hover").textContent = "";
    find("cross").hidden = true;
    find("confidence").checked = false;
    for (const [id, value] of Object.entries(OVERLAY_DEFAULT)) find(id).value = value;
  } else if (state.cursor) pointAt(...state.cursor);
  showColors();
  applySliders();
  showLegend();
}

/* Steps: [name, milliseconds] each. */
export function showTimings(steps) {
  find("timings").tBodies[0].replaceChildren(...steps.map(([name, ms]) => {
    const row = document.createElement("tr");
    row.insertCell().textContent = name;
    row.insertCell().textContent = `${Number(ms).toFixed(1)} ms`;
    return row;
  }));
}

function rgbOf(entry) {
  return [1, 3, 5].map((at) => parseInt(entry.color.slice(at, at + 2), 16));
}

function showColors() {
  if (find("confidence").checked && state.confidence) {
    find("colors").getContext("2d").putImageData(state.confidence, 0, 0);
    return;
  }
  const table = new Uint32Array(256);
  const bytes = new Uint8Array(table.buffer);
  for (const entry of state.classes) {
    if (!state.hidden.has(entry.id)) bytes.set([...rgbOf(entry), 255], entry.id * 4);
  }
  const pixels = new Uint32Array(state.ids.length);
  for (let i = 0; i < pixels.length; i++) pixels[i] = table[state.ids[i]];
  const data = new ImageData(new Uint8ClampedArray(pixels.buffer), state.width, state.height);
  find("colors").getContext("2d").putImageData(data, 0, 0);
}

/* Offer the confidence, or say why there is none. */
export function offerConfidence(reason) {
  find("doubt").hidden = Boolean(reason);
  find("no-confidence").hidden = !reason;
  find("no-confidence").textContent = `Confidence is not offered: ${reason}.`;
}

function doubtful({ data }) {
  let below = 0;
  for (let i = 0; i < data.length; i += 4) below += data[i] < 127.5;
  return ((400 * below) / data.length).toFixed(1);
}

async function toggleConfidence(load) {
  const { ids } = state;
  try {
    if (find("confidence").checked && !state.confidence) {
      say("Confidence ...");
      const found = await load();
      if (state.ids !== ids) return; // another image is shown meanwhile
      state.confidence = found;
      say(`Confidence: ${doubtful(found)}% of the pixels are below 0.5.`);
    }
  } catch (error) {
    find("confidence").checked = false;
    say(error.message, true);
  }
  showColors();
}

function showLegend() {
  const pixels = new Uint32Array(256);
  for (const id of state.ids) pixels[id]++;
  const present = state.classes.filter((entry) => pixels[entry.id])
    .sort((a, b) => pixels[b.id] - pixels[a.id]);
  find("legend").tBodies[0].replaceChildren(...present.map((entry) => {
    const row = document.createElement("tr");
    const label = document.createElement("label");
    const box = Object.assign(document.createElement("input"),
      { type: "checkbox", checked: !state.hidden.has(entry.id) });
    box.addEventListener("change", () => {
      if (box.checked) state.hidden.delete(entry.id);
      else state.hidden.add(entry.id);
      showColors();
    });
    label.append(box, swatch(entry.color), entry.name);
    row.insertCell().append(label);
    const share = (100 * pixels[entry.id]) / state.ids.length;
    row.insertCell().textContent = `${share.toFixed(share < 1 ? 2 : 1)}%`;
    return row;
  }));
}

function swatch(color) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const square = document.createElementNS(space, "rect");
  const values = { width: 14, height: 14, fill: color, stroke: "currentColor" };
  for (const [name, value] of Object.entries(values)) square.setAttribute(name, value);
  for (const name of ["width", "height"]) svg.setAttribute(name, 14);
  svg.setAttribute("aria-hidden", "true");
  svg.append(square);
  return svg;
}

function applySliders() {
  const opacity = find("opacity").value, split = find("split").value;
  find("colors").style.opacity = opacity / 100;
  find("colors").style.clipPath = `inset(0 0 0 ${split}%)`;
  find("divider").style.left = `${split}%`;
  find("divider").hidden = split === "0";
  find("opacity-value").textContent = `${opacity}%`;
  find("split-value").textContent = `${split}%`;
}

function pointAt(x, y) {
  state.cursor = [Math.min(Math.max(x, 0), state.width - 1), Math.min(Math.max(y, 0), state.height - 1)];
  const at = state.cursor[1] * state.width + state.cursor[0];
  const id = state.ids[at];
  const entry = state.classes.find((candidate) => candidate.id === id);
  const confidence = state.confidence ? `, confidence ${(state.confidence.data[4 * at] / 255).toFixed(2)}` : "";
  find("hover").textContent = `${entry?.name ?? `class ${id}`}${confidence} (${state.cursor.join(", ")})`;
  find("cross").hidden = false;
  find("cross").style.left = `${(100 * (state.cursor[0] + 0.5)) / state.width}%`;
  find("cross").style.top = `${(100 * (state.cursor[1] + 0.5)) / state.height}%`;
}

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function saveOverlay() {
  const canvas = document.createElement("canvas");
  canvas.width = state.width;
  canvas.height = state.height;
  const context = canvas.getContext("2d");
  context.drawImage(find("photo"), 0, 0);
  context.globalAlpha = find("opacity").value / 100;
  context.drawImage(find("colors"), 0, 0);
  canvas.toBlob((blob) => save(blob, `${state.name}_overlay.png`));
}

/* Call `segment(blob, name)` for every image that is chosen, pasted, dropped or taken from the
   samples; `load(address)` fetches a sample, `loadConfidence()` makes the ImageData of the shown image. */
export function listen(segment, load, loadConfidence) {
  find("file").addEventListener("change", (event) => {
    const file = event.target.files[0];
    if (file) segment(file, file.name);
    event.target.value = ""; // so that the same file can be chosen again
  });
  document.addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find((entry) => entry.type.startsWith("image/"));
    if (file) segment(file, file.name || "pasted");
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  document.addEventListener("dragleave", () => document.body.classList.remove("dropping"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dropping");
    const file = event.dataTransfer.files[0];
    if (file) segment(file, file.name);
  });
  for (const button of document.querySelectorAll("button.sample")) {
    const image = button.firstElementChild;
    button.addEventListener("click", async () => {
      try {
        segment(await load(image.src), image.src.split("/").pop());
      } catch (error) {
        say(error.message, true);
      }
    });
  }
  find("confidence").addEventListener("change", () => toggleConfidence(loadConfidence));
  for (const id of ["opacity", "split"]) find(id).addEventListener("input", applySliders);
  find("stage").addEventListener("pointermove", (event) => {
    const box = find("photo").getBoundingClientRect();
    pointAt(Math.floor(((event.clientX - box.left) / box.width) * state.width),
      Math.floor(((event.clientY - box.top) / box.height) * state.height));
  });
  find("stage").addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const step = steps[event.key];
    if (!step) return;
    event.preventDefault();
    const [x, y] = state.cursor ?? [state.width >> 1, state.height >> 1];
    const far = event.shiftKey ? 1 : Math.max(1, Math.round(state.width / 50));
    pointAt(x + step[0] * far, y + step[1] * far);
  });
  find("save-labels").addEventListener("click", async () =>
    save(await state.labels(), `${state.name}_labels.png`));
  find("save-overlay").addEventListener("click", saveOverlay);
}
