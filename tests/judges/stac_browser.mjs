// Opens pages in headless Chromium and writes what they show, as JSON, to stdout (stac_browser.py asks).
//
// Argument: {modules, chromium, profile, api, pages: [{name, address, clicks, expected, picture}]}. Of a page: its
// text, alerts, images with their widths (0: broken), requests to the API, console errors, and other hosts that were
// asked: those requests are stopped, so that the page shows the same wherever it is opened.

import { createRequire } from "node:module";

const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync"];
const WAIT_MS = 45_000;

const { modules, chromium: executablePath, profile, api, pages } = JSON.parse(process.argv[2]);
const { chromium, errors } = createRequire(modules)("playwright-core");

const context = await chromium.launchPersistentContext(
  profile, { executablePath, args: FLAGS, viewport: { width: 1400, height: 5000 } });  // pictures load when in view
const seen = [];
for (const page of pages) seen.push(await look(page));
await context.close();
console.log(JSON.stringify(seen));

async function look({ name, address, clicks, expected, picture }) {
  const page = await context.newPage();
  const requests = [], consoleErrors = [], outside = new Set();
  await page.route(url => url.hostname !== "127.0.0.1", route => {
    outside.add(new URL(route.request().url()).hostname);
    return route.abort();
  });
  page.on("requestfinished", async request => {
    if (!request.url().startsWith(api)) return;
    requests.push([request.method(), request.url().slice(api.length), (await request.response()).status()]);
  });
  page.on("requestfailed", request => {
    if (request.url().startsWith(api))
      requests.push([request.method(), request.url().slice(api.length), request.failure().errorText]);
  });
  page.on("console", said => {
    if (said.type() === "error") consoleErrors.push([said.text(), said.location().url]);
  });
  page.on("pageerror", error => consoleErrors.push([String(error), ""]));
  await page.goto(address);
  for (const text of clicks) await page.getByText(text, { exact: true }).last().click();
  try {
    await page.waitForFunction(texts => texts.every(text => document.body.innerText.includes(text)), expected,
      { timeout: WAIT_MS });
  } catch (error) {
    if (!(error instanceof errors.TimeoutError)) throw error;  // who asked says which text is missing
  }
  await page.waitForLoadState("networkidle");
  await page.waitForTimeout(1_000);  // for what the last answers bring about
  await page.screenshot({ path: picture, fullPage: true });
  const images = await page.locator("img").evaluateAll(all => all.map(image => [image.src, image.naturalWidth]));
  const found = { name, text: await page.innerText("body"), alerts: await page.getByRole("alert").allInnerTexts(),
    images, requests, consoleErrors, outside: [...outside] };
  await page.close();
  return found;
}
