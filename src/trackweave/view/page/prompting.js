/** @file Prompting a mask anew on the video: by points, by a box, or with a brush. */

import { clamp, context2d, h } from "./util.js";

/** @typedef {import("./stage.js").Stage} Stage */
/** @typedef {import("./types.js").MaskRuns} MaskRuns */
/** @typedef {"points"|"box"|"brush"} Tool */

const LEAST_BOX = 2;
const MOST_RADIUS = 200;
const HINTS = {
  points: "click inside the object, with Alt (or the right button) outside of it; Enter prompts, Esc gives it up",
  box: "drag a box around the object; Esc gives it up",
  brush: "paint the object, with Alt (or the right button) erase; wheel: size; Enter prompts, Esc gives it up",
};

/**
 * A mask of the frame's size as COCO's compressed run-length code: runs down the columns, the first of pixels outside.
 * @param {Uint8Array} inside width × height, row after row, 1 inside
 * @param {number} width
 * @param {number} height
 * @returns {{size: [number, number], counts: string}}
 */
export function encodeMask(inside, width, height) {
  const runs = /** @type {number[]} */ ([]);
  let last = 0;
  let length = 0;
  for (let x = 0; x < width; x++) {
    for (let y = 0; y < height; y++) {
      const value = inside[y * width + x] ? 1 : 0;
      if (value !== last) {
        runs.push(length);
        last = value;
        length = 0;
      }
      length += 1;
    }
  }
  runs.push(length);
  let counts = "";
  runs.forEach((run, n) => {
    let rest = n > 2 ? run - runs[n - 2] : run;
    for (let more = true; more;) {
      let bits = rest & 0x1f;
      rest >>= 5;
      more = bits & 0x10 ? rest !== -1 : rest !== 0;
      if (more) bits |= 0x20;
      counts += String.fromCharCode(bits + 48);
    }
  });
  return { size: [height, width], counts };
}

/**
 * A mask's runs as pixels of the frame's size.
 * @param {MaskRuns} mask
 * @param {number} width
 * @param {number} height
 */
export function pixelsOf(mask, width, height) {
  const pixels = new Uint8Array(width * height);
  const [rows, columns] = mask.size;
  const box = new Uint8Array(mask.w * mask.h);
  let at = 0;
  mask.runs.forEach((length, n) => {
    if (n % 2) box.fill(1, at, at + length);
    at += length;
  });
  for (let y = 0; y < height; y++) {
    const row = Math.floor((y * rows) / height) - mask.y;
    if (row < 0 || row >= mask.h) continue;
    for (let x = 0; x < width; x++) {
      const column = Math.floor((x * columns) / width) - mask.x;
      if (column >= 0 && column < mask.w) pixels[y * width + x] = box[row * mask.w + column];
    }
  }
  return pixels;
}

/**
 * What the tools ask of the page.
 * @typedef {object} Host
 * @property {() => Promise<{track: number|null, name: string|null}|null>} target whose prompt it is; null = given up
 * @property {() => MaskRuns|null} mask of the selected object on this frame
 * @property {(record: Record<string, unknown>) => Promise<boolean>} act
 * @property {() => number} frame absolute index of the frame that is shown
 * @property {(text: string) => void} say
 * @property {() => boolean} ready can anything be said here, is the video at rest
 */

/** The tools on one stage. While one is chosen, the pointer is its own. */
export class Prompting {
  /**
   * @param {Stage} stage
   * @param {Host} host
   */
  constructor(stage, host) {
    this.stage = stage;
    this.host = host;
    /** @type {Tool|null} */
    this.tool = null;
    /** @type {[number, number, number][]} x, y, and 1 inside */
    this.points = [];
    /** @type {number[]|null} */
    this.box = null;
    /** @type {Uint8Array|null} */
    this.painted = null;
    this.radius = Math.max(3, Math.round(Math.min(stage.info.width, stage.info.height) / 30));
    this.isErasing = false;
    /** @type {[number, number]|null} where the pointer is, in pixels of the frame */
    this.pointer = null;
    /** @type {{x: number, y: number, erases: boolean}|null} */
    this.drag = null;
    this.layer = document.createElement("canvas");
    this.buttons = /** @type {HTMLButtonElement[]} */ ([]);
    stage.overlay = (context, scale) => this.draw(context, scale);
    this.listen();
  }

