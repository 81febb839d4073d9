// The page for those who see it in the dark, on a phone, by its words or work it by the keyboard.

import assert from 'node:assert/strict';
import { DESKTOP, PHONE } from './browser.mjs';

// No rule of axe is broken and nothing is wider than the window: each view and the login page, in light and
// dark, on a desktop and on a phone.
export async function assertEveryLook(browser, views) {
  const { page } = browser;
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme });
    for (const size of [DESKTOP, PHONE]) {
      await page.setViewportSize(size);
      const look = `${colorScheme}, ${size.width} pixels wide`;
      await browser.open('/');
      for (const view of views) {
        await browser.show(view);
        await browser.shown();
        await browser.assertNoSideways();
        await browser.assertAccessible(`#/${view}, ${look}`);
      }
      await browser.open('/login');
      await browser.assertNoSideways();
      await browser.assertAccessible(`/login, ${look}`);
      if (colorScheme === 'dark' && size === PHONE) {
        await browser.screenshot('stats-login-phone-dark.png');
      }
    }
  }
  await page.emulateMedia({ colorScheme: 'light' });
  await page.setViewportSize(DESKTOP);
}

// All that the mouse does, with the focus in sight.
export async function assertKeyboard(browser) {
  const { page } = browser;
  await browser.open('/#/');
  await browser.shown();
  assert.equal(await tab(page), 'Skip to content');
  await page.keyboard.press('Enter');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'content');
  await browser.open('/');
  await browser.shown();
  await tabTo(page, 'Nodes');
  await page.keyboard.press('Enter');
  await browser.eventually(async () => assert.equal(await page.locator('nav [aria-current=page]').textContent(), 'Nodes'));
  await browser.shown();
  await tabTo(page, 'Sent');
  const sorted = page.locator('th', { hasText: 'Sent' });
  await page.keyboard.press('Enter');
  await browser.eventually(async () => assert.equal(await sorted.getAttribute('aria-sort'), 'descending'));
  assert.equal(await focused(page), 'Sent');
  await page.keyboard.press('Space');
  await browser.eventually(async () => assert.equal(await sorted.getAttribute('aria-sort'), 'ascending'));
  assert.equal(await focused(page), 'Sent');
}

export async function tabTo(page, label) {
  const passed = [];
  while (passed.length < 100) {
    passed.push(await tab(page));
    if (passed.at(-1) === label) {
      return;
    }
  }
  assert.fail(`the Tab key does not reach ${label}: ${passed.join(', ')}`);
}

// What has the focus after one more Tab; it is to be seen.
async function tab(page) {
  await page.keyboard.press('Tab');
  const outline = await page.evaluate(() => {
    const element = document.activeElement;
    const { outlineStyle, outlineWidth } = getComputedStyle(element);
    const { right, bottom, width, height } = element.getBoundingClientRect();
    return element === document.body || (outlineStyle !== 'none' && parseFloat(outlineWidth) >= 2 && right > 0 && bottom > 0 && width > 0 && height > 0);
  });
  assert.ok(outline, `the focus on ${await focused(page)} is not to be seen`);
  return focused(page);
}

export function focused(page) {
  return page.evaluate(() => document.activeElement.getAttribute('aria-label') || document.activeElement.textContent.trim());
}
