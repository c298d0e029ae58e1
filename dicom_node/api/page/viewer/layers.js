// What lies over the images: the regions of findings and the masks of segmentations, each switched on and off.

import { frameBytes, headersOf } from "./dicomweb.js";
import { opened } from "./polygon.js";
import { isMaskOn, labelsOf, masksOf, paintLabels, segmentsOf } from "./segments.js";

// As stored a mask takes a bit for each pixel, as painted four bytes.
const MOST_STORED = 2000;
const MOST_PAINTED = 48;

export class Layers {
  constructor() {
    Object.assign(this, { showsMasks: true, showsRegions: true, regions: [], masks: [], stored: new Map(), painted: new Map(), faults: new Map(), told: () => {} });
  }

  /** The regions of findings as they stand now; `hidden` is the key of the one that is being edited. */
  setRegions(findings, hidden = "") {
    this.regions = findings.filter((one) => one.region && one.key !== hidden && !one.removed)
      .map(({ region, label }) => ({ region, drawn: { corners: opened(region.points_xy_px), label } }));
  }

  regionsOn(image) {
    if (!this.showsRegions) return [];
    return this.regions.filter(({ region }) => region.sop_instance_uid === image.sop && (region.frame_number ?? 1) === image.frame)
      .map(({ drawn }) => drawn);
  }

  /** Keep why a segmentation is not drawn, for whoever looks at the images. */
  #fault(sop, labels, problem) {
    this.faults.set(sop, { labels, why: problem.message });
    this.told();
  }

  /** Learn where the frames of the segmentations lie. */
  async loadSegmentations(study, seriesUids) {
    const told = seriesUids.map((uid) => headersOf(study, uid).catch((problem) => { this.#fault(uid, [], problem); return []; }));
    const headers = (await Promise.all(told)).flat();
    this.masks = headers.flatMap((one) => {
      const segments = segmentsOf(one);
      return masksOf(one).map((mask) => ({ ...mask, segments }));
    });
    return this.masks.length;
  }

  /** The masks on an image as far as they are here; `later` is called when one more has come. */
  masksOn(image, later) {
    if (!this.showsMasks) return [];
    return this.masks.filter((mask) => isMaskOn(mask, image)).map((mask) => this.#paintedOf(mask, later)).filter(Boolean);
  }

  #paintedOf(mask, later) {
    const key = `${mask.sop}/${mask.frame}`;
    if (!this.stored.has(key)) this.#load(key, mask, later);
    const bytes = this.stored.get(key);
    if (bytes && !this.painted.has(key)) keep(this.painted, key, painted(bytes, mask), MOST_PAINTED);
    return this.painted.get(key);
  }

  #load(key, mask, later) {
    keep(this.stored, key, null, MOST_STORED);
    frameBytes(mask).then((bytes) => { this.stored.set(key, bytes); later(); }, (problem) => {
      this.stored.delete(key);
      if (!this.faults.has(mask.sop)) this.#fault(mask.sop, [...mask.segments.values()].map((one) => one.label), problem);
    });
  }
}

/** Put something into a map that holds so many, without what came first. */
function keep(map, key, value, most) {
  map.set(key, value);
  if (map.size > most) map.delete(map.keys().next().value);
}

function painted(bytes, mask) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: mask.columns, height: mask.rows });
  const context = canvas.getContext("2d");
  const data = context.createImageData(mask.columns, mask.rows);
  paintLabels(labelsOf(bytes, mask), mask, mask.segments, new Uint32Array(data.data.buffer));
  context.putImageData(data, 0, 0);
  return canvas;
}
