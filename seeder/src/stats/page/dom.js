// Elements from text that others wrote: strings become text nodes, never markup.

const SVG = 'http://www.w3.org/2000/svg';

export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) {
      element.addEventListener(name.slice(2), value);
    } else if (value !== undefined && value !== null && value !== false) {
      element.setAttribute(name, value === true ? '' : value);
    }
  }
  element.append(...children);
  return element;
}

// What others named: cut by the style, isolated from its surroundings' direction, whole in its title.
export function name(text, href) {
  const shown = h('bdi', { class: 'name', title: text }, text || '(no name)');
  return href ? h('a', { href }, shown) : shown;
}

// A list of facts whose values change.
export class Facts {
  constructor(entries) {
    this.entries = entries;
    this.values = entries.map(() => h('dd'));
    const rows = entries.map(([label], index) => h('div', {}, h('dt', {}, label), this.values[index]));
    this.element = h('dl', { class: 'facts' }, ...rows);
  }

  update(data) {
    this.entries.forEach(([, show], index) => put(this.values[index], show(data)));
  }
}

// Text or an element into a cell, when it is another than before.
function put(cell, shown) {
  if (shown instanceof Node) {
    if (!cell.firstChild || !cell.firstChild.isEqualNode(shown)) {
      cell.replaceChildren(shown);
    }
  } else if (cell.textContent !== String(shown)) {
    cell.textContent = shown;
  }
}

// A table whose rows stay the same elements from update to update, so that the focus stays.
// A column: { label, show(row), number, sort }.
export class Table {
  constructor(caption, columns, key, choice) {
    this.columns = columns;
    this.key = key;
    this.rows = new Map();
    this.caption = h('caption');
    this.captionText = caption;
    this.heads = columns.map((column) => {
      const label = column.sort && choice
        ? h('button', { type: 'button', onclick: () => choice.sortBy(column) }, column.label)
        : column.label;
      const sorted = column.sort && choice && choice.sort === column.sort
        ? (choice.order === 'desc' ? 'descending' : 'ascending') : undefined;
      return h('th', { scope: 'col', class: column.number && 'number', 'aria-sort': sorted }, label);
    });
    this.body = h('tbody');
    const table = h('table', {}, this.caption, h('thead', {}, h('tr', {}, ...this.heads)), this.body);
    this.element = h('div', { class: 'scroll cards', tabindex: '0', role: 'region', 'aria-label': caption }, table);
  }

  update(items, note = '') {
    const text = note ? `${this.captionText}: ${note}` : this.captionText;
    if (this.caption.textContent !== text) {
      this.caption.textContent = text;
    }
    const kept = new Map();
    items.forEach((item, index) => {
      const key = this.key(item);
      let row = this.rows.get(key);
      if (!row) {
        row = h('tr', {}, ...this.columns.map((column, at) => h(at === 0 ? 'th' : 'td', {
          class: column.number && 'number', 'data-label': column.label, scope: at === 0 && 'row',
        })));
      }
      this.columns.forEach((column, at) => put(row.children[at], column.show(item)));
      kept.set(key, row);
      if (this.body.children[index] !== row) {
        this.body.insertBefore(row, this.body.children[index] ?? null);
      }
    });
    for (const [key, row] of this.rows) {
      if (!kept.has(key)) {
        row.remove();
      }
    }
    this.rows = kept;
  }
}
