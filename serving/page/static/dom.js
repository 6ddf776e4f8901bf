// Small pieces of the document. Text is always set as text; nothing here reads markup.

export const $ = (selector, root = document) => root.querySelector(selector);
export const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

/** Return a copy of a template's first element. */
export const copy = (id) => document.getElementById(id).content.firstElementChild.cloneNode(true);

/** Make an element with a text or children. */
export function make(tag, text = "", ...children) {
  const element = document.createElement(tag);
  element.append(text, ...children);
  return element;
}

/** Set the text of a descendant. */
export function put(root, selector, text) {
  $(selector, root).textContent = text;
}

export function show(element, visible = true) {
  element.hidden = !visible;
}

/** Say something to who cannot see the change; the same words twice are said twice. */
export function announce(text) {
  const status = $("#status");
  status.textContent = "";
  setTimeout(() => (status.textContent = text), 50);
}
