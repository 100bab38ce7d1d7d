// Every page in every language, light and dark, wide and narrow: axe, no sideways scroll, no error or foreign request, one h1,
// targets large enough, the keyboard, the weight of a first view, no layout shift.
import { after, before, describe, test } from "node:test";
import assert from "node:assert/strict";
import axeCore from "axe-core";
import { launch, open, profiles, start } from "./demo.mjs";
import { furnish } from "./pages.mjs";

const rules = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
let app, browser, as, pages;
before(async () => {
  app = await start();
  browser = await launch();
  as = profiles(browser, app);
  pages = (await furnish(app, as, browser)).filter((one) => new RegExp(process.env.ONLY ?? "").test(one.name)); // ONLY=connect npm test
  // Signed in before the languages begin, which go side by side.
  for (const who of new Set(pages.map((one) => one.who))) if (who) await (await as(who)).context().close();
});
after(async () => {
  await browser?.close();
  assert.equal(await app?.stop(), 0);
});

// reader is somebody's browser in a language, with an eye on what a page must not do.
async function reader(who, lang, options = {}) {
  const still = { reducedMotion: "reduce", ...options }; // colours change at once
  const page = who ? await as(who, still) : await open(browser, app, still);
  await page.context().addCookies([{ name: "lang", value: lang, url: app.url }]);
  await page.addInitScript(() => {
    globalThis.shifted = 0;
    globalThis.moved = [];
    const at = (box) => [box.x, box.y, box.width, box.height].map(Math.round).join(" ");
    new PerformanceObserver((list) => {
      for (const e of list.getEntries()) {
        globalThis.shifted += e.value;
        for (const s of e.sources) globalThis.moved.push(`${s.node?.nodeName} "${s.node?.textContent.trim().slice(0, 20)}" from ${at(s.previousRect)} to ${at(s.currentRect)}`);
      }
    }).observe({ type: "layout-shift", buffered: true });
  });
  page.wrong = [];
  page.on("pageerror", (e) => page.wrong.push(`script: ${e.message}`));
  page.on("console", (m) => {
    const ownStatus = m.text().startsWith("Failed to load resource") && m.location().url === page.url(); // the page's own 404, 403 …
    if (["error", "warning"].includes(m.type()) && !ownStatus) page.wrong.push(`console: ${m.text()}`);
  });
  page.on("request", (r) => { if (!r.url().startsWith(app.url) && !r.url().startsWith("data:")) page.wrong.push(`foreign: ${r.url()}`); });
  return page;
}

async function visit(page, one) {
  page.wrong.length = 0;
  if (one.go) await one.go(page);
  else {
    const answer = await page.goto(one.path);
    assert.equal(answer.status(), one.status ?? 200, `${one.path}: status`);
  }
  await page.evaluate(() => document.fonts.ready);
}

// axe adds what it finds to faults. All of its rules see the page in light; in dark those that colours and width can change.
async function axe(page, where, faults, only) {
  const found = await page.evaluate(({ rules, only }) => globalThis.axe.run(document, { runOnly: only ? { type: "rule", values: only } : { type: "tag", values: rules }, resultTypes: ["violations"] }), { rules, only });
  for (const v of found.violations) faults.push(`${where}: ${v.id}: ${v.nodes.map((n) => `${n.target.join(" ")} (${[...n.any, ...n.all, ...n.none].map((c) => `${c.message} ${c.relatedNodes.map((r) => r.target).join(" ")}`)})`).slice(0, 4).join("; ")}`);
}
const narrow = ["color-contrast", "link-in-text-block", "target-size", "scrollable-region-focusable", "empty-table-header", "td-headers-attr", "list", "region", "bypass"];

// wide names what sticks out sideways, when the document scrolls that way.
const wide = (page) =>
  page.evaluate(() => {
    const room = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth <= room) return [];
    return [...document.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > room + 1).slice(-3).map((e) => `${e.tagName}.${e.className?.baseVal ?? e.className}`).concat(`${document.documentElement.scrollWidth} px`);
  });

// small lists what is too small for a finger: 44 px for whatever stands by itself, 24 px for a link within a text.
const small = (page) =>
  page.evaluate(() => [...document.querySelectorAll("a[href], button, select, summary, input:not([type=hidden])")].flatMap((e) => {
    const target = e.matches("[type=radio], [type=checkbox]") ? e.closest("label") ?? e : e;
    const box = target.getBoundingClientRect();
    if (!target.checkVisibility({ visibilityProperty: true }) || box.bottom < 0) return [];
    const within = e.matches("a") && e.closest("p, li, dd, td, th, h1, h2, h3, .account, .table, .facts") && !e.matches(".button");
    const least = within ? 24 : 44;
    return box.height < least - 0.5 ? [`${e.tagName} "${e.textContent.trim().slice(0, 30)}" ${Math.round(box.height)} px`] : [];
  }));

