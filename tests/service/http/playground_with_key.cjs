// Uses the page of a server that asks for keys; prints what was seen as JSON.
// node playground_with_key.cjs PLAYWRIGHT CHROMIUM URL PHOTO KEY
"use strict";

const [playwright, executablePath, url, photo, key] = process.argv.slice(2);
const { chromium } = require(playwright);

async function main() {
  const browser = await chromium.launch({
    executablePath,
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
      "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
  const page = await browser.newPage();
  const seen = { urls: [] };
  page.on("request", (request) => seen.urls.push(request.url()));
  await page.goto(url);
  await page.waitForSelector("#problem:not(:empty)");
  seen.without = await page.textContent("#problem");
  await page.click("summary");
  await page.fill("#key", "tr_0123456789ab_wrong");
  await page.click("#use-key");
  await page.waitForSelector("#problem:text('key_unknown')");
  await page.fill("#key", key);
  await page.click("#use-key");
  await page.waitForSelector("#groups input");
  seen.with = await page.textContent("#problem");
  await page.setInputFiles("#file", photo);
  await page.click("#ask");
  await page.waitForSelector("#bars li");
  seen.answers = await page.$$eval("#bars li", (all) => all.length);
  seen.curl = await page.textContent("#curl");
  seen.stored = await page.evaluate("[localStorage.length, sessionStorage.length, document.cookie.length]");
  await page.reload();
  await page.waitForSelector("#problem:not(:empty)");
  seen.kept = await page.inputValue("#key");
  await browser.close();
  process.stdout.write(JSON.stringify(seen));
}

main().catch((error) => {
  process.stderr.write(String(error.stack));
  process.exit(1);
});
