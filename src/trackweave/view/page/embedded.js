/** @file What `api.js` is to the viewer, for a report: the same questions, answered from what the page itself holds. */

import { byId } from "./util.js";

/** @typedef {import("./types.js").FrameObjects} FrameObjects */
/** @typedef {import("./types.js").RunInfo} RunInfo */
/** @typedef {import("./types.js").TrackColumns} TrackColumns */

/**
 * @typedef {object} Held
 * @property {RunInfo} info
 * @property {TrackColumns} tracks
 * @property {string|null} boxes see `unpackBoxes`; null = none
 * @property {{rate: number, positions: number[]|null}|null} video positions of its frames; null = every frame of the run
 * @property {Record<string, string>} names
 */

const BITMAPS = 24;
const SEEK_SECONDS = 10;
const held = /** @type {Held} */ (JSON.parse(byId("run-data").textContent ?? "{}"));

/** @param {string} path */
export const address = (path) => path;

/**
 * @param {string} path
 * @returns {Promise<any>}
 */
export async function getJson(path) {
  if (path === "api/info") return { runs: [held.info] };
  if (path === "api/answers") {
    return { version: "", writable: false, notice: null, names: held.names, refused: [], acts: [], accepted: [], questions: [] };
  }
  if (path === "api/0/tracks") return held.tracks;
  throw new Error(`a report does not hold ${path}`);
}

/**
 * @param {string} _path
 * @param {unknown} _value
 * @returns {Promise<any>}
 */
export async function postJson(_path, _value) {
  throw new Error("a report is only looked at: trackweave view opens the run");
}

/**
 * @param {(version: string) => void} _onVersion
 * @param {(job: import("./types.js").Job|null) => void} _onJob
 */
export function listenToChanges(_onVersion, _onJob) {}

/**
 * Boxes by frame.
 *
 * They are packed as the rows of the table of tracks: x1 of all of them, then y1, x2, y2, each as the difference from the
 * one before in 16 bits, little end first; deflated, in base64.
 */
class BoxColumns {
  /** @param {TrackColumns} tracks */
  constructor(tracks) {
    const { starts, spans } = tracks;
    const count = tracks.count.reduce((sum, one) => sum + one, 0);
    this.tracks = tracks;
    this.row = new Uint32Array(count);
    const position = new Uint32Array(count);
    let at = 0;
    tracks.id.forEach((_, row) => {
      for (let s = starts[row]; s < starts[row + 1]; s++) {
        for (let p = spans[2 * s]; p < spans[2 * s + 1]; p++, at++) {
          this.row[at] = row;
          position[at] = p;
        }
      }
    });
    this.heads = new Uint32Array(held.info.frames + 1);
    for (const p of position) this.heads[p + 1] += 1;
    for (let p = 0; p < held.info.frames; p++) this.heads[p + 1] += this.heads[p];
    const next = this.heads.slice();
    this.order = new Uint32Array(count);
    position.forEach((p, n) => (this.order[next[p]++] = n));
    /** @type {Int32Array|null} */
    this.sides = null;
  }

  /** @param {string} packed */
  async unpack(packed) {
    const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    const view = new DataView(await new Response(stream).arrayBuffer());
    const sides = new Int32Array(4 * this.row.length);
    let sum = 0;
    for (let n = 0; n < sides.length; n++) {
      sum = ((sum + view.getInt16(2 * n, true)) << 16) >> 16;
      sides[n] = sum;
    }
    this.sides = sides;
  }

  /** @param {number} position */
  has(position) {
    return position >= 0;
  }

  /**
   * @param {number} position
   * @returns {FrameObjects|null}
   */
  get(position) {
    const { sides, tracks, row, order, heads } = this;
    if (!sides) return null;
    const here = [...order.subarray(heads[position], heads[position + 1])];
    const rows = here.map((n) => row[n]);
    const count = row.length;
    return {
      id: rows.map((r) => tracks.id[r]), level: rows.map((r) => tracks.level[r]), class: rows.map((r) => tracks.class[r]),
      score: rows.map((r) => tracks.score[r] ?? 0), item: rows.map(() => -1),
      box: here.flatMap((n) => [0, 1, 2, 3].map((side) => sides[side * count + n])),
    };
  }
}

/** The boxes that the page holds; masks it does not. */
export class ObjectCache {
  /**
   * @param {number} _run
   * @param {RunInfo} _info
   */
  constructor(_run, _info) {
    this.boxes = new BoxColumns(held.tracks);
    /** @type {Map<number, FrameObjects>} */
    this.masks = new Map();
    this.version = 0;
    /** @type {Promise<void>|null} */
    this.unpacked = held.boxes === null ? null : this.boxes.unpack(held.boxes);
  }

  clear() {
    this.version += 1;
  }

  /** @param {number} position */
  get(position) {
    return this.boxes.get(position);
  }

  /**
   * @param {number} _position
   * @param {boolean} _masks
   */
  async load(_position, _masks, _stride = 1) {
    await this.unpacked?.catch(() => undefined);
  }
}

