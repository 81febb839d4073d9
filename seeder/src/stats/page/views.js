// The views. Each is built once and then updated with every event: { element, query, update(totals, view) }.

import { Graph, PieceMap, Throughput } from './charts.js';
import { Facts, Table, h, name } from './dom.js';
import { ago, bytes, count, duration, percent, plural, rate } from './units.js';

const PHASES = { arriving: 'arriving', complete: 'on the supernode', elsewhere: 'on nodes only' };

function short(content) {
  return content.replace(/^(url-)?sha(256|512):/, '').slice(0, 12);
}

function swarmName(row) {
  return `${row.name || '(unnamed)'} ${short(row.content) || row.id.slice(0, 12)}`;
}

// Those that were pulled last come first.
function swarmImages(row) {
  return row.images.length ? name(row.images.join(', ')) : '–';
}

// A host without a quota reports the largest number there is.
function quota(used, all) {
  return all && all < 2 ** 62 ? `${bytes(used)} of ${bytes(all)}` : bytes(used);
}

function timeLeft(row) {
  return row.time_left_seconds === null ? '–' : duration(row.time_left_seconds);
}

export function overview(route) {
  const span = ['hour', 'day', 'week'].includes(route.params.get('span')) ? route.params.get('span') : 'live';
  const facts = new Facts([
    ['Nodes', (t) => count(t.nodes)],
    ['Swarms', (t) => count(t.swarms)],
    ['Layers on this supernode', (t) => (t.layers === t.complete_layers ? count(t.layers) : `${count(t.layers)}, ${count(t.layers - t.complete_layers)} arriving`)],
    ['Downloads in progress', (t) => count(t.leechers)],
    ['Small blobs served', (t) => count(t.small_contents)],
    ['Cache', (t) => quota(t.cache_bytes, t.cache_quota_bytes)],
    ['Silent nodes', (t) => count(t.silent_nodes)],
    ['Preheats in progress', (t) => count(t.unfinished_jobs)],
    ['Running for', (t) => duration(t.uptime_seconds)],
  ]);
  const now = (t) => ({
    label: 'now', unit: rate,
    from_registry_bytes: t.now.from_registry_bytes_per_second,
    from_supernode_bytes: t.now.from_supernode_bytes_per_second,
    from_peers_bytes: t.now.from_peers_bytes_per_second,
  });
  const sums = new Table('Bytes by source', [
    { label: 'In', show: (row) => row.label },
    { label: 'From the registry', number: true, show: (row) => row.unit(row.from_registry_bytes) },
    { label: 'From supernodes', number: true, show: (row) => row.unit(row.from_supernode_bytes) },
    { label: 'From other nodes', number: true, show: (row) => row.unit(row.from_peers_bytes) },
    { label: 'Registry traffic saved', number: true, show: (row) => (row.saved_bytes === undefined ? '–' : row.unit(row.saved_bytes)) },
  ], (row) => row.label);
  const chart = new Throughput(span);
  const spans = h('select', { id: 'span', onchange: (event) => route.go({ span: event.target.value }) },
    ...[['live', '10 minutes'], ['hour', 'hour'], ['day', 'day'], ['week', 'week']].map(([value, label]) => h('option', { value, selected: value === span }, label)));
  return {
    title: 'Overview',
    query: `view=totals&span=${span}`,
    element: h('div', {}, h('h1', {}, 'Overview'), facts.element,
      h('h2', {}, 'Throughput'), h('div', { class: 'bar' }, h('label', { for: 'span' }, 'The last'), spans), chart.element,
      h('h2', {}, 'Traffic'), sums.element),
    update(totals) {
      facts.update(totals);
      chart.update(totals.chart);
      sums.update([now(totals), ...[['last hour', 'last_hour'], ['last day', 'last_day'], ['last week', 'last_week'], ['since the start', 'since_start']]
        .map(([label, key]) => ({ label, unit: bytes, ...totals[key] }))]);
    },
  };
}

