/** @file The page: opens the runs, and lets list, video, timeline and questions speak of the same frame and tracks. */

import { getJson, listenToChanges, postJson } from "./api.js";
import { Families } from "./families.js";
import { listenToKeys, openDialog, showKeys } from "./keys.js";
import { drawJob } from "./maskquestions.js";
import { Player, SPEEDS } from "./player.js";
import { Prompting } from "./prompting.js";
import { Questions, doubtfulPlaces } from "./questions.js";
import { Stage } from "./stage.js";
import { Timeline } from "./timeline.js";
import { TrackList } from "./tracklist.js";
import { byId, clamp, clock, counted, h, indexOf, positionOf, setColours, thousands } from "./util.js";

/** @typedef {import("./types.js").AnswerState} AnswerState */
/** @typedef {import("./types.js").Question} Question */
/** @typedef {import("./types.js").RunInfo} RunInfo */
/** @typedef {import("./types.js").TrackColumns} TrackColumns */

const SORTS = /** @type {Record<string, string>} */ ({
  doubt: "most doubtful", family: "families", first: "first frame", length: "longest", short: "shortest", id: "id",
});

/** What is said when an act that says nothing by itself is done; undo takes it back. */
const DONE = /** @type {Record<string, string>} */ ({
  merge: "merged", split: "split", end: "ended", nobody: "deleted", accept: "accepted", undo: "undone", redo: "done again", write: "written into the run's files",
});

/** Milliseconds that what is said stays, and 40 more for each letter. */
const SAID_FOR = 2500;

/**
 * What a browser kept; it may keep nothing, for pages from the disk for one.
 * @param {string} name
 */
function kept(name) {
  try {
    return localStorage.getItem(`trackweave.${name}`);
  } catch {
    return null;
  }
}

/**
 * @param {string} name
 * @param {string} value
 */
function keep(name, value) {
  try {
    localStorage.setItem(`trackweave.${name}`, value);
  } catch {
    // then it is not kept
  }
}

/** The whole page. */
class Page {
  /** @param {RunInfo[]} runs */
  constructor(runs) {
    this.runs = runs;
    this.info = runs[0];
    /** @type {TrackColumns|null} */
    this.tracks = null;
    /** @type {Families|null} */
    this.families = null;
    /** @type {number[]} */
    this.rows = [];
    this.filter = { text: "", sort: "doubt", class: "", least: 1, levels: new Set(this.info.levels) };
    this.view = {
      looks: this.storedLooks(),
      selected: /** @type {Set<number>} */ (new Set()),
      related: /** @type {Set<number>} */ (new Set()),
      hovered: 0,
      position: 0,
      hidden: (/** @type {number} */ _id, /** @type {number} */ level, /** @type {number} */ kind) =>
        (level >= 0 && !this.filter.levels.has(level)) || (this.filter.class !== "" && kind !== Number(this.filter.class)),
      name: (/** @type {number} */ id) => this.nameOf(id),
      describe: (/** @type {number} */ row) => this.describe(row),
      remark: (/** @type {number} */ row) => this.remark(row),
      depth: (/** @type {number} */ id) => (this.filter.sort === "family" ? this.families?.path(id).length ?? 0 : 0),
    };
    this.stages = [new Stage(byId("stages"), 0, this.info, this.view, (id, event) => this.pick(id, -1, event))];
    runs.slice(1).forEach((info, n) => this.addStage(info, n + 1));
    byId("stages").dataset.count = String(runs.length);
    this.stage = this.stages[0];
    this.player = new Player(this.stage, (position) => this.moved(position));
    this.timeline = new Timeline(this.info, this.view, (position) => void this.player.seek(position),
      (id, position, event) => this.pick(id, position, event));
    this.list = new TrackList(this.info, this.view, (id, event) => this.pick(id, -1, event, true));
    /** @type {AnswerState} */
    this.answers = { version: "", writable: false, notice: null, names: {}, refused: [], acts: [], accepted: [], questions: [] };
    this.questions = new Questions(this.info, {
      go: (place) => this.go(place),
      show: (question) => this.showQuestion(question),
      act: (record) => this.act(record),
      name: (id) => this.nameOf(id),
      level: (id) => this.tracks?.level[this.tracks.id.indexOf(id)] ?? -1,
      indexOf: (position) => this.indexOf(position),
      prompt: () => this.prompting?.toggle("points"),
      say: (text) => this.say(text),
    });
    this.prompting = this.info.kind === "masks" && !this.info.fixed ? new Prompting(this.stage, {
      target: () => this.promptTarget(),
      mask: () => this.stage.maskOf([...this.view.selected][0] ?? 0),
      act: (record) => this.act(record),
      frame: () => this.indexOf(this.stage.position),
      say: (text) => this.say(text),
      ready: () => this.isReadyToPrompt(),
    }) : null;
    this.stage.label = (id) => this.nameOf(id);
    /** Tracks that stay selected while others are chosen. */
    this.held = /** @type {Set<number>} */ (new Set());
    this.isActing = false;
    this.heard = "";
    this.linkTimer = 0;
    this.sayTimer = 0;
    this.keys = this.makeKeys();
  }

