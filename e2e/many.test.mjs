// A merchant with many: thirty providers by configuration, seven accounts at one of them, four incidents, ids of 64 characters and accounts
// without a name. What must hold on such pages in every language: axe, no sideways scroll, what is wrong and what is needed on a phone's first
// screen, forced colours, paper.
import { after, before, test } from "node:test";
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import axeCore from "axe-core";
import { launch, open, signIn, start, users } from "./demo.mjs";

const brand = "Riverside Platform";
const refused = new Set(); // keys that the providers accept no more
const id = (key) => Buffer.from(key.padEnd(32, "0")).toString("hex"); // 64 characters without a place to break
const providers = Array.from({ length: 30 }, (_, i) => ({ name: `shop-${i + 1}`, title: i % 3 ? `Riverside Marketplace and Payments ${i + 1}` : `ទីផ្សារទន្លេមេគង្គ ${i + 1}` }));
let check, app, served, browser, merchant, admin;

before(async () => {
  check = createServer((request, response) => {
    const key = request.headers["x-api-key"];
    response.writeHead(refused.has(key) ? 401 : 200, { "content-type": "application/json" }).end(JSON.stringify(refused.has(key) ? { error: "unauthorized" } : { id: id(key) }));
  });
  await new Promise((done) => check.listen(0, "127.0.0.1", done));
  app = await start();
  const file = join(app.data, "providers.json");
  await writeFile(file, JSON.stringify(providers.map((one, i) => ({
    name: one.name, title: one.title, kind: "key", environment: "sandbox",
    category: { en: ["Shops", "Payments", "Deliveries"][i % 3], km: ["ហាង", "ការទូទាត់", "ការដឹកជញ្ជូន"][i % 3], fr: ["Boutiques", "Paiements", "Livraisons"][i % 3] },
    description: { en: "Sends orders, refunds and stock to the shop of your choice.", km: "ផ្ញើការបញ្ជាទិញ ការសងប្រាក់ និងស្តុកទៅហាង។", fr: "Envoie les commandes, remboursements et stocks à la boutique." },
    inputs: { key: { secret: true, title: "API key" } }, send: { header: "X-Api-Key", value: "{key}" },
    check: { url: `http://127.0.0.1:${check.address().port}/v1/me` }, account: { id: "account.id" },
  }))));
  const port = await new Promise((done) => { const s = createServer().listen(0, "127.0.0.1", () => { const { port } = s.address(); s.close(() => done(port)); }); });
  served = await app.serve(`127.0.0.1:${port}`, { CONNECTORS_FILE: file, BRAND_NAME: brand, WEBHOOK_PRIVATE: "true" });
  browser = await launch();
  merchant = await states(users.merchant);
  admin = await states(users.admin);

  const page = await reader(merchant, "en");
  for (const key of ["a1", "b2", "c3", "d4", "e5", "f6", "g7"]) await connect(page, "shop-1", key);
  for (let i = 2; i < 6; i++) await connect(page, `shop-${i}`, `k${i}`);
  refused.add("c3").add("k4");
  for (const key of refused) {
    await page.goto(`/connections/${await connection(key)}`);
    await page.locator(`form[action$="/refresh"] button`).click();
    await page.waitForLoadState();
  }
  await page.goto(`/connections/${await connection("g7")}/disconnect`);
  await page.locator(`main form[action$="/disconnect"] button.danger, main form[action$="/disconnect"] button`).first().click();
  await page.waitForLoadState();
  await page.context().close();
  const desk = await reader(admin, "en");
  for (let i = 2; i < 6; i++) { // of which the merchant has accounts
    const answer = await desk.context().request.post(`/admin/providers/shop-${i}`, { form: { do: "declare", reason: "Their status page says that sign-ins and refreshes fail for most merchants." }, headers: { origin: served.url } });
    assert.ok(answer.ok(), `declare: ${answer.status()}`);
  }
  await desk.context().close();
});
after(async () => {
  await browser?.close();
  await served?.stop();
  check?.close();
  assert.equal(await app?.stop(), 0);
});