/** Frames of the video beside the page. */
export class PictureCache {
  /**
   * @param {number} _run
   * @param {RunInfo} info
   */
  constructor(_run, info) {
    this.info = info;
    /** @type {Map<number, ImageBitmap>} */
    this.bitmaps = new Map();
    /** @type {Map<number, Promise<ImageBitmap|null>>} */
    this.asked = new Map();
    /** There are no smaller ones for playing. @type {Map<number, ImageBitmap>} */
    this.moving = new Map();
    /** @type {Map<number, Promise<ImageBitmap|null>>} */
    this.asking = new Map();
    /** @type {string|null} */
    this.problem = null;
    this.ahead = 0;
    const element = document.getElementById("video");
    this.video = held.video && element instanceof HTMLVideoElement ? element : null;
    if (this.video) {
      this.video.hidden = true;
      this.video.loop = false;
    }
    const positions = held.video?.positions ?? null;
    this.positions = positions;
    this.placeOf = new Map(positions?.map((position, place) => [position, place]));
    this.wished = -1;
    this.turn = Promise.resolve();
    this.playing = 0;
  }

  get plays() {
    return this.video !== null && this.positions === null;
  }

  /** @param {number} position */
  get(position) {
    return this.bitmaps.get(position) ?? null;
  }

  /**
   * @param {number} position
   * @param {boolean} _isMoving
   */
  has(position, _isMoving) {
    return this.bitmaps.has(position);
  }

  /**
   * @param {number} position
   * @param {number} _width
   */
  loadMoving(position, _width) {
    return this.load(position);
  }

  /** @param {number} position */
  wish(position) {
    this.wished = position;
    return this.load(position);
  }

  /**
   * @param {number} _position
   * @returns {Promise<{position: number, bitmap: ImageBitmap}|null>}
   */
  async near(_position) {
    return null;
  }

  /**
   * @param {number} position
   * @returns {Promise<ImageBitmap|null>} null where the video has none
   */
  load(position) {
    const found = this.bitmaps.get(position);
    const place = this.positions ? this.placeOf.get(position) : position;
    if (found || !this.video || place === undefined) return Promise.resolve(found ?? null);
    const next = this.turn.then(() => this.read(position, place));
    this.turn = next.then(() => undefined, () => undefined);
    return next;
  }

  /**
   * @param {number} position
   * @param {number} place
   */
  async read(position, place) {
    const video = /** @type {HTMLVideoElement} */ (this.video);
    if (this.wished !== position) return null; // one wish after the other: only the latest is worth its time
    try {
      if (video.readyState < 1) await happens(video, "loadedmetadata", () => video.load());
      await happens(video, "seeked", () => (video.currentTime = (place + 0.5) / /** @type {any} */ (held.video).rate));
      if (video.readyState < 2) await happens(video, "canplay");
      const bitmap = await createImageBitmap(video);
      this.bitmaps.set(position, bitmap);
      for (const [oldest, old] of this.bitmaps) {
        if (this.bitmaps.size <= BITMAPS) break;
        old.close();
        this.bitmaps.delete(oldest);
      }
      this.problem = null;
      return bitmap;
    } catch (error) {
      this.problem = `the video beside this page cannot be shown: ${error instanceof Error ? error.message : error}`;
      return null;
    }
  }

  /**
   * @param {number} position
   * @param {number} speed
   * @param {(position: number, picture: import("./types.js").Picture) => void} onPicture
   */
  start(position, speed, onPicture) {
    const { video } = this;
    const rate = held.video?.rate;
    if (!video || !rate) return;
    this.stop();
    const turn = this.playing;
    video.currentTime = (position + 0.5) / rate;
    video.playbackRate = speed;
    const listen = () => video.requestVideoFrameCallback((_now, frame) => {
      if (turn !== this.playing) return;
      onPicture(Math.min(Math.round(frame.mediaTime * rate), this.info.frames - 1), video);
      listen();
    });
    listen();
    video.onended = () => turn === this.playing && onPicture(this.info.frames - 1, video);
    void video.play().catch(() => undefined);
  }

  stop() {
    this.playing += 1;
    this.video?.pause();
  }
}

/**
 * Waits for an event of the video.
 * @param {HTMLVideoElement} video
 * @param {string} name
 * @param {() => void} [act] what lets it happen
 * @returns {Promise<void>}
 */
function happens(video, name, act) {
  return new Promise((resolve, reject) => {
    const ends = new AbortController();
    const timer = window.setTimeout(() => done(new Error("it does not answer")), 1000 * SEEK_SECONDS);
    /** @param {Error} [error] */
    const done = (error) => {
      ends.abort();
      window.clearTimeout(timer);
      if (error) reject(error);
      else resolve();
    };
    video.addEventListener(name, () => done(), { signal: ends.signal });
    video.addEventListener("error", () => done(new Error(video.error?.message || "it cannot be read")), { signal: ends.signal });
    act?.();
  });
}
