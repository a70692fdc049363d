/* From the network's output to a label map at the image's size, as `inference/postprocess.py`.

   An output is {data, classes, width, height}: float32 scores, one plane a class, or class ids with
   `classes` 0. Where an interpolation is left, only places are interpolated where classes meet; why
   that gives the label map of interpolating everywhere is in `inference/sparse_upsampling.py`. */

import { axisOf, mixed, nearest, resizePlanes } from "./resize.js";

const DOUBT = 2 ** -17; // of the largest sample
const SMALLEST = 1e-30, LARGEST = 1e30; // outside, float32 rounds in other ways
const MOST_TAPS = 4; // in one direction

function stagesOf(output, geometry, model) {
  const stages = [];
  const aligned = model.protocol ? model.protocol.align_corners : model.upsampling === "aligned";
  const { width, height } = geometry;
  if (output.width !== width || output.height !== height) {
    // A network that pads its input by itself: what is beyond the input is cut off.
    const stride = output.classes ? model.native_stride : 0;
    const padded = stride ? { width: output.width * stride, height: output.height * stride } : { width, height };
    if (padded.width < width || padded.height < height) {
      throw new Error("the network's output is too small for its input; export the model again");
    }
    stages.push({ ...padded, isCrop: false, aligned });
    if (padded.width !== width || padded.height !== height) stages.push({ width, height, isCrop: true });
  }
  for (const step of geometry.steps.slice().reverse()) {
    stages.push({ width: step.width, height: step.height, isCrop: !step.isResize, aligned: false });
  }
  return stages;
}

/* (H, W) class ids, one byte each. */
export function labelMap(output, geometry, model) {
  const stages = stagesOf(output, geometry, model);
  if (output.classes === 0) return labelsThrough(output, stages);
  if (hasNan(output.data)) throw new Error("the network's output holds NaN");
  if (model.protocol?.softmax) output = softmaxOf(output);
  if (stages.every((stage) => stage.isCrop)) return labelsThrough(bestOf(output), stages);
  return sparse(output, stages) ?? dense(output, stages);
}

/* (H, W) bytes: 255 times the largest softmax of each pixel, after all that resizes.

   `ids` is the label map: a bundle may have a temperature for each class. A graph that ends in softmax
   returns probabilities; the largest one is taken. */
export function confidenceMap(output, geometry, model, ids) {
  const { temperature, class_temperatures: own } = model.calibration;
  const scales = Float32Array.from({ length: output.classes }, (_, c) => 1 / (own[c] ?? temperature));
  const stages = stagesOf(output, geometry, model);
  const best = new Float32Array(ids.length).fill(-Infinity), total = new Float32Array(ids.length);
  for (let c = 0; c < output.classes; c++) {
    const plane = planeThrough(output, c, stages);
    for (let i = 0; i < plane.length; i++) {
      const value = plane[i], before = best[i];
      // Both may be infinite, and their difference is no number then.
      const share = value === before ? 1 : Math.exp(-Math.abs(value - before) * scales[ids[i]]);
      total[i] = value > before ? total[i] * share + 1 : total[i] + share;
      if (value > before) best[i] = value;
    }
  }
  const isProbability = model.output_op === "softmax";
  return Uint8Array.from(ids, (_, i) =>
    Math.round(255 * (isProbability ? Math.min(Math.max(best[i], 0), 1) : 1 / total[i])));
}

/* The scores of one class at the image's size. */
function planeThrough({ data, width, height }, c, stages) {
  let plane = { data: data.subarray(c * width * height, (c + 1) * width * height), width, height };
  for (const stage of stages) {
    plane = stage.isCrop ? cropped(plane, stage)
      : { ...stage, data: resizePlanes(plane.data, 1, plane, stage, stage.aligned) };
  }
  return plane.data;
}

/* The scores as probabilities, before they are resized. */
function softmaxOf(output) {
  const { data, classes, width, height } = output, area = width * height;
  const result = new Float32Array(classes * area);
  for (let i = 0; i < area; i++) {
    let best = -Infinity, total = 0;
    for (let at = i; at < result.length; at += area) best = Math.max(best, data[at]);
    for (let at = i; at < result.length; at += area) {
      result[at] = Math.exp(Math.fround(data[at] - best));
      total += result[at];
    }
    for (let at = i; at < result.length; at += area) result[at] /= total;
  }
  return { ...output, data: result };
}

function hasNan(data) {
  for (let i = 0; i < data.length; i++) if (data[i] !== data[i]) return true;
  return false;
}

