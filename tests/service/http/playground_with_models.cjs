// Uses the page of a server with two models, by keyboard; prints what was seen as JSON.
// node playground_with_models.cjs PLAYWRIGHT CHROMIUM URL PHOTO FIRST SECOND [AXE]
"use strict";

const fs = require("node:fs");

const [playwright, executablePath, url, photo, first, second, axe] = process.argv.slice(2);
const { chromium } = require(playwright);

async function main() {
  const browser = await chromium.launch({
    executablePath,
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
      "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
  const page = await browser.newPage();
  const seen = { console: [] };
  page.on("console", (line) => line.type() === "error" && seen.console.push(line.text()));
  page.on("pageerror", (error) => seen.console.push(String(error)));
  await page.goto(url);
  await page.waitForSelector(`#model:text("${first}, version")`);
  seen.choices = await page.$$eval("#choice option", (all) => all.map((one) => one.textContent));
  seen.curlFirst = await page.textContent("#curl");
  await page.focus("#choice");
  await page.keyboard.press("ArrowDown");
  await page.waitForSelector(`#model:text("${second}, version")`);
  seen.focus = await page.evaluate("document.activeElement.id");
  seen.tasks = await page.$$eval("#groups .tasks label", (all) => all.map((one) => one.textContent.trim()));
  await page.setInputFiles("#file", photo);
  await page.click("#ask");
  await page.waitForSelector("#bars li");
  seen.answers = await page.$$eval("#bars li strong", (all) => all.map((one) => one.textContent));
  seen.curl = await page.textContent("#curl");
  seen.axe = null;
  if (axe) {
    await page.evaluate(fs.readFileSync(axe, "utf8"));
    const { violations } = await page.evaluate("axe.run()");
    seen.axe = violations.map((found) => `${found.id}: ${found.nodes.map((node) => node.target).join(" ")}`);
  }
  await page.setViewportSize({ width: 360, height: 800 });
  seen.overflow = await page.evaluate(
    "document.documentElement.scrollWidth - document.documentElement.clientWidth");
  await browser.close();
  process.stdout.write(JSON.stringify(seen));
}

main().catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exit(1);
});
