// A swarm while it arrives at three nodes, then every view with the numbers of the API, and in every look.

import assert from 'node:assert/strict';
import { DESKTOP, inBrowser } from './browser.mjs';
import { assertEveryLook, assertKeyboard } from './every_look.mjs';

await inBrowser(async (browser) => {
  await browser.open('/#/swarms');
  await browser.page.getByText('Swarms: 0 swarms').waitFor();
  // The download may begin.
  console.log('download');
  await assertArrival(browser);
  const views = await assertNumbers(browser);
  await assertEveryLook(browser, views);
  await assertKeyboard(browser);
});

async function assertArrival(browser) {
  const { page } = browser;
  await browser.eventually(async () => assert.equal(await browser.rows().count(), 1));
  await page.locator('main tbody a').first().click();
  await page.waitForFunction(() => document.querySelector('canvas.map')?.width > 0);
  const map = page.locator('canvas.map');
  const look = () => map.evaluate((canvas) => ({ picture: canvas.toDataURL(), words: canvas.getAttribute('aria-label') }));
  const first = await look();
  // Both change before all is here.
  await browser.eventually(async () => {
    const { picture, words } = await look();
    assert.match(words, /not here yet/);
    assert.notEqual(picture, first.picture);
    assert.notEqual(words, first.words);
  });
  const published = page.locator('.facts div', { hasText: 'Published' }).locator('dd');
  await browser.eventually(async () => {
    const [, have, all] = /^(\d+) of (\d+)/.exec(await published.textContent()).map(Number);
    assert.ok(have >= all * 0.4, `${have} of ${all} pieces`);
    // A node reports its progress every few seconds.
    assert.notEqual(await page.locator('.facts div').filter({ has: page.getByText('Progress', { exact: true }) }).locator('dd').textContent(), '0 %');
  });
  // The map, the nodes and the transfers in one picture.
  await page.setViewportSize({ ...DESKTOP, height: 1500 });
  await browser.screenshot('stats-swarm-arriving.png');
  await page.setViewportSize(DESKTOP);
  const complete = page.getByRole('region', { name: 'Nodes of this swarm' }).getByText('100 %', { exact: true });
  await browser.eventually(async () => assert.equal(await complete.count(), 3));
  await browser.eventually(async () => assert.match((await look()).words, /all are here/));
  const graph = page.locator('svg.graph');
  assert.ok(await graph.locator('line').count() >= 3);
  assert.match(await graph.getAttribute('aria-label'), /^Transfers between peers: 4 peers;/);
}

// Each cell is the API's number, in the page's own units. Returns the views there are.
async function assertNumbers(browser) {
  const { page } = browser;
  const { bytes, count, percent, plural } = await browser.units();
  const fact = (name) => page.locator('.facts div').filter({ has: page.getByText(name, { exact: true }) }).locator('dd').textContent();

  await browser.show('swarms');
  const swarm = await browser.eventually(async () => {
    const [row] = (await browser.api('swarms')).items;
    assert.deepEqual(await browser.cells(['Size', 'Seeders', 'Leechers', 'Progress', 'Rarest piece', 'From registry', 'From nodes']), {
      'Size': bytes(row.size_bytes), 'Seeders': count(row.seeders), 'Leechers': count(row.leechers), 'Progress': percent(row.progress),
      'Rarest piece': plural(row.rarest_copies, 'copy', 'copies'), 'From registry': bytes(row.from_registry_bytes), 'From nodes': bytes(row.from_peers_bytes),
    });
    assert.deepEqual([row.seeders, row.rarest_copies, row.from_registry_bytes], [3, 4, 20_000_000]);
    assert.ok((await browser.rows().first().locator('bdi').textContent()).startsWith(row.name));
    return row;
  });
  await browser.screenshot('stats-swarms.png');

  await browser.show('');
  await browser.eventually(async () => {
    const totals = await browser.api('totals');
    const of = totals.last_hour;
    const hour = browser.rows().filter({ hasText: 'last hour' });
    const sums = [of.from_registry_bytes, of.from_supernode_bytes, of.from_peers_bytes, of.saved_bytes];
    assert.deepEqual(await hour.locator('td').allTextContents(), sums.map(bytes));
    assert.equal(await fact('Nodes'), count(totals.nodes));
    assert.equal(totals.nodes, 3);
    assert.equal(of.from_supernode_bytes + of.from_peers_bytes, 60_000_000);
  });
  const chart = page.locator('main svg.chart');
  const words = await chart.getAttribute('aria-label');
  assert.match(words, /^Throughput of the last 10 minutes: from the registry /);
  await browser.eventually(async () => assert.notEqual(await chart.getAttribute('aria-label'), words));
  await browser.screenshot('stats-overview.png');

  await browser.show('nodes');
  const node = await browser.eventually(async () => {
    assert.equal(await browser.rows().count(), 3);
    const [row] = (await browser.api('nodes')).items;
    assert.deepEqual(await browser.cells(['Swarms', 'From nodes', 'Sent']), {
      'Swarms': count(row.swarms), 'From nodes': bytes(row.from_peers_bytes), 'Sent': bytes(row.uploaded_bytes),
    });
    return row;
  });
  await browser.screenshot('stats-nodes.png');
  await page.locator('main tbody a').first().click();
  await page.getByRole('heading', { name: 'Pulls' }).waitFor();
  await browser.eventually(async () => {
    assert.ok(await browser.rows().count() >= 2);
    const row = await browser.api(`nodes/${node.id}`);
    assert.equal(await fact('Sent'), bytes(row.uploaded_bytes));
    assert.equal(await fact('From other nodes'), bytes(row.from_peers_bytes));
  });
  await browser.screenshot('stats-node.png');

  await browser.show('cluster');
  await page.locator('main tbody').getByText(`${browser.supernode}/`, { exact: true }).waitFor();
  await browser.screenshot('stats-cluster.png');

  console.log('preheat');
  await browser.show('jobs');
  const job = await browser.eventually(async () => {
    const [row] = (await browser.api('jobs')).items;
    assert.equal(row.state, 'failure');
    assert.deepEqual(await browser.cells(['State', 'Nodes']), { 'State': 'failed', 'Nodes': '<img src=x onerror=window.broken=1>' });
    return row;
  });
  await browser.screenshot('stats-jobs.png');
  await page.locator('main tbody a').first().click();
  await page.getByRole('heading', { name: `Preheat job ${job.id}` }).waitFor();
  await browser.eventually(async () => assert.ok((await page.locator('main').textContent()).includes(job.cause)));
  await browser.screenshot('stats-job.png');
  assert.equal(await page.evaluate(() => window.broken), undefined);
  return ['', 'swarms', `swarms/${swarm.id}`, 'nodes', `nodes/${node.id}`, 'jobs', `jobs/${job.id}`, 'cluster'];
}