async function states(who) {
  const page = await open(browser, { url: served.url });
  await signIn(page, who);
  const state = await page.context().storageState();
  await page.context().close();
  return state;
}

async function reader(storageState, lang, options = {}) {
  const page = await open(browser, { url: served.url }, { storageState, reducedMotion: "reduce", ...options });
  await page.context().addCookies([{ name: "lang", value: lang, url: served.url }]);
  return page;
}

async function connect(page, provider, key) {
  await page.goto(`/connect/${provider}`);
  await page.locator('main [name="key"]').fill(key);
  await page.locator(`main form[action="/connect/${provider}"] button[type="submit"]`).click();
  await page.waitForURL(/\/flows\//);
  const keep = page.locator('button[name="choice"][value="keep-both"], button[name="choice"][value="connect"]'); // the next account of a provider
  if (await keep.count()) await keep.first().click();
  await page.locator('main a[href^="/connections/"]').first().waitFor();
}

const connection = (key) => app.sql(`SELECT id FROM connections WHERE account_id = '${id(key)}'`);

async function everyPage() {
  const merchantId = await app.sql(`SELECT merchant_id FROM users WHERE email = '${users.merchant[0]}'`);
  const [fine, needed, ended] = [await connection("a1"), await connection("c3"), await connection("g7")];
  return [
    [merchant, "/"], [merchant, "/?q=marketplace"], [merchant, "/ended"], [merchant, "/connect/shop-1"], [merchant, `/connections/${fine}`],
    [merchant, `/connections/${needed}`], [merchant, `/connections/${ended}`], [merchant, `/connections/${fine}/disconnect`],
    [admin, "/admin"], [admin, "/admin/connections"], [admin, `/admin/merchants/${merchantId}`], [admin, "/admin/providers"], [admin, "/admin/providers/shop-2"], [admin, `/connections/${needed}`],
  ];
}

// sideways names what sticks out, when the document scrolls that way.
const sideways = (page) => page.evaluate(() => {
  const room = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= room) return [];
  return [...document.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > room + 1).slice(-3).map((e) => `${e.tagName}.${e.className?.baseVal ?? e.className} "${e.textContent.trim().slice(0, 30)}"`);
});

