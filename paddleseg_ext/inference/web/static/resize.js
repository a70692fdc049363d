/* Resizing by the arithmetic of the Python package: OpenCV's and Pillow's, as their wheels for x86-64
   compute it. An image is {data, width, height, channels}, channels innermost, float32 or bytes. */

const PILLOW_BITS = 22; // of a weight of Pillow's, for bytes
const OPENCV_BITS = 2048; // the weights of OpenCV's linear interpolation of bytes

/* Where each sample of a resized axis comes from: {low, high, weight}. */
export function axisOf(from, to, aligned) {
  const axis = { low: new Int32Array(to), high: new Int32Array(to), weight: new Float32Array(to) };
  const last = from - 1;
  const step = !aligned ? from / to : to > 1 ? last / (to - 1) : 0;
  for (let i = 0; i < to; i++) {
    const place = aligned ? i * step : (i + 0.5) * step - 0.5;
    let low = Math.floor(place);
    let weight = place - low;
    if (low < 0 || (low >= last && !aligned)) {
      low = low < 0 ? 0 : last;
      weight = 0;
    }
    axis.low[i] = Math.min(low, last);
    axis.high[i] = Math.min(axis.low[i] + 1, last);
    axis.weight[i] = weight;
  }
  return axis;
}

/* One linear interpolation in float32: a fused one with half-pixel centres, else as NumPy. */
export function mixed(low, high, weight, aligned) {
  if (!aligned) return Math.fround(low + weight * Math.fround(high - low));
  const rest = Math.fround(1 - weight);
  return Math.fround(Math.fround(low * rest) + Math.fround(high * weight));
}

function blank(image, width, height) {
  const data = new image.data.constructor(width * height * image.channels);
  return { data, width, height, channels: image.channels };
}

function linearFloats(image, width, height) {
  const { channels, data } = image;
  const rows = axisOf(image.height, height, false);
  const columns = axisOf(image.width, width, false);
  const result = blank(image, width, height);
  const count = width * channels;
  const buffers = [new Float32Array(count), new Float32Array(count)];
  const held = [-1, -1]; // neighbouring rows of the result share mixed rows
  function mixedRow(y, other) {
    const found = held.indexOf(y);
    if (found >= 0) return buffers[found];
    const slot = held[0] === other ? 1 : 0;
    const out = buffers[slot];
    held[slot] = y;
    for (let x = 0; x < width; x++) {
      const low = (y * image.width + columns.low[x]) * channels;
      const high = (y * image.width + columns.high[x]) * channels;
      const weight = columns.weight[x];
      for (let c = 0; c < channels; c++) {
        const a = data[low + c];
        out[x * channels + c] = a + weight * Math.fround(data[high + c] - a);
      }
    }
    return out;
  }
  for (let y = 0; y < height; y++) {
    const high = mixedRow(rows.high[y], rows.low[y]);
    const low = mixedRow(rows.low[y], rows.high[y]);
    const weight = rows.weight[y];
    const start = y * count;
    for (let i = 0; i < count; i++) {
      result.data[start + i] = low[i] + weight * Math.fround(high[i] - low[i]);
    }
  }
  return result;
}

/* A plane of float32 with corners kept in place: rows first, then columns, as NumPy. */
function alignedPlane(data, from, width, height) {
  const rows = axisOf(from.height, height, true), columns = axisOf(from.width, width, true);
  const result = new Float32Array(width * height), row = new Float32Array(from.width);
  for (let y = 0; y < height; y++) {
    const low = rows.low[y] * from.width, high = rows.high[y] * from.width;
    for (let x = 0; x < from.width; x++) row[x] = mixed(data[low + x], data[high + x], rows.weight[y], true);
    for (let x = 0; x < width; x++) {
      result[y * width + x] = mixed(row[columns.low[x]], row[columns.high[x]], columns.weight[x], true);
    }
  }
  return result;
}