// A list that is searched, sorted and paged by the supernode.
function listing(route, { view, id, caption, columns, key, sort, order = 'asc', one, many, search }) {
  const choice = {
    sort: route.params.get('sort') || sort,
    order: route.params.get('order') || order,
    sortBy(column) {
      const turned = choice.sort === column.sort && choice.order === 'desc' ? 'asc' : 'desc';
      route.go({ sort: column.sort, order: column.number ? turned : (choice.sort === column.sort && choice.order === 'asc' ? 'desc' : 'asc'), page: undefined });
    },
  };
  const table = new Table(caption, columns, key, choice);
  let typed;
  const field = h('input', {
    type: 'search', class: 'grow', value: route.params.get('q') ?? '', 'aria-label': search, placeholder: search, maxlength: 255,
    oninput: () => {
      clearTimeout(typed);
      typed = setTimeout(() => route.change({ q: field.value || undefined, page: undefined }), 250);
    },
  });
  const page = Number(route.params.get('page')) || 1;
  const turn = (label, to) => h('button', { type: 'button', onclick: () => route.go({ page: to() }) }, label);
  let shown = { page, pages: page };
  const before = turn('Previous', () => shown.page - 1);
  const after = turn('Next', () => shown.page + 1);
  const where = h('span', {});
  const query = () => {
    const params = new URLSearchParams({ view, sort: choice.sort, order: choice.order, page: route.params.get('page') || '1' });
    if (id) {
      params.set('id', id);
    }
    if (route.params.get('q')) {
      params.set('q', route.params.get('q'));
    }
    return params.toString();
  };
  return {
    table,
    query,
    element: h('div', {}, h('div', { class: 'bar' }, field, before, where, after), table.element),
    update(list) {
      shown = list;
      table.update(list.items, plural(list.total, one, many));
      before.disabled = list.page <= 1;
      after.disabled = list.page >= list.pages;
      where.textContent = `page ${list.page} of ${list.pages}`;
    },
  };
}

export function swarms(route) {
  const list = listing(route, {
    view: 'swarms', caption: 'Swarms', key: (row) => row.id, sort: 'name', one: 'swarm', many: 'swarms', search: 'Search names, images and digests',
    columns: [
      { label: 'Content', sort: 'name', show: (row) => name(swarmName(row), `#/swarms/${row.id}`) },
      { label: 'Images', show: swarmImages },
      { label: 'Size', sort: 'size', number: true, show: (row) => bytes(row.size_bytes) },
      { label: 'Where', show: (row) => PHASES[row.phase] },
      { label: 'Seeders', sort: 'seeders', number: true, show: (row) => count(row.seeders) },
      { label: 'Leechers', sort: 'leechers', number: true, show: (row) => count(row.leechers) },
      { label: 'Progress', sort: 'progress', number: true, show: (row) => percent(row.progress) },
      { label: 'Rarest piece', sort: 'rarest', number: true, show: (row) => plural(row.rarest_copies, 'copy', 'copies') },
      { label: 'Rate', sort: 'rate', number: true, show: (row) => rate(row.download_bytes_per_second) },
      { label: 'Time left', sort: 'time-left', number: true, show: timeLeft },
      { label: 'From registry', sort: 'from-registry', number: true, show: (row) => bytes(row.from_registry_bytes) },
      { label: 'From nodes', sort: 'from-peers', number: true, show: (row) => bytes(row.from_peers_bytes) },
      { label: 'Why from the registry', show: (row) => row.registry_reason ?? (row.first_copy_bytes ? 'the first copy' : '–') },
    ],
  });
  return {
    title: 'Swarms',
    get query() { return list.query(); },
    element: h('div', {}, h('h1', {}, 'Swarms'), list.element),
    update(totals, view) { list.update(view); },
  };
}

const PARTS = [
  { label: 'Progress', sort: 'progress', number: true, show: (row) => percent(row.progress) },
  { label: 'Down', sort: 'down', number: true, show: (row) => rate(row.download_bytes_per_second) },
  { label: 'Up', sort: 'up', number: true, show: (row) => rate(row.upload_bytes_per_second) },
  { label: 'From supernodes', sort: 'from-supernode', number: true, show: (row) => bytes(row.from_supernode_bytes) },
  { label: 'From nodes', sort: 'from-peers', number: true, show: (row) => bytes(row.from_peers_bytes) },
  { label: 'From registry', sort: 'from-registry', number: true, show: (row) => bytes(row.from_registry_bytes) },
  { label: 'Sent', sort: 'uploaded', number: true, show: (row) => bytes(row.uploaded_bytes) },
  { label: 'Wasted', number: true, show: (row) => bytes(row.wasted_bytes) },
  { label: 'Connections', number: true, show: (row) => count(row.connections) },
  { label: 'Last heard', number: true, show: (row) => ago(row.last_heard_seconds) },
  { label: 'Why from the registry', show: (row) => row.registry_reason ?? '–' },
];