for (const lang of ["en", "km", "fr"]) {
  test(`many: axe and no sideways scroll in ${lang}`, async () => {
    const faults = [];
    for (const [who, path] of await everyPage()) {
      const page = await reader(who, lang, { viewport: { width: 390, height: 844 } });
      const answer = await page.goto(path);
      if (answer.status() !== 200) faults.push(`${path}: ${answer.status()}`);
      await page.evaluate(axeCore.source);
      const found = await page.evaluate(() => globalThis.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"], resultTypes: ["violations"] }));
      for (const v of found.violations) faults.push(`${path}: ${v.id}: ${v.nodes.slice(0, 3).map((n) => n.target.join(" ")).join("; ")}`);
      for (const width of [320, 390, 1280]) {
        await page.setViewportSize({ width, height: 844 });
        faults.push(...(await sideways(page)).map((s) => `${path} at ${width} px: ${s}`));
      }
      await page.context().close();
    }
    assert.deepEqual(faults, []);
  });

  test(`many: the first screen of a phone says what is wrong and what to do, in ${lang}`, async () => {
    const needed = await connection("c3");
    for (const [path, what] of [["/", [`form[action="/connections/${needed}/reconnect"] button, a[href^="/connect/"][href*="${needed}"]`, "h1"]], [`/connections/${needed}`, [`form[action="/connections/${needed}/reconnect"] button, a[href^="/connect/"]`, "h1", ".say"]]]) {
      const page = await reader(merchant, lang, { viewport: { width: 390, height: 844 } });
      await page.goto(path);
      await page.evaluate(() => document.fonts.ready);
      for (const selector of what) {
        const bottom = await page.locator(`main :is(${selector})`).first().evaluate((e) => e.getBoundingClientRect().bottom);
        assert.ok(bottom <= 844, `${path}: ${selector} ends ${Math.round(bottom)} px down`);
      }
      if (path === "/") { // and each provider that has an incident is named
        const said = await page.evaluate(() => [...document.querySelectorAll("body *")].filter((e) => e.children.length === 0 && e.getBoundingClientRect().bottom <= 844 && e.checkVisibility()).map((e) => e.textContent).join(" "));
        assert.match(said, /Riverside Marketplace and Payments 2|shop-2/, "the incident of a provider in use");
      }
      await page.context().close();
    }
  });
}

test("many: in forced colours the current tab differs and the focus is seen", async () => {
  for (const [who, path] of [[admin, "/admin/connections"], [merchant, "/"], [merchant, "/connect/shop-1"]]) {
    const page = await reader(who, "en", { forcedColors: "active" });
    await page.goto(path);
    assert.equal(await page.evaluate(() => matchMedia("(forced-colors: active)").matches), true);
    const look = (e) => ["", "::before", "::after"].map((part) => {
      const s = getComputedStyle(e, part);
      return ["color", "backgroundColor", "fontWeight", "textDecorationLine", "borderBottomWidth", "borderBottomStyle", "borderBottomColor", "outlineStyle", "boxShadow", "content", "height"].map((name) => s[name]).join("|");
    }).join("\n");
    for (const nav of await page.locator("nav:has([aria-current])").all()) {
      const current = await nav.locator("[aria-current]").first().evaluate(look);
      const others = await nav.locator(":is(a, button):not([aria-current])").evaluateAll((all, text) => all.map(eval(`(${text})`)), look.toString());
      assert.ok(others.length > 0 && !others.includes(current), `${path}: the current tab looks like another`);
    }
    if (who === admin) assert.ok((await page.locator("nav [aria-current]").count()) > 0, "there is a current tab");
    const unseen = [];
    for (let i = 0; i < 25; i++) {
      await page.keyboard.press("Tab");
      const seen = await page.evaluate(() => {
        const e = document.activeElement;
        if (!e || e === document.body) return true;
        return [e, e.closest("label"), e.closest(".choice")].some((o) => {
          const s = o && getComputedStyle(o);
          return s && s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 2 && !/rgba\(.*, 0\)|transparent/.test(s.outlineColor) && s.outlineColor !== getComputedStyle(document.body).backgroundColor;
        }) || `${e.tagName} "${e.textContent.trim().slice(0, 30)}"`;
      });
      if (seen !== true) unseen.push(seen);
    }
    assert.deepEqual(unseen, [], path);
    await page.context().close();
  }
});

test("many: on paper a receipt is whole, and says whose platform it is of", async () => {
  for (const lang of ["en", "km", "fr"]) {
    const page = await reader(merchant, lang, { viewport: { width: 700, height: 990 } });
    await page.goto(`/connections/${await connection("g7")}`);
    const facts = await page.locator("main dl:visible dt, main dl:visible dd").allInnerTexts();
    await page.emulateMedia({ media: "print" });
    assert.ok(facts.length >= 6, "a receipt has facts");
    const printed = await page.evaluate(() => document.body.innerText.replace(/\s+/g, " "));
    for (const fact of facts) assert.ok(printed.includes(fact.replace(/\s+/g, " ").trim()), `${lang}: not printed: ${fact}`);
    assert.ok(printed.includes(brand), `${lang}: the platform's name`);
    assert.ok(printed.includes(id("g7").slice(0, 8)), `${lang}: the account`);
    assert.deepEqual(await sideways(page), []);
    const cut = await page.evaluate(() => [...document.querySelectorAll("main *")].filter((e) => e.checkVisibility() && !e.matches(".visually-hidden") && ["hidden", "clip"].includes(getComputedStyle(e).overflowX) && e.scrollWidth > e.clientWidth + 1).map((e) => `${e.tagName} "${e.textContent.trim().slice(0, 30)}"`));
    assert.deepEqual(cut, [], lang);
    assert.equal(await page.locator("main :is(button, .actions):visible").count(), 0, `${lang}: a button on paper`);
    await page.context().close();
  }
});