  async start() {
    document.title = `${this.info.name} · trackweave`;
    byId("run-name").textContent = this.runs.map((run) => run.name).join(" | ");
    this.buildTop();
    this.buildFilters();
    this.buildTransport();
    this.buildLooks();
    this.buildTabs();
    this.listenToSplit();
    listenToKeys(() => this.keys);
    window.addEventListener("hashchange", () => this.readLink());
    await this.readLink();
    await this.loadTracks();
    this.takeState(await getJson("api/answers"));
    if (this.answers.writable) await this.loadTracks(); // their doubt is known from the first question on
    if (this.runs.length > 1) await this.loadDifferences();
    this.listenToOthers();
    for (const id of this.view.selected) this.list.reveal(id);
    document.documentElement.dataset.ready = "true";
  }

  /**
   * Another run beside the first: the same frames and looks, ids of its own.
   * @param {RunInfo} info
   * @param {number} n
   */
  addStage(info, n) {
    const selected = /** @type {Set<number>} */ (new Set());
    const stage = new Stage(byId("stages"), n, info, { ...this.view, selected, related: new Set(), hovered: 0 }, (id) => {
      selected.clear();
      if (id) selected.add(id);
      stage.redraw();
    });
    this.stages.push(stage);
    this.stages.forEach((each) => each.element.append(h("figcaption", {}, each.info.name)));
  }

  async loadTracks() {
    const tracks = /** @type {TrackColumns} */ (await getJson("api/0/tracks"));
    this.tracks = tracks;
    this.families = new Families(tracks);
    setColours(tracks);
    this.fillClasses();
    const familySort = document.querySelector("#sort option[value=family]");
    if (familySort instanceof HTMLOptionElement) familySort.hidden = familySort.disabled = this.families.isEmpty;
    byId("family").hidden = this.families.isEmpty;
    this.applyFilter();
    this.questions.hasTracks = tracks.id.length > 0;
    this.questions.set(doubtfulPlaces(tracks, (position) => this.indexOf(position), (id) => this.nameOf(id)));
    const { width, height, frames } = this.info;
    byId("run-facts").textContent =
      `${counted(frames, "frame")} · ${width} × ${height} · ${counted(tracks.id.length, "track")}${this.info.input ? ` · ${this.info.input}` : ""}`;
  }

  async loadDifferences() {
    this.questions.setDifferences(await getJson("api/differences"), this.runs[1].name);
  }

  // --- answers -----------------------------------------------------------------------------------------------------

  /** @param {AnswerState} state */
  takeState(state) {
    this.answers = state;
    this.timeline.accepted = state.accepted;
    this.questions.setState(state);
    drawJob(byId("job"), state.job, state.failed ?? []);
    const tab = document.querySelector("#tabs [data-tab=right]");
    if (tab) tab.textContent = state.writable ? "Questions" : "Look here";
    for (const button of document.querySelectorAll("[data-act]")) {
      const name = button.getAttribute("data-act");
      /** @type {HTMLButtonElement} */ (button).disabled = !state.writable || (name === "undo" && !state.undo) || (name === "redo" && !state.redo);
    }
  }

  /** What follows from a new state: other tracks. */
  async refresh() {
    this.stages[0].objects.clear();
    await this.loadTracks();
    if (this.runs.length > 1) void this.loadDifferences();
    const there = new Set(this.tracks?.id);
    for (const id of this.view.selected) if (!there.has(id)) this.view.selected.delete(id);
    await this.stage.show(this.player.position);
    this.chosen();
  }

  /**
   * Says something; what the server answers is on its disk.
   * @param {Record<string, unknown>} record
   * @returns {Promise<boolean>} whether it was taken
   */
  async act(record) {
    if (this.isActing) {
      this.say("what you said before is still on its way: say this again then");
      return false;
    }
    this.isActing = true;
    try {
      this.takeState(await postJson("api/answers", { ...record, version: this.answers.version }));
      await this.refresh();
      const done = DONE[String(record.act)];
      const selected = [...this.view.selected].map((id) => this.nameOf(id)).join(", ");
      if (done) this.say(selected ? `${done}; selected: ${selected}` : done);
      return true;
    } catch (error) {
      this.say(error instanceof Error ? error.message : String(error));
      return false;
    } finally {
      this.isActing = false;
      void this.catchUp();
    }
  }

  /** Takes over what changed elsewhere; while an act is on its way, afterwards. */
  async catchUp() {
    if (this.isActing || !this.heard || this.heard === this.answers.version) return;
    this.heard = "";
    const state = await getJson("api/answers");
    if (this.isActing) {
      this.heard = state.version;
      return;
    }
    this.takeState(state);
    await this.refresh();
  }

  /** Other tabs may act, too, and prompts arrive. */
  listenToOthers() {
    listenToChanges((version) => {
      this.heard = version;
      void this.catchUp();
    }, (job) => drawJob(byId("job"), job, this.answers.failed ?? []));
  }

