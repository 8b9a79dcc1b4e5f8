/** @file `Questions`: the right panel: what to look at next, the most doubtful first, with crops before and after. */

import { address } from "./api.js";
import { loadCrops } from "./crops.js";
import { byId, css, h, ink } from "./util.js";

/** @typedef {import("./types.js").RunInfo} RunInfo */
/** @typedef {import("./types.js").TrackColumns} TrackColumns */

/**
 * A doubtful place.
 * @typedef {object} Place
 * @property {number} position
 * @property {number[]} tracks
 * @property {string} title
 * @property {string} text
 * @property {number} weight
 */

const STEPS = [-24, -8, -1, 1, 8, 24];
const LEAST_DOUBT = 0.2;

/**
 * Places to look at: suspected switches, then tracks that are doubtful for other reasons.
 * @param {TrackColumns} tracks
 * @param {(position: number) => number} indexOf
 * @returns {Place[]}
 */
export function doubtfulPlaces(tracks, indexOf) {
  const named = new Set(tracks.switches.flatMap((one) => one.tracks));
  const places = tracks.switches.map((one) => ({
    position: one.position,
    tracks: one.tracks,
    title: one.cause,
    text: one.tracks.length > 1 ? `${one.tracks.join(" and ")} around frame ${indexOf(one.position)}` : `track ${one.tracks[0]}`,
    weight: one.confidence,
  }));
  tracks.id.forEach((id, row) => {
    if (named.has(id) || tracks.doubt[row] < LEAST_DOUBT) return;
    const isEnd = tracks.reasons[row].includes("ends inside the picture");
    places.push({
      position: isEnd && !tracks.reasons[row].includes("begins inside the picture") ? tracks.last[row] : tracks.first[row],
      tracks: [id],
      title: tracks.reasons[row].join(", "),
      text: `track ${id}, ${tracks.count[row]} frames`,
      weight: tracks.doubt[row],
    });
  });
  return places.sort((a, b) => b.weight - a.weight || a.position - b.position);
}

/**
 * The panel.
 */
export class Questions {
  /**
   * @param {RunInfo} info
   * @param {(place: Place) => void} onGo
   */
  constructor(info, onGo) {
    this.info = info;
    this.onGo = onGo;
    this.panel = byId("right");
    /** @type {Place[]} */
    this.places = [];
    this.at = -1;
    /** @type {(id: number) => string} */
    this.name = String;
    /** @type {(id: number) => number} */
    this.levelOf = () => -1;
  }

  /** @param {Place[]} places */
  set(places) {
    this.places = places;
    this.at = Math.min(this.at, places.length - 1);
    this.draw();
  }

  /** @param {number} by */
  step(by) {
    if (!this.places.length) return;
    this.at = this.at < 0 ? (by > 0 ? 0 : this.places.length - 1) : Math.min(Math.max(this.at + by, 0), this.places.length - 1);
    this.draw();
    this.onGo(this.places[this.at]);
  }

  draw() {
    const count = this.places.length;
    const head = h("header", {}, h("h2", {}, "Look here"),
      h("span", { class: "quiet" }, this.at < 0 ? `${count} places` : `${this.at + 1} / ${count}`),
      h("button", { type: "button", title: "previous (p)", "aria-label": "Previous doubtful place", onclick: () => this.step(-1) }, "‹"),
      h("button", { type: "button", title: "next (n)", "aria-label": "Next doubtful place", onclick: () => this.step(1) }, "›"));
    const body = count
      ? this.at >= 0 ? this.card(this.places[this.at]) : h("p", { class: "hint" }, "Nothing chosen yet: ", h("kbd", {}, "n"), " goes to the most doubtful place.")
      : h("p", { class: "hint" }, "Nothing doubtful was found.");
    const list = h("ol", { class: "places" }, ...this.places.slice(0, 200).map((place, n) =>
      h("li", { "aria-current": n === this.at ? "true" : null }, h("button", {
        type: "button",
        onclick: () => { this.at = n; this.draw(); this.onGo(place); },
      }, h("span", { class: "weight" }, `${Math.round(100 * place.weight)} %`), h("span", {}, place.title), h("small", {}, place.text)))));
    this.panel.replaceChildren(head, body, list);
    loadCrops(this.panel.querySelectorAll("img[data-src]"));
    list.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest" });
  }

  /** @param {Place} place */
  card(place) {
    const strips = place.tracks.map((id) => {
      const badge = h("b", { class: "badge" }, this.name(id));
      badge.style.background = css(id);
      badge.style.color = ink(id);
      const crops = this.info.pictures ? STEPS.map((step) => h("img", {
        alt: "", class: step === 1 ? "after" : null,
        "data-src": address(`api/0/crop/at.jpg?level=${this.levelOf(id)}&id=${id}&position=${place.position + step}`),
      })) : [];
      return h("div", { class: "strip" }, badge, ...crops);
    });
    return h("article", { class: "card" }, h("h3", {}, place.title), h("p", { class: "quiet" }, place.text), ...strips);
  }
}
