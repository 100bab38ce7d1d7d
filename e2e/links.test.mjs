// The sample platform and its merchants: from a page of the platform through a connect link to a token, without JavaScript, on a phone, in the
// dark, in each language; then what goes wrong on the way. The pages themselves are looked at in pages.test.mjs.
import { after, before, describe, test } from "node:test";
import assert from "node:assert/strict";
import axeCore from "axe-core";
import { answer, api, launch, open, say, start } from "./demo.mjs";

const phone = { javaScriptEnabled: false, viewport: { width: 390, height: 844 }, colorScheme: "dark" };
const people = { km: "Sok Dara", fr: "Élodie Tremblay", en: "Grace Miller" };
let app, browser, call;
before(async () => {
  app = await start();
  browser = await launch();
  call = api(app);
});
after(async () => {
  await browser?.close();
  assert.equal(await app?.stop(), 0);
});

const platform = () => `${app.sandbox}/platform`;
const heading = (page) => page.getByRole("heading", { level: 1 }).innerText();
const press = (page, name) => page.getByRole("button", { name, exact: true }).click();
const tick = (page, name, on) => page.getByRole("checkbox", { name })[on ? "check" : "uncheck"]();
const fact = async (page, name) => (await page.locator(`dt:text-is("${name}") + dd`).innerText()).trim();

// signedIn opens the platform in a browser of its own.
async function signedIn(lang, options = phone) {
  const page = await open(browser, app, options);
  await page.goto(platform());
  await page.getByRole("radio", { name: people[lang] }).check();
  await press(page, "Sign in");
  return page;
}

// leave presses Connect on the platform and on the link's page, and waits to be at the provider.
async function leave(page, title, lang, { redirect = true, confirm = false } = {}) {
  await page.goto(platform());
  await tick(page, "At once when it ended well", redirect);
  await tick(page, "Only if I say here that it was me", confirm);
  await press(page, `Connect ${title}`);
  assert.equal(new URL(page.url()).origin, app.url);
  assert.equal(await page.locator("html").getAttribute("lang"), lang);
  await Promise.all([page.waitForURL((u) => u.origin === app.sandbox), press(page, say("connect.title", { Provider: title }, lang))]);
}

const back = (page, lang) => page.getByRole("link", { name: say("link.back", { Platform: new URL(app.sandbox).host }, lang) });

// heard waits until the platform shows that a webhook came.
async function heard(page, ...texts) {
  for (let i = 0; i < 100; i++) {
    await page.goto(`${platform()}/webhooks`);
    const rows = await page.locator("tbody tr").allInnerTexts();
    if (rows.some((row) => texts.every((text) => row.includes(text)))) return;
    await page.waitForTimeout(100);
  }
  assert.fail(`no webhook with ${texts}: ${await page.locator("main").innerText()}`);
}

const connections = async (lang) => {
  const { merchants } = await call("GET", "/merchants");
  const shop = { km: "corner-17", fr: "corner-23", en: "corner-31" }[lang];
  if (!merchants.some((m) => m.external_id === shop)) return [];
  return (await call("GET", `/connections?merchant=${shop}`)).connections.filter((c) => c.health !== "disconnected");
};

