// Pictures, each with its words for those who do not see them.

import { h, svg } from './dom.js';
import { bytes, plural, rate } from './units.js';

const WIDTH = 900;
const HEIGHT = 220;
const LEFT = 84;
const BOTTOM = 24;
const SERIES = [
  ['registry', 'from the registry', 'from_registry_bytes'],
  ['supernode', 'from supernodes', 'from_supernode_bytes'],
  ['peers', 'from other nodes', 'from_peers_bytes'],
];
const SPANS = { live: '10 minutes', hour: 'hour', day: 'day', week: 'week' };

// Throughput over time.
export class Throughput {
  constructor(span) {
    this.span = span;
    this.picture = svg('svg', { class: 'chart', viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'img' });
    const legend = SERIES.map(([kind, label]) => h('li', {},
      svg('svg', { width: 28, height: 8 }, svg('line', { class: kind, x1: 0, x2: 28, y1: 4, y2: 4, 'stroke-width': 2 })),
      label));
    this.element = h('figure', { style: undefined }, this.picture, h('ul', { class: 'legend' }, ...legend));
  }

  update(chart) {
    const slots = chart.from_registry_bytes.length;
    // The last slot is still being filled.
    const full = Math.max(slots - 1, 1);
    const values = SERIES.map(([, , key]) => chart[key].slice(0, full).map((sum) => sum / chart.slot_seconds));
    const most = Math.max(1024, ...values.flat());
    const top = ceiling(most);
    const x = (slot) => LEFT + ((WIDTH - LEFT - 8) * (slot + Math.max(0, capacity(this.span) - full))) / Math.max(capacity(this.span) - 1, 1);
    const y = (value) => HEIGHT - BOTTOM - ((HEIGHT - BOTTOM - 12) * value) / top;
    const parts = [0, 0.25, 0.5, 0.75, 1].flatMap((part) => [
      svg('line', { class: 'grid', x1: LEFT, x2: WIDTH - 8, y1: y(top * part), y2: y(top * part) }),
      svg('text', { x: LEFT - 8, y: y(top * part) + 4, 'text-anchor': 'end' }, rate(Math.round(top * part))),
    ]);
    parts.push(svg('text', { x: LEFT, y: HEIGHT - 6 }, `${SPANS[this.span]} ago`));
    parts.push(svg('text', { x: WIDTH - 8, y: HEIGHT - 6, 'text-anchor': 'end' }, 'now'));
    SERIES.forEach(([kind], index) => {
      const points = values[index].map((value, slot) => `${x(slot).toFixed(1)} ${y(value).toFixed(1)}`);
      parts.push(svg('path', { class: kind, d: `M${points.join('L')}` }));
    });
    this.picture.replaceChildren(...parts);
    const words = SERIES.map(([, label], index) => `${label} ${rate(Math.round(values[index].at(-1) ?? 0))}, at most ${rate(Math.round(Math.max(0, ...values[index])))}`);
    this.picture.setAttribute('aria-label', `Throughput of the last ${SPANS[this.span]}: ${words.join('; ')}`);
  }
}

function capacity(span) {
  return { live: 120, hour: 120, day: 144, week: 168 }[span] - 1;
}

// The next of 1, 2, 4, 8, … KiB: a scale that does not jump with each number.
function ceiling(value) {
  return 2 ** Math.ceil(Math.log2(value));
}

// From rare to common; distinct without telling red from green.
const HEAT = [[122, 4, 3], [219, 86, 24], [249, 187, 47], [90, 200, 140], [30, 120, 170]];
const CELL = 14;

// Who has how much of a layer, as a heat map.
export class PieceMap {
  constructor() {
    this.canvas = h('canvas', { class: 'map', role: 'img' });
    this.words = h('p');
    this.element = h('div', {}, this.canvas, this.words);
  }

  update(map, members) {
    const cells = map.copies.length;
    const columns = Math.min(Math.max(cells, 1), 64);
    const lines = Math.max(Math.ceil(cells / columns), 1);
    if (this.canvas.width !== columns * CELL || this.canvas.height !== lines * CELL) {
      this.canvas.width = columns * CELL;
      this.canvas.height = lines * CELL;
    }
    const context = this.canvas.getContext('2d');
    const unknown = getComputedStyle(document.documentElement).getPropertyValue('--unknown');
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    map.copies.forEach((copies, index) => {
      context.fillStyle = copies === 0 ? unknown : heat(copies / Math.max(members, 1));
      context.fillRect((index % columns) * CELL, Math.floor(index / columns) * CELL, CELL - 1, CELL - 1);
    });
    const known = map.copies.filter((copies) => copies > 0);
    const missing = cells - known.length;
    const unit = map.pieces_per_stretch === 1 ? ['piece', 'pieces'] : ['stretch', 'stretches'];
    const words = [
      plural(cells, ...unit) + (map.pieces_per_stretch > 1 ? ` of ${map.pieces_per_stretch} pieces` : ''),
      known.length ? `rarest ${plural(Math.min(...known), 'copy', 'copies')}, most common ${plural(Math.max(...known), 'copy', 'copies')}` : 'none is here yet',
      missing ? `${plural(missing, 'is', 'are')} not here yet` : 'all are here',
    ].join('; ');
    this.canvas.setAttribute('aria-label', words);
    if (this.words.textContent !== words) {
      this.words.textContent = words;
    }
  }
}