  /** @param {Question} question */
  showQuestion(question) {
    this.player.pause();
    this.view.selected.clear();
    if (question.track_id >= 0) this.view.selected.add(question.track_id);
    void this.player.seek(question.position);
    this.questions.isAsking = true;
    this.questions.draw();
    if (question.track_id >= 0) {
      this.list.reveal(question.track_id);
      this.timeline.reveal(question.track_id);
    }
    this.chosen();
  }

  /**
   * The selected tracks, when there are as many as an act needs.
   * @param {number} count
   */
  chosenFor(count) {
    const ids = [...this.view.selected];
    if (!this.answers.writable) this.say(this.answers.notice ?? "this run cannot be corrected here");
    else if (ids.length !== count) this.say(count === 1 ? "select one track first" : "select two tracks first: a click, then one with Shift; or hold one (h) and choose another");
    return this.answers.writable && ids.length === count ? ids : null;
  }

  merge() {
    const ids = this.chosenFor(2);
    if (!ids) return;
    this.hold(false);
    void this.act({ act: "merge", tracks: ids });
  }

  /** @param {"split"|"nobody"|"end"} kind */
  actOnOne(kind) {
    const ids = this.chosenFor(1);
    if (ids) void this.act({ act: kind, track: ids[0], frame: this.indexOf(this.player.position) });
  }

  async rename() {
    const ids = this.chosenFor(1);
    if (!ids) return;
    const name = await this.askName(`Who is track ${this.nameOf(ids[0])}?`, this.answers.names[ids[0]] ?? "");
    if (name) void this.act({ act: "name", track: ids[0], frame: this.indexOf(this.player.position), name });
  }

  isReadyToPrompt() {
    if (!this.answers.writable) this.say(this.answers.notice ?? "this run cannot be corrected here");
    else this.player.pause();
    return this.answers.writable;
  }

  /** Whose prompt it is: that of the selected track, or of a new object with a name. */
  async promptTarget() {
    const ids = [...this.view.selected];
    if (ids.length === 1) return { track: ids[0], name: null };
    if (ids.length > 1) {
      this.say("select one track to prompt anew, or none for a new object");
      return null;
    }
    const name = await this.askName("What is this new object called?", `object ${this.answers.count ?? 0}`);
    return name ? { track: null, name } : null;
  }

  async addBox() {
    if (this.prompting) {
      this.prompting.toggle("box");
      return;
    }
    if (!this.answers.writable) {
      this.chosenFor(0);
      return;
    }
    this.player.pause();
    this.say("draw a box; Esc gives it up", true);
    const box = await this.stage.drawBox();
    this.say("");
    if (!box) return;
    const [id] = this.view.selected;
    const name = await this.askName("Whose box is this?", id === undefined ? "" : this.nameOf(id));
    if (name) void this.act({ act: "prompt", frame: this.indexOf(this.player.position), name, box: box.map((side) => Math.round(side * 10) / 10) });
  }

  /** Everything from the last accepted frame to this one is right. */
  accept() {
    if (!this.answers.writable) return;
    const { position } = this.player;
    let first = 0;
    for (const [, last] of this.answers.accepted) if (last < position) first = Math.max(first, last + 1);
    void this.act({ act: "accept", first: this.indexOf(first), last: this.indexOf(position) });
  }

  /**
   * @param {string} title
   * @param {string} value
   */
  askName(title, value) {
    const dialog = /** @type {HTMLDialogElement} */ (byId("dialog"));
    const field = h("input", { type: "text", maxlength: 200, value, "aria-label": "Name", autofocus: true, list: "names-in-dialog", autocomplete: "off" });
    const names = h("datalist", { id: "names-in-dialog" }, ...[...new Set(Object.values(this.answers.names))].map((name) => h("option", { value: name })));
    const form = h("form", { class: "ask", onsubmit: (/** @type {Event} */ event) => { event.preventDefault(); dialog.close(field.value.trim()); } },
      field, names, h("button", { type: "submit" }, "OK"));
    const closed = openDialog(title, form);
    field.select();
    return closed;
  }

  // --- what a frame and a track are called -------------------------------------------------------------------------

  /** @param {number} position */
  indexOf(position) {
    return indexOf(this.info, position);
  }

  /**
   * The position of an absolute index, or of the frame before it.
   * @param {number} index
   */
  positionOf(index) {
    return positionOf(this.info, index);
  }

  /** @param {number} id */
  nameOf(id) {
    return this.answers.names[id] ?? String(id);
  }

  /** @param {number} kind */
  className(kind) {
    return this.info.classes[kind] ?? `class ${kind}`;
  }

  /** @param {number} row */
  describe(row) {
    const tracks = /** @type {TrackColumns} */ (this.tracks);
    const level = tracks.level[row] >= 0 && this.info.levels.length > 1 ? ` · level ${tracks.level[row]}` : "";
    const kind = tracks.class[row] >= 0 ? ` · ${this.className(tracks.class[row])}` : "";
    return `${this.indexOf(tracks.first[row])}–${this.indexOf(tracks.last[row])} · ${thousands(tracks.count[row])} fr${level}${kind}`;
  }

  /** @param {number} row */
  remark(row) {
    const tracks = /** @type {TrackColumns} */ (this.tracks);
    const family = this.families?.describe(tracks.id[row], (id) => this.nameOf(id));
    return [family, tracks.reasons[row].join(", ")].filter(Boolean).join(" · ");
  }