export function swarm(route) {
  const title = h('h1', {}, 'Swarm');
  const facts = new Facts([
    ['Content', (s) => name(s.content || s.id)],
    ['Images', swarmImages],
    ['Size', (s) => `${bytes(s.size_bytes)} in ${plural(s.pieces, 'piece', 'pieces')}`],
    ['Where', (s) => PHASES[s.phase]],
    ['Published', (s) => `${count(s.published_pieces)} of ${plural(s.pieces, 'piece', 'pieces')}`],
    ['Seeders and leechers', (s) => `${count(s.seeders)} and ${count(s.leechers)}`],
    ['Progress', (s) => percent(s.progress)],
    ['Rate', (s) => rate(s.download_bytes_per_second)],
    ['Time left', timeLeft],
    ['From the registry', (s) => `${bytes(s.from_registry_bytes)}, first copy ${bytes(s.first_copy_bytes)}`],
    ['Registry traffic saved', (s) => bytes(s.saved_bytes)],
    ['Sent by this supernode', (s) => bytes(s.uploaded_bytes)],
  ]);
  const map = new PieceMap();
  const graph = new Graph();
  const served = new Table('Largest transfers', [
    { label: 'From', show: (row) => name(row.from_name || row.from) },
    { label: 'To', show: (row) => name(row.to_name || row.to, `#/nodes/${row.to}`) },
    { label: 'Bytes', number: true, show: (row) => bytes(row.bytes) },
  ], (row) => `${row.from} ${row.to}`);
  const reasons = new Table('Why nodes took bytes from the registry', [
    { label: 'Reason', show: (row) => row.reason },
    { label: 'Times', number: true, show: (row) => count(row.times) },
  ], (row) => row.reason);
  const peers = listing(route, {
    view: 'swarm', id: route.id, caption: 'Nodes of this swarm', key: (row) => row.node, sort: 'name', one: 'node', many: 'nodes', search: 'Search nodes',
    columns: [{ label: 'Node', sort: 'name', show: (row) => name(row.node_name || row.node, `#/nodes/${row.node}`) }, ...PARTS],
  });
  return {
    title: 'Swarm',
    get query() { return peers.query(); },
    element: h('div', {}, title, facts.element,
      h('h2', {}, 'Pieces, from rare (red) to common (blue)'), map.element,
      h('h2', {}, 'Nodes'), peers.element,
      h('h2', {}, 'Transfers between peers'), h('div', { class: 'columns' }, graph.element, h('div', {}, served.element, reasons.element))),
    update(totals, view) {
      title.replaceChildren(h('bdi', {}, view.name || 'Swarm'));
      facts.update(view);
      map.update(view.map, view.seeders + view.leechers + (view.phase === 'elsewhere' ? 0 : 1));
      peers.update(view.peers);
      graph.update(view.edges);
      served.update(view.edges.slice(0, 20));
      reasons.update(view.registry_reasons);
      reasons.element.hidden = view.registry_reasons.length === 0;
    },
  };
}

function health(row) {
  return row.is_heard ? h('span', { class: 'good' }, 'healthy') : h('span', { class: 'bad' }, 'silent');
}

export function nodes(route) {
  const list = listing(route, {
    view: 'nodes', caption: 'Nodes', key: (row) => row.id, sort: 'name', one: 'node', many: 'nodes', search: 'Search names, addresses and versions',
    columns: [
      { label: 'Node', sort: 'name', show: (row) => name(row.name || row.id, `#/nodes/${row.id}`) },
      { label: 'Address', sort: 'address', show: (row) => row.address ?? '–' },
      { label: 'Version', sort: 'version', show: (row) => name(row.version || '–') },
      { label: 'Health', show: health },
      { label: 'Last heard', sort: 'last-heard', number: true, show: (row) => ago(row.last_heard_seconds) },
      { label: 'Swarms', sort: 'swarms', number: true, show: (row) => count(row.swarms) },
      { label: 'Downloads', sort: 'downloads', number: true, show: (row) => count(row.downloads) },
      { label: 'Down', sort: 'down', number: true, show: (row) => rate(row.download_bytes_per_second) },
      { label: 'Up', sort: 'up', number: true, show: (row) => rate(row.upload_bytes_per_second) },
      { label: 'From registry', sort: 'from-registry', number: true, show: (row) => bytes(row.from_registry_bytes) },
      { label: 'From nodes', sort: 'from-peers', number: true, show: (row) => bytes(row.from_peers_bytes) },
      { label: 'Sent', sort: 'uploaded', number: true, show: (row) => bytes(row.uploaded_bytes) },
      { label: 'Cache', sort: 'cache', number: true, show: (row) => quota(row.cache_bytes, row.cache_quota_bytes) },
      { label: 'Avoided peers', sort: 'shunned', number: true, show: (row) => count(row.shunned_peers) },
    ],
  });
  return {
    title: 'Nodes',
    get query() { return list.query(); },
    element: h('div', {}, h('h1', {}, 'Nodes'), list.element),
    update(totals, view) { list.update(view); },
  };
}

