// Sign-in through a platform whose provider is another program: the certified oidc-provider, with its own sign-in and consent pages.
import { after, before, test } from "node:test";
import assert from "node:assert/strict";
import { createServer } from "node:http";
import axeCore from "axe-core";
import { Provider } from "oidc-provider";
import { launch, open, say, signIn, start, users } from "./demo.mjs";

const title = "Canal Accounts";
const people = {
  boss: { name: "Sok Dara", email: "boss@platform.example", groups: ["everyone", "patchbay-admins"] },
  helper: { name: "Élodie Martin", email: users.admin[0], groups: ["helpdesk"] }, // the address of the local admin
  shopkeeper: { name: "ចាន់ សុភា", email: "sophea@shop.example", shop_id: "shop-17" },
  stranger: { name: "Jan de Vries", email: "jan@elsewhere.example", groups: ["everyone"] },
};

let app, browser, served, issuer, server;

// free finds a port that nobody listens on.
const free = () =>
  new Promise((resolve) => {
    const probe = createServer().listen(0, "127.0.0.1", () => {
      const { port } = probe.address();
      probe.close(() => resolve(port));
    });
  });

before(async () => {
  app = await start();
  browser = await launch();
  const listen = `127.0.0.1:${await free()}`;
  const port = await free();
  issuer = `http://127.0.0.1:${port}`;
  const provider = new Provider(issuer, {
    clients: [{ client_id: "patchbay", client_secret: "a secret of the provider's making", redirect_uris: [`http://${listen}/login/sso/callback`] }],
    cookies: { keys: ["of a test"] },
    pkce: { required: () => true },
    claims: { openid: ["sub"], profile: ["name", "groups", "shop_id"], email: ["email"] }, // at userinfo, and not in the ID token
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, ...people[id] }) }),
  });
  server = provider.listen(port, "127.0.0.1");
  const key = (await app.patchbay(["apikey", "add", "-name", "platform", "-scope", "merchants:write"])).trim().split("\n").at(-1);
  const made = await fetch(`${app.url}/api/v1/merchants`, {
    method: "POST", headers: { Authorization: `Bearer ${key}`, "Content-Type": "application/json" }, body: JSON.stringify({ external_id: "shop-17", name: "Mekong Rice" }),
  });
  assert.equal(made.status, 201, await made.text());
  served = await app.serve(listen, {
    SSO_ISSUER: issuer, SSO_CLIENT_ID: "patchbay", SSO_CLIENT_SECRET: "a secret of the provider's making", SSO_TITLE: title,
    SSO_ADMIN: "patchbay-admins", SSO_SUPPORT: "helpdesk", SSO_MERCHANT_CLAIM: "shop_id",
  });
});
after(async () => {
  await browser?.close();
  server?.closeAllConnections();
  server?.close();
  assert.equal(await served?.stop(), 0);
  assert.equal(await app?.stop(), 0);
});

// enter signs in at the provider as one of the people, and waits to be back.
async function enter(page, who, path = "/login") {
  await page.goto(path);
  await page.getByRole("link", { name: new RegExp(title) }).click();
  await page.waitForURL((u) => u.origin === issuer);
  await page.locator('input[name="login"]').fill(who);
  await page.locator('input[name="password"]').fill("any");
  await page.locator('button[type="submit"]').click();
  await page.getByText("Authorize", { exact: false }).first().waitFor(); // what it asks to be allowed
  await Promise.all([page.waitForURL((u) => u.origin === served.url), page.locator('button[type="submit"]').click()]);
}

const path = (page) => new URL(page.url()).pathname;

async function axe(page, where) {
  await page.evaluate(axeCore.source);
  const found = await page.evaluate(() => globalThis.axe.run(document, { runOnly: { type: "tag", values: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }, resultTypes: ["violations"] }));
  assert.deepEqual(found.violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.target.join(" "))}`), [], where);
}

test("an admin of the platform signs in, and signs out", async () => {
  const page = await open(browser, served);
  await enter(page, "boss", "/admin/users");
  assert.equal(path(page), "/admin/users", "back at the page that was asked for");
  assert.ok(await page.getByText("Sok Dara").first().isVisible());
  await page.goto("/account");
  await axe(page, "/account");
  assert.equal(await page.locator('input[type="password"]').count(), 0);
  await page.locator('form[action="/logout"] button').first().click();
  await page.waitForURL((u) => u.pathname === "/login");
  await page.context().close();
});

test("support with the local admin's address is support, and the admin stays", async () => {
  const page = await open(browser, served);
  await enter(page, "helper");
  assert.equal(path(page), "/admin");
  assert.equal((await page.request.post("/admin/keys", { form: { name: "x" }, headers: { Origin: served.url } })).status(), 403);
  await page.context().close();
  const local = await open(browser, served);
  await signIn(local, users.admin);
  assert.equal(path(local), "/admin");
  await local.context().close();
});

test("a merchant signs in without JavaScript", async () => {
  const page = await open(browser, served, { javaScriptEnabled: false });
  await enter(page, "shopkeeper");
  assert.equal(path(page), "/");
  assert.ok(await page.getByText("Mekong Rice").first().isVisible());
  await page.context().close();
});

test("somebody whom the platform gives nothing is turned away", async () => {
  const page = await open(browser, served);
  await enter(page, "stranger");
  assert.equal(await page.locator("h1").textContent(), say("sso.no-role.title"));
  assert.ok(await page.locator(".reference").isVisible(), "there is a reference to quote");
  await axe(page, "turned away");
  await page.goto("/account");
  assert.equal(path(page), "/login");
  await page.context().close();
});

test("somebody who says no at the provider is told so", async () => {
  const page = await open(browser, served);
  await page.goto("/login/sso?next=/account");
  await page.getByRole("link", { name: "Cancel" }).click();
  await page.waitForURL((u) => u.origin === served.url);
  assert.equal(await page.locator("h1").textContent(), say("sso.denied.title"));
  await page.context().close();
});

test("the pages in three languages, wide and on a phone", async () => {
  for (const lang of ["en", "km", "fr"]) {
    for (const viewport of [{ width: 1280, height: 800 }, { width: 390, height: 800 }]) {
      const page = await open(browser, served, { viewport, reducedMotion: "reduce" });
      await page.context().addCookies([{ name: "lang", value: lang, url: served.url }]);
      for (const at of ["/login", "/login?next=/account", "/login/sso/callback?state=x"]) {
        await page.goto(at);
        await axe(page, `${at} in ${lang}`);
        assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= document.documentElement.clientWidth), `${at} in ${lang} scrolls sideways`);
      }
      await page.context().close();
    }
  }
});

test("when the provider is away, passwords go on working", async () => {
  await new Promise((resolve) => {
    server.closeAllConnections();
    server.close(resolve);
  });
  const listen = `127.0.0.1:${await free()}`;
  const restarted = await app.serve(listen, {
    SSO_ISSUER: issuer, SSO_CLIENT_ID: "patchbay", SSO_CLIENT_SECRET: "a secret of the provider's making", SSO_TITLE: title, SSO_ADMIN: "patchbay-admins",
  });
  try {
    const page = await open(browser, restarted);
    const answer = await page.goto("/login/sso?next=/account");
    assert.equal(answer.status(), 503);
    await axe(page, "away");
    await page.getByRole("link", { name: say("sso.other") }).click();
    await signIn(page, users.admin);
    assert.equal(path(page), "/account");
    await page.context().close();
  } finally {
    assert.equal(await restarted.stop(), 0);
  }
});
