// Elements of the page.

export const by = (id) => document.getElementById(id);

/** Sets the text only if it differs: nothing is announced or laid out again without need. */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}