function heat(share) {
  const at = Math.min(Math.max(share, 0), 1) * (HEAT.length - 1);
  const low = HEAT[Math.floor(at)];
  const high = HEAT[Math.ceil(at)];
  const mixed = low.map((value, index) => Math.round(value + (high[index] - value) * (at % 1)));
  return `rgb(${mixed.join(',')})`;
}

const GRAPH = 460;
const MOST_NODES = 24;
const MOST_EDGES = 80;

// Transfers between peers: the supernode in the middle, the nodes around it.
export class Graph {
  constructor() {
    const arrow = svg('marker', { id: 'arrow', viewBox: '0 0 6 6', refX: 6, refY: 3, markerWidth: 5, markerHeight: 5, orient: 'auto' },
      svg('path', { d: 'M0 0L6 3L0 6z', style: undefined, fill: 'currentColor' }));
    this.lines = svg('g');
    this.picture = svg('svg', { class: 'chart graph', viewBox: `0 0 ${GRAPH} ${GRAPH}`, role: 'img' }, svg('defs', {}, arrow), this.lines);
    this.element = this.picture;
  }

  update(edges) {
    const shown = edges.slice(0, MOST_EDGES);
    const names = new Map();
    for (const edge of shown) {
      names.set(edge.from, edge.from_name);
      names.set(edge.to, edge.to_name);
    }
    const receivers = new Set(edges.map((edge) => edge.to));
    const origins = [...names.keys()].filter((id) => names.get(id) === 'supernode' && !receivers.has(id));
    const nodes = [...names.keys()].filter((id) => !origins.includes(id)).sort().slice(0, MOST_NODES);
    const place = new Map();
    origins.forEach((id, index) => place.set(id, [GRAPH / 2 + index * 40, GRAPH / 2]));
    nodes.forEach((id, index) => {
      const angle = (2 * Math.PI * index) / nodes.length - Math.PI / 2;
      place.set(id, [GRAPH / 2 + Math.cos(angle) * GRAPH * 0.36, GRAPH / 2 + Math.sin(angle) * GRAPH * 0.38]);
    });
    const most = Math.max(1, ...shown.map((edge) => edge.bytes));
    const parts = [];
    for (const edge of shown) {
      const from = place.get(edge.from);
      const to = place.get(edge.to);
      if (from && to) {
        parts.push(svg('line', {
          class: origins.includes(edge.from) ? 'origin' : undefined,
          ...ends(from, to), 'stroke-width': (0.6 + 5 * Math.sqrt(edge.bytes / most)).toFixed(1), 'stroke-opacity': 0.55,
        }, svg('title', {}, `${edge.from_name} to ${edge.to_name}: ${bytes(edge.bytes)}`)));
      }
    }
    for (const [id, [x, y]] of place) {
      const label = names.get(id) || id.slice(0, 8);
      const short = [...label].length > 18 ? `${[...label].slice(0, 17).join('')}…` : label;
      parts.push(svg('circle', { class: origins.includes(id) ? undefined : 'node', cx: x, cy: y, r: 7 }));
      parts.push(svg('text', { x, y: y + 20, 'text-anchor': 'middle' }, short));
    }
    this.lines.replaceChildren(...parts);
    const more = names.size - place.size;
    this.picture.setAttribute('aria-label', `Transfers between peers: ${plural(place.size, 'peer', 'peers')}${more > 0 ? ` of ${place.size + more}` : ''}; the table below has the numbers`);
  }
}

// Two peers that serve each other have two lines, not one over the other.
function ends([x1, y1], [x2, y2]) {
  const length = Math.hypot(x2 - x1, y2 - y1) || 1;
  const [dx, dy] = [((y2 - y1) / length) * 3, ((x1 - x2) / length) * 3];
  return { x1: x1 + dx, y1: y1 + dy, x2: x2 + dx, y2: y2 + dy };
}
