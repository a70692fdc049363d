/* Runs the page's arithmetic on cases of the test: node cases.mjs FOLDER. */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const folder = process.argv[2];
const load = (name) => import(pathToFileURL(join(folder, name)));
const { prepare } = await load("preprocess.js");
const { confidenceMap, labelMap } = await load("postprocess.js");
const { decodeRgb, encodeLabels, decodeLabels } = await load("png.js");
const { kindOf, takeOrientation, turned } = await load("images.js");
const kinds = { float32: Float32Array, int32: Int32Array, int64: BigInt64Array, uint8: Uint8Array };
const results = [];
for (const [number, job] of JSON.parse(await readFile(join(folder, "cases.json"))).entries()) {
  const bytes = new Uint8Array(await readFile(join(folder, `${number}.in`)));
  let output, answer = {};
  try {
    if (job.kind === "prepare") {
      const { tensor, geometry } = prepare({ data: bytes, width: job.width, height: job.height }, job.model);
      [output, answer] = [tensor, geometry];
    } else if (job.kind === "label_map" || job.kind === "confidence") {
      const { prepared } = job;
      const data = new kinds[job.type](bytes.buffer);
      const { geometry } = prepare({ data: new Uint8Array(3 * prepared.width * prepared.height), ...prepared }, job.model);
      const scores = { data, classes: job.classes, width: job.width, height: job.height };
      output = labelMap(scores, geometry, job.model);
      if (job.kind === "confidence") output = confidenceMap(scores, geometry, job.model, output);
    } else if (job.kind === "turn") {
      const tag = takeOrientation(bytes, kindOf(bytes));
      const data = Uint8Array.from({ length: 3 * job.width * job.height }, (_, i) => i);
      const { data: turnedData, width, height } = turned({ data, width: job.width, height: job.height }, tag);
      [output, answer] = [turnedData, { tag, width, height, again: takeOrientation(bytes, kindOf(bytes)) }];
    } else if (job.kind === "decode") {
      const { data, width, height } = await decodeRgb(bytes);
      [output, answer] = [data, { width, height }];
    } else {
      const png = await encodeLabels(bytes, job.width, job.height, new Uint8Array(768).map((_, i) => i));
      output = new Uint8Array(await png.arrayBuffer());
      const { ids } = await decodeLabels(output.buffer);
      answer = { again: Buffer.compare(Buffer.from(ids), Buffer.from(bytes)) === 0 };
    }
    await writeFile(join(folder, `${number}.out`), new Uint8Array(output.buffer));
  } catch (error) {
    answer.error = String(error.message);
  }
  results.push(answer);
}
console.log(JSON.stringify(results));
