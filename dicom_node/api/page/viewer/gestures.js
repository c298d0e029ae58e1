// What a pointer does on a canvas: a drag with the chosen tool, two fingers that zoom and move, the wheel.

const BUTTON_TOOLS = { 1: "pan", 2: "zoom" };

/** Tell `act` what is done on an element: `down(at)` may take a drag for itself; `drag`, `up`, `pinch`, `wheel`. */
export function listen(element, act) {
  const pointers = new Map();
  let drag = null;
  const placeOf = (event) => {
    const box = element.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  element.addEventListener("contextmenu", (event) => event.preventDefault());
  element.addEventListener("pointerdown", (event) => {
    const at = placeOf(event);
    element.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, at);
    if (pointers.size > 1) drag = null;
    else drag = { tool: BUTTON_TOOLS[event.button] ?? (event.shiftKey ? "pan" : act.down(at)), from: at, last: at };
  });
  element.addEventListener("pointermove", (event) => {
    const at = placeOf(event), before = pointers.get(event.pointerId);
    if (!before) return act.hover(at);
    if (pointers.size === 2) act.pinch(...pinchOf(pointers, event.pointerId, at));
    else if (drag) act.drag(drag.tool, at[0] - drag.last[0], at[1] - drag.last[1], at, drag.from);
    if (drag) drag.last = at;
    pointers.set(event.pointerId, at);
  });
  const end = (event) => {
    pointers.delete(event.pointerId);
    if (drag) act.up(drag.tool);
    drag = null;
  };
  element.addEventListener("pointerup", end);
  element.addEventListener("pointercancel", end);
  element.addEventListener("wheel", (event) => {
    event.preventDefault();
    act.wheel(Math.sign(event.deltaY), event.ctrlKey || event.metaKey, placeOf(event));
  }, { passive: false });
}

/** Factor of the distance, way of the middle, and the middle, when one of two fingers moves. */
function pinchOf(pointers, moving, at) {
  const [, other] = [...pointers].find(([id]) => id !== moving);
  const before = pointers.get(moving);
  const middle = (a) => [(a[0] + other[0]) / 2, (a[1] + other[1]) / 2];
  const distance = (a) => Math.max(1, Math.hypot(a[0] - other[0], a[1] - other[1]));
  const [from, to] = [middle(before), middle(at)];
  return [distance(at) / distance(before), to[0] - from[0], to[1] - from[1], to];
}
