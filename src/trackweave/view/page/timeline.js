/** @file `Timeline`: all tracks along the video; rows are drawn only where they are seen. */

import { byId, canvasById, clamp, context2d, css, cssVariable, fitted, indexOf, onFrame, sharpen } from "./util.js";

/** @typedef {import("./types.js").RunInfo} RunInfo */
/** @typedef {import("./types.js").TrackColumns} TrackColumns */

export const ROW = 16;
const GUTTER = 58;
const RULER = 18;

/**
 * Bars of all tracks, and above them the doubt of every frame.
 */
export class Timeline {
  /**
   * @param {RunInfo} info
   * @param {import("./types.js").View} view
   * @param {(position: number) => void} onSeek
   * @param {(id: number, position: number, event: MouseEvent) => void} onPick
   */
  constructor(info, view, onSeek, onPick) {
    this.info = info;
    this.view = view;
    this.overview = canvasById("overview");
    this.canvas = canvasById("timeline");
    this.scroll = byId("timeline-scroll");
    this.space = byId("timeline-space");
    /** @type {TrackColumns|null} */
    this.tracks = null;
    /** @type {number[]} */
    this.rows = [];
    /** @type {Map<number, number>} */
    this.rowOf = new Map();
    /** @type {Map<number, {position: number, confidence: number}[]>} */
    this.marks = new Map();
    /** @type {[number, number][]} stretches that a person accepted */
    this.accepted = [];
    this.from = 0;
    this.to = Math.max(1, info.frames);
    this.redraw = onFrame(() => this.draw());
    this.scroll.addEventListener("scroll", this.redraw, { passive: true });
    new ResizeObserver(this.redraw).observe(this.scroll);
    this.listen(onSeek, onPick);
  }

  /**
   * @param {TrackColumns} tracks
   * @param {number[]} rows which of them, in this order
   */
  set(tracks, rows) {
    this.tracks = tracks;
    this.rows = rows;
    this.rowOf = new Map(rows.map((row, n) => [tracks.id[row], n]));
    this.marks.clear();
    for (const one of tracks.switches) {
      for (const id of one.tracks) {
        const list = this.marks.get(id) ?? [];
        list.push(one);
        this.marks.set(id, list);
      }
    }
    this.space.style.height = `${Math.max(rows.length * ROW, 1)}px`;
    this.redraw();
  }

  /**
   * Scrolls until a track is seen.
   * @param {number} id
   */
  reveal(id) {
    const row = this.rowOf.get(id);
    if (row === undefined) return;
    const [top, bottom] = [this.scroll.scrollTop, this.scroll.scrollTop + this.scroll.clientHeight];
    if (row * ROW < top || (row + 1) * ROW > bottom) this.scroll.scrollTop = (row + 0.5) * ROW - this.scroll.clientHeight / 2;
  }

  /**
   * @param {number} factor
   * @param {number} [at] position that stays
   */
  zoom(factor, at = this.view.position) {
    const span = clamp((this.to - this.from) / factor, Math.min(20, this.info.frames), this.info.frames);
    const share = (at - this.from) / (this.to - this.from);
    this.move(at - share * span, span);
  }

  /**
   * @param {number} from
   * @param {number} [span]
   */
  move(from, span = this.to - this.from) {
    this.from = clamp(from, 0, Math.max(0, this.info.frames - span));
    this.to = this.from + span;
    this.redraw();
  }

  /** Keeps the playhead in view. */
  follow() {
    const { position } = this.view;
    const span = this.to - this.from;
    if (span < this.info.frames && (position < this.from || position >= this.to)) this.move(position - span / 10);
    this.redraw();
  }

  /**
   * @param {MouseEvent} event
   * @param {HTMLCanvasElement} canvas
   */
  positionAt(event, canvas) {
    const bounds = canvas.getBoundingClientRect();
    const share = (event.clientX - bounds.left - GUTTER) / Math.max(1, bounds.width - GUTTER);
    return clamp(Math.floor(this.from + share * (this.to - this.from)), 0, this.info.frames - 1);
  }

