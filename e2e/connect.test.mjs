// Each provider in a real browser without JavaScript: denied, connected, reconnected, refreshed, disconnected. Then what goes
// wrong on the way, and at the end a search for every secret of the whole run in the log and in the database.
import { after, before, describe, test } from "node:test";
import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { answer, atProvider, begin, fill, keys, launch, open, profiles, say, signIn, start, users } from "./demo.mjs";

let app, browser, as;
const plain = { javaScriptEnabled: false };
const other = ["other@example.com", "other demo password"]; // of another merchant
before(async () => {
  app = await start();
  browser = await launch();
  as = profiles(browser, app);
  await app.patchbay(["user", "add", "-email", other[0], "-role", "merchant", "-merchant", "Another Shop"], other[1]);
});
after(async () => {
  await browser?.close();
  const code = await app?.stop();
  assert.equal(code, 0, "the demo ends cleanly on SIGINT");
});

const heading = (page) => page.getByRole("heading", { level: 1 }).innerText();
const choose = (page, value) => page.locator(`button[name="choice"][value="${value}"]`).click();
const choices = (page) => page.locator('button[name="choice"]').evaluateAll((all) => all.map((b) => b.value));
const card = (page, title) => page.locator("main .rows > li").filter({ has: page.getByText(title, { exact: true }) });
const calls = async (provider, endpoint) => (await app.state()).calls[provider][endpoint];

// connected answers the question whose account it is, where it is asked, and checks the outcome's page.
async function connected(page, title, again = false) {
  if ((await choices(page)).includes("connect")) await choose(page, "connect");
  assert.equal(await heading(page), say(again ? "flow.renewed.title" : "flow.connected.title", { Provider: title }));
  assert.match(page.url(), /\/flows\/[0-9A-Z]{4}-[0-9A-Z]{4}$/, "the address has a reference and no query");
}

// toConnection opens a provider's connection from the front page, by the account's name, and returns its address.
async function toConnection(page, title, account) {
  await page.goto("/");
  await card(page, title).getByRole("link", { name: account }).click();
  await page.waitForURL(/\/connections\/[^/]+$/);
  return page.url();
}

async function nothingAt(page, title) {
  await page.goto("/");
  assert.equal(await card(page, title).locator('a[href^="/connections/"]').count(), 0);
}

async function refreshedNow(page, fine = "problem.fine") {
  await page.getByRole("button", { name: say("connection.refresh") }).click();
  await page.getByRole("status").getByText(say("outcome.ok")).waitFor();
  await page.getByText(say(fine)).waitFor();
}

async function disconnected(page, title, revoked) {
  const there = page.url();
  await page.getByRole("link", { name: say("disconnect.title", { Provider: title }) }).click();
  assert.equal(await heading(page), say("disconnect.question", { Provider: title }));
  await page.getByRole("button", { name: say("disconnect.title", { Provider: title }) }).click();
  const receipt = page.getByRole("region", { name: say("receipt.title") });
  await receipt.getByText(say(revoked, { Provider: title })).waitFor();
  await page.reload();
  assert.equal(page.url(), there, "the receipt stays at the connection's address");
  await receipt.getByText(say("receipt.deleted")).waitFor();
  await nothingAt(page, title);
}

