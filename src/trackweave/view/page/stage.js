/** @file `Stage`: one run's frame on a canvas, drawn from data: picture, masks, boxes, trails, labels. */

import { ObjectCache, PictureCache } from "./api.js";
import { clamp, context2d, css, indexOf, ink, onFrame, sharpen, shortened, trackColour } from "./util.js";

/** @typedef {import("./types.js").FrameObjects} FrameObjects */
/** @typedef {import("./types.js").MaskRuns} MaskRuns */
/** @typedef {import("./types.js").RunInfo} RunInfo */

const TRAIL = 40;
const MOST_ZOOM = 32;
/** Letters of a label, and of one that was chosen. */
const MOST_LETTERS = 20;
const MOST_LETTERS_CHOSEN = 60;
/** Screen pixels from the middle of an object that count as a click on it, however small it is. */
const REACH = 9;
/** Milliseconds after which a frame that is near is shown meanwhile. */
const PATIENCE = 60;
const LITTLE_ENDIAN = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;

/**
 * @param {[number, number, number]} colour
 * @param {number} alpha 0 … 255
 */
function pixel([r, g, b], alpha) {
  return LITTLE_ENDIAN ? ((alpha << 24) | (b << 16) | (g << 8) | r) >>> 0 : ((r << 24) | (g << 16) | (b << 8) | alpha) >>> 0;
}

/**
 * Columns that are inside, row after row: pair k from `spans[2 * k]` to `spans[2 * k + 1]`, end excluded; the pairs of
 * a row begin at `first[row]` and end before `first[row + 1]`.
 * @param {MaskRuns} mask
 * @returns {{first: Int32Array, spans: number[]}}
 */
export function spansByRow({ w, h, runs }) {
  const first = new Int32Array(h + 1);
  const spans = /** @type {number[]} */ ([]);
  let row = 0;
  let at = 0;
  runs.forEach((length, n) => {
    const end = at + length;
    while (n % 2 && at < end) {
      const here = Math.floor(at / w);
      while (row < here) first[++row] = spans.length / 2;
      const stop = Math.min(end, (here + 1) * w);
      spans.push(at - here * w, stop - here * w);
      at = stop;
    }
    at = end;
  });
  while (row < h) first[++row] = spans.length / 2;
  return { first, spans };
}

/**
 * A run's frame on a canvas.
 */
export class Stage {
  /**
   * @param {HTMLElement} parent
   * @param {number} run
   * @param {RunInfo} info
   * @param {import("./types.js").View} view what is drawn and how; the page changes it and calls `redraw`
   * @param {(id: number, event: MouseEvent) => void} onPick an object was clicked; 0 = none
   */
  constructor(parent, run, info, view, onPick) {
    this.info = info;
    this.view = view;
    this.pictures = new PictureCache(run, info);
    this.objects = new ObjectCache(run, info);
    this.position = -1;
    this.wanted = 0;
    /** Position of a frame that is shown while the wanted one is decoded; −1 = none. */
    this.nearby = -1;
    /** Is it playing? Then pictures may be smaller, and masks are painted no finer than they are seen. */
    this.isMoving = false;
    /** @type {import("./types.js").Picture|null} */
    this.bitmap = null;
    this.zoom = 1;
    this.centre = [info.width / 2, info.height / 2];
    this.canvas = document.createElement("canvas");
    this.canvas.className = "stage";
    this.canvas.setAttribute("role", "img");
    this.canvas.tabIndex = 0;
    this.note = document.createElement("p");
    this.note.className = "stage-note";
    this.element = document.createElement("figure");
    this.element.append(this.canvas, this.note);
    parent.append(this.element);
    this.layer = document.createElement("canvas");
    this.layerKey = "";
    /** @type {ImageData|null} */
    this.image = null;
    /** Where the layer is not clear: x1, y1, x2, y2. */
    this.painted = [0, 0, 0, 0];
    this.redraw = onFrame(() => this.draw());
    this.onPick = onPick;
    /** @type {((context: CanvasRenderingContext2D, scale: number) => void)|null} draws over everything */
    this.overlay = null;
    /** @type {((box: number[]|null) => void)|null} waits for a box to be drawn */
    this.onBox = null;
    /** @type {number[]|null} */
    this.drawn = null;
    this.listen();
    new ResizeObserver(() => this.redraw()).observe(this.canvas);
  }