  // --- moving and choosing -----------------------------------------------------------------------------------------

  /** @param {number} position */
  moved(position) {
    this.view.position = position;
    const index = this.indexOf(position);
    const field = /** @type {HTMLInputElement} */ (byId("frame-number"));
    if (document.activeElement !== field) field.value = String(index);
    /** @type {HTMLInputElement} */ (byId("scrubber")).value = String(position);
    byId("clock").textContent = this.info.rate ? clock(index / this.info.rate) : "";
    const play = byId("play");
    play.textContent = this.player.isPlaying ? "❚❚" : "▶";
    play.setAttribute("aria-label", this.player.isPlaying ? "Pause" : "Play");
    this.timeline.follow();
    this.stages.slice(1).forEach((stage) => void stage.show(positionOf(stage.info, index)).catch(() => undefined));
    this.keepLink();
  }

  /**
   * A track was clicked somewhere: it is selected everywhere.
   * @param {number} id 0 = none
   * @param {number} position where to go, −1 = stay
   * @param {MouseEvent|KeyboardEvent} [event] with Shift or Ctrl it is added or taken away
   * @param {boolean} [goes] to the track's first frame, where it is not seen now
   */
  pick(id, position, event, goes = false) {
    const { selected } = this.view;
    const adds = event && (event.shiftKey || event.ctrlKey || event.metaKey);
    if (!adds) {
      selected.clear();
      if (id > 0) this.held.forEach((each) => selected.add(each));
      else this.hold(false);
    }
    if (id > 0) {
      if (adds && selected.has(id)) selected.delete(id);
      else selected.add(id);
    }
    if (position >= 0) void this.player.seek(position);
    else if (goes && id > 0 && !this.isSeen(id)) this.goToEnd(id, "first");
    if (id > 0) {
      this.list.reveal(id);
      this.timeline.reveal(id);
    }
    this.chosen();
  }

  /**
   * Holds what is selected, or lets it go: the next track is chosen beside it, without Shift.
   * @param {boolean} [holds]
   */
  hold(holds = !this.held.size && this.view.selected.size > 0) {
    this.held = new Set(holds ? this.view.selected : []);
    document.getElementById("hold")?.setAttribute("aria-pressed", String(holds));
  }

  /** The selected track that was chosen last. */
  get current() {
    return [...this.view.selected].at(-1);
  }

  chosen() {
    this.view.related.clear();
    this.families?.around(this.view.selected).forEach((id) => this.view.related.add(id));
    this.list.redraw();
    this.timeline.redraw();
    this.stages.forEach((stage) => stage.redraw());
    const ids = [...this.view.selected];
    this.say(ids.length ? `selected: ${ids.map((id) => this.nameOf(id)).join(", ")}` : "");
    this.keepLink();
  }

  /** @param {number} id */
  isSeen(id) {
    return Boolean(this.stage.boxOf(id));
  }

  /**
   * @param {number} id
   * @param {"first"|"last"} end
   */
  goToEnd(id, end) {
    const row = this.tracks ? this.tracks.id.indexOf(id) : -1;
    if (this.tracks && row >= 0) void this.player.seek(this.tracks[end][row]);
  }

  /** @param {import("./questions.js").Place} place */
  go(place) {
    this.player.pause();
    this.view.selected.clear();
    place.tracks.forEach((id) => this.view.selected.add(id));
    if (place.other !== undefined) this.stages.slice(1).forEach((stage) => {
      stage.view.selected.clear();
      if (place.other) stage.view.selected.add(place.other);
    });
    void this.player.seek(place.position);
    if (place.tracks.length) {
      this.list.reveal(place.tracks[0]);
      this.timeline.reveal(place.tracks[0]);
    }
    this.chosen();
  }

  /**
   * Selects the next object of the picture, from left to right.
   * @param {number} by
   */
  stepObject(by) {
    const ids = this.stage.idsByPlace();
    if (!ids.length) return;
    const at = ids.findIndex((id) => id === this.current);
    this.pick(ids[at < 0 ? (by > 0 ? 0 : ids.length - 1) : (at + by + ids.length) % ids.length], -1);
  }

  /** Selects the whole family of the selected track. */
  pickFamily() {
    const [id] = this.view.selected;
    if (id === undefined) this.say("select one track first");
    else this.families?.family(id).forEach((each) => this.view.selected.add(each));
    this.chosen();
  }

  /** All levels, then each alone. */
  stepLevel() {
    const { levels } = this.info;
    if (levels.length < 2) return;
    const { levels: shown } = this.filter;
    const at = shown.size === 1 ? levels.indexOf([...shown][0]) : -1;
    shown.clear();
    (at + 1 < levels.length ? [levels[at + 1]] : levels).forEach((level) => shown.add(level));
    this.showLevels();
    this.say(shown.size === 1 ? `level ${[...shown][0]}` : "all levels");
  }

  /** @param {number} by */
  stepTrack(by) {
    const { current } = this;
    const n = current === undefined ? -1 : this.list.indexOf(current);
    const row = this.rows[clamp(n + by, 0, this.rows.length - 1)];
    if (this.tracks && row !== undefined) this.pick(this.tracks.id[row], -1, undefined, true);
  }

