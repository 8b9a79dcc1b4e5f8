/** @file Small pictures of tracks: few at a time, and asked for again where the server has not decoded them yet. */

const MOST_LOADING = 2;
const AGAIN = 700;
const MOST_TRIES = 40;
/** @type {HTMLImageElement[]} */
let waiting = [];
let loading = 0;

/**
 * Loads pictures into elements whose `data-src` says from where; those that left the page are passed over.
 * @param {Iterable<Element>} images
 */
export function loadCrops(images) {
  for (const image of images) {
    if (image instanceof HTMLImageElement && image.dataset.src && !waiting.includes(image)) waiting.push(image);
  }
  next();
}

function next() {
  while (loading < MOST_LOADING) {
    const image = waiting.shift();
    if (!image) return;
    if (!image.isConnected) continue;
    loading += 1;
    void load(image).finally(() => {
      loading -= 1;
      next();
    });
  }
}

/** @param {HTMLImageElement} image */
async function load(image) {
  const response = await fetch(image.dataset.src ?? "").catch(() => null);
  if (response?.status === 503) {
    const tries = Number(image.dataset.tries ?? 0) + 1;
    image.dataset.tries = String(tries);
    if (tries < MOST_TRIES) {
      window.setTimeout(() => {
        waiting.push(image);
        next();
      }, AGAIN);
    }
    return;
  }
  delete image.dataset.src;
  if (!response?.ok) {
    image.classList.add("none");
    return;
  }
  const url = URL.createObjectURL(await response.blob());
  image.onload = () => URL.revokeObjectURL(url);
  image.src = url;
}
