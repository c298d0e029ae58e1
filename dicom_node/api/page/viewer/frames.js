// Keeps what was fetched of images, up to a bound of bytes, and fetches ahead of the reader.

const MOST_BYTES = 384 * 2 ** 20;
const AT_ONCE = 4; // a browser has six connections for a host; one hears of changes, one is for whoever clicks

/** Frames by image: what is asked for now goes before what may be wanted next; the rest is forgotten above a bound. */
export class Frames {
  constructor({ load, mostBytes = MOST_BYTES, atOnce = AT_ONCE, kept = () => {} }) {
    Object.assign(this, { load, mostBytes, atOnce, told: kept, kept: new Map(), waiting: new Map(), ahead: [], underWay: 0, bytes: 0 });
  }

  /** A frame that is here already, else `null`. */
  peek(image) {
    const frame = this.kept.get(keyOf(image));
    if (!frame) return null;
    this.kept.delete(keyOf(image)); // used now: it goes last
    this.kept.set(keyOf(image), frame);
    return frame;
  }

  async get(image) {
    return this.peek(image) ?? this.#begin(image);
  }

  /** Load ahead around a place, nearest first, as many as fit; replaces what was asked ahead before. */
  prefetch(images, place) {
    const each = images[place] ? images[place].rows * images[place].columns * images[place].samples * 2 : 1;
    const most = Math.max(1, Math.floor((this.mostBytes * 0.9) / each));
    this.ahead = images.map((image, at) => [Math.abs(at - place), image]).sort(([a], [b]) => a - b).slice(0, most)
      .map(([, image]) => image).filter((image) => !this.kept.has(keyOf(image)));
    this.#proceed();
  }

  /** How many of these are here. */
  countOf(images) {
    return images.filter((image) => this.kept.has(keyOf(image))).length;
  }

  stop() {
    this.ahead = [];
  }

  #proceed() {
    while (this.underWay < this.atOnce && this.ahead.length) {
      const image = this.ahead.shift();
      if (!this.kept.has(keyOf(image)) && !this.waiting.has(keyOf(image))) this.#begin(image).catch(() => {}); // told when it is looked at
    }
  }

  #begin(image) {
    const key = keyOf(image);
    if (this.waiting.has(key)) return this.waiting.get(key);
    this.underWay += 1;
    const promise = this.load(image).then((frame) => this.#keep(key, frame)).finally(() => {
      this.underWay -= 1;
      this.waiting.delete(key);
      this.#proceed();
    });
    this.waiting.set(key, promise);
    return promise;
  }

  #keep(key, frame) {
    this.kept.set(key, frame);
    this.bytes += frame.size;
    for (const [oldest, one] of this.kept) {
      if (this.bytes <= this.mostBytes || oldest === key) break;
      this.kept.delete(oldest);
      this.bytes -= one.size;
      one.picture?.close();
    }
    this.told();
    return frame;
  }
}

export const keyOf = (image) => `${image.sop}/${image.frame}`;