  /** @param {number} by */
  stepCut(by) {
    const { position } = this.player;
    const cuts = [0, ...this.info.cuts];
    const next = by > 0 ? cuts.find((cut) => cut > position) ?? this.player.last : cuts.findLast((cut) => cut < position) ?? 0;
    void this.player.seek(next);
  }

  // --- links -------------------------------------------------------------------------------------------------------

  link() {
    const tracks = [...this.view.selected].join(",");
    return `#frame=${this.indexOf(this.player.position)}${tracks ? `&track=${tracks}` : ""}`;
  }

  keepLink() {
    window.clearTimeout(this.linkTimer);
    this.linkTimer = window.setTimeout(() => {
      if (!this.player.isPlaying) history.replaceState(null, "", this.link());
    }, 200);
  }

  async readLink() {
    const query = new URLSearchParams(location.hash.slice(1));
    if (location.hash.length > 1 && !query.has("frame") && !query.has("track")) return;
    const ids = (query.get("track") ?? "").split(",").map(Number).filter((id) => id > 0);
    this.view.selected.clear();
    ids.forEach((id) => this.view.selected.add(id));
    await this.player.seek(this.positionOf(Number(query.get("frame") ?? this.info.indices[0]?.[0] ?? 0)));
    this.chosen();
  }

  async copyLink() {
    history.replaceState(null, "", this.link());
    await navigator.clipboard?.writeText(location.href).catch(() => undefined);
    this.say("link to this frame and track copied");
  }

  /**
   * Says something for a moment: it lies over the picture.
   * @param {string} text
   * @param {boolean} [stays] until something else is said
   */
  say(text, stays = false) {
    window.clearTimeout(this.sayTimer);
    byId("status").textContent = text;
    if (text && !stays) this.sayTimer = window.setTimeout(() => (byId("status").textContent = ""), SAID_FOR + 40 * text.length);
  }

  // --- parts of the page -------------------------------------------------------------------------------------------

  buildTop() {
    byId("top-buttons").replaceChildren(
      h("button", { type: "button", title: "copy a link to this frame and track (c)", onclick: () => this.copyLink() }, "Link"),
      h("button", { type: "button", title: "dark or light (d)", "aria-label": "Dark or light", onclick: () => this.toggleTheme() }, "◐"),
      h("button", { type: "button", id: "help", title: "keys (?)", "aria-label": "Keys", onclick: () => showKeys(this.keys) }, "?"),
    );
    const stored = kept("theme");
    if (stored) document.documentElement.dataset.theme = stored;
    if (this.info.warnings.length) {
      byId("top-buttons").prepend(h("button", {
        type: "button", class: "warn",
        onclick: () => openDialog("Warnings of the run", h("ul", {}, ...this.info.warnings.map((text) => h("li", {}, text)))),
      }, counted(this.info.warnings.length, "warning")));
    }
  }

  toggleTheme() {
    const root = document.documentElement;
    const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = isDark ? "light" : "dark";
    keep("theme", root.dataset.theme);
    this.timeline.redraw();
  }

  buildFilters() {
    const change = () => this.applyFilter();
    byId("filters").replaceChildren(
      h("input", {
        id: "search", type: "search", placeholder: "id, name, reason…", "aria-label": "Search tracks",
        oninput: (/** @type {any} */ event) => { this.filter.text = event.target.value.trim().toLowerCase(); change(); },
      }),
      h("select", { id: "sort", "aria-label": "Order of tracks", onchange: (/** @type {any} */ event) => { this.filter.sort = event.target.value; change(); } },
        ...Object.entries(SORTS).map(([value, text]) => h("option", { value }, text))),
      h("select", { id: "class", "aria-label": "Class", hidden: true, onchange: (/** @type {any} */ event) => {
        this.filter.class = event.target.value; change(); this.stages.forEach((stage) => stage.redraw());
      } }),
      h("label", {}, "≥ ", h("input", {
        id: "least", type: "number", min: 1, value: 1, "aria-label": "Least number of frames",
        oninput: (/** @type {any} */ event) => { this.filter.least = Number(event.target.value) || 1; change(); },
      }), " frames"),
      h("span", { id: "shown-count", class: "quiet" }),
    );
  }

  fillClasses() {
    const classes = [...new Set(this.tracks?.class ?? [])].filter((kind) => kind >= 0).sort((a, b) => a - b);
    const select = /** @type {HTMLSelectElement} */ (byId("class"));
    select.hidden = classes.length < 2;
    select.replaceChildren(h("option", { value: "" }, "all classes"), ...classes.map((kind) => h("option", { value: kind }, this.className(kind))));
  }

