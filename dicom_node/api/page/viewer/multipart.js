// Reads multipart/related answers (RFC 2046 5.1) of WADO-RS.

const NEWLINE = 10;
const END_OF_HEAD = [13, 10, 13, 10];

/** The bodies of the parts of an answer, each as an ArrayBuffer of its own. */
export function partsOf(buffer, contentType) {
  const boundary = /boundary="?([^";,]+)"?/i.exec(contentType ?? "")?.[1];
  if (!boundary) return [buffer];
  const bytes = new Uint8Array(buffer);
  const delimiter = new TextEncoder().encode(`--${boundary}`);
  const parts = [];
  let at = find(bytes, delimiter, 0);
  while (at >= 0) {
    const head = find(bytes, END_OF_HEAD, at);
    if (head < 0) break;
    const from = head + END_OF_HEAD.length;
    const stated = lengthIn(bytes.subarray(at, head));
    const next = find(bytes, delimiter, stated === null ? from : from + stated);
    const end = stated === null ? bodyEnd(bytes, next < 0 ? bytes.length : next) : from + stated;
    parts.push(buffer.slice(from, end));
    at = next;
  }
  return parts;
}

/** Before a delimiter stands the line break that belongs to it. */
const bodyEnd = (bytes, next) => (bytes[next - 1] === NEWLINE ? next - 2 : next);

function lengthIn(head) {
  const stated = /^content-length:\s*(\d+)/im.exec(new TextDecoder("latin1").decode(head))?.[1];
  return stated === undefined ? null : Number(stated);
}

function find(bytes, wanted, from) {
  for (let at = bytes.indexOf(wanted[0], from); at >= 0; at = bytes.indexOf(wanted[0], at + 1)) {
    if (wanted.every((one, place) => bytes[at + place] === one)) return at;
  }
  return -1;
}