for (const [title, provider, account, detail, revoked] of [
  ["CamInvoice", "caminvoice", "CH168 Co., Ltd", "ក្រុមហ៊ុនស៊ីអេច១៦៨", "receipt.revoked-done"],
  ["ELECQ", "elecq", "100245", "100245", "receipt.revoked-not-offered"],
  ["Acme", "acme", "Sokha Chan", "sokha@acme.example", "receipt.revoked-done"],
]) {
  describe(title, () => {
    let page;
    before(async () => { page = await as("merchant", plain); });
    after(() => page?.context().close());

    test("denied: a calm page, nothing connected", async () => {
      await page.goto("/");
      await card(page, title).getByRole("link", { name: `Connect ${title}` }).click();
      await atProvider(page, app, () => page.getByRole("button", { name: `Connect ${title}` }).click());
      await answer(page, app, "Deny");
      assert.equal(await heading(page), say("flow.denied.title", { Provider: title }));
      assert.match(page.url(), /\/flows\/[0-9A-Z]{4}-[0-9A-Z]{4}$/);
      assert.ok((await page.locator("main").innerText()).includes(page.url().slice(-9)), "the reference is on the page");
      await nothingAt(page, title);
    });

    test("connected, and told so again on reload, back and a second Allow", async () => {
      await begin(page, app, title, provider);
      await answer(page, app, "Allow", account);
      await page.getByText(detail).first().waitFor();
      await connected(page, title);
      const there = page.url();
      await page.reload();
      assert.equal(page.url(), there);
      await connected(page, title);
      for (let i = 0; i < 4 && new URL(page.url()).origin === app.url; i++) await page.goBack();
      assert.equal(new URL(page.url()).origin, app.sandbox);
      await answer(page, app, "Allow", account);
      assert.equal(page.url(), there, "a second answer ends where the first did");
      await connected(page, title);
    });

    test("its page shows whose it is, and that all is well", async () => {
      await toConnection(page, title, account);
      await page.getByText(say("problem.fine")).waitFor();
      await page.getByText(detail).first().waitFor();
      const text = await page.locator("main").innerText();
      if (provider === "caminvoice") {
        for (const value of ["KHUID00001234", "1234567890", "CH168 Co., Ltd", "1 August 2016", "Private Limited Company", "Phnom Penh", "KH", "+85512345678", "accounts@ch168.example"]) {
          assert.ok(text.includes(value), `${value} is on the page`);
        }
      }
    });

    test("reconnected: the connection keeps its id and its history", async () => {
      const there = await toConnection(page, title, account);
      const before = await page.locator("ol.timeline > li").count();
      await atProvider(page, app, () => page.getByRole("button", { name: `Reconnect ${title}` }).click());
      await answer(page, app, "Allow", account);
      await connected(page, title, true);
      assert.equal(await toConnection(page, title, account), there);
      assert.ok((await page.locator("ol.timeline > li").count()) > before);
    });

    test("refreshed now", async () => {
      await toConnection(page, title, account);
      await refreshedNow(page);
    });

    test("disconnected, with a receipt", async () => {
      await toConnection(page, title, account);
      await disconnected(page, title, revoked);
    });
  });
}

for (const [title, provider, account] of [
  ["Flexiti", "flexiti", "flexitidemo"],
  ["Sample Bookings", "bookings", "f31120ee"],
]) {
  describe(title, () => {
    let page;
    before(async () => { page = await as("merchant", plain); });
    after(() => page?.context().close());

    test("nothing typed, wrong keys: the field is named, the id is kept, the secret is not", async () => {
      await page.goto(`/connect/${provider}`);
      for (const [values, status] of [[{ client_id: "", client_secret: "" }, 422], [{ ...keys[provider], client_secret: "not-the-secret-of-anybody" }, 422]]) {
        await fill(page, values);
        await page.locator("main form").evaluate((form) => form.setAttribute("novalidate", ""));
        const [posted] = await Promise.all([
          page.waitForResponse((r) => r.request().method() === "POST"),
          page.getByRole("button", { name: `Connect ${title}` }).click(),
        ]);
        assert.equal(posted.status(), status);
        assert.ok((await page.getByRole("alert").innerText()).length > 20);
        assert.equal(await page.locator('[name="client_id"]').inputValue(), values.client_id);
        assert.equal(await page.locator('[name="client_secret"]').inputValue(), "");
        assert.ok(!(await page.content()).includes("not-the-secret-of-anybody"));
      }
      await nothingAt(page, title);
    });

    test("the provider is down: said so, nothing saved, the id kept", async () => {
      await app.control("mood", { at: `${provider} `, kind: "503" });
      await page.goto(`/connect/${provider}`);
      await fill(page, keys[provider]);
      await page.getByRole("button", { name: `Connect ${title}` }).click();
      await app.control("clear");
      const alert = await page.getByRole("alert").innerText();
      assert.ok(["connect.refused-trouble", "connect.refused-later"].some((key) => alert.includes(say(key, { Provider: title }))), alert);
      assert.equal(await page.locator('[name="client_id"]').inputValue(), keys[provider].client_id);
      await nothingAt(page, title);
    });

    test("connected with pasted keys, blanks around them and all", async () => {
      await page.goto(`/connect/${provider}`);
      await fill(page, { client_id: ` ${keys[provider].client_id} `, client_secret: `${keys[provider].client_secret}\t` });
      await page.getByRole("button", { name: `Connect ${title}` }).click();
      await connected(page, title);
      const there = page.url();
      await page.reload();
      assert.equal(page.url(), there);
    });

    test("refreshed, reconnected, disconnected", async () => {
      const there = await toConnection(page, title, account);
      await refreshedNow(page);
      await page.getByRole("button", { name: `Reconnect ${title}` }).click();
      await fill(page, keys[provider]);
      await page.getByRole("button", { name: `Reconnect ${title}` }).click();
      await connected(page, title, true);
      assert.equal(await toConnection(page, title, account), there);
      await disconnected(page, title, "receipt.revoked-not-offered");
    });
  });
}