// walk presses Tab to the end of the page: everything that can be used must be reached, in order, with a visible focus.
async function walk(page) {
  await page.evaluate(() => {
    document.querySelector(".skip").focus();
    globalThis.walked = new Set();
  });
  const faults = [];
  for (let i = 0; i < 400; i++) {
    await page.keyboard.press("Tab");
    const step = await page.evaluate(() => {
      const e = document.activeElement;
      if (!e || e === document.body || e.matches(".skip")) return null; // round once
      const inner = globalThis.walked.has(e); // a date is several stops of one element, and marks the inner ones itself
      globalThis.walked.add(e);
      const shown = inner || [e, e.closest("label"), e.closest(".choice")].some((o) => o && getComputedStyle(o).outlineStyle !== "none" && parseFloat(getComputedStyle(o).outlineWidth) >= 3);
      return { shown, what: `${e.tagName} "${(e.textContent || e.name || "").trim().slice(0, 30)}"` };
    });
    if (!step) break;
    if (!step.shown) faults.push(`focus cannot be seen on ${step.what}`);
  }
  await page.evaluate(() => document.activeElement.blur()); // a link to the main part that is in use covers the name above the page
  return faults.concat(await page.evaluate(() => [...document.querySelectorAll("main a[href], main button, main select, main summary, main input:not([type=hidden], [type=radio])")]
    .filter((e) => e.checkVisibility({ visibilityProperty: true }) && !e.matches(":disabled") && !globalThis.walked.has(e)).map((e) => `the keyboard does not reach ${e.tagName} "${e.textContent.trim().slice(0, 30)}"`)));
}

describe("pages", { concurrency: 3 }, () => {
  for (const lang of ["en", "km", "fr"]) {
    test(`in ${lang}`, async (t) => {
      const readers = {}, titles = {};
      for (const one of pages) {
        await t.test(one.name, async () => {
          const page = (readers[one.who] ??= await reader(one.who, lang));
          const faults = [];
          await page.emulateMedia({ colorScheme: "light", reducedMotion: "reduce" });
          await page.setViewportSize({ width: 1280, height: 900 });
          await visit(page, one);
          const seen = await page.evaluate(() => ({ h1: document.querySelectorAll("h1").length, lang: document.documentElement.lang, title: document.title, shifted: globalThis.shifted, moved: globalThis.moved }));
          if (seen.h1 !== 1) faults.push(`${seen.h1} h1`);
          if (seen.lang !== lang) faults.push(`lang is ${seen.lang}`);
          if (seen.shifted > 0.002) faults.push(`layout shift ${seen.shifted}: ${seen.moved.join("; ")}`);
          (titles[`${seen.title} (${String(one.who).replace("support", "admin")})`] ??= new Set()).add(new URL(page.url()).pathname);
          await page.evaluate(axeCore.source);
          await axe(page, "light 1280", faults);
          faults.push(...(await wide(page)).map((w) => `sideways at 1280: ${w}`));
          faults.push(...(await small(page)).map((s) => `small at 1280: ${s}`));
          if (lang === "en") faults.push(...(await walk(page)));
          await page.emulateMedia({ colorScheme: "dark", reducedMotion: "reduce" });
          for (const width of [320, 390]) {
            await page.setViewportSize({ width, height: 844 });
            faults.push(...(await wide(page)).map((w) => `sideways at ${width}: ${w}`));
          }
          faults.push(...(await small(page)).map((s) => `small at 390: ${s}`));
          await axe(page, "dark 390", faults, narrow);
          assert.deepEqual([...faults, ...page.wrong], []);
        });
      }
      await t.test("titles tell pages apart", () => {
        const shared = Object.entries(titles).filter(([, paths]) => new Set([...paths].filter((p) => !/^\/(flows|links|connect|connections\/nothing|nothing|invitations|admin\/bulk|admin\/webhooks\/)/.test(p))).size > 1);
        assert.deepEqual(shared.map(([title, paths]) => `${title}: ${[...paths].join(" ")}`), []);
      });
      for (const page of Object.values(readers)) await page.context().close();
    });
  }
});

describe("a first view", { concurrency: 3 }, () => {
  test("weighs under 40 KB without the Khmer font", async () => {
    for (const lang of ["en", "km", "fr"]) {
      for (const one of pages.filter((p) => p.main && p.path)) {
        const page = await reader(one.who, lang);
        await page.goto(one.path, { waitUntil: "networkidle" });
        const weight = await page.evaluate(() => [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
          .filter((e) => !e.name.endsWith(".woff2")).reduce((sum, e) => sum + e.encodedBodySize + 300, 0));
        assert.ok(weight < 40 * 1024, `${one.name} in ${lang}: ${Math.round(weight / 1024)} KB`);
        await page.context().close();
      }
    }
  });

  test("stays where it is when the Khmer face comes late", async () => {
    for (const one of pages.filter((p) => p.path && (p.main || p.name === "admin-connections-search"))) {
      const page = await reader(one.who, one.main ? "km" : "en");
      let late = 0;
      await page.route("**/*.woff2", async (route) => {
        late++;
        await new Promise((done) => setTimeout(done, 700));
        await route.continue();
      });
      await page.goto(one.path, { waitUntil: "networkidle" });
      await page.evaluate(() => document.fonts.ready.then(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))));
      assert.ok(late > 0, `${one.name}: no face was asked for`);
      const shifted = await page.evaluate(() => globalThis.shifted);
      assert.ok(shifted <= 0.002, `${one.name}: layout shift ${shifted}`);
      await page.context().close();
    }
  });

  test("moves nothing for those who want no motion, and works without a script", async () => {
    for (const one of pages.filter((p) => p.main && p.path)) {
      const page = await reader(one.who, "en", { javaScriptEnabled: false, reducedMotion: "reduce" });
      await page.goto(one.path);
      assert.equal(await page.locator("main :is(a.button, button, input):visible").evaluateAll((all) => all.filter((e) => parseFloat(getComputedStyle(e).transitionDuration) > 0).length), 0);
      assert.equal(await page.locator("button.copy:visible").count(), 0, `${one.name}: a copy button that cannot copy`);
      await page.context().close();
    }
  });
});
