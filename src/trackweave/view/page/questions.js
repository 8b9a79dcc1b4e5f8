/** @file `Questions`: the right panel: who is this? And other doubtful places, the most doubtful first. */

import { address } from "./api.js";
import { loadCrops } from "./crops.js";
import { drawMaskQuestion, pressMask } from "./maskquestions.js";
import { byId, counted, css, h, ink } from "./util.js";

/** @typedef {import("./types.js").AnswerState} AnswerState */
/** @typedef {import("./types.js").Difference} Difference */
/** @typedef {import("./types.js").Differences} Differences */
/** @typedef {import("./types.js").Question} Question */
/** @typedef {import("./types.js").RunInfo} RunInfo */
/** @typedef {import("./types.js").TrackColumns} TrackColumns */

/**
 * A doubtful place.
 * @typedef {object} Place
 * @property {number} position
 * @property {number[]} tracks
 * @property {number} [other] id in the other run
 * @property {string} title
 * @property {string} text
 * @property {number} weight
 */

const STEPS = [-24, -8, -1, 1, 8, 24];
const LEAST_DOUBT = 0.2;
const LISTED = 200;

/**
 * Places to look at: suspected switches, then tracks that are doubtful for other reasons.
 * @param {TrackColumns} tracks
 * @param {(position: number) => number} indexOf
 * @param {(id: number) => string} name
 * @returns {Place[]}
 */
export function doubtfulPlaces(tracks, indexOf, name) {
  const there = new Set(tracks.id);
  const switches = tracks.switches.filter((one) => one.tracks.some((id) => there.has(id)));
  const named = new Set(switches.flatMap((one) => one.tracks));
  const places = switches.map((one) => ({
    position: one.position,
    tracks: one.tracks.filter((id) => there.has(id)),
    title: one.cause,
    text: `${one.tracks.map(name).join(" and ")} around frame ${indexOf(one.position)}`,
    weight: one.confidence,
  }));
  tracks.id.forEach((id, row) => {
    if (named.has(id) || tracks.doubt[row] < LEAST_DOUBT) return;
    const reasons = tracks.reasons[row];
    const isEnd = reasons.includes("ends inside the picture") && !reasons.includes("begins inside the picture");
    const isGap = reasons[0] === "has gaps";
    places.push({
      position: isGap ? tracks.spans[2 * tracks.starts[row] + 1] - 1 : isEnd ? tracks.last[row] : tracks.first[row],
      tracks: [id],
      title: reasons.join(", "),
      text: `track ${name(id)}, ${tracks.count[row]} frames`,
      weight: tracks.doubt[row],
    });
  });
  return places.sort((a, b) => b.weight - a.weight || a.position - b.position);
}

/**
 * What the panel asks of the page.
 * @typedef {object} Host
 * @property {(place: Place) => void} go
 * @property {(question: Question) => void} show goes to a question
 * @property {(record: Record<string, unknown>) => Promise<boolean>} act
 * @property {(id: number) => string} name
 * @property {(id: number) => number} level
 * @property {(position: number) => number} indexOf
 * @property {() => void} prompt takes a tool in hand to prompt the selected mask anew
 * @property {(text: string) => void} say
 */

/** The panel. */
export class Questions {
  /**
   * @param {RunInfo} info
   * @param {Host} host
   */
  constructor(info, host) {
    this.info = info;
    this.host = host;
    this.panel = byId("right");
    /** @type {Place[]} */
    this.places = [];
    this.at = -1;
    /** @type {AnswerState|null} */
    this.state = null;
    this.isAsking = false;
    this.hasTracks = true;
    this.part = "places";
    /** @type {Differences|null} */
    this.differences = null;
    /** @type {Place[]} */
    this.differing = [];
    this.differsAt = -1;
    this.otherName = "";
  }

  /**
   * What is different between the run and another one.
   * @param {Differences} differences
   * @param {string} name of the other one
   */
  setDifferences(differences, name) {
    const frames = (/** @type {Difference} */ one) => {
      const [first, last] = [this.host.indexOf(one.first), this.host.indexOf(one.last)];
      return first === last ? `frame ${first}` : `frames ${first} to ${last}`;
    };
    const titles = { switch: "switch", miss: "missed", false: "no such object" };
    if (!this.differences) this.part = "differences";
    this.differences = differences;
    this.otherName = name;
    this.differing = differences.listed.map((one) => ({
      position: one.first,
      tracks: one.tracks,
      other: one.other,
      title: titles[one.kind],
      text: one.kind === "switch" ? `object ${one.other}: ${one.tracks.map(this.host.name).join(" → ")}, ${frames(one)}`
        : one.kind === "miss" ? `object ${one.other}, ${frames(one)}` : `track ${this.host.name(one.tracks[0])}, ${frames(one)}`,
      weight: 0,
    }));
    this.differsAt = Math.min(this.differsAt, this.differing.length - 1);
    this.draw();
  }

