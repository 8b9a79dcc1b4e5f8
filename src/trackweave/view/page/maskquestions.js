/** @file Questions about masks: is this mask right, are these two one thing; and how far a new prompt has come. */

import { counted, h } from "./util.js";

/** @typedef {import("./types.js").Job} Job */
/** @typedef {import("./types.js").Question} Question */
/** @typedef {import("./questions.js").Questions} Questions */

const REASONS = /** @type {Record<string, string>} */ ({
  area_jump: "its area jumps", box_jump: "its box jumps", unsure: "the predictor is unsure", link: "a doubtful identity",
});
const STRONG = /** @type {Record<string, number>} */ ({ area_jump: 0.3, box_jump: 0.4, unsure: 0.4 });

/**
 * What speaks against a mask, in words.
 * @param {Question} question
 */
function reasons(question) {
  const evidence = question.evidence ?? {};
  const found = Object.keys(STRONG).filter((name) => (evidence[name] ?? 0) > STRONG[name]).map((name) => REASONS[name]);
  if (evidence.link !== null && evidence.link !== undefined && evidence.link < 0.75) found.push(REASONS.link);
  return found.length ? found.join(", ") : "far from its prompt";
}

/**
 * Answers a question by a key.
 * @param {Questions} panel
 * @param {Question} question
 * @param {string} key 1 yes, 0 no, x nobody
 */
export function pressMask(panel, question, key) {
  const { at, track_id: track, other } = question;
  if (key === "1" && other) void panel.answer({ act: "join", at, other });
  else if (key === "0" && other) void panel.answer({ act: "part", at, other });
  else if (key === "1") void panel.answer({ act: "right", at, track });
  else if (key === "0") panel.host.prompt();
  else if (key === "x") void panel.answer({ act: "nobody", at });
}

/**
 * A question as a card.
 * @param {Questions} panel
 * @param {Question} question
 * @returns {HTMLElement[]}
 */
export function drawMaskQuestion(panel, question) {
  const button = (/** @type {string} */ key, /** @type {string} */ text, /** @type {() => void} */ onclick) =>
    h("button", { type: "button", "data-key": key, onclick }, h("kbd", {}, key), ` ${text}`);
  const press = (/** @type {string} */ key) => () => panel.press(key);
  const isLink = Boolean(question.other);
  return [
    h("article", { class: "card question", "aria-label": "Question" },
      h("h3", {}, isLink ? "Are these one thing?" : "Is this mask right?"),
      h("div", { class: "asked" }, panel.crop(question.at, "asked"), isLink ? panel.crop(question.other ?? null, "asked") : null, h("p", {},
        panel.badge(question.track_id), h("br"),
        h("span", { class: "quiet" }, `frame ${question.at[0]}`), h("br"),
        h("span", { class: "quiet" }, reasons(question)), h("br"),
        h("span", { class: "quiet" }, `an answer repairs about ${counted(Math.max(1, Math.round(question.repair)), "mask")}`))),
      h("div", { class: "choices" },
        button("1", isLink ? "one thing" : "right", press("1")),
        button("0", isLink ? "two things" : "wrong: prompt anew", press("0")),
        button("x", "nobody", press("x")),
        button("n", "skip", () => panel.step(1)))),
    h("p", { class: "hint" }, ...(panel.isAsking ? ["The video shows the mask that is asked about."] : [h("kbd", {}, "n"), " goes to the question; then one key answers it."])),
  ];
}

/**
 * Shows how far a prompt has come, and what failed.
 * @param {HTMLElement} place
 * @param {Job|null|undefined} job
 * @param {Job[]} failed
 */
export function drawJob(place, job, failed) {
  place.hidden = !job && !failed.length;
  const lines = failed.map((one) => h("span", { class: "warn" }, `${one.name}, frame ${one.prompt}: ${one.message} · undo takes the prompt back`));
  if (job) {
    lines.unshift(h("span", {}, `moving ${job.name} from frame ${job.prompt} `,
      h("progress", { max: job.total, value: job.done, "aria-label": "Frames of the prompt" }), ` ${job.done} / ${job.total}`));
  }
  place.replaceChildren(...lines);
}
