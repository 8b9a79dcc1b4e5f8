/** @file `TrackList`: the list of tracks with their crops; only rows that are seen exist. */

import { address } from "./api.js";
import { loadCrops } from "./crops.js";
import { byId, css, h, ink, onFrame } from "./util.js";

/** @typedef {import("./types.js").RunInfo} RunInfo */
/** @typedef {import("./types.js").TrackColumns} TrackColumns */

const REST = 120;
/** Milliseconds without scrolling after which pictures are asked for. */

/**
 * A list of T tracks in a scrolled box.
 */
export class TrackList {
  /**
   * @param {RunInfo} info
   * @param {import("./types.js").View} view
   * @param {(id: number, event: MouseEvent|KeyboardEvent) => void} onPick
   */
  constructor(info, view, onPick) {
    this.info = info;
    this.view = view;
    this.onPick = onPick;
    this.height = info.crops ? 74 : 46;
    this.scroll = byId("list-scroll");
    this.space = byId("list");
    /** @type {TrackColumns|null} */
    this.tracks = null;
    /** @type {number[]} */
    this.rows = [];
    /** @type {Map<number, HTMLElement>} */
    this.elements = new Map();
    this.version = 0;
    this.rest = 0;
    this.redraw = onFrame(() => this.draw());
    this.scroll.addEventListener("scroll", () => {
      this.redraw();
      window.clearTimeout(this.rest);
      this.rest = window.setTimeout(() => this.loadPictures(), REST);
    }, { passive: true });
    new ResizeObserver(() => this.redraw()).observe(this.scroll);
  }

  /**
   * @param {TrackColumns} tracks
   * @param {number[]} rows
   */
  set(tracks, rows) {
    if (tracks !== this.tracks) this.version += 1;
    this.tracks = tracks;
    this.rows = rows;
    this.space.style.height = `${rows.length * this.height}px`;
    for (const element of this.elements.values()) element.remove();
    this.elements.clear();
    this.redraw();
    window.clearTimeout(this.rest);
    this.rest = window.setTimeout(() => this.loadPictures(), REST);
  }

  /** @param {number} id */
  reveal(id) {
    const n = this.indexOf(id);
    if (n < 0) return;
    const top = n * this.height;
    const { scrollTop, clientHeight } = this.scroll;
    if (top < scrollTop || top + this.height > scrollTop + clientHeight) {
      this.scroll.scrollTop = top - (clientHeight - this.height) / 2;
    }
    this.redraw();
  }

  /** @param {number} id */
  indexOf(id) {
    const { tracks } = this;
    return tracks ? this.rows.findIndex((row) => tracks.id[row] === id) : -1;
  }

  draw() {
    if (!this.tracks) return;
    const { scrollTop, clientHeight } = this.scroll;
    const first = Math.max(0, Math.floor(scrollTop / this.height) - 2);
    const last = Math.min(this.rows.length, Math.ceil((scrollTop + clientHeight) / this.height) + 2);
    for (const [n, element] of this.elements) {
      if (n < first || n >= last) {
        element.remove();
        this.elements.delete(n);
      }
    }
    let active = "";
    for (let n = first; n < last; n++) {
      const element = this.elements.get(n) ?? this.build(n);
      const isSelected = this.view.selected.has(this.tracks.id[this.rows[n]]);
      element.setAttribute("aria-selected", String(isSelected));
      if (isSelected) active = element.id;
    }
    if (active) this.scroll.setAttribute("aria-activedescendant", active);
    else this.scroll.removeAttribute("aria-activedescendant");
  }

  /** @param {number} n */
  build(n) {
    const tracks = /** @type {TrackColumns} */ (this.tracks);
    const row = this.rows[n];
    const id = tracks.id[row];
    const doubt = tracks.doubt[row];
    const bar = h("span", { class: "doubt", title: `doubt ${Math.round(100 * doubt)} %` }, h("i"));
    /** @type {HTMLElement} */ (bar.firstChild).style.width = `${Math.round(100 * doubt)}%`;
    const badge = h("b", { class: "badge" }, this.view.name(id));
    badge.style.background = css(id);
    badge.style.color = ink(id);
    const crops = this.info.crops
      ? h("span", { class: "crops" }, ...["first", "middle", "last"].map((which) =>
          h("span", { "data-src": this.crop(row, which) })))
      : null;
    const reasons = this.view.remark(row);
    const element = h(
      "div",
      {
        role: "option", id: `track-${n}`, class: this.info.crops ? "track" : "track plain", "aria-setsize": this.rows.length, "aria-posinset": n + 1,
        title: reasons, "data-id": id, onclick: (/** @type {MouseEvent} */ event) => this.onPick(id, event),
      },
      badge, h("span", { class: "facts" }, this.view.describe(row)), bar,
      h("span", { class: "reasons" }, reasons), crops,
    );
    element.style.paddingLeft = `${8 + 14 * Math.min(this.view.depth(id), 5)}px`;
    element.style.top = `${n * this.height}px`;
    element.style.height = `${this.height}px`;
    this.elements.set(n, element);
    this.space.append(element);
    return element;
  }

  /**
   * @param {number} row
   * @param {string} which
   */
  crop(row, which) {
    const tracks = /** @type {TrackColumns} */ (this.tracks);
    return address(`api/0/crop/${which}.jpg?level=${tracks.level[row]}&id=${tracks.id[row]}&v=${this.version}`);
  }

  loadPictures() {
    loadCrops(this.space.querySelectorAll("[data-src]"));
  }
}