function limit(bytesPerSecond) {
  return bytesPerSecond === null ? 'none' : rate(bytesPerSecond);
}

export function node(route) {
  const title = h('h1', {}, 'Node');
  const facts = new Facts([
    ['Address', (n) => n.address ?? '–'],
    ['Version', (n) => name(n.version || '–')],
    ['Health', health],
    ['Last heard', (n) => ago(n.last_heard_seconds)],
    ['Swarms, downloads', (n) => `${count(n.swarms)}, ${count(n.downloads)}`],
    ['Down', (n) => rate(n.download_bytes_per_second)],
    ['Up', (n) => rate(n.upload_bytes_per_second)],
    ['From supernodes', (n) => bytes(n.from_supernode_bytes)],
    ['From other nodes', (n) => bytes(n.from_peers_bytes)],
    ['From the registry', (n) => bytes(n.from_registry_since_start_bytes)],
    ['Sent', (n) => bytes(n.uploaded_bytes)],
    ['Cache', (n) => quota(n.cache_bytes, n.cache_quota_bytes)],
    ['Limit down', (n) => limit(n.download_limit_bytes_per_second)],
    ['Limit up', (n) => limit(n.upload_limit_bytes_per_second)],
    ['Avoided peers', (n) => count(n.shunned_peers)],
  ]);
  const pulls = listing(route, {
    view: 'node', id: route.id, caption: 'Its swarms', key: (row) => row.swarm, sort: 'name', one: 'swarm', many: 'swarms', search: 'Search content',
    columns: [{
      label: 'Content', sort: 'name',
      show: (row) => name(`${row.swarm_name || '(unnamed)'} ${short(row.content) || row.swarm.slice(0, 12)}`, `#/swarms/${row.swarm}`),
    }, { label: 'Size', number: true, show: (row) => bytes(row.size_bytes) }, ...PARTS],
  });
  const supernodes = new Table('Supernodes that it knows', [
    { label: 'Supernode', show: (row) => name(row.url) },
    { label: 'Answers', show: (row) => (row.is_reachable ? 'yes' : 'no') },
  ], (row) => row.url);
  return {
    title: 'Node',
    get query() { return pulls.query(); },
    element: h('div', {}, title, facts.element, h('h2', {}, 'Pulls'), pulls.element, h('h2', {}, 'Supernodes'), supernodes.element),
    update(totals, view) {
      title.replaceChildren(h('bdi', {}, view.name || 'Node'));
      facts.update(view);
      pulls.update(view.pulls);
      supernodes.update(view.supernodes);
    },
  };
}

const STATES = { pending: 'waiting', running: 'running', success: 'done', failure: 'failed', cancelled: 'cancelled' };
const STATE_CLASSES = { success: 'good', failure: 'bad' };

function jobState(row) {
  return h('span', { class: STATE_CLASSES[row.state] }, STATES[row.state]);
}

function jobImages(row) {
  const more = row.image_count - row.images.length;
  return name(row.images.join(', ') + (more > 0 ? ` and ${count(more)} more` : ''));
}

function jobLayers(row) {
  return row.wanted_layers === null ? count(row.layers) : `${count(row.layers)} of ${count(row.wanted_layers)}`;
}

// How long ago; the moment itself in its title.
function when(seconds) {
  const moment = new Date(seconds * 1000);
  const passed = Math.max(0, Math.round(Date.now() / 1000) - seconds);
  return h('time', { datetime: moment.toISOString(), title: moment.toLocaleString() }, ago(passed));
}