  /** @param {Place[]} places */
  set(places) {
    this.places = places;
    this.at = Math.min(this.at, places.length - 1);
    this.draw();
  }

  /** @param {AnswerState} state */
  setState(state) {
    const isFirst = !this.state;
    this.state = state;
    if (isFirst && state.writable) this.part = "questions";
    this.draw();
  }

  /** The question that is asked now. */
  get question() {
    return this.part === "questions" ? this.state?.questions[0] ?? null : null;
  }

  /** @param {string} part */
  open(part) {
    this.part = part;
    this.draw();
    if (this.question) this.host.show(this.question);
  }

  /**
   * The next or previous doubtful place; of questions the next one.
   * @param {number} by
   */
  step(by) {
    if (this.part === "questions") {
      const { question } = this;
      if (question && this.isAsking && by > 0) void this.answer({ act: "skip", at: question.at });
      else if (question) this.ask();
      return;
    }
    if (this.part === "differences") {
      if (this.differing.length) this.goToDifference(this.differsAt < 0 ? (by > 0 ? 0 : this.differing.length - 1) : this.differsAt + by);
      return;
    }
    if (!this.places.length) return;
    this.part = "places";
    this.at = this.at < 0 ? (by > 0 ? 0 : this.places.length - 1) : Math.min(Math.max(this.at + by, 0), this.places.length - 1);
    this.draw();
    this.host.go(this.places[this.at]);
  }

  /** @param {number} n */
  goToDifference(n) {
    this.differsAt = Math.min(Math.max(n, 0), this.differing.length - 1);
    this.draw();
    this.host.go(this.differing[this.differsAt]);
  }

  /** Goes to the question that is asked now. */
  ask() {
    const { question } = this;
    if (!question) return;
    this.isAsking = true;
    this.host.show(question);
  }

  /**
   * Answers, and goes on to the next question.
   * @param {Record<string, unknown>} record
   */
  async answer(record) {
    if (await this.host.act(record)) this.ask();
  }

  /**
   * Answers by a key: 1 … 9 a candidate, 0 a new object, x nobody.
   * @param {string} key
   */
  press(key) {
    const { question } = this;
    if (!question) return;
    if (!this.isAsking) {
      this.ask(); // who has not seen the question does not answer it
      return;
    }
    if (question.kind) pressMask(this, question, key);
    else if (key === "0") void this.answer({ act: "name", at: question.at, name: this.freshName(question) });
    else if (key === "x") void this.answer({ act: "nobody", at: question.at });
    else this.choose(question, Number(key) - 1);
  }

  /**
   * @param {Question} question
   * @param {number} n
   */
  choose(question, n) {
    const candidate = question.candidates[n];
    if (!candidate) {
      this.host.say(`there is no candidate ${n + 1}: 0 says that it is a new object, e types a name`);
      return;
    }
    const other = candidate.before ?? candidate.after;
    if (candidate.name !== null) void this.answer({ act: "name", at: question.at, name: candidate.name });
    else if (other) void this.answer({ act: "join", at: question.at, other });
  }

  /**
   * A name that nobody has: the track's id, where that is free.
   * @param {Question} question
   */
  freshName(question) {
    const taken = new Set(Object.values(this.state?.names ?? {}));
    let number = Math.max(1, question.track_id);
    while (taken.has(String(number))) number += 1;
    return String(number);
  }

  /**
   * Names and titles of what the panel has.
   * @returns {[string, string][]}
   */
  parts() {
    const { state } = this;
    /** @type {[string, string][]} */
    const parts = [["places", "Look here"]];
    if (state?.writable) parts.unshift(["questions", `Questions${state.questions.length ? "" : " ✓"}`]);
    if (this.differences) parts.push(["differences", `Against ${this.otherName}`]);
    if (state?.writable) parts.push(["history", `Said ${state.count ?? 0}`]);
    return parts;
  }

  /** Opens the next part of the panel. */
  nextPart() {
    const names = this.parts().map(([name]) => name);
    this.open(names[(names.indexOf(this.part) + 1) % names.length]);
  }