function labelsThrough(output, stages) {
  let labels = { data: Uint8Array.from(output.data, Number), width: output.width,
    height: output.height, channels: 1 };
  for (const stage of stages) {
    labels = stage.isCrop ? cropped(labels, stage) : nearest(labels, stage.width, stage.height);
  }
  return labels.data;
}

function cropped(plane, { width, height }) {
  const data = new plane.data.constructor(width * height);
  for (let y = 0; y < height; y++) {
    data.set(plane.data.subarray(y * plane.width, y * plane.width + width), y * width);
  }
  return { data, width, height, channels: 1 };
}

/* The first of the largest. */
function bestOf({ data, classes, width, height }) {
  const area = width * height;
  const labels = new Uint8Array(area);
  const best = data.slice(0, area);
  for (let c = 1; c < classes; c++) {
    for (let i = 0; i < area; i++) {
      if (data[c * area + i] > best[i]) {
        best[i] = data[c * area + i];
        labels[i] = c;
      }
    }
  }
  return { data: labels, width, height };
}

/* What interpolates one pixel of one class exactly as if all were interpolated. */
function pixelReader(output, stages) {
  const mixings = [];
  let before = output;
  for (const stage of stages) {
    mixings.push(stage.isCrop ? null : { aligned: stage.aligned,
      rows: axisOf(before.height, stage.height, stage.aligned),
      columns: axisOf(before.width, stage.width, stage.aligned) });
    before = stage;
  }
  const { data, width, height } = output;
  function at(number, y, x, c) {
    if (number === 0) return data[(c * height + y) * width + x];
    const mixing = mixings[number - 1];
    if (!mixing) return at(number - 1, y, x, c);
    const { rows, columns, aligned } = mixing;
    const read = (row, column) => at(number - 1, row, column, c);
    const top = rows.low[y], bottom = rows.high[y], left = columns.low[x], right = columns.high[x];
    const down = rows.weight[y], across = columns.weight[x];
    if (aligned) {
      return mixed(mixed(read(top, left), read(bottom, left), down, true),
        mixed(read(top, right), read(bottom, right), down, true), across, true);
    }
    return mixed(mixed(read(top, left), read(top, right), across, false),
      mixed(read(bottom, left), read(bottom, right), across, false), down, false);
  }
  return { mixings, read: (y, x, c) => at(mixings.length, y, x, c) };
}

function dense(output, stages) {
  const { width, height } = stages[stages.length - 1];
  const { read } = pixelReader(output, stages);
  const every = Array.from({ length: output.classes }, (_, c) => c);
  const labels = new Uint8Array(width * height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) labels[y * width + x] = decided(read, y, x, every);
  }
  return labels;
}

function decided(read, y, x, candidates) {
  let best = -Infinity, winner = candidates[0];
  for (const c of candidates) {
    const value = read(y, x, c);
    if (value > best) [best, winner] = [value, c]; // the first of equals, as everywhere
  }
  return winner;
}

/* The taps of a resize behind those of the stages before; null where they are too many. */
function combined(before, axis) {
  const taps = [];
  for (let i = 0; i < axis.low.length; i++) {
    const low = before[axis.low[i]], high = before[axis.high[i]], weight = axis.weight[i];
    if (weight === 0) {
      taps.push(low);
      continue;
    }
    const start = Math.min(low.start, high.start);
    const end = Math.max(low.start + low.weights.length, high.start + high.weights.length);
    if (end - start > MOST_TAPS) return null;
    const weights = new Array(end - start).fill(0);
    low.weights.forEach((each, k) => (weights[low.start - start + k] += (1 - weight) * each));
    high.weights.forEach((each, k) => (weights[high.start - start + k] += weight * each));
    taps.push({ start, weights });
  }
  return taps;
}

function tapsOf(size, stages, mixings, side, axis) {
  let taps = Array.from({ length: size }, (_, i) => ({ start: i, weights: [1] }));
  for (const [number, stage] of stages.entries()) {
    taps = stage.isCrop ? taps.slice(0, stage[side]) : combined(taps, mixings[number][axis]);
    if (!taps) return null;
  }
  return taps;
}

/* Where the columns' taps change. */
function edgesOf(columns) {
  const isOther = (tap, x) => x === 0 || tap.start !== columns[x - 1].start ||
    tap.weights.length !== columns[x - 1].weights.length;
  return [...columns.flatMap((tap, x) => (isOther(tap, x) ? [x] : [])), columns.length];
}

function largestOf(data) {
  let largest = 0;
  for (let i = 0; i < data.length; i++) largest = Math.max(largest, Math.abs(data[i]));
  return largest;
}

