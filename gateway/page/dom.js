// Elements made from data. Whatever comes from the network goes in as text: nothing here, or elsewhere in the page, parses markup.

export const byId = (id) => document.getElementById(id);

/** Return an element with attributes and children; strings become text. `class`, `title`, `data-…` are attributes, `on…` listeners. */
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, String(value));
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
}

/** Make an element's text this, touching nothing if it is so already. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Make an attribute this; null takes it away. */
export function mark(element, name, value) {
  if (value === null || value === undefined || value === "") element.removeAttribute(name);
  else if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/**
 * Make a list's children those of the items, in their order. An item's element stays the same while its key does, so that what has the
 * focus keeps it. `update(element, item)` writes what may have changed.
 */
export function keep(list, items, key, make, update) {
  const before = new Map([...list.children].map((child) => [child.dataset.key, child]));
  let place = list.firstElementChild;
  for (const item of items) {
    const name = key(item);
    const element = before.get(name) ?? make(item);
    before.delete(name);
    element.dataset.key = name;
    update(element, item);
    if (element === place) place = place.nextElementSibling;
    else list.insertBefore(element, place);
  }
  for (const gone of before.values()) gone.remove();
}

/** Return a coloured word for a state. */
export function pill(state) {
  return el("span", { class: "pill", "data-state": state }, state);
}

/** Make a pill say another state. */
export function repill(element, state) {
  say(element, state);
  mark(element, "data-state", state);
}