  draw() {
    const parts = this.parts();
    const tabs = parts.length > 1
      ? h("div", { class: "parts", role: "tablist", "aria-label": "Parts of this panel" }, ...parts.map(([name, text]) => h("button", {
        type: "button", role: "tab", "aria-selected": String(this.part === name), "data-part": name, onclick: () => this.open(name),
      }, text)))
      : null;
    const body = this.part === "questions" ? this.drawQuestion() : this.part === "history" ? this.drawHistory()
      : this.part === "differences" ? this.drawDifferences() : this.drawPlaces();
    const keep = document.activeElement === document.getElementById("name-field");
    const wait = this.state || this.info.fixed ? [] : [h("p", { class: "hint", role: "status" }, "Questions are being looked for; everything else is there.")];
    this.panel.replaceChildren(...(tabs ? [tabs] : []), ...wait, ...body);
    if (keep) document.getElementById("name-field")?.focus();
    loadCrops(this.panel.querySelectorAll("[data-src]"));
    this.panel.querySelector("li[aria-current]")?.scrollIntoView({ block: "nearest" });
  }

  /** @param {number} id @param {string} [text] */
  badge(id, text = this.host.name(id)) {
    const badge = h("b", { class: "badge" }, text);
    badge.style.background = css(id);
    badge.style.color = ink(id);
    return badge;
  }

  /**
   * The crop of an observation.
   * @param {[number, number]|null} at frame and item
   * @param {string} kind
   */
  crop(at, kind) {
    if (!this.info.crops) return null;
    if (!at) return h("span", { class: "crop empty" });
    return h("span", { class: `crop ${kind}`, "data-src": address(`api/0/crop/item.jpg?frame=${at[0]}&item=${at[1]}`) });
  }

  /** @returns {HTMLElement[]} */
  drawQuestion() {
    const { question, state } = this;
    if (!question) return [h("p", { class: "hint" }, state ? (this.hasTracks ? "Nothing more is worth asking." : "This run has no tracks to ask about.") : "")];
    if (question.kind) return drawMaskQuestion(this, question);
    const field = h("input", {
      id: "name-field", type: "text", maxlength: 200, placeholder: "another name…", "aria-label": "Name", list: "known-names", autocomplete: "off",
      onkeydown: (/** @type {KeyboardEvent} */ event) => {
        const name = /** @type {HTMLInputElement} */ (event.target).value.trim();
        if (event.key === "Enter" && name) {
          /** @type {HTMLElement} */ (event.target).blur();
          void this.answer({ act: "name", at: question.at, name });
        }
      },
    });
    const names = [...new Set(Object.values(state?.names ?? {}))];
    const candidates = question.candidates.map((one, n) => h("button", {
      type: "button", class: "candidate", onclick: () => this.choose(question, n),
      "aria-label": `${n + 1}: ${one.name ?? `track ${one.track_id}`}, ${Math.round(100 * one.probability)} %`,
    },
      h("kbd", {}, String(n + 1)), this.badge(one.track_id, one.name ?? `track ${one.track_id}`),
      h("span", { class: "quiet" }, `${Math.round(100 * one.probability)} %`), this.crop(one.before, "before"), this.crop(one.after, "after")));
    const button = (/** @type {string} */ key, /** @type {string} */ text, /** @type {() => void} */ onclick) =>
      h("button", { type: "button", "data-key": key, onclick }, h("kbd", {}, key), ` ${text}`);
    return [
      h("article", { class: "card question", "aria-label": "Question" },
        h("h3", {}, "Who is this?"),
        h("div", { class: "asked" }, this.crop(question.at, "asked"), h("p", {},
          "now ", question.track_id < 0 ? "left out" : this.badge(question.track_id), h("br"),
          h("span", { class: "quiet" }, `frame ${question.at[0]}`), h("br"),
          question.contradicted ? h("strong", {}, "other answers contradict this", h("br")) : null,
          h("span", { class: "quiet" }, `an answer repairs about ${counted(Math.max(1, Math.round(question.repair)), "box", "boxes")}`))),
        ...candidates,
        candidates.length ? null : h("p", { class: "quiet" }, "No object that has a name fits: 0 names this one, e types another name."),
        h("div", { class: "choices" },
          button("0", `new object ${this.freshName(question)}`, () => this.press("0")),
          button("x", "nobody", () => this.press("x")),
          button("n", "skip", () => this.step(1))),
        h("label", { class: "other" }, h("kbd", {}, "e"), " ", field), h("datalist", { id: "known-names" }, ...names.map((value) => h("option", { value })))),
      this.isAsking ? h("p", { class: "hint" }, "The video shows the box that is asked about.") :
        h("p", { class: "hint" }, h("kbd", {}, "n"), " goes to the question; then one key answers it."),
    ];
  }