  applyFilter() {
    const { tracks, filter } = this;
    if (!tracks) return;
    const rows = tracks.id.map((_, row) => row).filter((row) => {
      if (tracks.count[row] < filter.least) return false;
      if (tracks.level[row] >= 0 && !filter.levels.has(tracks.level[row])) return false;
      if (filter.class !== "" && tracks.class[row] !== Number(filter.class)) return false;
      if (!filter.text) return true;
      if (/^\d+$/.test(filter.text)) return String(tracks.id[row]) === filter.text || this.nameOf(tracks.id[row]).toLowerCase() === filter.text;
      return `${this.nameOf(tracks.id[row])} ${tracks.reasons[row].join(" ")}`.toLowerCase().includes(filter.text);
    });
    const by = /** @type {Record<string, (row: number) => number>} */ ({
      doubt: (row) => -tracks.doubt[row], first: (row) => tracks.first[row], length: (row) => -tracks.count[row],
      short: (row) => tracks.count[row], id: (row) => tracks.id[row], family: this.familyOrder(tracks),
    })[filter.sort];
    rows.sort((a, b) => by(a) - by(b) || tracks.id[a] - tracks.id[b]);
    this.rows = rows;
    byId("shown-count").textContent = !tracks.id.length ? "this run has no tracks" : rows.length === tracks.id.length ? "" : `${thousands(rows.length)} of ${thousands(tracks.id.length)}`;
    this.list.set(tracks, rows);
    this.timeline.set(tracks, rows);
  }

  /**
   * Place of each row in the tree: a thing, then its parts.
   * @param {TrackColumns} tracks
   * @returns {(row: number) => number}
   */
  familyOrder(tracks) {
    const { families } = this;
    const roots = tracks.id.filter((id) => !families?.path(id).length);
    const place = new Map(roots.flatMap((id) => families?.below(id) ?? []).map((id, n) => [id, n]));
    return (row) => place.get(tracks.id[row]) ?? Infinity;
  }

  buildTransport() {
    const { player, info } = this;
    const button = (/** @type {string} */ text, /** @type {string} */ label, /** @type {() => void} */ onclick, /** @type {string} */ id = "") =>
      h("button", { type: "button", "aria-label": label, title: label, id: id || null, onclick }, text);
    byId("transport").replaceChildren(
      button("«", "First frame (Home)", () => player.step(-Infinity)),
      button("‹", "One frame back (←)", () => player.step(-1)),
      button("▶", "Play", () => player.toggle(), "play"),
      button("›", "One frame on (→)", () => player.step(1)),
      button("»", "Last frame (End)", () => player.step(Infinity)),
      h("input", {
        type: "range", id: "scrubber", min: 0, max: Math.max(0, info.frames - 1), value: 0, "aria-label": "Frame",
        oninput: (/** @type {any} */ event) => void player.seek(Number(event.target.value)),
      }),
      h("label", {}, h("span", { class: "word" }, "frame "), h("input", {
        id: "frame-number", type: "text", inputmode: "numeric", "aria-label": "Frame number",
        onchange: (/** @type {any} */ event) => { void player.seek(this.positionOf(Number(event.target.value) || 0)); event.target.blur(); },
      })),
      h("span", { id: "clock", class: "quiet" }),
      h("select", { id: "speed", "aria-label": "Speed", onchange: (/** @type {any} */ event) => { player.speed = Number(event.target.value); player.restart(); } },
        ...SPEEDS.map((speed) => h("option", { value: speed, selected: speed === 1 }, `${speed}×`))),
    );
  }

  storedLooks() {
    const looks = {
      masks: this.info.masks, boxes: !this.info.masks && !this.info.drawn, trails: false, labels: !this.info.drawn,
      outline: true, solo: false, opacity: 0.3,
    };
    try {
      return { ...looks, ...JSON.parse(kept(this.looksKey()) ?? "{}"), solo: false };
    } catch {
      return looks;
    }
  }

  looksKey() {
    return `looks.${this.info.kind}${this.info.drawn ? ".drawn" : ""}`;
  }

  buildLooks() {
    const { looks } = this.view;
    /** @type {[keyof typeof looks & string, string, string][]} */
    const switches = [
      ["boxes", "boxes", "b"], ["trails", "trails", "t"], ["labels", "labels", "l"], ["outline", "outlines", "u"], ["solo", "only selected", "s"],
    ];
    if (this.info.masks) switches.unshift(["masks", "masks", "m"]);
    const toggles = switches.map(([name, text, key]) => h("button", {
      type: "button", "data-look": name, title: `${text} (${key})`, "aria-pressed": String(looks[name]), onclick: () => this.toggleLook(name),
    }, text));
    const levels = this.info.levels.length > 1
      ? this.info.levels.map((level) => h("button", { type: "button", "aria-pressed": "true", "data-level": level, title: "show or hide (v: one after the other)", onclick: () => this.toggleLevel(level) }, `level ${level}`))
      : [];
    /** @type {[string, string, string, () => void][]} */
    const acts = !this.info.fixed ? [
      ["rename", "name", "R", () => void this.rename()], ["merge", "merge", "M", () => this.merge()],
      ["split", "split", "S", () => this.actOnOne("split")], ["end", "end", "E", () => this.actOnOne("end")], ["nobody", "delete", "Del", () => this.actOnOne("nobody")],
      ["accept", "accept", "A", () => this.accept()], ["undo", "undo", "Ctrl+Z", () => void this.act({ act: "undo" })],
      ["redo", "redo", "Ctrl+Shift+Z", () => void this.act({ act: "redo" })],
    ] : [];
    byId("acts").replaceChildren(...acts.map(([name, text, key, onclick]) =>
      h("button", { type: "button", "data-act": name, disabled: true, title: `${text} (${key})`, onclick }, text)));
    if (acts.length) byId("acts").prepend(h("button", {
      type: "button", id: "hold", "aria-pressed": "false", title: "hold what is selected, to choose another track beside it (h)", onclick: () => this.hold(),
    }, "hold"));
    if (this.prompting) byId("acts").append(...this.prompting.toolbar());
    byId("acts").hidden = !acts.length;
    byId("looks").replaceChildren(...toggles, h("label", {}, "opacity ", h("input", {
      type: "range", id: "opacity", min: 0, max: 1, step: 0.05, value: looks.opacity, "aria-label": "Opacity",
      oninput: (/** @type {any} */ event) => { looks.opacity = Number(event.target.value); this.looksChanged(); },
    })), ...levels, h("button", { type: "button", id: "family", hidden: true, title: "select the whole family (y)", onclick: () => this.pickFamily() }, "family"));
  }

