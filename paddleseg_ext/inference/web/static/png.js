/* PNG as the Python package reads and writes it: no value changes. Through a canvas, alpha would be
   multiplied and colours converted, and two classes may have the same colour.
   Source: PNG specification (third edition), 5, 7 to 9 and 11. */

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];
const SAMPLES = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 }; // of each colour type
const PASSES = [[0, 0, 8, 8], [4, 0, 8, 8], [0, 4, 4, 8], [2, 0, 4, 4], [0, 2, 2, 4], [1, 0, 2, 2],
  [0, 1, 1, 2]]; // of an interlaced image: first column and row, and the steps

export function isPng(bytes) {
  return SIGNATURE.every((value, at) => bytes[at] === value);
}

/* [kind, content] of every chunk. */
export function* chunksOf(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 8; at + 12 <= bytes.length;) {
    const length = view.getUint32(at);
    if (at + 12 + length > bytes.length) return;
    yield [String.fromCharCode(...bytes.subarray(at + 4, at + 8)),
      bytes.subarray(at + 8, at + 8 + length)];
    at += 12 + length;
  }
}

async function through(stream, parts) {
  return new Uint8Array(await new Response(new Blob(parts).stream().pipeThrough(stream)).arrayBuffer());
}

function headerOf(bytes) {
  const found = chunksOf(bytes).next().value;
  if (!isPng(bytes) || found?.[0] !== "IHDR") throw new Error("this is no whole PNG");
  const view = new DataView(found[1].buffer, found[1].byteOffset);
  const [depth, type, , , interlace] = found[1].subarray(8);
  if (!SAMPLES[type] || ![1, 2, 4, 8, 16].includes(depth)) throw new Error("an unknown kind of PNG");
  return { width: view.getUint32(0), height: view.getUint32(4), depth, type, interlace };
}

/* {width, height, type, samples, values, palette}: the samples of each pixel, as many bytes a pixel as
   `samples`; of 16 bits the high byte, of fewer than 8 the number as it is. */
async function decode(bytes) {
  const header = headerOf(bytes);
  const parts = [];
  let palette = null;
  for (const [kind, content] of chunksOf(bytes)) {
    if (kind === "IDAT") parts.push(content);
    if (kind === "PLTE") palette = content;
  }
  const raw = await through(new DecompressionStream("deflate"), parts);
  const samples = SAMPLES[header.type];
  const values = new Uint8Array(header.width * header.height * samples);
  const passes = header.interlace ? PASSES : [[0, 0, 1, 1]];
  let at = 0;
  for (const [left, top, stepX, stepY] of passes) {
    const width = Math.ceil((header.width - left) / stepX);
    const height = Math.ceil((header.height - top) / stepY);
    if (width <= 0 || height <= 0) continue;
    const wide = Math.ceil((width * samples * header.depth) / 8);
    if (at + height * (wide + 1) > raw.length) throw new Error("the PNG ends before its last row");
    unfilter(raw, at, wide, height, Math.max(1, (samples * header.depth) >> 3));
    for (let y = 0; y < height; y++) {
      const row = at + y * (wide + 1) + 1;
      const to = (top + y * stepY) * header.width + left;
      for (let i = 0; i < width * samples; i++) {
        const x = Math.floor(i / samples);
        values[(to + x * stepX) * samples + (i % samples)] = sample(raw, row, i, header.depth);
      }
    }
    at += height * (wide + 1);
  }
  return { ...header, samples, values, palette };
}

function sample(raw, row, number, depth) {
  if (depth === 8) return raw[row + number];
  if (depth === 16) return raw[row + 2 * number];
  const bit = number * depth;
  return (raw[row + (bit >> 3)] >> (8 - depth - (bit & 7))) & ((1 << depth) - 1);
}

function unfilter(raw, start, wide, height, step) {
  for (let y = 0; y < height; y++) {
    const row = start + y * (wide + 1);
    const filter = raw[row];
    if (filter > 4) throw new Error("the PNG is damaged");
    if (filter === 0) continue;
    for (let i = 1; i <= wide; i++) {
      const left = i > step ? raw[row + i - step] : 0;
      const up = y ? raw[row + i - wide - 1] : 0;
      const corner = y && i > step ? raw[row + i - wide - 1 - step] : 0;
      raw[row + i] += predicted(filter, left, up, corner);
    }
  }
}

function predicted(filter, left, up, corner) {
  if (filter === 1) return left;
  if (filter === 2) return up;
  if (filter === 3) return (left + up) >> 1;
  const estimate = left + up - corner;
  const a = Math.abs(estimate - left), b = Math.abs(estimate - up), c = Math.abs(estimate - corner);
  return a <= b && a <= c ? left : b <= c ? up : corner;
}

/* A palette PNG's numbers: {width, height, ids}. */
export async function decodeLabels(buffer) {
  const { width, height, values } = await decode(new Uint8Array(buffer));
  return { width, height, ids: values };
}

/* {data, width, height}, 3 bytes a pixel: grey becomes three equal channels, alpha is dropped. */
export async function decodeRgb(bytes) {
  const { width, height, type, depth, samples, values, palette } = await decode(bytes);
  const data = new Uint8Array(width * height * 3);
  const scale = depth < 8 && type === 0 ? 255 / ((1 << depth) - 1) : 1;
  for (let i = 0; i < width * height; i++) {
    const at = i * samples;
    if (type === 3) {
      if (!palette || values[at] * 3 + 3 > palette.length) throw new Error("a colour is not in the palette");
      data.set(palette.subarray(values[at] * 3, values[at] * 3 + 3), i * 3);
    } else if (samples < 3) data.fill(values[at] * scale, i * 3, i * 3 + 3);
    else for (let c = 0; c < 3; c++) data[i * 3 + c] = values[at + c];
  }
  return { data, width, height };
}

let crcTable = null;

function crcOf(bytes) {
  crcTable ??= Uint32Array.from({ length: 256 }, (_, n) => {
    let value = n;
    for (let k = 0; k < 8; k++) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
    return value;
  });
  let crc = 0xffffffff;
  for (const byte of bytes) crc = crcTable[(crc ^ byte) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}

function chunk(kind, content) {
  const bytes = new Uint8Array(12 + content.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, content.length);
  bytes.set([...kind].map((letter) => letter.charCodeAt(0)), 4);
  bytes.set(content, 8);
  view.setUint32(8 + content.length, crcOf(bytes.subarray(4, 8 + content.length)));
  return bytes;
}

/* A palette PNG: a pixel's value is its class id. `colours` are 3 bytes a class. */
export async function encodeLabels(ids, width, height, colours) {
  const raw = new Uint8Array(height * (width + 1));
  for (let y = 0; y < height; y++) raw.set(ids.subarray(y * width, (y + 1) * width), y * (width + 1) + 1);
  const header = new Uint8Array(13);
  const view = new DataView(header.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  header.set([8, 3, 0, 0, 0], 8);
  const packed = await through(new CompressionStream("deflate"), [raw]);
  return new Blob([new Uint8Array(SIGNATURE), chunk("IHDR", header), chunk("PLTE", colours),
    chunk("IDAT", packed), chunk("IEND", new Uint8Array(0))], { type: "image/png" });
}
