/** @file Elements, colours and small arithmetic. */

/**
 * An element with its attributes, listeners and children. Text is never taken for markup.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, string|number|boolean|null|undefined|((event: any) => void)>} [attributes] `onclick` and the
 *   like are listeners, `true` is an attribute without value, null and false are left out
 * @param {(Node|string|null)[]} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, String(value));
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/**
 * The element of an id, which has to be there.
 * @param {string} id
 * @returns {HTMLElement}
 */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`no element ${id}`);
  return element;
}

/**
 * @param {string} id
 * @returns {HTMLCanvasElement}
 */
export function canvasById(id) {
  return /** @type {HTMLCanvasElement} */ (byId(id));
}

/**
 * @param {number} value
 * @param {number} low
 * @param {number} high
 */
export const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

const SHADES = [[0.78, 1], [0.92, 0.88], [0.55, 0.98], [0.85, 0.8], [0.66, 0.9]];
/** @type {Map<number, [number, number, number]>} */
const colours = new Map();

/**
 * RGB of a track, 0 … 255: the colour that it has in overlay videos, too; of one that the run does not have, by its id.
 * @param {number} id
 * @returns {[number, number, number]}
 */
export function trackColour(id) {
  let colour = colours.get(id);
  if (colour) return colour;
  if (id < 1) colour = [150, 150, 150];
  else {
    const [saturation, value] = SHADES[(id - 1) % SHADES.length];
    const hue = ((0.33 + 0.6180339887498949 * id) % 1) * 6;
    const part = (/** @type {number} */ n) => {
      const k = (n + hue) % 6;
      return Math.round(255 * (value - value * saturation * Math.max(0, Math.min(k, 4 - k, 1))));
    };
    colour = [part(5), part(3), part(1)];
  }
  colours.set(id, colour);
  return colour;
}

/**
 * From now on tracks have the colours that the run gives them; all others those of their ids.
 * @param {import("./types.js").TrackColumns} tracks
 */
export function setColours(tracks) {
  colours.clear();
  tracks.id.forEach((id, row) => {
    const value = parseInt(tracks.colour[row].slice(1), 16);
    colours.set(id, [value >> 16, (value >> 8) & 255, value & 255]);
  });
}

/**
 * @param {number} id
 * @param {number} [alpha]
 */
export function css(id, alpha = 1) {
  const [r, g, b] = trackColour(id);
  return alpha === 1 ? `rgb(${r} ${g} ${b})` : `rgb(${r} ${g} ${b} / ${alpha})`;
}

/**
 * Black or white, whichever reads better on the colour.
 * @param {number} id
 */
export function ink(id) {
  const [r, g, b] = trackColour(id);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 120 ? "#000" : "#fff";
}

/**
 * Makes a canvas as fine as the screen; true when its size changed.
 * @param {HTMLCanvasElement} canvas
 */
export function sharpen(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const width = Math.max(1, Math.round(canvas.clientWidth * ratio));
  const height = Math.max(1, Math.round(canvas.clientHeight * ratio));
  if (canvas.width === width && canvas.height === height) return false;
  canvas.width = width;
  canvas.height = height;
  return true;
}

/**
 * @param {HTMLCanvasElement} canvas
 * @returns {CanvasRenderingContext2D}
 */
export function context2d(canvas) {
  const context = canvas.getContext("2d");
  if (!context) throw new Error("no canvas");
  return context;
}

/**
 * The value of a CSS variable.
 * @param {string} name
 */
export const cssVariable = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/**
 * @param {number} seconds
 */
export function clock(seconds) {
  const minutes = Math.floor(seconds / 60);
  return `${minutes}:${(seconds - 60 * minutes).toFixed(2).padStart(5, "0")}`;
}

/**
 * A number of things, in words.
 * @param {number} count
 * @param {string} one what one of them is called
 * @param {string} [more] what several are
 */
export function counted(count, one, more = `${one}s`) {
  return `${thousands(count)} ${count === 1 ? one : more}`;
}

/**
 * A text that is no longer than so many letters.
 * @param {string} text
 * @param {number} most
 */
export function shortened(text, most) {
  const letters = Array.from(text);
  return letters.length <= most ? text : `${letters.slice(0, most - 1).join("")}…`;
}

/**
 * As much of a text as a width has space for.
 * @param {CanvasRenderingContext2D} context
 * @param {string} text
 * @param {number} width
 */
export function fitted(context, text, width) {
  let letters = Array.from(text).length;
  while (letters > 1 && context.measureText(shortened(text, letters)).width > width) letters -= 1;
  return shortened(text, letters);
}

/** @param {number} count */
export const thousands = (count) => count.toLocaleString("en").replaceAll(",", "\u202f");

/**
 * Calls a function once per drawn frame at most.
 * @param {() => void} draw
 * @returns {() => void}
 */
export function onFrame(draw) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      draw();
    });
  };
}

/** @typedef {import("./types.js").RunInfo} RunInfo */

/**
 * The absolute index of a position.
 * @param {RunInfo} info
 * @param {number} position
 */
export function indexOf(info, position) {
  let [index, at] = [position, 0];
  for (const [first, start] of info.indices) {
    if (start > position) break;
    [index, at] = [first, start];
  }
  return index + position - at;
}

/**
 * The position of an absolute index, or of the frame before it.
 * @param {RunInfo} info
 * @param {number} index
 */
export function positionOf(info, index) {
  let position = 0;
  info.indices.forEach(([first, at], n) => {
    const next = info.indices[n + 1]?.[1] ?? info.frames;
    if (index >= first) position = Math.min(at + index - first, next - 1);
  });
  return clamp(position, 0, Math.max(0, info.frames - 1));
}