  listen() {
    /** @type {{x: number, y: number, centre: number[], moved: boolean}|null} */
    let drag = null;
    const canvas = this.canvas;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button > 1) return;
      drag = { x: event.clientX, y: event.clientY, centre: [...this.centre], moved: false };
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!drag) {
        const id = this.objectAt(event);
        if (id !== this.view.hovered) {
          this.view.hovered = id;
          canvas.style.cursor = id ? "pointer" : "";
          this.redraw();
        }
        return;
      }
      if (this.onBox) {
        const [x1, y1] = this.toFrame(drag.x, drag.y);
        const [x2, y2] = this.toFrame(event.clientX, event.clientY);
        this.drawn = [Math.min(x1, x2), Math.min(y1, y2), Math.max(x1, x2), Math.max(y1, y2)];
        this.redraw();
        return;
      }
      const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
      if (Math.hypot(dx, dy) > 4) drag.moved = true;
      if (drag.moved && this.zoom > 1) {
        const scale = this.scale();
        this.centre = [drag.centre[0] - dx / scale, drag.centre[1] - dy / scale];
        this.redraw();
      }
    });
    canvas.addEventListener("pointerup", (event) => {
      if (this.onBox) this.endBox(this.drawn);
      else if (drag && !drag.moved) this.onPick(this.objectAt(event), event);
      drag = null;
    });
    canvas.addEventListener("pointercancel", () => (drag = null));
    canvas.addEventListener("pointerleave", () => {
      this.view.hovered = 0;
      this.redraw();
    });
    canvas.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        this.zoomAt(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015)), event.clientX, event.clientY);
      },
      { passive: false },
    );
    canvas.addEventListener("dblclick", () => this.fit());
  }

  /**
   * Lets a box be drawn with the pointer.
   * @returns {Promise<number[]|null>} x1, y1, x2, y2 in pixels of the frame; null when it was given up
   */
  drawBox() {
    this.endBox(null);
    this.canvas.classList.add("drawing");
    return new Promise((resolve) => (this.onBox = resolve));
  }

  /** @param {number[]|null} box */
  endBox(box) {
    const resolve = this.onBox;
    this.onBox = null;
    this.drawn = null;
    this.canvas.classList.remove("drawing");
    this.redraw();
    const isLarge = box && box[2] - box[0] >= 2 && box[3] - box[1] >= 2;
    resolve?.(isLarge ? box.map((side, k) => clamp(side, 0, k % 2 ? this.info.height : this.info.width)) : null);
  }

  /** Screen pixels (CSS) per pixel of the frame. */
  scale() {
    const { clientWidth, clientHeight } = this.canvas;
    return this.zoom * Math.min(clientWidth / this.info.width, clientHeight / this.info.height);
  }

  /** Screen pixels that the frame is wide. */
  shownWidth() {
    return this.info.width * this.scale() * (window.devicePixelRatio || 1);
  }

  fit() {
    this.zoom = 1;
    this.redraw();
  }

  /**
   * @param {number} factor
   * @param {number} [clientX] stays where it is
   * @param {number} [clientY]
   */
  zoomAt(factor, clientX, clientY) {
    const bounds = this.canvas.getBoundingClientRect();
    const x = clientX ?? bounds.left + bounds.width / 2;
    const y = clientY ?? bounds.top + bounds.height / 2;
    const [fx, fy] = this.toFrame(x, y);
    this.zoom = clamp(this.zoom * factor, 1, MOST_ZOOM);
    const scale = this.scale();
    this.centre = [fx - (x - bounds.left - bounds.width / 2) / scale, fy - (y - bounds.top - bounds.height / 2) / scale];
    this.redraw();
  }

  /**
   * Shows a part of the frame, a track's box for one.
   * @param {number[]} box
   */
  look(box) {
    this.zoom = 1;
    const size = Math.max((box[2] - box[0]) / this.info.width, (box[3] - box[1]) / this.info.height, 0.01);
    this.zoom = clamp(0.35 / size, 1, 8);
    this.centre = [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2];
    this.redraw();
  }

  /**
   * @param {number} clientX
   * @param {number} clientY
   * @returns {[number, number]}
   */
  toFrame(clientX, clientY) {
    const bounds = this.canvas.getBoundingClientRect();
    const scale = this.scale();
    const [cx, cy] = this.shownCentre();
    return [cx + (clientX - bounds.left - bounds.width / 2) / scale, cy + (clientY - bounds.top - bounds.height / 2) / scale];
  }

  /** The centre, moved so that no more than needed of what is outside the frame is seen. */
  shownCentre() {
    const scale = this.scale();
    const half = [this.canvas.clientWidth / scale / 2, this.canvas.clientHeight / scale / 2];
    const size = [this.info.width, this.info.height];
    return size.map((side, k) => (side < 2 * half[k] ? side / 2 : clamp(this.centre[k], half[k], side - half[k])));
  }

  /**
   * Shows a frame as soon as its picture and objects are there; an earlier call that is not done yet is passed over.
   * @param {number} position
   * @returns {Promise<void>}
   */
  async show(position) {
    this.wanted = position;
    const timer = this.isReady(position) ? 0 : window.setTimeout(() => void this.preview(position).catch(() => undefined), PATIENCE);
    const [bitmap] = await Promise.all([
      this.pictures.wish(position).finally(() => window.clearTimeout(timer)),
      this.objects.load(position, this.view.looks.masks),
      this.view.looks.trails ? this.objects.load(Math.max(0, position - TRAIL), false) : null,
      this.view.looks.trails ? this.objects.load(position, false) : null,
    ]);
    if (this.wanted !== position) return;
    this.set(position, bitmap);
  }

  /**
   * While a frame is being decoded: the nearest one that is there, and which one that is.
   * @param {number} position
   */
  async preview(position) {
    const near = await this.pictures.near(position);
    if (!near || this.wanted !== position || this.position === position) return;
    this.letGo();
    this.position = -1;
    this.bitmap = near.bitmap;
    this.nearby = near.position;
    this.redraw();
  }

  /** Frees a picture that no cache holds. */
  letGo() {
    if (this.nearby >= 0 && this.bitmap instanceof ImageBitmap) this.bitmap.close();
    this.nearby = -1;
  }

  /** @param {number} position */
  isReady(position) {
    const objects = this.view.looks.masks && this.info.masks ? this.objects.masks : this.objects.boxes;
    return (!this.info.pictures || this.pictures.has(position, this.isMoving)) && objects.has(position);
  }

  /**
   * @param {number} position
   * @param {import("./types.js").Picture|null} bitmap
   */
  set(position, bitmap) {
    this.letGo();
    this.position = position;
    this.bitmap = bitmap;
    this.redraw();
  }

  /** Objects of the frame that is shown. */
  shown() {
    return this.objects.get(this.position);
  }

  /**
   * The box of a track on the frame that is shown.
   * @param {number} id
   */
  boxOf(id) {
    const objects = this.shown();
    const row = objects ? objects.id.indexOf(id) : -1;
    return objects && row >= 0 ? objects.box.slice(4 * row, 4 * row + 4) : null;
  }

  /** Ids of the objects that are drawn, from left to right. */
  idsByPlace() {
    const objects = this.shown();
    if (!objects) return [];
    const rows = objects.id.map((_, n) => n).filter((n) => !this.isHidden(objects, n));
    return rows.sort((a, b) => objects.box[4 * a] - objects.box[4 * b]).map((n) => objects.id[n]);
  }

  /**
   * The mask of a track on the frame that is shown.
   * @param {number} id
   */
  maskOf(id) {
    const objects = this.shown();
    const row = objects ? objects.id.indexOf(id) : -1;
    return objects?.masks?.[row] ?? null;
  }

  /**
   * The smallest object under the pointer, else a very small one that is near; 0 = none.
   * @param {MouseEvent} event
   */
  objectAt(event) {
    const objects = this.shown();
    if (!objects) return 0;
    const [x, y] = this.toFrame(event.clientX, event.clientY);
    let best = 0;
    let least = Infinity;
    let beside = 0;
    let nearest = REACH / this.scale();
    objects.id.forEach((id, n) => {
      if (this.isHidden(objects, n)) return;
      const [x1, y1, x2, y2] = objects.box.slice(4 * n, 4 * n + 4);
      const area = (x2 - x1) * (y2 - y1);
      const distance = Math.hypot((x1 + x2) / 2 - x, (y1 + y2) / 2 - y);
      if (distance < nearest && Math.max(x2 - x1, y2 - y1) * this.scale() < 2 * REACH) [beside, nearest] = [id, distance];
      if (x < x1 || x >= x2 || y < y1 || y >= y2 || area >= least) return;
      const mask = objects.masks?.[n];
      if (mask && this.view.looks.masks && !this.isInMask(mask, x, y)) return;
      best = id;
      least = area;
    });
    return best || beside;
  }

  /**
   * @param {MaskRuns} mask
   * @param {number} x in pixels of the frame
   * @param {number} y
   */
  isInMask(mask, x, y) {
    const column = Math.floor((x * mask.size[1]) / this.info.width) - mask.x;
    const row = Math.floor((y * mask.size[0]) / this.info.height) - mask.y;
    if (column < 0 || row < 0 || column >= mask.w || row >= mask.h) return false;
    let rest = row * mask.w + column;
    for (let n = 0; n < mask.runs.length; n++) {
      rest -= mask.runs[n];
      if (rest < 0) return n % 2 === 1;
    }
    return false;
  }

  /**
   * @param {FrameObjects} objects
   * @param {number} n
   */
  isHidden(objects, n) {
    const { looks, selected, hidden } = this.view;
    if (looks.solo && selected.size && !selected.has(objects.id[n])) return true;
    return hidden(objects.id[n], objects.level[n] ?? -1, objects.class[n]);
  }

  draw() {
    sharpen(this.canvas);
    const context = context2d(this.canvas);
    const ratio = window.devicePixelRatio || 1;
    const scale = this.scale();
    const [cx, cy] = this.shownCentre();
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    context.setTransform(
      scale * ratio, 0, 0, scale * ratio,
      this.canvas.width / 2 - cx * scale * ratio, this.canvas.height / 2 - cy * scale * ratio,
    );
    context.imageSmoothingEnabled = scale * ratio < 3;
    const { width, height } = this.info;
    if (this.bitmap) context.drawImage(this.bitmap, 0, 0, width, height);
    else this.drawEmpty(context);
    const objects = this.shown();
    if (objects) {
      if (this.view.looks.masks && objects.masks) this.drawMasks(context, objects);
      if (this.view.looks.trails) this.drawTrails(context, objects, scale);
      this.drawBoxes(context, objects, scale);
      if (this.view.looks.labels) this.drawLabels(context, objects, scale);
      this.describe(objects);
    }
    if (this.drawn) {
      context.strokeStyle = "#fff";
      context.setLineDash([6 / scale, 4 / scale]);
      context.lineWidth = 2 / scale;
      context.strokeRect(this.drawn[0], this.drawn[1], this.drawn[2] - this.drawn[0], this.drawn[3] - this.drawn[1]);
      context.setLineDash([]);
    }
    this.overlay?.(context, scale);
    const nearby = this.nearby < 0 ? null : `≈ frame ${indexOf(this.info, this.nearby)}; ${indexOf(this.info, this.wanted)} is being decoded`;
    const isBlank = this.info.pictures && !this.bitmap && this.position >= 0;
    const text = nearby ?? this.pictures.problem ?? (isBlank ? `there is no picture of frame ${indexOf(this.info, this.position)}` : this.info.pictures ? "" : this.info.notice ?? "");
    if (this.note.textContent !== text) this.note.textContent = text;
  }

  /** @param {CanvasRenderingContext2D} context */
  drawEmpty(context) {
    const { width, height } = this.info;
    context.fillStyle = "#20242b";
    context.fillRect(0, 0, width, height);
    context.strokeStyle = "#ffffff12";
    context.lineWidth = 1 / this.scale();
    const step = Math.max(width, height) / 20;
    context.beginPath();
    for (let x = step; x < width; x += step) context.rect(x, 0, 0, height);
    for (let y = step; y < height; y += step) context.rect(0, y, width, 0);
    context.stroke();
  }

  /**
   * Masks as one picture of the masks' size: each mask's colour, its rim opaque; small ones over large ones.
   * @param {CanvasRenderingContext2D} context
   * @param {FrameObjects} objects
   */
  drawMasks(context, objects) {
    const masks = objects.masks ?? [];
    const some = masks.find((mask) => mask);
    if (!some) return;
    const { looks, selected } = this.view;
    const step = this.isMoving ? Math.max(1, Math.round(some.size[1] / this.shownWidth())) : 1;
    const [rows, columns] = some.size.map((side) => Math.ceil(side / step));
    const rim = looks.outline ? Math.max(1, Math.round((1.6 * columns) / (this.info.width * this.scale()))) : 0;
    const hidden = objects.id.map((_, n) => (this.isHidden(objects, n) ? 0 : 1)).join("");
    const key = [this.position, this.objects.version, looks.opacity, rim, step, hidden, [...selected].join()].join(" ");
    if (key !== this.layerKey) {
      this.layerKey = key;
      const image = this.layerImage(columns, rows);
      const pixels = new Uint32Array(image.data.buffer);
      const order = masks.map((_, n) => n).filter((n) => masks[n] && !this.isHidden(objects, n));
      const area = (/** @type {number} */ n) => /** @type {MaskRuns} */ (masks[n]).w * /** @type {MaskRuns} */ (masks[n]).h;
      order.sort((a, b) => area(b) - area(a));
      for (const n of order) {
        const mask = /** @type {MaskRuns} */ (masks[n]);
        const share = selected.size && !selected.has(objects.id[n]) ? 0.55 : 1;
        paintMask(pixels, columns, mask, trackColour(objects.id[n]), looks.opacity * share, rim, share, step);
      }
      this.putLayer(image, order.map((n) => coarseBox(/** @type {MaskRuns} */ (masks[n]), step)));
    }
    const [height, width] = some.size;
    context.drawImage(this.layer, 0, 0, (columns * step * this.info.width) / width, (rows * step * this.info.height) / height);
  }

  /**
   * The layer's pixels, all of them clear.
   * @param {number} columns
   * @param {number} rows
   */
  layerImage(columns, rows) {
    let image = this.image;
    if (!image || image.width !== columns || image.height !== rows) {
      this.layer.width = columns;
      this.layer.height = rows;
      this.image = image = new ImageData(columns, rows);
      this.painted = [0, 0, 0, 0];
    }
    const [x1, y1, x2, y2] = this.painted;
    const pixels = new Uint32Array(image.data.buffer);
    for (let row = y1; row < y2; row++) pixels.fill(0, row * columns + x1, row * columns + x2);
    return image;
  }

  /**
   * Puts what was painted into the layer, and over what was there before.
   * @param {ImageData} image
   * @param {{x: number, y: number, w: number, h: number}[]} masks where they are
   */
  putLayer(image, masks) {
    const before = this.painted;
    this.painted = masks.length
      ? [Math.min(...masks.map((mask) => mask.x)), Math.min(...masks.map((mask) => mask.y)),
        Math.max(...masks.map((mask) => mask.x + mask.w)), Math.max(...masks.map((mask) => mask.y + mask.h))]
      : [0, 0, 0, 0];
    const isEmpty = before[0] >= before[2];
    const [x1, y1, x2, y2] = this.painted.map((side, k) => (isEmpty ? side : k < 2 ? Math.min(side, before[k]) : Math.max(side, before[k])));
    if (x1 < x2) context2d(this.layer).putImageData(image, 0, 0, x1, y1, x2 - x1, y2 - y1);
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {FrameObjects} objects
   * @param {number} scale
   */
  drawTrails(context, objects, scale) {
    context.lineWidth = 2 / scale;
    context.lineJoin = "round";
    objects.id.forEach((id, n) => {
      if (this.isHidden(objects, n)) return;
      context.strokeStyle = css(id, 0.85);
      context.beginPath();
      let isDrawing = false;
      for (let p = Math.max(0, this.position - TRAIL); p <= this.position; p++) {
        const frame = this.objects.boxes.get(p);
        const row = frame ? frame.id.indexOf(id) : -1;
        if (!frame || row < 0 || this.info.cuts.includes(p)) {
          isDrawing = false;
          if (row < 0 || !frame) continue;
        }
        const [x1, , x2, y2] = frame.box.slice(4 * row, 4 * row + 4);
        if (isDrawing) context.lineTo((x1 + x2) / 2, y2);
        else context.moveTo((x1 + x2) / 2, y2);
        isDrawing = true;
      }
      context.stroke();
    });
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {FrameObjects} objects
   * @param {number} scale
   */
  drawBoxes(context, objects, scale) {
    const { looks, selected, related, hovered } = this.view;
    objects.id.forEach((id, n) => {
      const isSelected = selected.has(id);
      const isHovered = hovered === id;
      const isRelated = !isSelected && related.has(id);
      if (this.isHidden(objects, n) || !(looks.boxes || isSelected || isHovered || isRelated)) return;
      const [x1, y1, x2, y2] = objects.box.slice(4 * n, 4 * n + 4);
      const dim = selected.size && !isSelected && !isHovered && !isRelated;
      context.strokeStyle = css(id, dim ? 0.5 : 1);
      context.lineWidth = (isSelected ? 3 : isHovered ? 2.5 : 1.75) / scale;
      context.setLineDash(isRelated ? [7 / scale, 4 / scale] : []);
      context.strokeRect(x1, y1, x2 - x1, y2 - y1);
      context.setLineDash([]);
      if (!this.info.masks || !looks.masks) {
        if (!looks.outline) {
          context.fillStyle = css(id, looks.opacity * (dim ? 0.4 : 0.8));
          context.fillRect(x1, y1, x2 - x1, y2 - y1);
        }
      }
      if (isSelected) {
        context.strokeStyle = "#fff";
        context.lineWidth = 1 / scale;
        const gap = 3 / scale;
        context.strokeRect(x1 - gap, y1 - gap, x2 - x1 + 2 * gap, y2 - y1 + 2 * gap);
      }
    });
  }

  /**
   * Ids, each on a plate that lies beside no other; the selected ones first, then the large ones.
   * @param {CanvasRenderingContext2D} context
   * @param {FrameObjects} objects
   * @param {number} scale
   */
  drawLabels(context, objects, scale) {
    const { selected, hovered } = this.view;
    const size = 12 / scale;
    context.font = `600 ${size}px system-ui, sans-serif`;
    context.textBaseline = "middle";
    /** @type {number[][]} */
    const taken = [];
    const weight = (/** @type {number} */ n) => {
      const [x1, y1, x2, y2] = objects.box.slice(4 * n, 4 * n + 4);
      return (selected.has(objects.id[n]) || hovered === objects.id[n] ? 1e12 : 0) + (x2 - x1) * (y2 - y1);
    };
    const order = objects.id.map((_, n) => n).filter((n) => !this.isHidden(objects, n));
    order.sort((a, b) => weight(b) - weight(a));
    for (const n of order) {
      const id = objects.id[n];
      const [x1, y1, x2, y2] = objects.box.slice(4 * n, 4 * n + 4);
      const text = shortened(this.label(id), selected.has(id) || hovered === id ? MOST_LETTERS_CHOSEN : MOST_LETTERS);
      const w = context.measureText(text).width + size * 0.7;
      const hgt = size * 1.35;
      const places = [[x1, y1 - hgt], [x1, y1], [x2 - w, y1], [x1, y2 - hgt], [x1, y2]];
      const place = places.find(
        ([x, y]) =>
          y >= 0 && x >= 0 && x + w <= this.info.width && y + hgt <= this.info.height &&
          taken.every(([a, b, c, d]) => x >= c || x + w <= a || y >= d || y + hgt <= b),
      );
      if (!place && weight(n) < 1e12) continue;
      const [x, y] = place ?? places[1];
      taken.push([x, y, x + w, y + hgt]);
      context.globalAlpha = selected.size && !selected.has(id) && hovered !== id ? 0.6 : 1;
      context.fillStyle = css(id);
      context.beginPath();
      context.roundRect(x, y, w, hgt, 3 / scale);
      context.fill();
      context.fillStyle = ink(id);
      context.fillText(text, x + size * 0.35, y + hgt * 0.54);
      context.globalAlpha = 1;
    }
  }

  /**
   * What an id is called; the page sets it where people gave names.
   * @param {number} id
   */
  label(id) {
    return String(id);
  }

  /** @param {FrameObjects} objects */
  describe(objects) {
    const ids = objects.id.filter((_, n) => !this.isHidden(objects, n));
    const text = `${this.info.name}, frame ${indexOf(this.info, this.position)}: ${ids.length} objects`;
    if (this.canvas.getAttribute("aria-label") !== text) this.canvas.setAttribute("aria-label", text);
  }
}

/**
 * Where a mask lies in a layer of which a pixel is `step` pixels wide and high.
 * @param {MaskRuns} mask
 * @param {number} step
 */
function coarseBox({ x, y, w, h }, step) {
  const [left, top] = [Math.floor(x / step), Math.floor(y / step)];
  return { x: left, y: top, w: Math.ceil((x + w) / step) - left, h: Math.ceil((y + h) / step) - top };
}

/**
 * Every so many rows and columns of a mask; what is inside stays at least a pixel wide.
 * @param {MaskRuns} mask
 * @param {number} step
 */
export function coarseSpans(mask, step) {
  const box = coarseBox(mask, step);
  const fine = spansByRow(mask);
  if (step === 1) return { ...box, ...fine };
  const first = new Int32Array(box.h + 1);
  const spans = /** @type {number[]} */ ([]);
  for (let row = 0; row < box.h; row++) {
    const from = clamp((box.y + row) * step - mask.y, 0, mask.h - 1);
    for (let k = fine.first[from]; k < fine.first[from + 1]; k++) {
      const start = Math.floor((mask.x + fine.spans[2 * k]) / step) - box.x;
      spans.push(start, Math.max(start + 1, Math.round((mask.x + fine.spans[2 * k + 1]) / step) - box.x));
    }
    first[row + 1] = spans.length / 2;
  }
  return { ...box, first, spans };
}

/**
 * Paints a mask: the rim are the pixels that are not inside by its width in their row, or in the rows so far above and
 * below.
 * @param {Uint32Array} pixels of the whole layer
 * @param {number} columns its width
 * @param {MaskRuns} mask
 * @param {[number, number, number]} colour
 * @param {number} opacity of the fill
 * @param {number} rim pixels of the outline
 * @param {number} strength of the outline
 * @param {number} [step] pixels of the mask that are one of the layer
 */
export function paintMask(pixels, columns, mask, colour, opacity, rim, strength, step = 1) {
  const fill = pixel(colour, Math.round(255 * opacity));
  const edge = rim ? pixel(colour, Math.round(255 * strength)) : fill;
  const { x, y, h, first, spans } = coarseSpans(mask, step);
  for (let row = 0; row < h; row++) {
    const base = (y + row) * columns + x;
    const isDeep = rim > 0 && row >= rim && row + rim < h;
    for (let k = first[row]; k < first[row + 1]; k++) {
      pixels.fill(edge, base + spans[2 * k], base + spans[2 * k + 1]);
      if (!isDeep) continue;
      const [from, to] = [spans[2 * k] + rim, spans[2 * k + 1] - rim];
      for (let a = first[row - rim]; a < first[row - rim + 1]; a++) {
        const [low, high] = [Math.max(from, spans[2 * a]), Math.min(to, spans[2 * a + 1])];
        for (let b = first[row + rim]; b < first[row + rim + 1] && low < high; b++) {
          const [start, stop] = [Math.max(low, spans[2 * b]), Math.min(high, spans[2 * b + 1])];
          if (start < stop) pixels.fill(fill, base + start, base + stop);
        }
      }
    }
  }
}