/* Planes of float32, one after the other, from {width, height} to another size. */
export function resizePlanes(planes, count, from, to, aligned) {
  if (from.width === to.width && from.height === to.height) return planes;
  const [area, target] = [from.width * from.height, to.width * to.height];
  const result = new Float32Array(count * target);
  for (let c = 0; c < count; c++) {
    const data = planes.subarray(c * area, (c + 1) * area);
    const plane = aligned ? alignedPlane(data, from, to.width, to.height)
      : linearFloats({ data, channels: 1, ...from }, to.width, to.height).data;
    result.set(plane, c * target);
  }
  return result;
}

/* Source: OpenCV 4, modules/imgproc/src/resize.cpp, `resizeGeneric_` of bytes. */
function linearBytes(image, width, height) {
  const by = { x: 1 / (width / image.width), y: 1 / (height / image.height) };
  return linearBytesBy(image, width, height, by);
}

function linearBytesBy(image, width, height, by) {
  const { channels, data } = image;
  const result = blank(image, width, height);
  if (by.x === 2 && by.y === 2) return halved(image, result);
  const columns = bytesAxis(image.width, width, by.x, true);
  const rows = bytesAxis(image.height, height, by.y, false);
  const wide = image.width * channels;
  for (let y = 0; y < height; y++) {
    const top = Math.min(Math.max(rows.start[y], 0), image.height - 1) * wide;
    const bottom = Math.min(Math.max(rows.start[y] + 1, 0), image.height - 1) * wide;
    for (let x = 0; x < width; x++) {
      const left = columns.start[x] * channels;
      const right = Math.min(columns.start[x] + 1, image.width - 1) * channels;
      for (let c = 0; c < channels; c++) {
        const above = data[top + left + c] * columns.low[x] + data[top + right + c] * columns.high[x];
        const below =
          data[bottom + left + c] * columns.low[x] + data[bottom + right + c] * columns.high[x];
        result.data[(y * width + x) * channels + c] =
          (((rows.low[y] * (above >> 4)) >> 16) + ((rows.high[y] * (below >> 4)) >> 16) + 2) >> 2;
      }
    }
  }
  return result;
}

/* Bytes by a factor, as `cv2.resize` with `fx` and `fy`: it steps by the factor, not by the sizes. */
export function scaleBytes(image, factor) {
  const [width, height] = [image.width, image.height].map((side) => roundHalfEven(side * factor));
  if (width < 1 || height < 1) {
    throw new Error(`an image of ${image.width}x${image.height} leaves nothing at scale ${factor}`);
  }
  return linearBytesBy(image, width, height, { x: 1 / factor, y: 1 / factor });
}

function bytesAxis(from, to, scale, isClamped) {
  const axis = { start: new Int32Array(to), low: new Int32Array(to), high: new Int32Array(to) };
  for (let i = 0; i < to; i++) {
    let place = Math.fround((i + 0.5) * scale - 0.5);
    let start = Math.floor(place);
    place = Math.fround(place - start);
    if (isClamped && start < 0) [start, place] = [0, 0];
    if (isClamped && start >= from - 1) [start, place] = [from - 1, 0];
    axis.start[i] = start;
    axis.low[i] = roundHalfEven(Math.fround(1 - place) * OPENCV_BITS);
    axis.high[i] = roundHalfEven(place * OPENCV_BITS);
  }
  return axis;
}

/* The mean of 2x2 pixels; at the end of an odd side of those that there are. */
function halved(image, result) {
  const { channels, data } = image;
  const wide = image.width * channels;
  for (let y = 0; y < result.height; y++) {
    const isLow = 2 * y + 1 < image.height;
    for (let x = 0; x < result.width; x++) {
      const isWide = 2 * x + 1 < image.width;
      for (let c = 0; c < channels; c++) {
        const at = 2 * y * wide + 2 * x * channels + c;
        const right = isWide ? data[at + channels] : 0, below = isLow ? data[at + wide] : 0;
        const sum = data[at] + right + below + (isWide && isLow ? data[at + wide + channels] : 0);
        result.data[(y * result.width + x) * channels + c] = isWide && isLow ? (sum + 2) >> 2
          : roundHalfEven(sum / ((isWide ? 2 : 1) * (isLow ? 2 : 1)));
      }
    }
  }
  return result;
}