  listen() {
    const { canvas } = this.stage;
    /**
     * @param {string} kind
     * @param {(event: any) => void} run
     */
    const take = (kind, run) => canvas.addEventListener(kind, (event) => {
      if (!this.tool) return;
      event.stopImmediatePropagation();
      event.preventDefault();
      run(event);
    }, { capture: true, passive: false });
    take("pointerdown", (event) => this.down(event));
    take("pointermove", (event) => this.move(event));
    take("pointerup", (event) => this.up(event));
    take("pointercancel", () => (this.drag = null));
    take("pointerleave", () => { this.pointer = null; this.stage.redraw(); });
    take("contextmenu", () => undefined);
    take("dblclick", () => undefined);
    canvas.addEventListener("wheel", (event) => {
      if (this.tool !== "brush") return;
      event.stopImmediatePropagation();
      event.preventDefault();
      this.resize(event.deltaY < 0 ? 1.15 : 1 / 1.15);
    }, { capture: true, passive: false });
  }

  /** @param {number} factor */
  resize(factor) {
    this.radius = clamp(this.radius * factor, 1, MOST_RADIUS);
    this.stage.redraw();
  }

  /**
   * Takes a tool in hand, or puts it away.
   * @param {Tool} tool
   */
  toggle(tool) {
    if (this.tool === tool) {
      this.end();
      return;
    }
    if (!this.host.ready()) return;
    this.end();
    this.tool = tool;
    if (tool === "brush") {
      const mask = this.host.mask();
      const { width, height } = this.stage.info;
      this.painted = mask ? pixelsOf(mask, width, height) : new Uint8Array(width * height);
      this.paint();
    }
    this.stage.canvas.classList.add("drawing");
    this.host.say(HINTS[tool]);
    this.pressed();
    this.stage.redraw();
  }

  /** Puts the tool away; what was marked is forgotten. */
  end() {
    if (!this.tool) return;
    this.tool = null;
    this.points = [];
    this.box = null;
    this.painted = null;
    this.drag = null;
    this.isErasing = false;
    this.stage.canvas.classList.remove("drawing");
    this.host.say("");
    this.pressed();
    this.stage.redraw();
  }

  pressed() {
    for (const button of this.buttons) {
      const name = button.dataset.tool;
      if (name === "erase") {
        button.hidden = this.tool !== "brush";
        button.setAttribute("aria-pressed", String(this.isErasing));
      } else if (name === "apply") button.hidden = this.tool !== "points" && this.tool !== "brush";
      else button.setAttribute("aria-pressed", String(this.tool === name));
    }
  }

  /** Buttons of the tools. */
  toolbar() {
    const button = (/** @type {string} */ name, /** @type {string} */ text, /** @type {string} */ title, /** @type {() => void} */ onclick) =>
      h("button", { type: "button", "data-tool": name, "aria-pressed": "false", title, onclick }, text);
    this.buttons = [
      button("points", "points", "prompt by points (P)", () => this.toggle("points")),
      button("box", "box", "prompt by a box (B)", () => this.toggle("box")),
      button("brush", "brush", "prompt by a painted mask (K)", () => this.toggle("brush")),
      button("erase", "erase", "the brush erases", () => { this.isErasing = !this.isErasing; this.pressed(); }),
      button("apply", "prompt ⏎", "prompt with what is marked (Enter)", () => void this.apply()),
    ];
    this.pressed();
    return this.buttons;
  }

  /** @param {PointerEvent} event */
  place(event) {
    const { width, height } = this.stage.info;
    const [x, y] = this.stage.toFrame(event.clientX, event.clientY);
    return /** @type {[number, number]} */ ([clamp(x, 0, width), clamp(y, 0, height)]);
  }

  /** @param {PointerEvent} event */
  down(event) {
    if (event.button === 1) return;
    const [x, y] = this.place(event);
    const isOutside = event.altKey || event.button === 2;
    this.drag = { x, y, erases: isOutside !== this.isErasing };
    this.stage.canvas.focus();
    this.stage.canvas.setPointerCapture(event.pointerId);
    if (this.tool === "points") this.points.push([round(x), round(y), isOutside ? 0 : 1]);
    if (this.tool === "brush") this.stroke(x, y);
    this.stage.redraw();
  }

  /** @param {PointerEvent} event */
  move(event) {
    const [x, y] = this.place(event);
    this.pointer = [x, y];
    if (this.drag && this.tool === "box") {
      this.box = [Math.min(this.drag.x, x), Math.min(this.drag.y, y), Math.max(this.drag.x, x), Math.max(this.drag.y, y)];
    }
    if (this.drag && this.tool === "brush") this.stroke(x, y);
    this.stage.redraw();
  }

