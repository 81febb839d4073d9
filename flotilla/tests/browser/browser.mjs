// Chromium without a window, and what every script here asks of it.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const DEADLINE = 60_000;
const EXECUTABLE = process.env.FLOTILLA_CHROMIUM || '/usr/bin/chromium';
const ARGUMENTS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync',
];
export const DESKTOP = { width: 1280, height: 900 };
export const PHONE = { width: 360, height: 740 };

// `node SCRIPT SUPERNODE PROFILE`: runs `steps` in a new browser that ends with them, or with the process that
// holds this program's standard input.
export async function inBrowser(steps) {
  const [supernode, profile] = process.argv.slice(2);
  process.stdin.on('end', () => process.exit(1)).resume();
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: EXECUTABLE, args: ARGUMENTS, viewport: DESKTOP, colorScheme: 'light', timeout: DEADLINE,
  });
  const browser = new Browser(context.pages()[0] ?? await context.newPage(), supernode);
  try {
    await steps(browser);
    browser.assertQuiet();
  } catch (error) {
    console.error(error);
    const text = await browser.page.innerText('body', { timeout: 5000 }).catch(String);
    console.error(`the page at ${browser.page.url()}:\n${text.slice(0, 2000)}`);
    process.exitCode = 1;
  }
  await context.close();
  process.stdin.destroy();
}

class Browser {
  constructor(page, supernode) {
    this.page = page;
    this.supernode = supernode;
    this.complaints = [];
    this.requested = [];
    page.setDefaultTimeout(DEADLINE);
    page.on('console', (message) => {
      if (['error', 'warning', 'assert'].includes(message.type())) {
        this.complaints.push(`${message.type()}: ${message.text()}`);
      }
    });
    page.on('pageerror', (error) => this.complaints.push(`not caught: ${error}`));
    page.on('crash', () => this.complaints.push('the page crashed'));
    page.context().on('request', (request) => this.requested.push(request.url()));
  }

  async open(path) {
    await this.page.goto(this.supernode + path);
  }

  // A view of the page that is open, as its links lead there.
  async show(view) {
    await this.page.evaluate((hash) => { location.hash = hash; }, `#/${view}`);
  }

  // Waits until `check` fails no more; what it returns.
  async eventually(check) {
    const end = Date.now() + DEADLINE;
    for (;;) {
      try {
        return await check();
      } catch (error) {
        if (Date.now() > end) {
          throw error;
        }
      }
      await this.page.waitForTimeout(100);
    }
  }

  async api(path) {
    const reply = await fetch(`${this.supernode}/api/v1/${path}`);
    assert.equal(reply.status, 200, path);
    return reply.json();
  }

  // The page's own units: what is to be shown of a number.
  async units() {
    const text = await (await fetch(`${this.supernode}/page/units.js`)).text();
    return import(`data:text/javascript,${encodeURIComponent(text)}`);
  }

  rows() {
    return this.page.locator('main tbody tr');
  }

  // Cells of the first row, by the names of their columns.
  async cells(labels) {
    const cells = await this.rows().first().evaluate((row) => [...row.children].map((cell) => [cell.dataset.label, cell.textContent]));
    return Object.fromEntries(cells.filter(([label]) => labels.includes(label)));
  }

  // Waits until the view has its first numbers.
  async shown() {
    await this.rows().first().waitFor();
  }

  // No page is wider than its window.
  async assertNoSideways() {
    await this.page.waitForFunction(() => document.documentElement.scrollWidth <= innerWidth);
  }

  // Every default rule of axe.
  async assertAccessible(what) {
    // Evaluated by the debugger: the page's own policy lets no script of others in.
    await this.page.evaluate(axe);
    const { violations, passes } = await this.page.evaluate(() => globalThis.axe.run());
    const broken = violations.map(({ id, help, nodes }) => ({
      id, help, nodes: nodes.map(({ html, failureSummary }) => `${html.slice(0, 200)}\n${failureSummary}`),
    }));
    assert.deepEqual(broken, [], `axe: ${what}`);
    assert.ok(passes.length > 10, `axe looked at ${passes.length} rules only: ${what}`);
  }

  // A picture, if one is wanted: in the directory that FLOTILLA_SCREENSHOTS names.
  async screenshot(name) {
    if (process.env.FLOTILLA_SCREENSHOTS) {
      await this.page.screenshot({ path: join(process.env.FLOTILLA_SCREENSHOTS, name) });
    }
  }

  // No complaint, and no request to anybody else.
  assertQuiet() {
    assert.deepEqual(this.complaints, []);
    const own = `${this.supernode}/`;
    assert.ok(this.requested.some((url) => url.startsWith(own)), 'nothing is asked of the supernode');
    // `data:` and `blob:` lead nowhere, and the browser's first page is its own.
    const inside = [own, 'data:', 'blob:', 'about:', 'chrome:'];
    assert.deepEqual(this.requested.filter((url) => !inside.some((start) => url.startsWith(start))), []);
  }
}

const axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