/* Python's `round`, and OpenCV's. */
export function roundHalfEven(value) {
  const rounded = Math.round(value);
  return Math.abs(value % 1) === 0.5 && rounded % 2 ? rounded - 1 : rounded;
}

/* By nearest neighbour, as OpenCV: pixel i is taken from floor(i * from / to). */
export function nearest(image, width, height) {
  const { channels, data } = image;
  const result = blank(image, width, height);
  const byX = 1 / (width / image.width);
  const byY = 1 / (height / image.height);
  for (let y = 0; y < height; y++) {
    const row = Math.min(Math.floor(y * byY), image.height - 1) * image.width;
    for (let x = 0; x < width; x++) {
      const from = (row + Math.min(Math.floor(x * byX), image.width - 1)) * channels;
      const to = (y * width + x) * channels;
      for (let c = 0; c < channels; c++) result.data[to + c] = data[from + c];
    }
  }
  return result;
}

/* Source: Pillow, src/libImaging/Resample.c, `precompute_coeffs`, of its bilinear filter. */
function pillowFilter(from, to) {
  const scale = from / to;
  const wide = Math.max(scale, 1);
  const filter = [];
  for (let i = 0; i < to; i++) {
    const center = (i + 0.5) * scale;
    const start = Math.max(0, Math.trunc(center - wide + 0.5));
    const end = Math.min(from, Math.trunc(center + wide + 0.5));
    const weights = [];
    let sum = 0;
    for (let x = 0; x < end - start; x++) {
      const place = Math.abs((x + start - center + 0.5) * (1 / wide));
      weights.push(place < 1 ? 1 - place : 0);
      sum += weights[x];
    }
    filter.push({ start, weights: weights.map((weight) => (sum ? weight / sum : weight)) });
  }
  return filter;
}

function pillowPass(image, to, isHorizontal, isWhole) {
  const { channels, data, width } = image;
  const filter = pillowFilter(isHorizontal ? width : image.height, to);
  const result = isHorizontal ? blank(image, to, image.height) : blank(image, width, to);
  const step = (isHorizontal ? 1 : width) * channels;
  const unit = 2 ** PILLOW_BITS;
  for (let place = 0; place < to; place++) {
    const { start, weights } = filter[place];
    const used = Float64Array.from(weights, (each) => (isWhole ? Math.trunc(0.5 + each * unit) : each));
    // One value of each channel after the other, along the other axis.
    const [lines, group] = isHorizontal ? [image.height, channels] : [1, width * channels];
    for (let line = 0; line < lines; line++) {
      const from = isHorizontal ? (line * width + start) * channels : start * width * channels;
      const out = isHorizontal ? (line * to + place) * channels : place * width * channels;
      for (let i = 0; i < group; i++) {
        let sum = isWhole ? unit / 2 : 0;
        for (let k = 0, at = from + i; k < used.length; k++, at += step) sum += data[at] * used[k];
        result.data[out + i] = isWhole ? Math.min(Math.max(Math.floor(sum / unit), 0), 255) : sum;
      }
    }
  }
  return result;
}

/* Pixels of whole values are resized as bytes and stay whole. */
function pillowLinear(image, width, height) {
  let isWhole = true;
  for (let i = 0; isWhole && i < image.data.length; i++) isWhole = image.data[i] === (image.data[i] & 255);
  let result = image;
  // The rows come first, except where the columns shrink and they grow.
  const isDownFirst = height < image.height && width > image.width;
  if (isDownFirst) result = pillowPass(result, height, false, isWhole);
  if (width !== result.width) result = pillowPass(result, width, true, isWhole);
  if (height !== result.height) result = pillowPass(result, height, false, isWhole);
  return result;
}

/* An image at another size, by the interpolation of PaddleSeg's name. */
export function resizeImage(image, width, height, interpolation) {
  if (image.width === width && image.height === height) return image;
  if (interpolation === "PILLOW_LINEAR") return pillowLinear(image, width, height);
  if (interpolation === "NEAREST") return nearest(image, width, height);
  if (interpolation !== "LINEAR") throw new Error(`interp ${interpolation} is not offered here`);
  return image.data instanceof Uint8Array
    ? linearBytes(image, width, height) : linearFloats(image, width, height);
}
