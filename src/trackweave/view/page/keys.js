/** @file The keyboard: every act has a key, and `?` lists them. */

import { byId, h } from "./util.js";

/**
 * @typedef {object} Key
 * @property {string} keys as they are shown, several with a space between them
 * @property {string} does
 * @property {string} group
 * @property {(key: string) => void} run
 */

const NAMES = /** @type {Record<string, string>} */ ({
  " ": "Space", ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", Escape: "Esc", Delete: "Del",
});

/**
 * The name of a pressed key as it stands in the list, such as `Shift+←` or `M`.
 * @param {KeyboardEvent} event
 */
export function keyName(event) {
  const name = NAMES[event.key] ?? event.key;
  const isLetter = event.key.length === 1 && event.key !== " ";
  const control = event.ctrlKey || event.metaKey ? "Ctrl+" : "";
  const shift = event.shiftKey && (!isLetter || control) ? "Shift+" : "";
  return `${control}${shift}${control && isLetter ? name.toUpperCase() : name}`;
}

/**
 * Listens to keys, unless something is being typed.
 * @param {() => Key[]} list
 */
export function listenToKeys(list) {
  document.addEventListener("keydown", (event) => {
    const target = /** @type {HTMLElement} */ (event.target);
    const isTyping = target.matches("input:not([type=range]):not([type=checkbox]), select, textarea");
    if (isTyping) {
      if (event.key === "Escape") target.blur();
      return;
    }
    if (/** @type {HTMLDialogElement} */ (byId("dialog")).open) return;
    const name = keyName(event);
    if ((name === "Space" || name === "Enter") && target.matches("button")) return;
    if ((name === "←" || name === "→") && target.matches("input[type=range]")) event.preventDefault();
    const found = list().find((each) => each.keys.split(" ").includes(name));
    if (!found) return;
    event.preventDefault();
    found.run(name);
  });
}

/**
 * Shows a dialog; resolves when it is closed.
 * @param {string} title
 * @param {(Node|string)[]} content
 * @returns {Promise<string>} the value of the button that closed it, or ""
 */
export function openDialog(title, ...content) {
  const dialog = /** @type {HTMLDialogElement} */ (byId("dialog"));
  const close = h("button", { type: "button", class: "close", "aria-label": "Close", onclick: () => dialog.close("") }, "×");
  dialog.replaceChildren(h("h2", { id: "dialog-title" }, title), close, ...content);
  dialog.returnValue = "";
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue), { once: true });
    dialog.showModal();
  });
}

/**
 * The list of keys, by group.
 * @param {Key[]} keys
 */
export function showKeys(keys) {
  const groups = [...new Set(keys.map((key) => key.group))];
  const tables = groups.map((group) =>
    h("section", {}, h("h3", {}, group), h("dl", {}, ...keys.filter((key) => key.group === group).flatMap((key) => [
      h("dt", {}, ...key.keys.split(" ").map((name) => h("kbd", {}, name))), h("dd", {}, key.does),
    ]))));
  return openDialog("Keys", h("div", { class: "keys" }, ...tables));
}