describe("typed keys", () => {
  test("Flexiti's optional sign-in gives the shop's name, and its failure does not matter", async () => {
    const page = await as(other, plain);
    await page.goto("/connect/flexiti");
    await page.locator("summary").click();
    await fill(page, { client_id: "mattresshouse", client_secret: "0c5a2e7b-41f8-4f0e-8a53-d92b6e7c1140", merchant_username: "mattresshouse", merchant_password: "lamp-cedar-drift" });
    await page.getByRole("button", { name: "Connect Flexiti" }).click();
    await connected(page, "Flexiti");
    await toConnection(page, "Flexiti", "Mattress House Montréal");

    await page.goto("/connect/flexiti");
    await page.locator("summary").click();
    await fill(page, { client_id: "snowbikes", client_secret: "e81f6d32-7b9c-4a6d-b1e4-50c7a3f92d68", merchant_username: "snowbikes", merchant_password: "wrong-pedal-amber" });
    await page.getByRole("button", { name: "Connect Flexiti" }).click();
    await connected(page, "Flexiti");
    await toConnection(page, "Flexiti", "snowbikes");
    await page.context().close();
  });
});

describe("on the way", () => {
  // toCallback goes as far as the provider's answer, which it catches before the app sees it.
  async function toCallback(page, title, provider, account) {
    await begin(page, app, title, provider);
    const form = await page.locator("form").first().evaluate((f) => [f.action, Object.fromEntries(new FormData(f))]);
    if (account) form[1].account = await page.getByRole("radio", { name: account }).inputValue();
    const allowed = await page.context().request.post(form[0], { form: { ...form[1], decision: "allow" }, headers: { Origin: app.sandbox }, maxRedirects: 0 });
    const callback = allowed.headers().location;
    assert.ok(callback?.startsWith(app.url), `${allowed.status()} ${callback}`);
    return callback;
  }

  test("another business on reconnect: asked before anything is written, then each of the three ways", async () => {
    const page = await as("merchant", plain);
    await begin(page, app, "CamInvoice", "caminvoice");
    await answer(page, app, "Allow", "Mekong Rice");
    await connected(page, "CamInvoice");
    const there = await toConnection(page, "CamInvoice", "Mekong Rice");
    const again = async () => {
      await page.goto(there);
      await atProvider(page, app, () => page.getByRole("button", { name: "Reconnect CamInvoice" }).click());
      await answer(page, app, "Allow", "Angkor Night");
      assert.equal(await heading(page), say("flow.differs.title"));
      for (const text of ["Mekong Rice Trading Co., Ltd", "Angkor Night Guesthouse", "K001-3333333", "L001-9012345"]) await page.getByText(text).first().waitFor();
      assert.deepEqual((await choices(page)).sort(), ["cancel", "keep-both", "replace"]);
    };
    await again();
    await nothingNamed(page, "Angkor Night");
    await page.goBack();
    await choose(page, "cancel");
    assert.equal(await heading(page), say("flow.cancelled.title"));
    await nothingNamed(page, "Angkor Night");
    await again();
    await choose(page, "keep-both");
    await toConnection(page, "CamInvoice", "Angkor Night");
    await toConnection(page, "CamInvoice", "Mekong Rice");
    await again();
    await choose(page, "replace");
    await toConnection(page, "CamInvoice", "Angkor Night");
    await nothingNamed(page, "Mekong Rice");
    await page.goto(there);
    await page.getByRole("region", { name: say("receipt.title") }).waitFor();
    await page.context().close();
  });

  async function nothingNamed(page, account) {
    await page.goto("/");
    assert.equal(await page.locator("a[href^=\"/connections/\"]").filter({ hasText: account }).count(), 0);
  }

  test("two tabs at once both end well", async () => {
    const one = await as("merchant", plain);
    const two = await one.context().newPage();
    await begin(one, app, "Acme", "acme");
    await begin(two, app, "Acme", "acme");
    for (const page of [two, one]) {
      await answer(page, app, "Allow", "Jan de Vries");
      if ((await choices(page)).length) await page.locator('button[name="choice"]').first().click();
      assert.ok([say("flow.connected.title", { Provider: "Acme" }), say("flow.renewed.title", { Provider: "Acme" })].includes(await heading(page)));
    }
    await one.goto("/");
    assert.equal(await card(one, "Acme").locator('a[href^="/connections/"]').count(), 1);
    await one.context().close();
  });

  test("five hits on one callback, a prefetch before them: one exchange, one outcome", async () => {
    const page = await as("merchant", plain);
    const exchanges = await calls("caminvoice", "exchange");
    const callback = await toCallback(page, "CamInvoice", "caminvoice", "CH168");
    const hit = (options) => page.context().request.get(callback, { maxRedirects: 0, ...options });
    assert.equal((await hit({ headers: { "Sec-Purpose": "prefetch;prerender" } })).status(), 204);
    assert.equal((await page.context().request.head(callback, { maxRedirects: 0 })).status(), 204);
    assert.equal(await calls("caminvoice", "exchange"), exchanges);
    const answers = await Promise.all([1, 2, 3, 4, 5].map(() => hit()));
    const places = answers.map((a) => `${a.status()} ${a.headers().location}`);
    assert.match(places[0], /^303 .*\/flows\/[0-9A-Z]{4}-[0-9A-Z]{4}$/);
    assert.deepEqual(new Set(places).size, 1, places.join("\n"));
    assert.equal(await calls("caminvoice", "exchange"), exchanges + 1);
    await page.goto(callback);
    await connected(page, "CamInvoice");
    await page.context().close();
  });

  test("another browser, another merchant, a forged state, another provider: refused, nothing exchanged, the right one still ends well", async () => {
    const page = await as("merchant", plain);
    const callback = await toCallback(page, "ELECQ", "elecq", "Harbour Hotel");
    const spent = await calls("elecq", "token");
    for (const [who, address, outcome] of [
      ["merchant", callback, "other-browser"],
      [other, callback, "other-browser"],
      ["merchant", callback.replace(/state=[^&]+/, "state=forged-by-somebody"), "forged"],
      ["merchant", callback.replace("/elecq/", "/acme/"), "other-provider"],
    ]) {
      const elsewhere = await as(who, plain);
      await elsewhere.context().clearCookies({ name: "browser" }); // as() copies a profile, which is one browser
      await elsewhere.goto(address);
      const title = address.includes("/acme/") ? "Acme" : "ELECQ";
      const titles = ["other-browser", "other-user", "other-provider", "forged", "unknown"].map((one) => say(`flow.${one}.title`, { Provider: title }));
      assert.ok(titles.includes(await heading(elsewhere)), `${outcome}: ${await heading(elsewhere)}`);
      assert.equal(new URL(elsewhere.url()).search, "", "codes stay in nobody's history");
      await elsewhere.context().close();
    }
    assert.equal(await calls("elecq", "token"), spent);
    await page.goto(callback);
    await connected(page, "ELECQ");
    assert.equal(await calls("elecq", "token"), spent + 1);
    await page.context().close();
  });

  test("somebody else signed in on this browser meanwhile: refused", async () => {
    const page = await open(browser, app, plain);
    await signIn(page, users.merchant);
    const callback = await toCallback(page, "ELECQ", "elecq", "Green Depot");
    await page.goto("/");
    await page.getByRole("button", { name: say("layout.sign-out") }).click();
    await signIn(page, other);
    const spent = await calls("elecq", "token");
    await page.goto(callback);
    assert.equal(await heading(page), say("flow.other-user.title"));
    assert.equal(await calls("elecq", "token"), spent);
    await page.context().close();
  });

  test("signed out meanwhile: sign in, and it goes on", async () => {
    const page = await open(browser, app, plain);
    await signIn(page, users.merchant);
    const callback = await toCallback(page, "ELECQ", "elecq", "Green Depot");
    await page.goto("/");
    await page.getByRole("button", { name: say("layout.sign-out") }).click();
    await page.goto(callback);
    assert.match(page.url(), /\/login/);
    await signIn(page, users.merchant);
    await connected(page, "ELECQ");
    await page.context().close();
  });

  test("a merchant never sees another's connection or attempt: the same page as for one that does not exist", async () => {
    const page = await as("merchant", plain);
    const there = await toConnection(page, "ELECQ", "100518");
    const stranger = await as(other, plain);
    for (const path of [there, there.replace(/.{12}$/, "000000000000"), `${there}/disconnect`, "/flows/AAAA-AAAA", "/connect/nobody"]) {
      assert.equal((await stranger.goto(path)).status(), 404);
      assert.equal(await heading(stranger), say("error.404.title"));
    }
    await page.context().close();
    await stranger.context().close();
  });

  test("every bad day at the exchange: a page that says whose turn it is, nothing saved", async () => {
    const page = await as("merchant", plain);
    await page.goto("/");
    const before = await page.locator('a[href^="/connections/"]').count();
    for (const [kind, outcomes] of Object.entries({
      500: ["provider-down"], 503: ["provider-busy", "provider-down"], 429: ["provider-busy"], 403: ["ours"], html: ["ours"], empty: ["ours"],
      "hang-up": ["provider-down"], lost: ["provider-down"], redirect: ["provider-down"], refused: ["provider-refused"], "client-refused": ["ours"],
    })) {
      await begin(page, app, "Acme", "acme");
      await app.control("mood", { at: "acme token", kind });
      await answer(page, app, "Allow", "Élodie");
      await app.control("clear");
      const got = await heading(page);
      assert.ok(outcomes.some((one) => got === say(`flow.${one}.title`, { Provider: "Acme" })), `${kind}: ${got}`);
      assert.ok((await page.locator("main").innerText()).includes(say("flow.nothing-saved")));
    }
    await page.goto("/");
    assert.equal(await page.locator('a[href^="/connections/"]').count(), before);
    await page.context().close();
  });

  test("access ended at the provider: action needed, who must act, and one button that mends it", async () => {
    const page = await as("merchant", plain);
    const there = await toConnection(page, "ELECQ", "100391");
    await app.control("revoke", { provider: "elecq", account: "100391" });
    await page.getByRole("button", { name: say("connection.refresh") }).click();
    await page.getByText(say("health.action-needed"), { exact: true }).first().waitFor();
    await page.goto("/");
    await card(page, "ELECQ").getByText(say("health.action-needed")).waitFor();
    await atProvider(page, app, () => card(page, "ELECQ").getByRole("button", { name: "Reconnect ELECQ" }).click());
    await answer(page, app, "Allow", "Harbour Hotel");
    await connected(page, "ELECQ", true);
    await page.goto(there);
    await page.getByText(say("problem.fine")).waitFor();
    await page.context().close();
  });

  test("the provider is having trouble: connected, nothing to do", async () => {
    const page = await as("merchant", plain);
    await toConnection(page, "ELECQ", "100391");
    await app.control("mood", { at: "elecq ", kind: "500" });
    await page.getByRole("button", { name: say("connection.refresh") }).click();
    await page.getByRole("status").getByText(say("outcome.trouble", { Provider: "ELECQ" })).waitFor();
    await page.goto("/");
    await card(page, "ELECQ").getByText(say("health.retrying")).first().waitFor();
    await app.control("clear");
    await toConnection(page, "ELECQ", "100391");
    await refreshedNow(page);
    await page.context().close();
  });

  test("support finds the attempt by its reference, and refreshes on the spot", async () => {
    const page = await as("merchant", plain);
    const there = await toConnection(page, "ELECQ", "100391");
    await begin(page, app, "Acme", "acme");
    await answer(page, app, "Deny");
    const reference = page.url().slice(-9);
    await page.context().close();
    const support = await as("support", plain);
    await support.goto(`/admin/connections?q=${reference}`);
    await support.locator(`a[href="/flows/${reference}"]`).first().click();
    await support.getByText("CH168 Shop").first().waitFor();
    await support.goto(there);
    await refreshedNow(support, "staff-problem.fine");
    await support.context().close();
  });
});

