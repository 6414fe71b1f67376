// Drives the pages in Chromium as a person would; prints what it saw as JSON.
// node playground_in_browser.cjs PLAYWRIGHT CHROMIUM URL FOLDER [AXE]
"use strict";

const fs = require("node:fs");
const path = require("node:path");

const [playwright, executablePath, url, folder, axe] = process.argv.slice(2);
const { chromium } = require(playwright);

async function accessibility(page) {
  if (!axe) return null;
  // Evaluated by the debugger, which the page's policy does not bind.
  await page.evaluate(fs.readFileSync(axe, "utf8"));
  const { violations } = await page.evaluate("axe.run()");
  return violations.map((found) => `${found.id}: ${found.nodes.map((node) => node.target).join(" ")}`);
}

async function main() {
  const browser = await chromium.launch({
    executablePath,
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
      "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
  const page = await browser.newPage({ viewport: { width: 1280, height: 860 } });
  const seen = { console: [], foreign: [] };
  page.on("console", (line) => line.type() === "error" && seen.console.push(line.text()));
  page.on("pageerror", (error) => seen.console.push(String(error)));
  page.on("request", (request) => {
    if (!/^(blob|data):/.test(request.url()) && !request.url().startsWith(url)) seen.foreign.push(request.url());
  });

  await page.goto(url);
  await page.waitForSelector("#groups input");
  seen.model = await page.textContent("#model");
  seen.choice = await page.isVisible("#choice");
  await page.fill("#search", "shoe");
  await page.click("#none");
  await page.click("#all");
  await page.fill("#search", "kind");
  await page.click("#all");
  await page.fill("#search", "");
  seen.count = await page.textContent("#count");

  await page.setInputFiles("#file", path.join(folder, "photo.png"));
  await page.focus("#ask");
  await page.keyboard.press("Enter");
  await page.waitForSelector("#bars li");
  seen.answers = await page.$$eval("#bars li strong", (all) => all.map((one) => one.textContent));
  seen.meters = await page.$$eval("#bars [role=meter]",
    (all) => all.map((one) => Number(one.getAttribute("aria-valuenow"))));
  seen.cost = await page.textContent("#cost");
  seen.curl = await page.textContent("#curl");
  seen.axe = { light: await accessibility(page) };
  await page.emulateMedia({ colorScheme: "dark" });
  seen.axe.dark = await accessibility(page);
  await page.emulateMedia({ colorScheme: "light" });

  await page.waitForSelector("#samples img");
  seen.consoleBeforeError = [...seen.console];
  await page.setInputFiles("#file", path.join(folder, "text.txt"));
  await page.click("#ask");
  await page.waitForSelector("#problem:not(:empty)");
  seen.problem = await page.textContent("#problem");

  await page.click("#samples button[title='sneaker']");
  await page.click("#ask");
  await page.waitForSelector("#bars li");
  seen.problemAfterwards = await page.textContent("#problem");
  await page.screenshot({ path: path.join(folder, "playground.png") });
  seen.overflow = {};
  for (const width of [360, 800, 1920]) {
    await page.setViewportSize({ width, height: 800 });
    seen.overflow[width] = await page.evaluate(
      "document.documentElement.scrollWidth - document.documentElement.clientWidth");
  }
  await page.goto(`${url}/docs`);
  await page.waitForSelector(".opblock");
  seen.operations = await page.$$eval(".opblock", (all) => all.length);
  await browser.close();
  process.stdout.write(JSON.stringify(seen));
}

main().catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exit(1);
});
