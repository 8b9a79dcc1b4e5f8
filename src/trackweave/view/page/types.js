/** @file What the server sends, and what the page keeps. */

/**
 * One of the runs that are shown.
 * @typedef {object} RunInfo
 * @property {string} name
 * @property {"boxes"|"masks"} kind
 * @property {number[]} levels
 * @property {number} width
 * @property {number} height
 * @property {number} frames how many
 * @property {[number, number][]} indices absolute index and position where a stretch of consecutive indices begins
 * @property {number|null} rate frames per second
 * @property {number[]} cuts positions
 * @property {boolean} pictures
 * @property {boolean} crops are there pictures of single tracks?
 * @property {boolean} [fixed] can it only be looked at?
 * @property {boolean} [drawn] are the tracks in the pictures already?
 * @property {string|null} notice why there are no pictures
 * @property {boolean} masks
 * @property {string|null} input
 * @property {number} tracks
 * @property {number} observations
 * @property {string[]} warnings
 * @property {Record<string, string>} classes names by number
 */

/**
 * All tracks as columns; row n is one track.
 * @typedef {object} TrackColumns
 * @property {number[]} id
 * @property {number[]} level
 * @property {number[]} class
 * @property {number[]} first position
 * @property {number[]} last position
 * @property {number[]} count
 * @property {(number|null)[]} score
 * @property {number[]} parent id of what it is part of, 0 = nothing
 * @property {string[]} colour as `#rrggbb`; a part has a shade of its whole's
 * @property {number[]} doubt
 * @property {string[][]} reasons
 * @property {number[]} starts row n has the spans starts[n] … starts[n + 1] - 1
 * @property {number[]} spans two positions each, end excluded
 * @property {number[]} frameDoubt by position
 * @property {Switch[]} switches
 */

/** @typedef {{position: number, tracks: number[], cause: string, confidence: number}} Switch */

/** @typedef {{size: [number, number], x: number, y: number, w: number, h: number, runs: number[]}} MaskRuns */

/**
 * One frame's objects as columns.
 * @typedef {object} FrameObjects
 * @property {number[]} id
 * @property {number[]} level
 * @property {number[]} box four each
 * @property {number[]} score
 * @property {number[]} class
 * @property {number[]} item what acts call it on its frame
 * @property {(MaskRuns|null)[]} [masks]
 */

/**
 * @typedef {object} Candidate
 * @property {number} track_id
 * @property {string|null} name
 * @property {number} probability
 * @property {[number, number]|null} before frame and item
 * @property {[number, number]|null} after
 */

/**
 * Who is this?
 * @typedef {object} Question
 * @property {[number, number]} at frame and item
 * @property {number[]} box
 * @property {number} track_id
 * @property {string|null} name
 * @property {number} doubt
 * @property {number} repair boxes that an answer repairs
 * @property {boolean} [contradicted] a person named it, and other answers speak against that
 * @property {number} position
 * @property {Candidate[]} candidates
 * @property {"mask"|"link"} [kind] in a run of masks
 * @property {[number, number]|null} [other] the other mask of a link
 * @property {Record<string, number|null>} [evidence] what speaks against a mask; null = not known
 */

/**
 * A prompt that is moved through the video.
 * @typedef {object} Job
 * @property {string} name
 * @property {number} prompt absolute index of its frame
 * @property {number} done frames
 * @property {number} total
 * @property {number} frame absolute index of the last one
 * @property {string} [message] why it failed
 */

/**
 * What was said, and what is asked.
 * @typedef {object} AnswerState
 * @property {string} version
 * @property {boolean} writable
 * @property {string|null} notice why not
 * @property {boolean} [undo]
 * @property {boolean} [redo]
 * @property {boolean} [unwritten]
 * @property {number} [count]
 * @property {Record<string, string>} names
 * @property {string[]} refused
 * @property {any[]} acts
 * @property {[number, number][]} accepted positions, both ends included
 * @property {Question[]} questions
 * @property {Job|null} [job] in a run of masks, the prompt that is being moved
 * @property {Job[]} [failed]
 */

/** @typedef {ImageBitmap|HTMLVideoElement} Picture */

/**
 * How the first run differs from what is seen beside it.
 * @typedef {object} Difference
 * @property {"switch"|"miss"|"false"} kind
 * @property {number} first position
 * @property {number} last position
 * @property {number[]} tracks ids of the first run
 * @property {number} other id in the other one, 0 = none
 */

/** @typedef {{counts: Record<"switch"|"miss"|"false", number>, listed: Difference[]}} Differences */

/**
 * How things are drawn.
 * @typedef {object} Looks
 * @property {boolean} masks
 * @property {boolean} boxes
 * @property {boolean} trails
 * @property {boolean} labels
 * @property {boolean} outline
 * @property {boolean} solo only what is selected
 * @property {number} opacity
 */

/**
 * What list, video and timeline share.
 * @typedef {object} View
 * @property {Looks} looks
 * @property {Set<number>} selected ids
 * @property {Set<number>} related ids of what the selected ones are part of, and of their parts
 * @property {number} hovered id, 0 = none
 * @property {number} position
 * @property {(id: number, level: number, kind: number) => boolean} hidden filtered out
 * @property {(id: number) => string} name
 * @property {(row: number) => string} describe a track in a few words
 * @property {(row: number) => string} remark its family, and why it is doubtful
 * @property {(id: number) => number} depth how many things a track is part of, one inside the other
 */

export {};
