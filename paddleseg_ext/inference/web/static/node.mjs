/* PNG images through a bundle's network in ONNX Runtime Web under node, as the stage `web` of parity.

   node node.mjs JOB: a JSON file with runtime (folder of ONNX Runtime Web), folder (of model.json and
   its graph), precision, threads, images ([file, name] each), save_dir, tensor (a file for the first
   image's input, or null). Writes save_dir/label_maps/NAME.png, and a line of JSON a result. */

import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";

import { decodeRgb, encodeLabels } from "./png.js";
import { openSegmenter } from "./segmenter.js";

const job = JSON.parse(await readFile(process.argv[2], "utf8"));
// With several threads the runtime fetches its own script and makes an address of it, which node does
// not do for files: it keeps the address that the script has.
globalThis.fetch = async (address) => ({ blob: async () => address });
URL.createObjectURL = (address) => address;
const ort = await import(pathToFileURL(join(job.runtime, "ort.wasm.min.mjs")));
ort.env.wasm.wasmBinary = await readFile(join(job.runtime, "ort-wasm-simd-threaded.wasm"));
ort.env.wasm.numThreads = job.threads;
ort.env.logLevel = "error";
const model = JSON.parse(await readFile(join(job.folder, "model.json"), "utf8"));
const graph = await readFile(join(job.folder, model.graphs[job.precision]));
const segment = await openSegmenter(ort, model, graph);
const colours = new Uint8Array(model.palette.flat());
for (const [number, [file, name]] of job.images.entries()) {
  const line = { name };
  try {
    const { ids, width, height, tensor, milliseconds } = await segment(await decodeRgb(await readFile(file)));
    if (number === 0 && job.tensor) await writeFile(job.tensor, new Uint8Array(tensor.buffer));
    const target = join(job.save_dir, "label_maps", `${name}.png`);
    await mkdir(dirname(target), { recursive: true });
    const png = await encodeLabels(ids, width, height, colours);
    await writeFile(target, new Uint8Array(await png.arrayBuffer()));
    Object.assign(line, { milliseconds });
  } catch (error) {
    line.error = String(error.message ?? error).split("\n")[0];
  }
  console.log(JSON.stringify(line));
}
console.log(JSON.stringify({ done: true, threads: ort.env.wasm.numThreads, version: ort.env.versions.web }));
process.exit(0);
