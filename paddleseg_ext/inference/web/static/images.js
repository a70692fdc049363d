/* An image file or a frame of a camera as RGB, 3 bytes a pixel: {data, width, height}.

   PNG is decoded here, so that no value changes. The browser decodes the others: colours are not
   converted, and where it can (ImageDecoder) colours are not multiplied by alpha. */

import { chunksOf, decodeRgb, isPng } from "./png.js";

const UPRIGHT = 1;
const ORIENTATION_TAG = 0x0112;
const MOST_PIXELS = 1 << 26; // beyond, a browser's memory may not hold the scores

const text = (bytes, at, length) => String.fromCharCode(...bytes.subarray(at, at + length));

export function kindOf(bytes) {
  if (isPng(bytes)) return "image/png";
  if (bytes[0] === 0xff && bytes[1] === 0xd8) return "image/jpeg";
  if (text(bytes, 0, 4) === "RIFF" && text(bytes, 8, 4) === "WEBP") return "image/webp";
  if (text(bytes, 0, 2) === "BM") return "image/bmp";
  throw new Error("an image file is expected (PNG, JPEG, WEBP, BMP)");
}

/* Where a file holds its EXIF data; null without. */
function exifOf(bytes, kind) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (kind === "image/png") {
    for (const [name, content] of chunksOf(bytes)) if (name === "eXIf") return content;
  } else if (kind === "image/webp") {
    for (let at = 12; at + 8 <= bytes.length; at += 8 + view.getUint32(at + 4, true) + (bytes[at + 4] & 1)) {
      if (text(bytes, at, 4) === "EXIF") return bytes.subarray(at + 8, at + 8 + view.getUint32(at + 4, true));
    }
  } else if (kind === "image/jpeg") {
    for (let at = 2; at + 4 <= bytes.length && bytes[at] === 0xff && bytes[at + 1] !== 0xda;) {
      const length = view.getUint16(at + 2);
      if (bytes[at + 1] === 0xe1 && text(bytes, at + 4, 4) === "Exif") return bytes.subarray(at + 4, at + 2 + length);
      at += 2 + length;
    }
  }
  return null;
}

/* The camera's tag, 1 to 8, which becomes 1 in the bytes: browsers turn images by it whatever they are
   told. Source: Exif 2.3, 4.6. Damaged data turns nothing. */
export function takeOrientation(bytes, kind) {
  let exif = exifOf(bytes, kind);
  if (!exif) return UPRIGHT;
  if (text(exif, 0, 4) === "Exif") exif = exif.subarray(6);
  const view = new DataView(exif.buffer, exif.byteOffset, exif.byteLength);
  try {
    const little = text(exif, 0, 2) === "II";
    const start = view.getUint32(4, little);
    for (let i = 0; i < view.getUint16(start, little); i++) {
      const at = start + 2 + 12 * i;
      if (view.getUint16(at, little) !== ORIENTATION_TAG) continue;
      const value = view.getUint16(at + 8, little);
      view.setUint16(at + 8, UPRIGHT, little);
      return value >= 1 && value <= 8 ? value : UPRIGHT;
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
  }
  return UPRIGHT;
}

/* Source: Exif 2.3, 4.6.4, tag 274: which side of the scene the first row and column are. */
export function turned({ data, width, height }, orientation) {
  if (orientation === UPRIGHT) return { data, width, height };
  const isSwapped = orientation >= 5;
  const size = isSwapped ? { width: height, height: width } : { width, height };
  const mirrorsX = [2, 3, 7, 8].includes(orientation), mirrorsY = [3, 4, 6, 7].includes(orientation);
  const result = new Uint8Array(data.length);
  for (let y = 0; y < size.height; y++) {
    for (let x = 0; x < size.width; x++) {
      let [fromX, fromY] = isSwapped ? [y, x] : [x, y];
      if (mirrorsX) fromX = width - 1 - fromX;
      if (mirrorsY) fromY = height - 1 - fromY;
      const from = (fromY * width + fromX) * 3, to = (y * size.width + x) * 3;
      for (let c = 0; c < 3; c++) result[to + c] = data[from + c];
    }
  }
  return { data: result, ...size };
}

function withoutAlpha(rgba, width, height) {
  const data = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; to < data.length; from += 4) {
    data[to++] = rgba[from];
    data[to++] = rgba[from + 1];
    data[to++] = rgba[from + 2];
  }
  return { data, width, height };
}

/* The pixels of an ImageBitmap, which is closed. */
export function pixelsOf(bitmap) {
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return withoutAlpha(context.getImageData(0, 0, width, height).data, width, height);
}

/* Lossless files keep every value, also under alpha; null where the browser has no ImageDecoder. */
async function byDecoder(bytes, type) {
  if (!globalThis.ImageDecoder || !(await ImageDecoder.isTypeSupported(type))) return null;
  const decoder = new ImageDecoder({ data: bytes, type, colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const { image } = await decoder.decode();
  try {
    if (!["RGBA", "RGBX", "BGRA", "BGRX"].includes(image.format)) return null; // of lossy files
    const rgba = new Uint8Array(image.allocationSize());
    await image.copyTo(rgba);
    const { width, height } = image.codedRect;
    const pixels = withoutAlpha(rgba, width, height);
    if (image.format.startsWith("B")) {
      for (let i = 0; i < pixels.data.length; i += 3) {
        [pixels.data[i], pixels.data[i + 2]] = [pixels.data[i + 2], pixels.data[i]];
      }
    }
    return pixels;
  } finally {
    image.close();
    decoder.close();
  }
}

/* Decode a file; `orientation` is the bundle's: stored or upright. */
export async function decodeFile(blob, orientation) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  const kind = kindOf(bytes);
  const tag = takeOrientation(bytes, kind);
  let pixels = kind === "image/png" ? await decodeRgb(bytes) : null;
  if (kind === "image/webp") pixels = await byDecoder(bytes, kind);
  if (!pixels) {
    const settings = { premultiplyAlpha: "none", colorSpaceConversion: "none" };
    const bitmap = await createImageBitmap(new Blob([bytes], { type: kind }), settings).catch(() => {
      throw new Error("the browser cannot decode this image");
    });
    pixels = pixelsOf(bitmap);
  }
  if (pixels.width * pixels.height > MOST_PIXELS) throw new Error("the image has too many pixels");
  return turned(pixels, orientation === "upright" ? tag : UPRIGHT);
}