  /** @param {string} name */
  toggleLook(name) {
    const looks = /** @type {any} */ (this.view.looks);
    looks[name] = !looks[name];
    document.querySelector(`[data-look=${name}]`)?.setAttribute("aria-pressed", String(looks[name]));
    this.looksChanged();
  }

  /** @param {number} by */
  changeOpacity(by) {
    const { looks } = this.view;
    looks.opacity = clamp(Math.round((looks.opacity + by) * 100) / 100, 0, 1);
    /** @type {HTMLInputElement} */ (byId("opacity")).value = String(looks.opacity);
    this.looksChanged();
  }

  /**
   * @param {number} level
   */
  toggleLevel(level) {
    const { levels } = this.filter;
    if (levels.has(level)) levels.delete(level);
    else levels.add(level);
    this.showLevels();
  }

  showLevels() {
    for (const button of document.querySelectorAll("[data-level]")) {
      button.setAttribute("aria-pressed", String(this.filter.levels.has(Number(button.getAttribute("data-level")))));
    }
    this.applyFilter();
    this.stages.forEach((stage) => stage.redraw());
  }

  looksChanged() {
    keep(this.looksKey(), JSON.stringify(this.view.looks));
    this.stages.forEach((stage) => {
      stage.redraw();
      void stage.show(stage.wanted).catch(() => undefined);
    });
  }

  buildTabs() {
    const show = (/** @type {string} */ name) => {
      document.body.dataset.tab = name;
      byId("tabs").querySelectorAll("button").forEach((each) => each.setAttribute("aria-pressed", String(each.dataset.tab === name)));
      this.timeline.redraw();
      this.list.redraw();
    };
    byId("tabs").replaceChildren(...[["left", "Tracks"], ["bottom", "Timeline"], ["right", "Look here"]].map(([name, text]) =>
      h("button", { type: "button", "data-tab": name, onclick: () => show(name) }, text)));
    show("bottom");
  }

  listenToSplit() {
    const bar = byId("split-bar");
    const set = (/** @type {number} */ height) => {
      const fitting = clamp(height, 80, innerHeight - 200);
      document.documentElement.style.setProperty("--bottom", `${fitting}px`);
      bar.setAttribute("aria-valuenow", String(Math.round(fitting)));
      this.timeline.redraw();
    };
    Object.entries({ min: 80, max: Math.max(80, innerHeight - 200), now: byId("bottom").clientHeight })
      .forEach(([name, value]) => bar.setAttribute(`aria-value${name}`, String(value)));
    bar.addEventListener("pointerdown", (event) => bar.setPointerCapture(event.pointerId));
    bar.addEventListener("pointermove", (event) => {
      if (bar.hasPointerCapture(event.pointerId)) set(innerHeight - event.clientY);
    });
    bar.addEventListener("keydown", (event) => {
      if (event.key === "ArrowUp" || event.key === "ArrowDown") {
        event.stopPropagation();
        set(byId("bottom").clientHeight + (event.key === "ArrowUp" ? 24 : -24));
      }
    });
  }

