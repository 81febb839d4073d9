// Which view is shown, and the stream that keeps it up to date.

import { h } from './dom.js';
import * as views from './views.js';

const content = document.getElementById('content');
const state = document.getElementById('state');
const pause = document.getElementById('pause');
const RETRY = 3000;

let shown;
let stream;
let retry;
let paused = false;

// `#/swarms/ID?sort=rate`: the view, of what, and how.
function route() {
  const [path, query = ''] = location.hash.replace(/^#\/?/, '').split('?');
  const [list, id] = path.split('/');
  const params = new URLSearchParams(query);
  const changed = (changes) => {
    for (const [key, value] of Object.entries(changes)) {
      if (value === undefined) {
        params.delete(key);
      } else {
        params.set(key, value);
      }
    }
    const text = params.toString();
    return `#/${path}${text ? `?${text}` : ''}`;
  };
  return {
    id,
    params,
    view: { '': 'overview', swarms: id ? 'swarm' : 'swarms', nodes: id ? 'node' : 'nodes', jobs: id ? 'job' : 'jobs', cluster: 'cluster' }[list] ?? 'overview',
    // Shows another choice of the same view.
    go(changes) { location.hash = changed(changes); },
    // The same, while the view stays as it is: a user is typing in it.
    change(changes) {
      history.replaceState(null, '', changed(changes));
      listen();
    },
  };
}

function show() {
  const now = route();
  shown = views[now.view](now);
  const focused = document.activeElement;
  const nameOf = (element) => element.id || element.textContent;
  const label = focused && content.contains(focused) ? nameOf(focused) : undefined;
  content.replaceChildren(shown.element);
  document.title = `${shown.title} – flotilla`;
  for (const link of document.querySelectorAll('nav a')) {
    const isHere = link.hash.slice(2) === (location.hash.slice(2).split(/[/?]/)[0] ?? '');
    isHere ? link.setAttribute('aria-current', 'page') : link.removeAttribute('aria-current');
  }
  // The focus stays on a column or span that was chosen by the keyboard.
  const again = label && [...content.querySelectorAll('button, select')].find((element) => nameOf(element) === label);
  if (again) {
    again.focus();
  }
  listen();
}

function listen() {
  stream?.close();
  clearTimeout(retry);
  const of = shown;
  stream = new EventSource(`/api/v1/events?${of.query}`);
  stream.onopen = () => report('live', false);
  stream.onmessage = (event) => {
    const message = JSON.parse(event.data);
    if (message.error) {
      report(message.error, true);
    }
    if (!paused && message.totals && (message.view || of.query.startsWith('view=totals'))) {
      if (!message.error) {
        report('live', false);
      }
      of.update(message.totals, message.view);
    }
  };
  stream.onerror = () => {
    report('not connected', true);
    // The browser does not retry a refused stream.
    if (stream.readyState === EventSource.CLOSED) {
      retry = setTimeout(listen, RETRY);
      // A login ends after a while, and with the supernode.
      fetch('/api/v1/totals').then((reply) => {
        if (reply.status === 401) {
          location.href = '/login';
        }
      }, () => {});
    }
  };
}

function report(text, isBad) {
  const shownText = paused && !isBad ? 'paused' : text;
  if (state.textContent !== shownText) {
    state.textContent = shownText;
  }
  state.classList.toggle('bad', isBad);
}

pause.addEventListener('click', () => {
  paused = !paused;
  pause.setAttribute('aria-pressed', String(paused));
  report('live', false);
});
document.querySelector('.skip').addEventListener('click', (event) => {
  // The part after # names the view.
  event.preventDefault();
  content.focus();
});
addEventListener('hashchange', show);
content.replaceChildren(h('p', {}, 'Waiting for the first numbers.'));
show();