  /**
   * @param {(position: number) => void} onSeek
   * @param {(id: number, position: number, event: MouseEvent) => void} onPick
   */
  listen(onSeek, onPick) {
    for (const canvas of [this.overview, this.canvas]) {
      let isDragging = false;
      let moved = false;
      canvas.addEventListener("pointerdown", (event) => {
        isDragging = true;
        moved = false;
        canvas.setPointerCapture(event.pointerId);
        if (canvas === this.overview) onSeek(this.positionAt(event, canvas));
      });
      canvas.addEventListener("pointermove", (event) => {
        if (!isDragging) return;
        if (Math.abs(event.movementX) > 0) moved = true;
        if (canvas === this.overview || moved) onSeek(this.positionAt(event, canvas));
      });
      canvas.addEventListener("pointerup", (event) => {
        if (isDragging && !moved && canvas === this.canvas && this.tracks) {
          const bounds = canvas.getBoundingClientRect();
          const row = this.rows[Math.floor((event.clientY - bounds.top + this.scroll.scrollTop) / ROW)];
          if (row !== undefined) {
            const isName = event.clientX - bounds.left < GUTTER;
            onPick(this.tracks.id[row], isName ? -1 : this.positionAt(event, canvas), event);
          }
        }
        isDragging = false;
      });
      canvas.addEventListener("pointercancel", () => (isDragging = false));
      canvas.addEventListener(
        "wheel",
        (event) => {
          if (event.ctrlKey || event.metaKey || canvas === this.overview) {
            event.preventDefault();
            this.zoom(Math.exp(-event.deltaY * 0.003), this.positionAt(event, canvas));
          } else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
            event.preventDefault();
            this.move(this.from + ((event.deltaX || event.deltaY) / 600) * (this.to - this.from));
          }
        },
        { passive: false },
      );
    }
  }

  /**
   * @param {HTMLCanvasElement} canvas
   * @returns {{context: CanvasRenderingContext2D, width: number, height: number, x: (position: number) => number}}
   */
  begin(canvas) {
    sharpen(canvas);
    const context = context2d(canvas);
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [canvas.width / ratio, canvas.height / ratio];
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const unit = (width - GUTTER) / (this.to - this.from);
    return { context, width, height, x: (position) => GUTTER + (position - this.from) * unit };
  }

  draw() {
    this.drawOverview();
    this.drawRows();
  }

  drawOverview() {
    const { context, width, height, x } = this.begin(this.overview);
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    context.fillStyle = cssVariable("--quiet");
    context.fillText("doubt", 8, RULER + (height - RULER) / 2);
    this.drawTicks(context, width, x);
    const heat = this.tracks?.frameDoubt;
    if (heat) {
      const columns = Math.max(1, Math.floor(width - GUTTER));
      const step = (this.to - this.from) / columns;
      context.fillStyle = cssVariable("--track");
      context.fillRect(GUTTER, RULER, width - GUTTER, height - RULER);
      for (let column = 0; column < columns; column++) {
        const first = Math.floor(this.from + column * step);
        const last = Math.max(first + 1, Math.floor(this.from + (column + 1) * step));
        let most = 0;
        for (let p = first; p < last && p < heat.length; p++) most = Math.max(most, heat[p]);
        if (!most) continue;
        context.fillStyle = `rgb(255 ${Math.round(190 - 130 * most)} 60 / ${0.25 + 0.75 * most})`;
        const size = Math.max(3, most * (height - RULER));
        context.fillRect(GUTTER + column, height - size, 1.5, size);
      }
    }
    context.fillStyle = cssVariable("--good");
    for (const [first, last] of this.accepted) context.fillRect(Math.max(GUTTER, x(first)), RULER, x(last + 1) - Math.max(GUTTER, x(first)), 4);
    this.drawCuts(context, RULER, height, x);
    this.drawPlayhead(context, 0, height, x, true);
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {number} width
   * @param {(position: number) => number} x
   */
  drawTicks(context, width, x) {
    const raw = ((this.to - this.from) * 80) / Math.max(80, width - GUTTER);
    const power = 10 ** Math.floor(Math.log10(Math.max(1, raw)));
    const step = Math.max(1, [1, 2, 5, 10].map((k) => k * power).find((each) => each >= raw) ?? power * 10);
    context.fillStyle = cssVariable("--quiet");
    for (let p = Math.ceil(this.from / step) * step; p < this.to; p += step) {
      context.fillRect(x(p), RULER - 4, 1, 4);
      const text = String(indexOf(this.info, p));
      if (x(p) + context.measureText(text).width + 4 < width) context.fillText(text, x(p) + 3, RULER / 2 - 1);
    }
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {number} top
   * @param {number} bottom
   * @param {(position: number) => number} x
   */
  drawCuts(context, top, bottom, x) {
    context.strokeStyle = cssVariable("--cut");
    context.setLineDash([3, 3]);
    context.lineWidth = 1;
    context.beginPath();
    for (const cut of this.info.cuts) {
      if (cut < this.from || cut > this.to) continue;
      context.moveTo(x(cut), top);
      context.lineTo(x(cut), bottom);
    }
    context.stroke();
    context.setLineDash([]);
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {number} top
   * @param {number} bottom
   * @param {(position: number) => number} x
   * @param {boolean} head
   */
  drawPlayhead(context, top, bottom, x, head) {
    const at = x(this.view.position + 0.5);
    if (at < GUTTER) return;
    context.fillStyle = cssVariable("--accent");
    context.fillRect(at - 0.75, top, 1.5, bottom - top);
    if (head) {
      context.beginPath();
      context.moveTo(at - 5, 0);
      context.lineTo(at + 5, 0);
      context.lineTo(at, 7);
      context.fill();
    }
  }

  drawRows() {
    this.canvas.style.height = `${this.scroll.clientHeight}px`;
    const { context, width, height, x } = this.begin(this.canvas);
    const tracks = this.tracks;
    if (!tracks) return;
    const top = this.scroll.scrollTop;
    const first = Math.max(0, Math.floor(top / ROW));
    const last = Math.min(this.rows.length, Math.ceil((top + height) / ROW));
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    const [quiet, text, band, stripe] = ["--quiet", "--text", "--selected", "--track"].map(cssVariable);
    for (let n = first; n < last; n++) {
      const row = this.rows[n];
      const id = tracks.id[row];
      const y = n * ROW - top;
      const isSelected = this.view.selected.has(id);
      context.fillStyle = isSelected ? band : n % 2 ? stripe : "transparent";
      context.fillRect(0, y, width, ROW);
      context.fillStyle = isSelected ? text : quiet;
      context.fillText(fitted(context, this.view.name(id), GUTTER - 12), 8, y + ROW / 2 + 0.5);
      context.save();
      context.beginPath();
      context.rect(GUTTER, y, width - GUTTER, ROW);
      context.clip();
      this.drawBar(context, tracks, row, y, x, isSelected);
      context.restore();
    }
    this.drawCuts(context, 0, height, x);
    this.drawPlayhead(context, 0, height, x, false);
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {TrackColumns} tracks
   * @param {number} row
   * @param {number} y
   * @param {(position: number) => number} x
   * @param {boolean} isSelected
   */
  drawBar(context, tracks, row, y, x, isSelected) {
    const id = tracks.id[row];
    const dim = this.view.selected.size && !isSelected ? 0.6 : 1;
    context.fillStyle = css(id, 0.3 * dim);
    const [begin, end] = [x(tracks.first[row]), x(tracks.last[row] + 1)];
    context.fillRect(begin, y + ROW / 2 - 0.75, end - begin, 1.5);
    context.fillStyle = css(id, dim);
    for (let s = tracks.starts[row]; s < tracks.starts[row + 1]; s++) {
      const [from, to] = [x(tracks.spans[2 * s]), x(tracks.spans[2 * s + 1])];
      if (to < GUTTER) continue;
      context.fillRect(from, y + 3, Math.max(1.5, to - from - 0.5), ROW - 6);
    }
    for (const mark of this.marks.get(id) ?? []) {
      const at = x(mark.position + 0.5);
      context.fillStyle = cssVariable("--warn");
      context.strokeStyle = cssVariable("--panel");
      context.globalAlpha = 0.4 + 0.6 * mark.confidence;
      context.beginPath();
      context.moveTo(at - 4.5, y + 1);
      context.lineTo(at + 4.5, y + 1);
      context.lineTo(at, y + 9);
      context.closePath();
      context.fill();
      context.stroke();
      context.globalAlpha = 1;
    }
  }
}
