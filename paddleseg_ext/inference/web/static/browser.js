/* The page of `--web`: the browser predicts, and nothing leaves the machine. */

import { encodeLabels } from "./png.js";
import { find, listen, offerConfidence, say, show, showTimings, state } from "./view.js";

const MOST_THREADS = 8; // more gain little in WebAssembly
const waiting = new Map();
let worker = null;
let sent = 0;
let request = 0;
let opening = null;
let stream = null;

function ask(message, transferred = []) {
  return new Promise((resolve, reject) => {
    waiting.set(++sent, { resolve, reject });
    worker.postMessage({ number: sent, ...message }, transferred);
  });
}

function startWorker() {
  worker?.terminate();
  for (const { reject } of waiting.values()) reject(new Error("stopped"));
  waiting.clear();
  worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  worker.onmessage = ({ data: { number, answer, error } }) => {
    const { resolve, reject } = waiting.get(number) ?? {};
    waiting.delete(number);
    if (error) reject?.(new Error(error));
    else resolve?.(answer);
  };
  worker.onerror = (event) => {
    for (const { reject } of waiting.values()) reject(new Error(event.message ?? "the worker stopped"));
    waiting.clear();
  };
}

/* Load the graph that the switches ask for, once. */
async function open() {
  say("Loading the network ...");
  const [provider, precision] = [find("provider").value, find("precision").value];
  startWorker();
  const own = worker;
  try {
    const threads = Math.min(navigator.hardwareConcurrency ?? 1, MOST_THREADS);
    const opened = await ask({ kind: "open", provider, precision, threads });
    const how = provider === "wasm" ? `WebAssembly, ${opened.threads} thread${opened.threads > 1 ? "s" : ""}` : "WebGPU";
    find("model").textContent = `${state.network}, ${state.classes.length} classes, ` +
      `${precision.toUpperCase()}, ${how}, in this browser`;
    say("Ready: nothing is sent anywhere, also without network.");
  } catch (error) {
    if (own !== worker) return opening; // the switches were turned meanwhile
    say(`The network cannot be loaded: ${error.message}`, true);
    throw error;
  }
  return undefined;
}

/* `image` is a blob, or an ImageBitmap of a camera. */
async function segment(image, name, isNext = false) {
  const number = ++request;
  if (!isNext) stopCamera();
  try {
    await opening;
  } catch {
    return; // said already
  }
  if (!isNext) say("Segmenting ...");
  const start = performance.now();
  try {
    const isFrame = image instanceof ImageBitmap;
    const asked = { kind: "run", withConfidence: isNext && find("confidence").checked };
    const found = await (isFrame ? ask({ ...asked, bitmap: image }, [image]) : ask({ ...asked, blob: image }));
    const total = performance.now() - start;
    if (number !== request) return; // another image was chosen meanwhile
    const picture = await createImageBitmap(asPicture(found), { colorSpaceConversion: "none" });
    const { ids, width, height } = found;
    const labels = () => encodeLabels(ids, width, height, new Uint8Array(state.palette.flat()));
    const confidence = found.confidence && asGrey(found.confidence, width, height);
    show({ ids, width, height, picture, name, labels, confidence, isNext });
    showTimings([...Object.entries(found.milliseconds), ["in all", total]]);
    const size = `${found.network.width} x ${found.network.height}`;
    say(`Done: ${name}, ${width} x ${height} pixels (the network saw ${size}), ${Math.round(total)} ms.`);
  } catch (error) {
    if (number === request) say(error.message, true);
    if (isNext) stopCamera();
  }
}

/* What the network saw, with its alpha off. */
function asPicture({ rgb, width, height }) {
  const rgba = new Uint8ClampedArray(width * height * 4).fill(255);
  for (let from = 0, to = 0; from < rgb.length; to += 4) {
    for (let c = 0; c < 3; c++) rgba[to + c] = rgb[from++];
  }
  return new ImageData(rgba, width, height);
}

function asGrey(bytes, width, height) {
  const rgba = new Uint8ClampedArray(width * height * 4).fill(255);
  bytes.forEach((each, i) => rgba.fill(each, 4 * i, 4 * i + 3));
  return new ImageData(rgba, width, height);
}

async function loadConfidence() {
  const { width, height } = state;
  return asGrey((await ask({ kind: "confidence" })).confidence, width, height);
}

function stopCamera() {
  for (const track of stream?.getTracks() ?? []) track.stop();
  stream = null;
  find("camera").setAttribute("aria-pressed", "false");
  find("camera").textContent = "Camera";
}

/* One frame after the other; those that come meanwhile are left out. */
async function toggleCamera() {
  if (stream) return stopCamera();
  try {
    if (!navigator.mediaDevices) throw new Error("a camera needs https, or localhost");
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    find("camera").setAttribute("aria-pressed", "true");
    find("camera").textContent = "Stop the camera";
    const video = find("camera-view");
    video.srcObject = stream;
    await video.play();
    for (let isFirst = true; stream; isFirst = false) {
      if (isFirst) state.hidden.clear();
      await segment(await createImageBitmap(video), "camera", true);
      await new Promise(requestAnimationFrame);
    }
    video.srcObject = null;
  } catch (error) {
    stopCamera();
    say(`The camera cannot be used: ${error.message}`, true);
  }
  return undefined;
}

async function start() {
  const model = await (await fetch("model.json")).json();
  offerConfidence(model.no_confidence);
  Object.assign(state, { classes: model.classes, palette: model.palette, network: model.network });
  find("precisions").hidden = Object.keys(model.graphs).length < 2;
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  find("providers").hidden = !adapter;
  opening = open();
  await opening;
}

listen((blob, name) => segment(blob, name), async (address) => (await fetch(address)).blob(), loadConfidence);
find("camera").addEventListener("click", toggleCamera);
for (const id of ["provider", "precision"]) {
  find(id).addEventListener("change", () => {
    opening = open();
    opening.catch(() => {});
  });
}
start().catch((error) => say(error.message, true));
