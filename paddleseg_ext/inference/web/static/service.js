/* The service's page: the service predicts. */

import { decodeLabels } from "./png.js";
import { find, listen, offerConfidence, say, show, showTimings, state } from "./view.js";

let request = 0;
let blob = null;

async function ask(path, options = {}) {
  const key = find("key").value;
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  const response = await fetch(path, { ...options, headers });
  if (response.ok) return response;
  if (response.status === 401) find("keys").hidden = false;
  const answer = await response.json().catch(() => ({ error: response.statusText }));
  throw new Error(`${response.status}: ${answer.error}`);
}

async function loadModel() {
  const model = await (await ask("/v1/model")).json();
  state.classes = model.classes;
  offerConfidence(model.output_op === "argmax" ? "the graph ends in argmax and returns no scores" : "");
  find("model").textContent = `${model.network ?? "A network"}, ${model.classes.length} classes, ` +
    `${model.backend.name}`;
}

// Browsers apply the orientation tag of JPEG and PNG, and ignore that of WebP.
function shownAs(image) {
  return image.type === "image/webp" ? "stored" : "upright";
}

async function segment(image, name) {
  const number = ++request;
  say("Segmenting ...");
  const start = performance.now();
  try {
    if (!state.classes.length) await loadModel();
    const [response, picture] = await Promise.all([
      ask(`/v1/segment?output=labels&orientation=${shownAs(image)}`, { method: "POST", body: image }),
      createImageBitmap(image, { imageOrientation: "from-image" }).catch(() => null),
    ]);
    const buffer = await response.arrayBuffer();
    const total = performance.now() - start;
    const labels = await decodeLabels(buffer);
    if (number !== request) return; // another image was chosen meanwhile
    if (!picture) throw new Error("the browser cannot show this image");
    blob = image;
    show({ ...labels, picture, name, labels: () => new Blob([buffer], { type: "image/png" }) });
    const steps = (response.headers.get("Server-Timing") ?? "").split(", ").filter(Boolean);
    showTimings([...steps.map((step) => step.split(";dur=")), ["in all, with the transfer", total]]);
    say(`Done: ${name}, ${state.width} x ${state.height} pixels, ${Math.round(total)} ms.`);
  } catch (error) {
    if (number === request) say(error.message, true);
  }
}

/* Asked for when it is shown: confidence costs more than a label map. */
async function loadConfidence() {
  const path = `/v1/segment?output=confidence&orientation=${shownAs(blob)}`;
  const response = await ask(path, { method: "POST", body: blob });
  const picture = await createImageBitmap(await response.blob(), { colorSpaceConversion: "none" });
  const canvas = Object.assign(document.createElement("canvas"),
    { width: picture.width, height: picture.height });
  const context = canvas.getContext("2d");
  context.drawImage(picture, 0, 0);
  return context.getImageData(0, 0, picture.width, picture.height);
}

listen(segment, async (address) => (await ask(address)).blob(), loadConfidence);
find("key").addEventListener("change", () =>
  loadModel().then(() => say(""), (error) => say(error.message, true)));
loadModel().catch((error) => say(error.message, true));
