// Pictures of every page. `npm run screenshots` writes docs/screenshots/ and docs/screenshots.md: every page once on a wide
// screen and twice on a phone. `npm run screenshots -- FOLDER` writes every combination of scheme, width and language there instead.
// With ONLY=PATTERN it takes the pages of such names alone, and leaves the other pictures.
import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { launch, open, profiles, start } from "./demo.mjs";
import { furnish } from "./pages.mjs";

const docs = fileURLToPath(new URL("../docs/", import.meta.url));
const folder = process.argv[2] ?? join(docs, "screenshots");
const kept = [["light", 1280, "en"], ["dark", 390, "km"], ["light", 390, "fr"]];
const all = ["light", "dark"].flatMap((scheme) => [1280, 390].flatMap((width) => ["en", "km", "fr"].map((lang) => [scheme, width, lang])));
const only = new RegExp(process.env.ONLY ?? "");

const app = await start();
const browser = await launch();
try {
  const as = profiles(browser, app);
  const every = await furnish(app, as, browser), pages = every.filter((one) => only.test(one.name));
  await mkdir(folder, { recursive: true });
  if (!process.env.ONLY) for (const old of await readdir(folder)) if (old.endsWith(".png")) await rm(join(folder, old));
  const readers = {}, limited = new Set();
  const reader = async (who) => {
    const page = await (who ? as(who, { reducedMotion: "reduce" }) : open(browser, app, { reducedMotion: "reduce" }));
    page.on("response", (r) => { if (r.status() === 429) limited.add(`${r.request().method()} ${new URL(r.url()).pathname}`); });
    return page;
  };
  for (const one of pages) {
    let shown; // the language in which the page is there: forms are sent once for each, as few may be sent
    for (const [scheme, width, lang] of (process.argv[2] ? all : kept).toSorted((a, b) => a[2].localeCompare(b[2]))) {
      const page = (readers[one.who + lang] ??= await reader(one.who));
      await page.context().addCookies([{ name: "lang", value: lang, url: app.url }]);
      await page.emulateMedia({ colorScheme: scheme, reducedMotion: "reduce" });
      await page.setViewportSize({ width, height: width === 390 ? 844 : 720 });
      if (shown !== lang && one.go) await one.go(page);
      else if (shown !== lang) await page.goto(one.path);
      shown = lang;
      await page.evaluate(() => document.fonts.ready.then(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))));
      await page.screenshot({ path: join(folder, `${one.name}-${scheme}-${width}-${lang}.png`), fullPage: true });
    }
  }
  if (limited.size > 0) throw new Error(`pictures of "too many requests": ${[...limited].join(", ")}`);
  if (!process.argv[2]) {
    const shot = (name, [scheme, width, lang]) => `screenshots/${name}-${scheme}-${width}-${lang}.png`;
    const lines = ["# Every page", "", "Made by `cd e2e && npm run screenshots` from a fresh demo. On the right the same page on a phone: in Khmer, dark, and in French.", ""];
    for (const { name } of every) {
      lines.push(`## ${name}`, "", "<table><tr>", `<td width="60%" valign="top"><img alt="${name}, wide, light, English" src="${shot(name, kept[0])}"></td>`);
      for (const [one, what] of [[kept[1], "phone, dark, Khmer"], [kept[2], "phone, light, French"]]) lines.push(`<td width="20%" valign="top"><img alt="${name}, ${what}" src="${shot(name, one)}"></td>`);
      lines.push("</tr></table>", "");
    }
    await writeFile(join(docs, "screenshots.md"), lines.join("\n"));
  }
} finally {
  await browser.close();
  await app.stop();
}
