/** @file `Player`: which frame is seen, and playing by the clock. */

import { clamp } from "./util.js";

/** @typedef {import("./stage.js").Stage} Stage */

const MOST_LOADING = 3;
/** Milliseconds between two wishes of a scrubber that is dragged. */
const BREATH = 16;
export const SPEEDS = [0.1, 0.25, 0.5, 1, 2, 4, 8];
const USUAL_RATE = 25;

/**
 * The frame that all stages show. While playing the clock says which one is due: what is not there in time is dropped.
 */
export class Player {
  /**
   * @param {Stage} stage the first one; its positions count
   * @param {(position: number) => void} onMove
   */
  constructor(stage, onMove) {
    this.stage = stage;
    this.onMove = onMove;
    this.position = 0;
    this.speed = 1;
    this.isPlaying = false;
    this.began = 0;
    this.beganAt = 0;
    this.loading = 0;
    /** Milliseconds that a frame takes to load, of late. */
    this.latency = 0;
    this.isSeeking = false;
    this.turn = 0;
    /** What was drawn and what was dropped since playing began. */
    this.counts = { drawn: 0, dropped: 0 };
  }

  get last() {
    return this.stage.info.frames - 1;
  }

  get rate() {
    return this.stage.info.rate ?? USUAL_RATE;
  }

  /**
   * Goes to a frame; while one is loading only the latest wish is kept.
   * @param {number} position
   */
  async seek(position) {
    const wanted = clamp(Math.round(position), 0, Math.max(0, this.last));
    this.position = wanted;
    this.onMove(wanted);
    if (this.isPlaying) this.restart();
    if (this.isPlaying && this.stage.pictures.plays) return;
    this.turn += 1;
    const { turn } = this;
    if (this.isSeeking) await new Promise((resolve) => window.setTimeout(resolve, BREATH));
    if (turn !== this.turn) return; // another wish came within the same drawn frame
    this.isSeeking = true;
    await this.stage.show(wanted).catch(() => undefined);
    if (turn !== this.turn) return;
    this.isSeeking = false;
    const { ahead } = this.stage.pictures;
    this.prefetch(this.position, Math.min(4, ahead));
    if (this.position > 0 && ahead) void this.stage.pictures.load(this.position - 1).catch(() => undefined);
  }

  /** @param {number} frames */
  step(frames) {
    this.pause();
    void this.seek(this.position + frames);
  }

  toggle() {
    if (this.isPlaying) this.pause();
    else this.play();
  }

  play() {
    if (this.isPlaying || this.last < 1) return;
    if (this.position >= this.last) this.position = 0;
    this.isPlaying = this.stage.isMoving = true;
    this.counts = { drawn: 0, dropped: 0 };
    this.restart();
    if (!this.stage.pictures.plays) requestAnimationFrame((now) => this.tick(now));
    this.onMove(this.position);
  }

  pause() {
    if (!this.isPlaying) return;
    this.isPlaying = this.stage.isMoving = false;
    this.stage.pictures.stop();
    this.onMove(this.position);
    if (!this.stage.pictures.plays) void this.stage.show(this.position).catch(() => undefined);
  }

  restart() {
    this.began = performance.now();
    this.beganAt = this.position;
    const { stage } = this;
    if (!this.isPlaying || !stage.pictures.plays) return;
    stage.pictures.start(this.position, this.speed, (position, picture) => {
      if (!this.isPlaying) return;
      this.position = position;
      stage.wanted = position;
      stage.set(position, picture);
      this.onMove(position);
      if (position >= this.last) this.pause();
    });
  }

  /** @param {number} now */
  tick(now) {
    if (!this.isPlaying) return;
    const due = Math.min(this.last, this.beganAt + Math.floor(((now - this.began) * this.rate * this.speed) / 1000));
    if (due > this.position || this.stage.position !== this.position) {
      let shown = due;
      while (shown > this.position && !this.stage.isReady(shown)) shown -= 1;
      if (this.stage.isReady(shown) && shown !== this.stage.position) {
        this.counts.drawn += 1;
        this.counts.dropped += Math.max(0, shown - this.position - 1);
        this.position = shown;
        this.stage.wanted = shown;
        this.stage.set(shown, this.stage.pictures.get(shown) ?? this.stage.pictures.moving.get(shown) ?? null);
        this.onMove(shown);
      } else if (due - this.position > this.rate * 2) {
        // Nothing came for two seconds: go on from where the pictures are, the clock waits.
        this.restart();
      }
    }
    if (this.position >= this.last) {
      this.pause();
      return;
    }
    // What takes longer than the clock allows is asked for ahead of it, and as many frames apart as can arrive in time.
    const late = (this.latency * this.rate * this.speed) / 1000;
    const stride = Math.max(1, Math.round((this.rate * this.speed) / 60), Math.ceil(late / MOST_LOADING));
    this.prefetch(Math.max(this.position, due) + (stride > 1 ? Math.floor(late) : 0), this.stage.pictures.ahead, stride);
    requestAnimationFrame((then) => this.tick(then));
  }

  /**
   * Loads the frames that follow, few at a time; at the end the last one.
   * @param {number} from
   * @param {number} count
   * @param {number} [stride]
   */
  prefetch(from, count, stride = 1) {
    const { pictures } = this.stage;
    for (let k = 1; k <= count && this.loading < MOST_LOADING; k++) {
      const position = Math.min((Math.floor(from / stride) + k) * stride, this.last);
      if (this.stage.isReady(position) || pictures.asked.has(position) || pictures.asking.has(position)) {
        if (position === this.last) return;
        continue;
      }
      this.loading += 1;
      const began = performance.now();
      void Promise.all([
        this.isPlaying ? pictures.loadMoving(position, this.stage.shownWidth()) : pictures.load(position),
        this.stage.objects.load(position, this.stage.view.looks.masks, stride),
      ]).catch(() => undefined).finally(() => {
        this.loading -= 1;
        this.latency += 0.3 * (performance.now() - began - this.latency);
      });
    }
  }
}