  /** @returns {HTMLElement[]} */
  drawHistory() {
    const { state } = this;
    const acts = [...(state?.acts ?? [])].reverse();
    return [
      h("div", { class: "choices" },
        h("button", { type: "button", disabled: !state?.undo, onclick: () => void this.host.act({ act: "undo" }) }, "undo"),
        h("button", { type: "button", disabled: !state?.redo, onclick: () => void this.host.act({ act: "redo" }) }, "redo"),
        h("button", { type: "button", disabled: !state?.unwritten, onclick: () => void this.host.act({ act: "write" }) }, "write into the run")),
      ...(state?.refused ?? []).map((text) => h("p", { class: "warn" }, text)),
      h("ol", { class: "history", reversed: true }, ...acts.map((act) => h("li", {}, describeAct(act)))),
    ];
  }

  /** @returns {HTMLElement[]} */
  drawDifferences() {
    const counts = this.differences?.counts ?? { switch: 0, miss: 0, false: 0 };
    const facts = `${counts.switch} switches · ${counts.miss} misses · ${counts.false} without an object`;
    const list = this.differing.slice(0, LISTED).map((place, n) =>
      h("li", { "aria-current": n === this.differsAt ? "true" : null }, h("button", { type: "button", onclick: () => this.goToDifference(n) },
        h("span", { class: "weight" }, place.title === "switch" ? "⇄" : place.title === "missed" ? "−" : "+"), h("span", {}, place.title), h("small", {}, place.text))));
    const rest = this.differing.length - list.length;
    return [
      h("header", {}, h("h2", {}, `Against ${this.otherName}`),
        h("span", { class: "quiet" }, this.differsAt < 0 ? "" : `${this.differsAt + 1} / ${this.differing.length}`),
        h("button", { type: "button", title: "previous (p)", "aria-label": "Previous difference", onclick: () => this.step(-1) }, "‹"),
        h("button", { type: "button", title: "next (n)", "aria-label": "Next difference", onclick: () => this.step(1) }, "›")),
      h("p", { class: "hint", id: "difference-counts" }, facts),
      h("ol", { class: "places" }, ...list),
      ...(rest > 0 ? [h("p", { class: "hint" }, `${rest} more, shorter ones`)] : []),
    ];
  }

  /** @returns {HTMLElement[]} */
  drawPlaces() {
    const count = this.places.length;
    const head = h("header", {}, h("h2", {}, "Look here"),
      h("span", { class: "quiet" }, this.at < 0 ? `${count} places` : `${this.at + 1} / ${count}`),
      h("button", { type: "button", title: "previous (p)", "aria-label": "Previous doubtful place", onclick: () => this.step(-1) }, "‹"),
      h("button", { type: "button", title: "next (n)", "aria-label": "Next doubtful place", onclick: () => this.step(1) }, "›"));
    const body = count
      ? this.at >= 0 ? this.card(this.places[this.at]) : h("p", { class: "hint" }, h("kbd", {}, "n"), " goes to the most doubtful place.")
      : h("p", { class: "hint" }, "Nothing doubtful was found.");
    const list = h("ol", { class: "places" }, ...this.places.slice(0, LISTED).map((place, n) =>
      h("li", { "aria-current": n === this.at ? "true" : null }, h("button", {
        type: "button",
        onclick: () => { this.at = n; this.draw(); this.host.go(place); },
      }, h("span", { class: "weight" }, `${Math.round(100 * place.weight)} %`), h("span", {}, place.title), h("small", {}, place.text)))));
    const notice = this.state?.notice ? [h("p", { class: "hint" }, this.state.notice)] : [];
    return [head, body, list, ...notice];
  }

  /** @param {Place} place */
  card(place) {
    const strips = place.tracks.map((id) => {
      const crops = this.info.crops ? STEPS.map((step) => h("span", {
        class: step === 1 ? "after" : null,
        "data-src": address(`api/0/crop/at.jpg?level=${this.host.level(id)}&id=${id}&position=${place.position + step}`),
      })) : [];
      return h("div", { class: "strip" }, this.badge(id), ...crops);
    });
    return h("article", { class: "card" }, h("h3", {}, place.title), h("p", { class: "quiet" }, place.text), ...strips);
  }
}

/**
 * An act in words.
 * @param {any} act
 */
function describeAct(act) {
  const at = act.at ?? act.one;
  const frame = at ? ` (frame ${at[0]})` : "";
  switch (act.act) {
    case "name": return `this is ${act.name}${frame}`;
    case "nobody": return `nobody${frame}`;
    case "merge": return `the same object (frames ${act.one[0]} and ${act.other[0]})`;
    case "split": return `two objects${frame}`;
    case "end": return `ends${frame}`;
    case "accept": return `frames ${act.first} to ${act.last} are right`;
    case "prompt": return `a new ${act.points ? "prompt" : act.box ? "box" : "mask"} of ${act.name} (frame ${act.frame})`;
    default: return String(act.act);
  }
}
