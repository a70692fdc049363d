/* From an RGB image to the network's input, as `inference/preprocess.py`. */

import { resizeImage, resizePlanes, roundHalfEven, scaleBytes } from "./resize.js";

function scaled(width, height, scale) {
  return [Math.max(1, roundHalfEven(width * scale)), Math.max(1, roundHalfEven(height * scale))];
}

const SIZES = {
  Resize(width, height, { target_wh: target, keep_ratio: keepsRatio, size_divisor: divisor }) {
    let size = target;
    if (keepsRatio) {
      const byLong = Math.max(...target) / Math.max(width, height);
      size = scaled(width, height, Math.min(byLong, Math.min(...target) / Math.min(width, height)));
    }
    return divisor ? size.map((side) => Math.ceil(side / divisor) * divisor) : size;
  },
  ResizeByLong(width, height, { long_size: long }) {
    return scaled(width, height, long / Math.max(width, height));
  },
  ResizeByShort(width, height, { short_size: asked, max_size: most }) {
    const short = Math.min(width, height), long = Math.max(width, height);
    const side = (asked / short) * long > most ? Math.trunc((most / long) * short) : asked;
    return scaled(width, height, side / short);
  },
  LimitLong(width, height, { max_long: most, min_long: least }) {
    const long = Math.max(width, height);
    if (most !== null && long > most) return scaled(width, height, most / long);
    if (least !== null && long < least) return scaled(width, height, least / long);
    return [width, height];
  },
  Padding(width, height, { target_wh: target }) {
    if (width > target[0] || height > target[1]) {
      throw new Error(`an image of at most ${target.join("x")} (width x height) is expected, got ` +
        `${width}x${height}`);
    }
    return target;
  },
};

/* Every step in float32. */
function normalized(image, { mean, std }) {
  const { data, channels } = image;
  const result = new Float32Array(data.length);
  for (let c = 0; c < channels; c++) {
    const less = Math.fround(mean[c]), by = Math.fround(std[c]);
    const value = (pixel) => Math.fround(Math.fround(Math.fround(pixel / 255) - less) / by);
    const table = Float32Array.from({ length: 256 }, (_, pixel) => value(pixel));
    for (let i = c; i < data.length; i += channels) {
      const pixel = data[i];
      result[i] = pixel === (pixel & 255) ? table[pixel] : value(pixel);
    }
  }
  return { ...image, data: result };
}

function padded(image, width, height, value) {
  const { channels } = image;
  const values = Array.from({ length: channels }, (_, c) => (Array.isArray(value) ? value[c] : value));
  const isFraction = values.some((each) => each % 1);
  const Kind = isFraction ? Float32Array : image.data.constructor; // bytes would round 127.5
  const data = new Kind(width * height * channels);
  for (let i = 0; i < data.length; i += channels) data.set(values, i);
  const wide = image.width * channels;
  for (let y = 0; y < image.height; y++) {
    data.set(image.data.subarray(y * wide, (y + 1) * wide), y * width * channels);
  }
  return { data, width, height, channels };
}

/* OpenCV's brightness of bytes, three times. */
function asGrey(data) {
  const grey = new Uint8Array(data.length);
  for (let i = 0; i < data.length; i += 3) {
    grey.fill((data[i] * 9798 + data[i + 1] * 19235 + data[i + 2] * 3735 + 16384) >> 15, i, i + 3);
  }
  return grey;
}

function inverted(data) {
  const bgr = data.slice();
  for (let i = 0; i < bgr.length; i += 3) [bgr[i], bgr[i + 2]] = [bgr[i + 2], bgr[i]];
  return bgr;
}

function planesOf(image, channels, takesBytes) {
  const area = image.width * image.height;
  const planes = new (takesBytes ? Uint8Array : Float32Array)(channels * area);
  for (let c = 0; c < channels; c++) {
    for (let i = 0; i < area; i++) planes[c * area + i] = image.data[i * image.channels + c];
  }
  return planes;
}

/* The size at which a protocol shows an image, as `Protocol.scaled_hw`. */
function lookOf({ width, height }, protocol) {
  const half = protocol.round_sides ? 0.5 : 0;
  const [wide, high] = [width, height].map((side) => {
    const scaled = Math.max(1, Math.trunc(side * protocol.scale + half));
    return Math.ceil(scaled / protocol.side_multiple) * protocol.side_multiple;
  });
  return { width: wide, height: high };
}

/* A protocol that halves bytes and normalises then: the scores come back to the image's size at once. */
function prepareScaled(rgb, model) {
  const scaled = scaleBytes({ ...rgb, channels: 3 }, model.protocol.scale);
  const { width, height } = rgb, original = { width, height };
  return { ...prepare(scaled, { ...model, protocol: null }), geometry: { ...original, steps: [], original } };
}

/* {tensor: planes of the network's input, look: their size, geometry: the way back}. `rgb` is {data, width, height},
   3 bytes a pixel; `model` is model.json. */
export function prepare(rgb, model) {
  if (model.protocol?.bytes_first) return prepareScaled(rgb, model);
  const takesBytes = model.input_dtype === "uint8";
  let data = model.channels === 1 ? asGrey(rgb.data) : rgb.data;
  if (model.color_order === "BGR") data = inverted(data);
  // PaddleSeg turns pixels into float32 before it resizes; on bytes the result is rounded.
  let image = { data: takesBytes ? data : Float32Array.from(data), width: rgb.width,
    height: rgb.height, channels: 3 };
  const steps = [];
  for (const transform of model.transforms) {
    if (transform.type === "Normalize") {
      image = normalized(image, transform);
      continue;
    }
    const [width, height] = SIZES[transform.type](image.width, image.height, transform);
    if (width === image.width && height === image.height) continue;
    const isPadding = transform.type === "Padding";
    steps.push({ isResize: !isPadding, width: image.width, height: image.height });
    image = isPadding ? padded(image, width, height, transform.value)
      : resizeImage(image, width, height, transform.interp ?? "LINEAR");
  }
  const { width, height } = image;
  const original = { width: rgb.width, height: rgb.height };
  let geometry = { width, height, steps, original };
  let look = { width, height };
  let tensor = planesOf(image, model.channels, takesBytes);
  if (model.protocol) {
    look = lookOf(geometry, model.protocol);
    tensor = resizePlanes(tensor, model.channels, { width, height }, look, model.protocol.align_corners);
    if (model.protocol.to_original) geometry = { ...original, steps: [], original };
  }
  return { tensor, look, geometry };
}
