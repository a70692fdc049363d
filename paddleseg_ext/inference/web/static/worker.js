/* The network in a thread of its own, so that the page answers while it runs. */

import { decodeFile, pixelsOf } from "./images.js";
import { openSegmenter } from "./segmenter.js";

const RUNTIME = new URL("onnxruntime/", import.meta.url).href;
const FILES = { wasm: ["ort.wasm.min.js", "ort-wasm-simd-threaded"],
  webgpu: ["ort.webgpu.min.js", "ort-wasm-simd-threaded.asyncify"] };
let model = null;
let segment = null;
let last = null; // the pixels, for their confidence

/* `threads` above 1 need a page that is isolated from other origins. */
async function open({ provider, precision, threads }) {
  const [script, files] = FILES[provider];
  const ort = await import(RUNTIME + script);
  ort.env.wasm.wasmPaths = { mjs: `${RUNTIME}${files}.js`, wasm: `${RUNTIME}${files}.wasm` };
  ort.env.wasm.numThreads = self.crossOriginIsolated ? threads : 1;
  ort.env.logLevel = "error";
  model = await (await fetched("model.json")).json();
  const graph = new Uint8Array(await (await fetched(model.graphs[precision])).arrayBuffer());
  segment = await openSegmenter(ort, model, graph, provider);
  return { threads: ort.env.wasm.numThreads, version: ort.env.versions.web };
}

async function fetched(name) {
  const response = await fetch(new URL(name, import.meta.url));
  if (!response.ok) throw new Error(`${name}: ${response.status} ${response.statusText}`);
  return response;
}

async function run({ blob, bitmap, withConfidence }) {
  const start = performance.now();
  const rgb = bitmap ? pixelsOf(bitmap) : await decodeFile(blob, model.orientation);
  const decode = performance.now() - start;
  last = { ...rgb, data: rgb.data.slice() }; // those of the answer go to the page
  const { tensor, milliseconds, ...found } = await segment(rgb, withConfidence);
  return { ...found, rgb: rgb.data, milliseconds: { decode, ...milliseconds } };
}

/* Run again where it is shown: confidence costs more than a label map. */
async function confidence() {
  return { confidence: (await segment(last, true)).confidence };
}

const KINDS = { open, run, confidence };

self.onmessage = async ({ data }) => {
  try {
    const answer = await KINDS[data.kind](data);
    const buffers = [answer.ids, answer.rgb, answer.confidence].filter(Boolean).map((each) => each.buffer);
    self.postMessage({ number: data.number, answer }, buffers);
  } catch (error) {
    self.postMessage({ number: data.number, error: String(error?.message ?? error) });
  }
};
