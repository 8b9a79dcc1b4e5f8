/** @file `Families`: which track is part of which, where a run knows it. */

/** @typedef {import("./types.js").TrackColumns} TrackColumns */

/** The tree of identities. */
export class Families {
  /** @param {TrackColumns} tracks */
  constructor(tracks) {
    /** @type {Map<number, number>} */
    this.parentOf = new Map();
    /** @type {Map<number, number[]>} */
    this.partsOf = new Map();
    tracks.id.forEach((id, row) => {
      const parent = tracks.parent[row];
      if (!parent) return;
      this.parentOf.set(id, parent);
      this.partsOf.set(parent, [...(this.partsOf.get(parent) ?? []), id]);
    });
  }

  get isEmpty() {
    return this.parentOf.size === 0;
  }

  /** @param {number} id */
  parts(id) {
    return this.partsOf.get(id) ?? [];
  }

  /**
   * What a track is part of, the nearest first.
   * @param {number} id
   * @returns {number[]}
   */
  path(id) {
    /** @type {number[]} */
    const path = [];
    for (let at = this.parentOf.get(id); at !== undefined && !path.includes(at); at = this.parentOf.get(at)) path.push(at);
    return path;
  }

  /**
   * The thing that a track belongs to and all its parts, in the order of the tree.
   * @param {number} id
   * @returns {number[]}
   */
  family(id) {
    return this.below(this.path(id).at(-1) ?? id);
  }

  /**
   * @param {number} id
   * @param {Set<number>} [seen]
   * @returns {number[]}
   */
  below(id, seen = new Set()) {
    if (seen.has(id)) return [];
    seen.add(id);
    return [id, ...this.parts(id).flatMap((part) => this.below(part, seen))];
  }

  /**
   * The parent and the parts of tracks.
   * @param {Iterable<number>} ids
   */
  around(ids) {
    return new Set([...ids].flatMap((id) => [...this.path(id).slice(0, 1), ...this.parts(id)]));
  }

  /**
   * What is said of a track's place in the tree.
   * @param {number} id
   * @param {(id: number) => string} name
   */
  describe(id, name) {
    const [parent] = this.path(id);
    const parts = this.parts(id).length;
    return [parent === undefined ? "" : `part of ${name(parent)}`, parts ? `${parts} part${parts > 1 ? "s" : ""}` : ""].filter(Boolean).join(", ");
  }
}