  /** @returns {import("./keys.js").Key[]} */
  makeKeys() {
    const { player } = this;
    const selected = () => [...this.view.selected][0] ?? 0;
    /** @type {[string, [string, string, (key: string) => void][]][]} */
    const groups = [
      ["Moving", [
        ["Space", "play, pause", () => player.toggle()],
        ["← →", "one frame back, on", (key) => player.step(key === "←" ? -1 : 1)],
        ["Shift+← Shift+→", "ten frames back, on", (key) => player.step(key === "Shift+←" ? -10 : 10)],
        ["Home End", "first, last frame", (key) => player.step(key === "Home" ? -Infinity : Infinity)],
        ["[ ]", "cut before, after", (key) => this.stepCut(key === "[" ? -1 : 1)],
        ["< >", "slower, faster", (key) => this.changeSpeed(key === "<" ? -1 : 1)],
        ["g", "go to a frame", () => /** @type {HTMLInputElement} */ (byId("frame-number")).select()],
      ]],
      ["Doubtful first", [
        ["n p", "next, previous doubtful place, question or difference", (key) => this.questions.step(key === "n" ? 1 : -1)],
        ["j k", "next, previous track of the list", (key) => this.stepTrack(key === "j" ? 1 : -1)],
        ["↓ ↑", "the same", (key) => this.stepTrack(key === "↓" ? 1 : -1)],
        ["i o", "first, last frame of the selected track", (key) => this.goToEnd(selected(), key === "i" ? "first" : "last")],
        [", .", "previous, next object of this picture", (key) => this.stepObject(key === "." ? 1 : -1)],
        ["q", "questions, doubtful places and what else the right panel has, one after the other", () => this.questions.nextPart()],
        ["y", "select the whole family of the selected track", () => this.pickFamily()],
        ["z", "look closely at the selected track", () => this.lookAt(selected())],
        ["/", "search tracks", () => byId("search").focus()],
        ["Esc", "select nothing, see everything", () => { if (this.prompting?.tool) { this.prompting.end(); return; } this.stage.endBox(null); this.pick(0, -1); this.stages.forEach((stage) => stage.fit()); }],
      ]],
      ["Answers", [
        ["1 2 3 4 5 6", "who is asked about is this one of the candidates", (key) => this.questions.press(key)],
        ["0", "it is a new object", (key) => this.questions.press(key)],
        ["x", "it is nobody", (key) => this.questions.press(key)],
        ["e", "type its name", () => document.getElementById("name-field")?.focus()],
        ["R", "name the selected track", () => void this.rename()],
        ["h", "hold what is selected, to choose another track beside it; let it go", () => this.hold()],
        ["M", "the two selected tracks are one object", () => this.merge()],
        ["S", "the selected track is another object from this frame on", () => this.actOnOne("split")],
        ["E", "the selected object is not seen after this frame", () => this.actOnOne("end")],
        ["Del", "the selected track is nobody", () => this.actOnOne("nobody")],
        ["B", this.prompting ? "prompt the selected track, or a new object, by a box" : "draw a box that the detector missed", () => void this.addBox()],
        ...this.promptKeys(),
        ["A", "everything up to this frame is right", () => this.accept()],
        ["Ctrl+Z", "undo", () => void this.act({ act: "undo" })],
        ["Ctrl+Shift+Z Ctrl+Y", "redo", () => void this.act({ act: "redo" })],
        ["W", "write the tracks into the run's files", () => void this.act({ act: "write" })],
      ]],
      ["Drawing", [
        ["m", "masks", () => this.info.masks && this.toggleLook("masks")],
        ["b", "boxes", () => this.toggleLook("boxes")],
        ["t", "trails", () => this.toggleLook("trails")],
        ["l", "labels", () => this.toggleLook("labels")],
        ["u", "outlines", () => this.toggleLook("outline")],
        ["s", "only what is selected", () => this.toggleLook("solo")],
        ["( )", "less, more opaque", (key) => this.changeOpacity(key === "(" ? -0.1 : 0.1)],
        ["v", "one level after the other, all again", () => this.stepLevel()],
        ["f", "the whole picture", () => this.stages.forEach((stage) => stage.fit())],
        ["+ -", "timeline closer, wider", (key) => this.timeline.zoom(key === "+" ? 1.6 : 1 / 1.6)],
      ]],
      ["Page", [
        ["c", "copy a link to this frame and track", () => void this.copyLink()],
        ["d", "dark, light", () => this.toggleTheme()],
        ["?", "this list", () => void showKeys(this.keys)],
      ]],
    ];
    return groups.filter(([group]) => group !== "Answers" || !this.info.fixed).flatMap(([group, keys]) => keys.map(([names, does, run]) => ({ group, keys: names, does, run })));
  }

  /** @returns {[string, string, (key: string) => void][]} */
  promptKeys() {
    const { prompting } = this;
    return prompting ? [
      ["P", "prompt it by points: click inside, with Alt outside", () => prompting.toggle("points")],
      ["K", "prompt it by a painted mask, with Alt erasing", () => prompting.toggle("brush")],
      ["{ }", "smaller, larger brush", (key) => prompting.resize(key === "{" ? 1 / 1.3 : 1.3)],
      ["Enter", "prompt with what is marked", () => void (prompting.tool && prompting.apply())],
    ] : [];
  }

  /** @param {number} by */
  changeSpeed(by) {
    const at = clamp(SPEEDS.indexOf(this.player.speed) + by, 0, SPEEDS.length - 1);
    this.player.speed = SPEEDS[at];
    this.player.restart();
    /** @type {HTMLSelectElement} */ (byId("speed")).value = String(SPEEDS[at]);
  }

  /** @param {number} id */
  lookAt(id) {
    const box = this.stage.boxOf(id);
    if (box) this.stage.look(box);
  }
}

try {
  const { runs } = await getJson("api/info");
  const page = new Page(runs);
  Object.assign(window, { trackweave: page });
  await page.start();
} catch (error) {
  byId("status").textContent = String(error);
  document.documentElement.dataset.ready = "failed";
  throw error;
}
