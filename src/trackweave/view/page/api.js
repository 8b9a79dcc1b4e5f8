/** @file Requests to the server, and what of its answers is kept: a bounded number of frames. */

/** @typedef {import("./types.js").FrameObjects} FrameObjects */
/** @typedef {import("./types.js").RunInfo} RunInfo */

const BASE = new URL("../", import.meta.url);
const PICTURE_BYTES = 320e6;
/** Pixels across of a picture for playing, as the server makes them. */
const MOVING_WIDTH = 960;
const MOST_MOVING = 24;
const MASK_FRAMES = 160;
const BOX_FRAMES = 4096;
const BOX_CHUNK = 64;
const MASK_CHUNK = 4;

/** @param {string} path */
export const address = (path) => new URL(path, BASE).href;

/**
 * @param {string} path
 * @returns {Promise<any>}
 */
export async function getJson(path) {
  const response = await fetch(address(path));
  if (!response.ok) throw new Error(await response.text());
  return response.json();
}

/**
 * Sends JSON, and gives the JSON of the answer.
 * @param {string} path
 * @param {unknown} value
 * @returns {Promise<any>}
 */
export async function postJson(path, value) {
  const response = await fetch(address(path), {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(value),
  });
  if (!response.ok) throw new Error(await response.text());
  return response.json();
}

/**
 * Calls back when tracks have changed, here or in another tab.
 * @param {(version: string) => void} onVersion
 * @param {(job: import("./types.js").Job|null) => void} onJob how far a prompt has come
 */
export function listenToChanges(onVersion, onJob) {
  const events = new EventSource(address("api/events"));
  events.onmessage = (event) => onVersion(event.data);
  events.addEventListener("job", (event) => onJob(JSON.parse(event.data)));
}

/**
 * Closes the oldest bitmaps.
 * @param {Map<number, ImageBitmap>} bitmaps
 * @param {number} most that stay
 */
function forget(bitmaps, most) {
  for (const [oldest, bitmap] of bitmaps) {
    if (bitmaps.size <= most) break;
    bitmap.close();
    bitmaps.delete(oldest);
  }
}

/**
 * Pictures of a run as bitmaps, the least recently used give way.
 */
export class PictureCache {
  /**
   * @param {number} run its number
   * @param {RunInfo} info
   */
  constructor(run, info) {
    this.run = run;
    this.info = info;
    this.most = Math.max(6, Math.floor(PICTURE_BYTES / (info.width * info.height * 4)));
    /** @type {Map<number, ImageBitmap>} */
    this.bitmaps = new Map();
    /** Smaller ones, for playing. @type {Map<number, ImageBitmap>} */
    this.moving = new Map();
    /** @type {Map<number, Promise<ImageBitmap|null>>} */
    this.asking = new Map();
    /** @type {Map<number, Promise<ImageBitmap|null>>} */
    this.asked = new Map();
    /** @type {string|null} */
    this.problem = null;
    this.wished = -1;
    /** Whose wishes these are: those of other tabs are not given up for them. */
    this.reader = Math.random().toString(36).slice(2);
    /** @type {AbortController|null} */
    this.ends = null;
    /** How many pictures are loaded ahead of the one that is seen. */
    this.ahead = 10;
  }

  /** Can it play by itself, as a video does? */
  get plays() {
    return false;
  }

  /**
   * Plays by itself.
   * @param {number} _position
   * @param {number} _speed
   * @param {(position: number, picture: import("./types.js").Picture) => void} _onPicture
   */
  start(_position, _speed, _onPicture) {}

  /** Ends playing by itself. */
  stop() {}

  /** @param {number} position */
  get(position) {
    const bitmap = this.bitmaps.get(position);
    if (bitmap) {
      this.bitmaps.delete(position);
      this.bitmaps.set(position, bitmap);
    }
    return bitmap ?? null;
  }

  /**
   * Is a picture there? While playing also a smaller one.
   * @param {number} position
   * @param {boolean} isMoving
   */
  has(position, isMoving) {
    return this.bitmaps.has(position) || (isMoving && this.moving.has(position));
  }

  /**
   * Loads a picture for playing.
   * @param {number} position
   * @param {number} width pixels across at which it is seen: where a small picture would be blurred, the whole one
   * @returns {Promise<ImageBitmap|null>}
   */
  async loadMoving(position, width) {
    if (!this.info.pictures || this.info.width < 1.5 * MOVING_WIDTH || width > 1.5 * MOVING_WIDTH) return this.load(position);
    const known = this.get(position) ?? this.moving.get(position);
    if (known) return known;
    let promise = this.asking.get(position);
    if (!promise) {
      promise = this.fetchMoving(position).finally(() => this.asking.delete(position));
      this.asking.set(position, promise);
    }
    return promise;
  }