describe("a merchant of the platform", { concurrency: 3 }, () => {
  test("in Khmer: connects, comes back at once, and a token is read", async () => {
    const page = await signedIn("km");
    await leave(page, "CamInvoice", "km");
    await answer(page, app, "Allow", "CH168");
    await page.locator('button[name="choice"][value="connect"]').click();
    assert.equal(new URL(page.url()).origin, app.sandbox, "back at the platform without another press");
    assert.equal(await heading(page), "Connected");
    const q = new URL(page.url()).searchParams, [made] = await connections("km");
    assert.equal(q.get("patchbay_state"), "connected");
    assert.equal(q.get("patchbay_connection"), made.id);
    assert.equal((await call("GET", `/connect-links/${q.get("patchbay_link")}`)).connection, made.id);
    assert.equal(await fact(page, "State, by the API"), "connected");
    await press(page, "Read a token");
    const { access_token: token } = await call("GET", `/connections/${made.id}/token`);
    const shown = await page.content();
    assert.ok(shown.includes(token.slice(0, 6)) && !shown.includes(token) && !shown.includes(token.slice(0, 12)), "the beginning of the token is shown, and no more");
    await heard(page, "connection.connected", "caminvoice");

    // It is reconnected by a link that is pinned to it.
    await page.goto(platform());
    await press(page, "Reconnect CamInvoice");
    await Promise.all([page.waitForURL((u) => u.origin === app.sandbox), page.locator("main form button").last().click()]);
    await answer(page, app, "Allow", "CH168");
    if (await page.locator('button[name="choice"]').count()) await page.locator('button[name="choice"][value="connect"]').click();
    if (new URL(page.url()).origin === app.url) await back(page, "km").click();
    assert.equal(await fact(page, "Connection, by the API"), made.id);
    await heard(page, "connection.reconnected");

    await page.goto(platform());
    await press(page, "Disconnect CamInvoice");
    assert.equal(await heading(page), "Disconnected");
    assert.deepEqual(await connections("km"), []);
    await heard(page, "connection.disconnected");
    await page.context().close();
  });

  test("in French: says no, then cancels, then connects and comes back by the button", async () => {
    const page = await signedIn("fr");
    await leave(page, "Acme", "fr", { redirect: false });
    await answer(page, app, "Deny");
    assert.equal(await heading(page), say("flow.denied.title", { Provider: "Acme" }, "fr"));
    await back(page, "fr").click();
    assert.equal(await heading(page), "You said no");
    assert.equal(await fact(page, "State, by the address"), "denied");

    await leave(page, "CamInvoice", "fr", { redirect: true });
    await answer(page, app, "Allow", "Mekong Rice");
    await page.locator('button[name="choice"][value="cancel"]').click();
    await back(page, "fr").click();
    assert.equal(await heading(page), "You cancelled");
    assert.deepEqual(await connections("fr"), []);

    await leave(page, "Acme", "fr", { redirect: false });
    await answer(page, app, "Allow", "Élodie");
    assert.equal(await heading(page), say("flow.connected.title", { Provider: "Acme" }, "fr"));
    await back(page, "fr").click();
    assert.equal(await heading(page), "Connected");
    await heard(page, "connection.connected", "acme");
    await page.context().close();
  });

  test("in English: nothing is connected until the platform confirms", async () => {
    const page = await signedIn("en");
    await leave(page, "Acme", "en", { confirm: true });
    await page.getByRole("radio", { name: "Jan de Vries" }).check();
    await Promise.all([page.waitForURL((u) => u.pathname === "/platform/back"), press(page, "Allow")]);
    assert.equal(await heading(page), "Was it you?");
    assert.ok(new URL(page.url()).searchParams.get("patchbay_code"));
    assert.deepEqual(await connections("en"), []);

    // The address is of use to nobody else.
    const other = await signedIn("km");
    const answered = await other.goto(page.url());
    assert.equal(answered.status(), 404);
    assert.equal(await heading(other), "This is not yours");
    await other.context().close();

    await press(page, "It was me, connect");
    assert.equal(await heading(page), "Connected");
    assert.equal((await connections("en")).length, 1);
    await heard(page, "connection.connected", "acme");

    // What the address says is not believed.
    const at = new URL(page.url()), l = (await call("GET", "/connect-links?merchant=corner-31")).connect_links[0];
    await page.goto(`${platform()}/back?patchbay_link=${l.id}&patchbay_state=denied`);
    assert.equal(at.origin, app.sandbox);
    assert.equal(await fact(page, "State, by the API"), "connected");
    assert.ok((await page.locator("main").innerText()).includes("They differ."));
    await page.context().close();
  });

  test("chooses among all providers", async () => {
    const page = await signedIn("fr");
    await press(page, "Choose at Patchbay");
    await page.locator('a[href$="?provider=flexiti"]').click();
    assert.ok(await page.locator('main [name="client_secret"]').count());
    await back(page, "fr").click();
    assert.equal(await heading(page), "Not finished");
    await page.context().close();
  });
});