describe("what is left behind", () => {
  test("no secret of the whole run is in the log, in a dump or in the cluster's files; business_info is readable", async () => {
    const secrets = new Set(await app.state("secrets"));
    assert.ok(secrets.size > 40, `${secrets.size} secrets were issued`);
    for (const word of ["not-the-secret-of-anybody", "wrong-pedal-amber", "other demo password"]) secrets.add(word);
    const page = await open(browser, app);
    await signIn(page, users.merchant);
    for (const cookie of await page.context().cookies()) if (cookie.value.length > 20) secrets.add(cookie.value).add(decodeURIComponent(cookie.value));
    await page.context().close();

    const dump = await app.dump();
    for (const text of ["ក្រុមហ៊ុនស៊ីអេច១៦៨", "date_of_incorporation", "accounts@ch168.example", "L001-9012345"]) assert.ok(dump.includes(text), `${text} is readable`);
    assert.ok(app.log().length > 2000 && app.log().includes("caminvoice"), "the log says something");
    const places = { "the log": app.log(), "the dump": dump };
    // The cluster's files too: what was deleted may still be there.
    for (const entry of await readdir(join(app.data, "postgres"), { recursive: true, withFileTypes: true })) {
      if (entry.isFile() && !entry.name.endsWith(".lock")) places[entry.name] = await readFile(join(entry.parentPath ?? entry.path, entry.name), "latin1").catch(() => "");
    }
    const found = [];
    for (const secret of secrets) for (const [place, text] of Object.entries(places)) if (text.includes(secret)) found.push(`${secret.slice(0, 6)}… in ${place}`);
    assert.deepEqual(found, []);
  });
});