  /**
   * @param {number} position
   * @returns {Promise<ImageBitmap|null>}
   */
  async fetchMoving(position) {
    const response = await fetch(address(`api/${this.run}/moving/${position}.jpg`));
    if (response.status !== 200) return null;
    const bitmap = await createImageBitmap(await response.blob());
    this.moving.set(position, bitmap);
    forget(this.moving, MOST_MOVING);
    return bitmap;
  }

  /**
   * The picture that is to be seen now; one that was wished for before is given up.
   * @param {number} position
   * @returns {Promise<ImageBitmap|null>} null where there is none
   */
  wish(position) {
    if (this.wished !== position) this.ends?.abort();
    this.wished = position;
    const known = this.get(position) || this.asked.has(position);
    if (known || !this.info.pictures) return this.load(position);
    this.ends = new AbortController();
    return this.fetch(position, this.ends.signal);
  }

  /**
   * The nearest picture that is there at once.
   * @param {number} position
   * @returns {Promise<{position: number, bitmap: ImageBitmap}|null>}
   */
  async near(position) {
    const response = await fetch(address(`api/${this.run}/near/${position}.jpg`));
    if (response.status !== 200) return null;
    return { position: Number(response.headers.get("X-Position")), bitmap: await createImageBitmap(await response.blob()) };
  }

  /**
   * @param {number} position
   * @returns {Promise<ImageBitmap|null>} null where there is none
   */
  load(position) {
    if (!this.info.pictures) return Promise.resolve(null);
    const bitmap = this.get(position);
    if (bitmap) return Promise.resolve(bitmap);
    let promise = this.asked.get(position);
    if (!promise) {
      promise = this.fetch(position).finally(() => this.asked.delete(position));
      this.asked.set(position, promise);
    }
    return promise;
  }

  /**
   * @param {number} position
   * @param {AbortSignal} [signal] gives up a wish
   * @returns {Promise<ImageBitmap|null>}
   */
  async fetch(position, signal) {
    const response = await fetch(address(`api/${this.run}/frame/${position}.jpg${signal ? `?wish=${this.reader}` : ""}`), { signal });
    if (response.status === 204 && this.wished === position) { // asked for ahead, given up, and now to be seen
      return this.fetch(position, signal ?? new AbortController().signal);
    }
    if (response.status !== 200) {
      if (response.status === 422) this.problem = await response.text();
      return null;
    }
    const bitmap = await createImageBitmap(await response.blob());
    this.bitmaps.set(position, bitmap);
    forget(this.bitmaps, this.most);
    return bitmap;
  }
}

/**
 * Objects of a run's frames, asked for in chunks.
 */
export class ObjectCache {
  /**
   * @param {number} run
   * @param {RunInfo} info
   */
  constructor(run, info) {
    this.run = run;
    this.info = info;
    /** @type {Map<number, FrameObjects>} */
    this.boxes = new Map();
    /** @type {Map<number, FrameObjects>} */
    this.masks = new Map();
    /** @type {Map<string, Promise<void>>} */
    this.asked = new Map();
    this.version = 0;
  }

  /** Forgets everything: the tracks have changed. */
  clear() {
    this.version += 1;
    this.boxes.clear();
    this.masks.clear();
    this.asked.clear();
  }

  /**
   * What is there of a frame; with masks where they are.
   * @param {number} position
   * @returns {FrameObjects|null}
   */
  get(position) {
    return this.masks.get(position) ?? this.boxes.get(position) ?? null;
  }

  /**
   * Loads a frame's objects.
   * @param {number} position
   * @param {boolean} masks
   * @param {number} [stride] how far apart the frames are that are asked for: masks between them cost time, too
   */
  async load(position, masks, stride = 1) {
    const wanted = masks && this.info.masks;
    const store = wanted ? this.masks : this.boxes;
    if (store.has(position)) return;
    const chunk = wanted ? MASK_CHUNK : BOX_CHUNK;
    const first = Math.floor(position / chunk) * chunk;
    const isAlone = wanted && stride > MASK_CHUNK / 2 && !this.asked.has(`${first} ${chunk}`);
    const [from, count] = isAlone ? [position, 1] : [first, chunk];
    const key = `${from} ${count}`;
    let promise = this.asked.get(key);
    if (!promise) {
      promise = this.fetch(from, count, wanted).finally(() => this.asked.delete(key));
      this.asked.set(key, promise);
    }
    await promise;
  }

  /**
   * @param {number} first
   * @param {number} count
   * @param {boolean} masks
   */
  async fetch(first, count, masks) {
    const version = this.version;
    const query = `first=${first}&count=${count}${masks ? "&masks=1" : ""}`;
    const answer = await getJson(`api/${this.run}/objects?${query}`);
    if (version !== this.version) return;
    const store = masks ? this.masks : this.boxes;
    answer.frames.forEach((/** @type {FrameObjects} */ frame, /** @type {number} */ k) => store.set(first + k, frame));
    const most = masks ? MASK_FRAMES : BOX_FRAMES;
    for (const oldest of store.keys()) {
      if (store.size <= most) break;
      store.delete(oldest);
    }
  }
}