describe("a link", () => {
  const linkTo = (more) => call("POST", "/connect-links", { merchant: { external_id: "links-1", name: "Shop of the links" }, provider: "acme", return_url: `${platform()}/back`, ...more });
  const over = async (page, link, why, state) => {
    const answered = await page.goto(link.url);
    assert.equal(answered.status(), 410);
    assert.equal(await heading(page), say(`link.${why}.title`));
    assert.equal(new URL(await back(page).getAttribute("href")).searchParams.get("patchbay_state"), state);
    assert.ok(!(await page.content()).includes("Shop of the links"), "it does not say for whom it was");
  };

  test("that one browser has begun with opens in no other", async () => {
    const link = await linkTo(), first = await open(browser, app, phone), second = await open(browser, app, phone);
    await second.goto(link.url); // to look spends nothing
    await first.goto(link.url);
    await Promise.all([first.waitForURL((u) => u.origin === app.sandbox), press(first, "Connect Acme")]);
    await Promise.all([second.waitForResponse((r) => r.request().method() === "POST" && r.status() === 410), press(second, "Connect Acme")]);
    await over(second, link, "used", "begun");
    await answer(first, app, "Allow", "Sokha Chan");
    assert.equal(await heading(first), "Acme is connected");
    await first.goto(link.url);
    assert.equal(await heading(first), "Acme is connected");
    await first.context().close();
    await second.context().close();
  });

  test("that the platform has withdrawn, or whose time is over, leads back", async () => {
    const brief = await linkTo({ expires_in: 60 }), made = Date.now(), link = await linkTo();
    const page = await open(browser, app, phone), begun = await open(browser, app, phone);
    await begun.goto(link.url);
    await Promise.all([begun.waitForURL((u) => u.origin === app.sandbox), press(begun, "Connect Acme")]);
    await call("DELETE", `/connect-links/${link.id}`);
    const [untouched, withdrawn] = [await linkTo(), page];
    await call("DELETE", `/connect-links/${untouched.id}`);
    await over(withdrawn, untouched, "revoked", "expired");
    await answer(begun, app, "Allow", "Sokha Chan");
    assert.equal(await heading(begun), say("flow.link-revoked.title"));
    assert.equal((await call("GET", `/connect-links/${link.id}`)).connection, "");
    await page.waitForTimeout(Math.max(0, made + 61_000 - Date.now()));
    await over(page, brief, "expired", "expired");
    await page.context().close();
    await begun.context().close();
  });
});

describe("the platform's own pages", () => {
  test("pass axe in both schemes, and do not scroll sideways at 320 px", async () => {
    const page = await signedIn("en", { reducedMotion: "reduce" });
    const faults = [];
    const look = async (what) => {
      await page.evaluate(axeCore.source);
      for (const [scheme, width] of [["light", 1280], ["dark", 320]]) {
        await page.emulateMedia({ colorScheme: scheme, reducedMotion: "reduce" });
        await page.setViewportSize({ width, height: 844 });
        const found = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
        for (const v of found.violations) faults.push(`${what}, ${scheme}: ${v.id}: ${v.nodes.map((n) => n.target.join(" ")).join("; ")}`);
        if (await page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth)) faults.push(`${what}, ${width} px: sideways`);
      }
    };
    await look("connections");
    await leave(page, "ELECQ", "en");
    await answer(page, app, "Allow", "Harbour Hotel");
    if (await page.locator('button[name="choice"]').count()) await page.locator('button[name="choice"][value="connect"]').click();
    await look("back");
    await press(page, "Read a token");
    await look("token");
    await heard(page, "connection.connected", "elecq");
    await look("webhooks");
    await page.goto(`${platform()}/back?patchbay_link=nothing`);
    await look("a problem");
    await page.goto(platform());
    await look("connections with one");
    await press(page, "Disconnect ELECQ");
    await look("disconnected");
    await press(page, "Sign out");
    await look("sign in");
    await page.goto(app.sandbox);
    await look("the sandbox's front page");
    assert.deepEqual(faults, []);
    await page.context().close();
  });
});
