// Ten thousand nodes in a thousand swarms, some with names that would be something else than text, were they
// not shown as text.

import assert from 'node:assert/strict';
import { PHONE, inBrowser } from './browser.mjs';
import { focused, tabTo } from './every_look.mjs';

// As the nodes call themselves; a name is cut after 255 characters.
const HOSTILE = [
  ['<img', '<img src=x onerror=window.broken=1><script>window.broken=1</script>'],
  ['tfel ot', '\u202egnp.tfel ot thgir'],
  ['!!!!', '!'.repeat(255)],
];

await inBrowser(async (browser) => {
  const { page } = browser;
  await browser.open('/#/nodes');
  await page.getByText('Nodes: 10,000 nodes').waitFor();
  const paint = await page.evaluate(() => performance.getEntriesByName('first-contentful-paint')[0].startTime);
  console.log(`first contentful paint after ${Math.round(paint)} ms`);
  await assertPages(browser);
  await assertSorting(browser);
  await assertSearch(browser);
  await assertHostileNames(browser);
  await assertPhoneInTheDark(browser);
});

async function assertPages(browser) {
  const { page } = browser;
  assert.equal(await browser.rows().count(), 50);
  const first = await browser.rows().first().textContent();
  await tabTo(page, 'Next');
  await page.keyboard.press('Enter');
  await page.getByText('page 2 of 200').waitFor();
  assert.equal(await focused(page), 'Next');
  assert.notEqual(await browser.rows().first().textContent(), first);
  await page.getByRole('button', { name: 'Next' }).click();
  await page.getByText('page 3 of 200').waitFor();
  await page.getByRole('button', { name: 'Previous' }).click();
  await page.getByText('page 2 of 200').waitFor();
}

async function assertSorting(browser) {
  const { page } = browser;
  await tabTo(page, 'From nodes');
  await page.keyboard.press('Enter');
  await browser.eventually(async () => {
    assert.equal(await page.locator('th[aria-sort=descending]').textContent(), 'From nodes');
    assert.match(await browser.rows().first().textContent(), /node-09999/);
  });
  assert.equal(await focused(page), 'From nodes');
}

async function assertSearch(browser) {
  const { page } = browser;
  await page.getByRole('searchbox').click();
  await page.keyboard.type('NODE-0123');
  await page.getByText('Nodes: 10 nodes').waitFor();
  await browser.eventually(async () => assert.equal(await browser.rows().count(), 10));
  assert.equal(await page.evaluate(() => document.activeElement.type), 'search');
}

// What others call themselves is text.
async function assertHostileNames(browser) {
  const { page } = browser;
  for (const [text, name] of HOSTILE) {
    await page.getByRole('searchbox').fill(text);
    await browser.eventually(async () => {
      assert.equal(await browser.rows().count(), 1);
      assert.equal(await browser.rows().first().locator('bdi').first().textContent(), name);
    });
    await browser.assertNoSideways();
    await page.locator('main tbody a').click();
    await browser.eventually(async () => assert.equal(await page.locator('h1 bdi').textContent(), name));
    await browser.assertNoSideways();
    await browser.assertAccessible(`the node ${text}`);
    await page.goBack();
    await browser.shown();
  }
  await browser.show('cluster');
  await page.locator('main tbody').getByText('javascript:').waitFor();
  assert.equal(await page.locator('main :is(img, script, a)').count(), 0);
  assert.equal(await page.evaluate(() => window.broken), undefined);
}

async function assertPhoneInTheDark(browser) {
  const { page } = browser;
  const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await background();
  await page.emulateMedia({ colorScheme: 'dark' });
  await page.setViewportSize(PHONE);
  for (const view of ['', 'swarms', 'nodes', 'cluster']) {
    await browser.show(view);
    await browser.shown();
    await browser.assertNoSideways();
    await browser.assertAccessible(`#/${view} of many nodes, on a phone`);
  }
  assert.notEqual(await background(), light);
  await browser.show('nodes?q=node-0');
  await page.getByText('Nodes: 9,997 nodes').waitFor();
  await browser.screenshot('stats-nodes-phone-dark.png');
}
