/** @file Small pictures of tracks: few at a time, and asked for again where the server has not decoded them yet. */

const MOST_LOADING = 2;
const AGAIN = 700;
const MOST_TRIES = 40;
/** @type {HTMLElement[]} */
let waiting = [];
let loading = 0;

/**
 * Puts pictures into elements whose `data-src` says from where; those that left the page are passed over.
 * @param {Iterable<Element>} places
 */
export function loadCrops(places) {
  for (const place of places) {
    if (place instanceof HTMLElement && place.dataset.src && !waiting.includes(place)) waiting.push(place);
  }
  next();
}

function next() {
  while (loading < MOST_LOADING) {
    const place = waiting.shift();
    if (!place) return;
    if (!place.isConnected) continue;
    loading += 1;
    void load(place).finally(() => {
      loading -= 1;
      next();
    });
  }
}

/** @param {HTMLElement} place */
async function load(place) {
  const response = await fetch(place.dataset.src ?? "").catch(() => null);
  if (response?.status === 204 && response.headers.has("Retry-After")) {
    const tries = Number(place.dataset.tries ?? 0) + 1;
    place.dataset.tries = String(tries);
    if (tries < MOST_TRIES) {
      window.setTimeout(() => {
        waiting.push(place);
        next();
      }, AGAIN);
    }
    return;
  }
  delete place.dataset.src;
  if (response?.status !== 200) {
    place.classList.add("none");
    return;
  }
  const image = document.createElement("img");
  image.alt = "";
  const url = URL.createObjectURL(await response.blob());
  image.onload = () => URL.revokeObjectURL(url);
  image.src = url;
  place.replaceChildren(image);
}