function sparse(output, stages) {
  const { mixings, read } = pixelReader(output, stages);
  const rows = tapsOf(output.height, stages, mixings, "height", "rows");
  const columns = tapsOf(output.width, stages, mixings, "width", "columns");
  const largest = largestOf(output.data);
  if (mixings.filter(Boolean).length > 2 || !rows || !columns) return null;
  if (!(largest > SMALLEST && largest < LARGEST)) return null;
  const edges = edgesOf(columns);
  const lines = new Float32Array(output.classes * output.width);
  const leads = { labels: new Uint8Array(output.width), best: new Float32Array(output.width),
    second: new Float32Array(output.width) };
  const labels = new Uint8Array(rows.length * columns.length);
  const lanes = new Float64Array(columns.length * MOST_TAPS);
  columns.forEach(({ weights }, x) => lanes.set(weights, x * MOST_TAPS));
  const candidates = new Uint8Array(output.classes);
  const doubt = DOUBT * largest;
  const work = { output, columns, edges, lanes, lines, leads, doubt, read, candidates };
  for (let y = 0; y < rows.length; y++) {
    mixLines(output, rows[y], lines);
    lead(output, lines, leads);
    fillRow(work, y, labels.subarray(y * columns.length, (y + 1) * columns.length));
  }
  return labels;
}

/* The samples above and below a row of the picture, mixed as it wants them. */
function mixLines({ data, classes, width, height }, { start, weights }, lines) {
  for (let c = 0; c < classes; c++) {
    const line = c * width;
    for (let k = 0; k < weights.length; k++) {
      const from = (c * height + start + k) * width, weight = Math.fround(weights[k]);
      if (k === 0) for (let x = 0; x < width; x++) lines[line + x] = weight * data[from + x];
      else for (let x = 0; x < width; x++) lines[line + x] += weight * data[from + x];
    }
  }
}

/* The best class of each column, its value and the next one's. */
function lead({ classes, width }, lines, { labels, best, second }) {
  best.set(lines.subarray(0, width));
  second.fill(-Infinity);
  labels.fill(0);
  for (let c = 1; c < classes; c++) {
    for (let x = 0; x < width; x++) {
      const value = lines[c * width + x];
      if (value > best[x]) {
        second[x] = best[x];
        best[x] = value;
        labels[x] = c;
      } else if (value > second[x]) second[x] = value;
    }
  }
}

function fillRow(work, y, row) {
  const { columns, edges, doubt } = work;
  const { labels, best, second } = work.leads;
  for (let cell = 0; cell + 1 < edges.length; cell++) {
    const { start, weights } = columns[edges[cell]];
    const label = labels[start];
    let isAlike = true;
    for (let x = start; x < start + weights.length; x++) {
      isAlike = isAlike && labels[x] === label && best[x] - second[x] > doubt;
    }
    if (isAlike) row.fill(label, edges[cell], edges[cell + 1]);
    else interpolate(work, y, cell, row);
  }
}

/* The classes that may be best somewhere in a cell, rising: how many, into `candidates`. */
function findCandidates({ output, lines, leads, doubt, candidates }, start, count) {
  const { classes, width } = output;
  let floor = -Infinity;
  for (let b = 0; b < count; b++) {
    const line = leads.labels[start + b] * width + start;
    let least = lines[line];
    for (let k = 1; k < count; k++) if (lines[line + k] < least) least = lines[line + k];
    if (least > floor) floor = least;
  }
  let number = 0;
  for (let c = 0; c < classes; c++) {
    const line = c * width + start;
    let most = lines[line];
    for (let k = 1; k < count; k++) if (lines[line + k] > most) most = lines[line + k];
    if (most >= floor - doubt) candidates[number++] = c;
  }
  return number;
}

function interpolate(work, y, cell, row) {
  const { output: { width }, columns, edges, lanes, lines, doubt, read, candidates } = work;
  const { start, weights: { length: count } } = columns[edges[cell]];
  const number = findCandidates(work, start, count);
  for (let x = edges[cell]; x < edges[cell + 1]; x++) {
    const lane = x * MOST_TAPS;
    let best = -Infinity, second = -Infinity, winner = 0;
    for (let i = 0; i < number; i++) {
      const line = candidates[i] * width + start;
      let value = 0;
      for (let k = 0; k < count; k++) value += lanes[lane + k] * lines[line + k];
      if (value > best) {
        second = best;
        best = value;
        winner = candidates[i];
      } else if (value > second) second = value;
    }
    row[x] = best - second > doubt ? winner : decided(read, y, x, candidates.subarray(0, number));
  }
}