export function jobs(route) {
  const list = listing(route, {
    view: 'jobs', caption: 'Preheat jobs', key: (row) => row.id, sort: 'created', order: 'desc', one: 'job', many: 'jobs', search: 'Search images, nodes, states and causes',
    columns: [
      { label: 'Job', sort: 'created', number: true, show: (row) => name(String(row.id), `#/jobs/${row.id}`) },
      { label: 'Images and files', sort: 'images', show: jobImages },
      { label: 'Nodes', sort: 'nodes', show: (row) => (row.nodes === null ? '–' : name(row.nodes)) },
      { label: 'State', sort: 'state', show: jobState },
      { label: 'Layers', sort: 'layers', number: true, show: jobLayers },
      { label: 'Bytes', sort: 'bytes', number: true, show: (row) => bytes(row.bytes) },
      { label: 'Failed', sort: 'failed', number: true, show: (row) => count(row.failed) },
      { label: 'Created', number: true, show: (row) => when(row.created) },
      { label: 'Updated', sort: 'updated', number: true, show: (row) => when(row.updated) },
      { label: 'Why it failed', show: (row) => (row.cause === null ? '–' : name(row.cause)) },
    ],
  });
  return {
    title: 'Preheat jobs',
    get query() { return list.query(); },
    element: h('div', {}, h('h1', {}, 'Preheat jobs'), list.element),
    update(totals, view) { list.update(view); },
  };
}

export function job(route) {
  const facts = new Facts([
    ['State', jobState],
    ['Nodes', (j) => (j.nodes === null ? 'the supernode alone' : name(j.nodes))],
    ['Layers on the supernode', jobLayers],
    ['Bytes', (j) => bytes(j.bytes)],
    ['Finished nodes', (j) => (j.deliveries === null ? '–' : `${count(j.deliveries.ended_nodes)} of ${count(j.deliveries.nodes)}`)],
    ['Layers missing at nodes', (j) => (j.deliveries === null ? '–' : count(j.deliveries.missing_layers))],
    ['Failed', (j) => count(j.failed)],
    ['Created', (j) => when(j.created)],
    ['Updated', (j) => when(j.updated)],
  ]);
  const cause = h('p', { class: 'bad' });
  const images = new Table('Images and files', [{ label: 'Image or file', show: (row) => name(row) }], (row) => row);
  const outcomes = new Table('Outcomes', [
    { label: 'Image or file', show: (row) => name(row.image) },
    { label: 'Layer', show: (row) => (row.digest === null ? '–' : name(short(row.digest), `#/swarms?q=${encodeURIComponent(row.digest)}`)) },
    { label: 'Node', show: (row) => (row.node === null ? 'supernode' : name(row.node)) },
    { label: 'Outcome', show: (row) => (row.error === null ? h('span', { class: 'good' }, 'complete') : h('bdi', { class: 'bad' }, row.error)) },
  ], (row) => row.place);
  return {
    title: 'Preheat job',
    query: new URLSearchParams({ view: 'job', id: route.id }).toString(),
    element: h('div', {}, h('h1', {}, `Preheat job ${route.id}`), facts.element, cause,
      h('h2', {}, 'Outcomes'), outcomes.element, h('h2', {}, 'Images and files'), images.element),
    update(totals, view) {
      facts.update(view);
      cause.hidden = view.cause === null;
      cause.textContent = view.cause ?? '';
      images.update([...new Set(view.images)]);
      outcomes.update(view.outcomes.map((outcome, place) => ({ ...outcome, place })), view.outcomes.length < view.layers + view.failed ? 'only the first are listed' : '');
    },
  };
}

export function cluster() {
  const facts = new Facts([
    ['Version', (c) => c.version],
    ['Running for', (c) => duration(c.uptime_seconds)],
    ['Sent', (c) => bytes(c.uploaded_bytes)],
    ['Cache', (c) => quota(c.cache_bytes, c.cache_quota_bytes)],
    ['Avoided peers', (c) => count(c.shunned_peers)],
  ]);
  const table = new Table('Supernodes, as the nodes know them', [
    // Only http and https lead anywhere: what a node reports is text.
    { label: 'Supernode', show: (row) => name(row.url, /^https?:\/\//.test(row.url) ? row.url : undefined) },
    { label: 'Reached by', number: true, show: (row) => plural(row.reached_by, 'node', 'nodes') },
    { label: 'Not reached by', number: true, show: (row) => plural(row.missed_by, 'node', 'nodes') },
  ], (row) => row.url);
  return {
    title: 'Cluster',
    query: 'view=cluster',
    element: h('div', {}, h('h1', {}, 'Cluster'), h('h2', {}, 'This supernode'), facts.element, h('h2', {}, 'All supernodes'), table.element),
    update(totals, view) {
      facts.update(view);
      table.update(view.supernodes);
    },
  };
}
