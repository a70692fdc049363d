/* A bundle's network in ONNX Runtime Web, from RGB pixels to a label map. */

import { confidenceMap, labelMap } from "./postprocess.js";
import { prepare } from "./preprocess.js";

const ERRORS_ONLY = 3; // of ONNX Runtime's log

function checkSize({ width, height }, shape) {
  const [, , fixedHeight, fixedWidth] = shape;
  if ((fixedHeight > 0 && fixedHeight !== height) || (fixedWidth > 0 && fixedWidth !== width)) {
    throw new Error(`the bundle was exported for inputs of ${fixedWidth}x${fixedHeight} (width x ` +
      `height), got ${width}x${height}; export it without a fixed size`);
  }
}

/* The tensor as often as a graph of a fixed batch takes images. */
function batched(tensor, count) {
  if (count <= 1) return tensor;
  const batch = new tensor.constructor(count * tensor.length);
  for (let i = 0; i < count; i++) batch.set(tensor, i * tensor.length);
  return batch;
}

/* The first image of a batch. An arg-max may have kept its axis. */
function firstOf({ dims, data, type }) {
  const isLabels = /int/.test(type);
  const [height, width] = dims.slice(-2);
  const classes = isLabels ? 0 : dims[1];
  const length = Math.max(1, classes) * height * width;
  return { data: data.subarray(0, length), classes, width, height };
}

/* Load a graph. Returns a function: {data, width, height} of 3 bytes a pixel, and whether confidence is
   wanted -> {ids, confidence, width, height, network: {width, height}, tensor,
   milliseconds: {preprocess, network, postprocess}}; confidence is a byte a pixel, or null.

   `model` is model.json, `graph` the bytes of its ONNX file, `provider` wasm or webgpu. */
export async function openSegmenter(ort, model, graph, provider = "wasm") {
  const options = { executionProviders: [provider], logSeverityLevel: ERRORS_ONLY };
  const session = await ort.InferenceSession.create(graph, options);
  const [name] = session.inputNames, [result] = session.outputNames;
  const shape = model.input_shape;
  return async (rgb, withConfidence = false) => {
    const times = [performance.now()];
    const { tensor, look, geometry } = prepare(rgb, model);
    checkSize(look, shape);
    times.push(performance.now());
    const count = Math.max(1, shape[0]);
    const dims = [count, model.channels, look.height, look.width];
    const input = new ort.Tensor(model.input_dtype, batched(tensor, count), dims);
    const outputs = await session.run({ [name]: input });
    const output = outputs[result];
    times.push(performance.now());
    const ids = labelMap(firstOf(output), geometry, model);
    const confidence = withConfidence ? confidenceMap(firstOf(output), geometry, model, ids) : null;
    times.push(performance.now());
    for (const each of [input, ...Object.values(outputs)]) each.dispose();
    const [preprocess, network, postprocess] = [0, 1, 2].map((i) => times[i + 1] - times[i]);
    return { ids, confidence, width: rgb.width, height: rgb.height, tensor,
      network: look,
      milliseconds: { preprocess, network, postprocess } };
  };
}