  /** @param {PointerEvent} _event */
  up(_event) {
    this.drag = null;
    if (this.tool !== "box" || !this.box) return;
    if (this.box[2] - this.box[0] >= LEAST_BOX && this.box[3] - this.box[1] >= LEAST_BOX) void this.apply();
    else this.box = null;
  }

  /**
   * Paints or erases a stroke from where the pointer was.
   * @param {number} x
   * @param {number} y
   */
  stroke(x, y) {
    const { drag, painted, radius } = this;
    if (!drag || !painted) return;
    const { width, height } = this.stage.info;
    const steps = Math.max(1, Math.ceil(Math.hypot(x - drag.x, y - drag.y) / Math.max(1, radius / 2)));
    for (let n = 1; n <= steps; n++) {
      const cx = drag.x + ((x - drag.x) * n) / steps;
      const cy = drag.y + ((y - drag.y) * n) / steps;
      for (let row = Math.max(0, Math.floor(cy - radius)); row <= Math.min(height - 1, cy + radius); row++) {
        const half = Math.sqrt(Math.max(0, radius ** 2 - (row + 0.5 - cy) ** 2));
        const from = clamp(Math.round(cx - half), 0, width);
        const to = clamp(Math.round(cx + half), 0, width);
        if (to > from) painted.fill(drag.erases ? 0 : 1, row * width + from, row * width + to);
      }
    }
    drag.x = x;
    drag.y = y;
    this.paint();
  }

  /** Draws what is painted into the layer that lies over the picture. */
  paint() {
    const { painted, layer } = this;
    if (!painted) return;
    const { width, height } = this.stage.info;
    if (layer.width !== width || layer.height !== height) {
      layer.width = width;
      layer.height = height;
    }
    const image = new ImageData(width, height);
    for (let n = 0; n < painted.length; n++) {
      if (painted[n]) image.data.set([80, 255, 160, 130], 4 * n);
    }
    context2d(layer).putImageData(image, 0, 0);
  }

  /** Sends what is marked; the object is then moved in the background. */
  async apply() {
    const { tool, points, box, painted } = this;
    const { width, height } = this.stage.info;
    /** @type {Record<string, unknown>} */
    const marks = {};
    if (tool === "points" && points.some((point) => point[2])) marks.points = points;
    else if (tool === "box" && box) marks.box = box.map(round);
    else if (tool === "brush" && painted?.some((value) => value)) marks.mask = encodeMask(painted, width, height);
    else {
      this.host.say(tool === "points" ? "a point inside the object is needed" : "nothing is marked yet");
      return;
    }
    const frame = this.host.frame();
    const target = await this.host.target();
    if (!target) {
      this.end();
      return;
    }
    const whose = target.track === null ? { name: target.name } : { track: target.track };
    if (await this.host.act({ act: "prompt", frame, ...whose, ...marks })) this.end();
    else this.box = null;
  }

  /**
   * Draws the marks over the frame.
   * @param {CanvasRenderingContext2D} context
   * @param {number} scale screen pixels per pixel of the frame
   */
  draw(context, scale) {
    if (!this.tool) return;
    const { width, height } = this.stage.info;
    context.lineWidth = 2 / scale;
    if (this.painted) context.drawImage(this.layer, 0, 0, width, height);
    if (this.tool === "brush" && this.pointer) {
      context.strokeStyle = this.isErasing ? "#ff6b6b" : "#fff";
      context.beginPath();
      context.arc(this.pointer[0], this.pointer[1], this.radius, 0, 2 * Math.PI);
      context.stroke();
    }
    if (this.box) {
      context.strokeStyle = "#fff";
      context.setLineDash([6 / scale, 4 / scale]);
      context.strokeRect(this.box[0], this.box[1], this.box[2] - this.box[0], this.box[3] - this.box[1]);
      context.setLineDash([]);
    }
    for (const [x, y, inside] of this.points) {
      context.fillStyle = inside ? "#22c55e" : "#ef4444";
      context.strokeStyle = "#fff";
      context.beginPath();
      context.arc(x, y, 6 / scale, 0, 2 * Math.PI);
      context.fill();
      context.stroke();
    }
  }
}

/** @param {number} value */
const round = (value) => Math.round(value * 10) / 10;
