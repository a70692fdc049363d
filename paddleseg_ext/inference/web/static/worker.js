/* The network in a thread of its own, so that the page answers while it runs. */

import { decodeFile, pixelsOf } from "./images.js";
import { openSegmenter } from "./segmenter.js";

const RUNTIME = new URL("onnxruntime/", import.meta.url).href;
const FILES = { wasm: ["ort.wasm.min.js", "ort-wasm-simd-threaded"],
  webgpu: ["ort.webgpu.min.js", "ort-wasm-simd-threaded.asyncify"] };
let model = null;
let segment = null;

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

async function run({ blob, bitmap }) {
  const start = performance.now();
  const rgb = bitmap ? pixelsOf(bitmap) : await decodeFile(blob, model.orientation);
  const decode = performance.now() - start;
  const { ids, width, height, network, milliseconds } = await segment(rgb);
  return { ids, rgb: rgb.data, width, height, network, milliseconds: { decode, ...milliseconds } };
}

self.onmessage = async ({ data }) => {
  try {
    const answer = data.kind === "open" ? await open(data) : await run(data);
    const buffers = answer.ids ? [answer.ids.buffer, answer.rgb.buffer] : [];
    self.postMessage({ number: data.number, answer }, buffers);
  } catch (error) {
    self.postMessage({ number: data.number, error: String(error?.message ?? error) });
  }
};
