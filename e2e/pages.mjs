// Every page there is, in every state that can be reached: what the tests walk through and what is photographed.
import { answer, api, atProvider, begin, fill, keys, open, outcomes, say, users } from "./demo.mjs";

const lonely = ["lonely@example.com", "lonely demo password"]; // of a merchant with nothing connected

// furnish fills a fresh demo by way of its pages and returns the list of pages: name, who is signed in (nobody when
// empty), and a path, or a function that goes where no address alone leads. `main` marks the pages weighed and kept as pictures.
export async function furnish(app, as, browser) {
  const call = api(app);
  const began = Date.now();
  const linkTo = (more) => call("POST", "/connect-links", { merchant: { external_id: "shop-17", name: "Canal Street Café" }, user: { external_id: "u-42", name: "Élodie Tremblay" }, return_url: `${app.sandbox}/platform/back`, ...more });
  const expired = await linkTo({ provider: "acme", expires_in: 60 });
  await app.patchbay(["user", "add", "-email", lonely[0], "-role", "merchant", "-merchant", "Riverside Books", "-name", "Lonely Reader"], lonely[1]);
  const shop = await as("merchant");
  const connect = async (title, provider, account) => {
    await begin(shop, app, title, provider);
    await answer(shop, app, "Allow", account);
  };
  const confirm = async () => {
    await shop.locator('button[name="choice"][value="connect"]').click();
    return shop.getByRole("link", { name: say("flow.see") }).getAttribute("href");
  };
  const type = async (title, provider, values) => {
    await shop.goto(`/connect/${provider}`);
    if (values.merchant_username) await shop.locator("summary").click();
    await fill(shop, values);
    await shop.getByRole("button", { name: say("connect.title", { Provider: title }) }).click();
    return shop.getByRole("link", { name: say("flow.see") }).getAttribute("href");
  };
  const refresh = async (path) => {
    await shop.goto(path);
    await shop.getByRole("button", { name: say("connection.refresh") }).click();
    await shop.getByRole("status").waitFor();
  };
  const path = () => new URL(shop.url()).pathname;
  const reconnect = (title) => shop.getByRole("button", { name: say("connections.reconnect", { Provider: title }) }).click();

  await begin(shop, app, "Acme", "acme"); // and never answered
  const underWay = `/flows/${await app.sql("SELECT reference FROM flows ORDER BY created_at DESC LIMIT 1")}`;
  await connect("Acme", "acme", "Élodie");
  const connected = path();
  const acme = await shop.getByRole("link", { name: say("flow.see") }).getAttribute("href");
  await connect("CamInvoice", "caminvoice", "CH168");
  const fine = await confirm();
  await refresh(fine);
  await connect("CamInvoice", "caminvoice", "Mekong Rice");
  const choosing = path();
  await connect("CamInvoice", "caminvoice", "CH168");
  const already = path();
  await shop.goto(fine);
  await Promise.all([shop.waitForURL((u) => u.origin === app.sandbox), reconnect("CamInvoice")]);
  await answer(shop, app, "Allow", "Angkor Night");
  const differs = path();
  await connect("ELECQ", "elecq", "Harbour Hotel");
  const needed = await confirm();
  const retrying = await type("Flexiti", "flexiti", { client_id: "mattresshouse", client_secret: "0c5a2e7b-41f8-4f0e-8a53-d92b6e7c1140", merchant_username: "mattresshouse", merchant_password: "lamp-cedar-drift" });
  const receipt = await type("Sample Bookings", "bookings", keys.bookings);
  await shop.goto(receipt + "/disconnect");
  await shop.getByRole("button", { name: say("disconnect.title", { Provider: "Sample Bookings" }) }).click();
  await app.control("revoke", { provider: "elecq" });
  await refresh(needed);
  await app.control("mood", { at: "flexiti ", kind: "500" }); // for good: it goes on retrying
  await refresh(retrying);
  await connect("Acme", "acme", "Jan de Vries").then(() => begin(shop, app, "Acme", "acme"));
  await answer(shop, app, "Deny");
  const denied = path();
  const merchant = await app.sql(`SELECT merchant_id FROM users WHERE email = '${users.merchant[0]}'`);
  const gone = await app.sql(`SELECT id FROM connections WHERE account_name = 'Jan de Vries'`);
  await shop.goto(`/connections/${gone}/disconnect`);
  await shop.getByRole("button", { name: say("disconnect.title", { Provider: "Acme" }) }).click();

  // The other ends are the same page with other words: some take minutes or accidents to reach by hand.
  await app.sql(outcomes.map((one, i) => `INSERT INTO flows (id, reference, state_hash, browser_hash, user_id, merchant_id, provider, environment, stage, outcome, created_at, touched_at, expires_at)
    SELECT gen_random_uuid(), 'TEST-${String(1000 + i)}', sha256('${one}'), sha256('${one}'), user_id, merchant_id, 'caminvoice', environment,
      CASE '${one}' WHEN 'denied' THEN 'denied' WHEN 'expired' THEN 'expired' ELSE 'failed' END, '${one}', created_at, touched_at, expires_at
    FROM flows WHERE reference = '${denied.slice(7)}'`).join(";"));

  // Something old, to be asked about before it is deleted.
  await app.sql("SELECT events_make_month('2026-05-03'); INSERT INTO events (id, at, kind) VALUES (gen_random_uuid(), '2026-05-03T12:00:00Z', 'merchant.added')");

  const boss = await as("admin");
  await boss.context().request.post("/admin/keys", { form: { name: "till", scope: "tokens:read" } });
  let made = 0;
  const link = async (form) => {
    await boss.context().request.post("/admin/users", { form });
    return mailed(app, boss, form.email);
  };
  const invitation = await link({ email: "new@example.com", name: "Keo Bopha", role: "merchant", merchant: "CH168 Shop" });
  const invitedStaff = await link({ email: "desk@example.com", name: "", role: "support" });
  await shop.context().request.post("/password", { form: { email: lonely[0] } });
  const password = await mailed(app, boss, lonely[0]);

  const desk = await as("support");
  await desk.context().request.post(`${needed}/ask`);
  for (const note of ["Mr Chan will call the provider on Monday.\nThey may have changed the password.", "លោក ច័ន្ទ នឹងទូរសព្ទមកវិញនៅថ្ងៃច័ន្ទ។ https://status.example/a/very/long/address/that/has/no/place/to/break/anywhere/at/all"]) {
    const answered = await desk.context().request.post(`${fine}/notes`, { form: { note }, maxRedirects: 0 });
    if (answered.status() !== 303) throw new Error(`a note: ${answered.status()}`);
  }
  const asked = await mailed(app, boss, users.merchant[0], "reconnect");
  await desk.context().close();

  // Links, each opened in a browser of its own, whose cookies come back to its pages.
  const at = (link) => new URL(link.url).pathname;
  const follow = async (link, title, decision, account, press) => {
    const page = await open(browser, app);
    await page.goto(link.url);
    await atProvider(page, app, () => page.getByRole("button", { name: say("connect.title", { Provider: title }) }).click());
    await answer(page, app, decision, account);
    if (press) await page.locator(`button[name="choice"][value="${press}"]`).click();
    const cookies = await page.context().cookies(app.url), path = new URL(page.url()).pathname;
    await page.context().close();
    return async (reader) => {
      await reader.context().addCookies(cookies.filter((c) => c.name !== "lang"));
      await reader.goto(path);
    };
  };
  const links = { provider: await linkTo({ provider: "caminvoice" }), any: await linkTo({}), typed: await linkTo({ provider: "flexiti", inputs: { client_id: "mattresshouse" } }), revoked: await linkTo({}), used: await linkTo({ provider: "acme" }) };
  const linkConnected = await follow(links.used, "Acme", "Allow", "Élodie");
  const linkDenied = await follow(await linkTo({ provider: "acme" }), "Acme", "Deny");
  const linkChoosing = await follow(await linkTo({ provider: "caminvoice" }), "CamInvoice", "Allow", "Angkor Night");
  const linkConfirming = await follow(await linkTo({ provider: "acme", confirm: true }), "Acme", "Allow", "Jan de Vries");
  await call("DELETE", `/connect-links/${links.revoked.id}`);

  // An endpoint that answers nothing: a delivery that waits for its next try, and ones that are given up.
  const endpoint = await call("POST", "/webhook-endpoints", { url: "http://127.0.0.1:9/hooks/patchbay?token=of-the-query" });
  const change = (form) => boss.context().request.post(`/admin/webhooks/${endpoint.id}`, { form });
  await change({ do: "test" });
  await settled(app, "tries > 0 AND state = 'waiting'");
  await change({ do: "off" });
  await change({ do: "test" });
  await settled(app, "tries > 0 AND state = 'failed'");
  await new Promise((done) => setTimeout(done, Math.max(0, began + 61_000 - Date.now())));

  const post = (at, form, status) => async (page) => {
    await page.goto(at);
    await page.locator("main form").first().evaluate((f) => f.setAttribute("novalidate", ""));
    for (const [name, value] of Object.entries(form)) await page.locator(`main form [name="${name}"]:not([type=hidden])`).fill(value);
    const [answered] = await Promise.all([page.waitForResponse((r) => r.request().method() === "POST"), page.waitForEvent("load"), page.locator('main form button[type="submit"]').first().click()]);
    if (answered.status() !== status) throw new Error(`${at}: ${answered.status()} instead of ${status}`);
  };
  const pages = [
    { name: "login", path: "/login", main: true },
    { name: "login-failed", go: post("/login", { email: "nobody@example.com", password: "wrong" }, 401) },
    { name: "password", path: "/password" },
    { name: "password-sent", go: post("/password", { email: "nobody@example.com" }, 303) },
    { name: "new-password", path: password },
    { name: "new-password-short", go: post(password, { password: "abc" }, 422) },
    { name: "invitation", path: invitation },
    { name: "invitation-staff", path: invitedStaff },
    { name: "link-spent", path: "/invitations/not-a-link-of-anybody", status: 404 },
    { name: "outbox", path: "/outbox" },
    { name: "not-found", path: "/nothing/here", status: 404 },
    { name: "too-large", go: async (page) => {
      await page.goto("/login");
      await Promise.all([page.waitForURL(/login$/, { waitUntil: "load" }), page.locator('main form').first().evaluate((f) => { f.elements.password.value = "x".repeat(70_000); HTMLFormElement.prototype.submit.call(f); })]);
      await page.getByRole("heading", { level: 1 }).waitFor();
    } },

    { name: "connections-empty", who: lonely, path: "/", main: true },
    { name: "connections", who: "merchant", path: "/", main: true },
    { name: "ended", who: "merchant", path: "/ended" },
    ...["caminvoice", "elecq", "acme", "flexiti", "bookings"].map((one) => ({ name: `connect-${one}`, who: "merchant", path: `/connect/${one}`, main: one === "caminvoice" || one === "flexiti" })),
    { name: "connect-errors", who: lonely, go: post("/connect/flexiti", { client_id: "", client_secret: "" }, 422) },
    { name: "connect-refused", who: lonely, go: post("/connect/bookings", { client_id: keys.bookings.client_id, client_secret: "not-the-secret-of-anybody-at-all" }, 422) },
    { name: "flow-under-way", who: "merchant", path: underWay },
    { name: "flow-choosing", who: "merchant", path: choosing, main: true },
    { name: "flow-already-connected", who: "merchant", path: already },
    { name: "flow-differs", who: "merchant", path: differs, main: true },
    { name: "flow-connected", who: "merchant", path: connected, main: true },
    ...outcomes.map((one, i) => ({ name: `flow-${one}`, who: "merchant", path: `/flows/TEST-${1000 + i}`, main: one === "denied" || one === "provider-down" })),
    { name: "ended-forged", path: "/connect/caminvoice/ended/forged" },
    { name: "connection", who: "merchant", path: fine, main: true },
    { name: "connection-sparse", who: "merchant", path: acme },
    { name: "connection-action-needed", who: "merchant", path: needed },
    { name: "connection-retrying", who: "merchant", path: retrying },
    { name: "connection-receipt", who: "merchant", path: receipt, main: true },
    { name: "connection-refreshed", who: "merchant", go: async (page) => {
      await page.goto(fine);
      await page.locator(`form[action="${fine}/refresh"] button`).click();
      await page.getByRole("status").waitFor();
    } },
    { name: "connections-incident", who: "merchant", go: async (page) => {
      const desk = await as("admin");
      const act = (form) => desk.context().request.post("/admin/providers/acme", { form, maxRedirects: 0 });
      for (let i = 0; i < 20; i++) { // another language's reader may end it just now
        await act({ do: "declare", reason: "They told us so." });
        await page.goto("/");
        if (await page.locator("aside.banner").count()) break;
      }
      await act({ do: "end" });
      await desk.context().close();
    } },
    { name: "disconnect", who: "merchant", path: `${fine}/disconnect`, main: true },
    { name: "disconnect-keyed", who: "merchant", path: `${retrying}/disconnect` },
    { name: "account", who: "merchant", path: "/account" },
    { name: "not-found-signed-in", who: "merchant", path: "/connections/nothing", status: 404 },

    { name: "forbidden", who: "support", path: "/connect/caminvoice", status: 403 },
    { name: "admin", who: "admin", path: "/admin", main: true },
    { name: "admin-connections", who: "admin", path: "/admin/connections", main: true },
    { name: "admin-connections-search", who: "support", path: `/admin/connections?q=${encodeURIComponent("ស៊ីអេច")}&provider=caminvoice&health=fine&sort=refreshed` },
    { name: "admin-connections-marks", who: "support", go: async (page) => {
      await page.goto("/admin/connections?q=ch168");
      await page.locator("main mark").first().waitFor();
    } },
    { name: "admin-connections-reference", who: "support", path: `/admin/connections?q=${denied.slice(7)}` },
    { name: "admin-connections-nothing", who: "support", path: "/admin/connections?q=nothing-has-this-name" },
    { name: "connection-staff", who: "support", path: fine, main: true },
    { name: "connection-staff-note-wrong", who: "admin", go: async (page) => {
      await page.goto(fine);
      if ((await page.locator("#notes li").count()) !== 2) throw new Error("not two notes");
      const [answered] = await Promise.all([page.waitForResponse((r) => r.request().method() === "POST"), page.waitForEvent("load"), page.locator("#note").evaluate((field) => { field.form.noValidate = true; field.form.requestSubmit(); })]);
      if (answered.status() !== 422) throw new Error(`an empty note: ${answered.status()}`);
    } },
    { name: "connection-staff-action-needed", who: "admin", path: needed },
    { name: "connection-as-merchant", who: "support", path: `${needed}?as=km` },
    { name: "connection-as-merchant-receipt", who: "admin", path: `${receipt}?as=fr` },
    { name: "flow-staff", who: "support", path: denied },
    { name: "admin-merchants", who: "admin", path: "/admin/merchants" },
    { name: "admin-merchant", who: "admin", path: `/admin/merchants/${merchant}` },
    { name: "admin-merchant-erase", who: "admin", path: `/admin/merchants/${merchant}/erase` },
    { name: "admin-users", who: "admin", path: "/admin/users" },
    { name: "admin-providers", who: "admin", path: "/admin/providers", main: true },
    { name: "admin-provider", who: "admin", path: "/admin/providers/caminvoice", main: true },
    { name: "admin-provider-support", who: "support", path: "/admin/providers/elecq" },
    { name: "admin-events", who: "admin", path: "/admin/events" },
    { name: "admin-events-looks", who: "admin", path: "/admin/events?looks=shown" },
    { name: "admin-events-delete", who: "admin", go: async (page) => {
      await page.goto("/admin/events");
      await page.locator("#months").evaluate((field) => { field.value = "3"; field.form.requestSubmit(); });
      await page.locator('[name="confirm"]').waitFor();
      await page.waitForLoadState();
    } },
    { name: "admin-keys", who: "admin", path: "/admin/keys" },
    { name: "admin-key-made", who: "admin", go: async (page) => {
      await page.goto("/admin/keys");
      await page.locator('main form [name="name"]').last().fill(`invoice worker ${++made}`);
      await Promise.all([page.waitForEvent("load"), page.locator('main form button.primary').last().click()]);
      await page.locator("main .secret").waitFor();
    } },
    { name: "admin-bulk-dry-run", who: "admin", go: async (page) => {
      await page.goto("/admin/connections?provider=caminvoice");
      await Promise.all([page.waitForURL(/\/admin\/bulk\//), page.locator('form[action^="/admin/bulk"] button').first().click()]);
    } },
    { name: "admin-bulk-done", who: "admin", go: async (page) => {
      await page.goto("/admin/connections?provider=caminvoice&health=fine");
      await Promise.all([page.waitForURL(/\/admin\/bulk\//), page.locator('form[action^="/admin/bulk"] button').first().click()]);
      const at = page.url();
      await page.locator(`main form button.primary`).first().click();
      for (let i = 0; i < 60; i++) {
        await page.goto(at);
        if ((await page.locator("main form").count()) === 0) break;
        await page.waitForTimeout(250);
      }
    } },
    { name: "admin-webhooks", who: "admin", path: "/admin/webhooks" },
    { name: "admin-webhooks-support", who: "support", path: "/admin/webhooks" },
    { name: "admin-webhooks-failed", who: "admin", path: `/admin/webhooks?endpoint=${endpoint.id}&state=failed` },
    { name: "admin-webhook-wrong", who: "admin", go: async (page) => {
      await page.goto("/admin/webhooks");
      await page.locator('main [name="url"]').fill("ftp://platform.example/hooks");
      await page.locator("main form[novalidate], main form").last().evaluate((f) => f.setAttribute("novalidate", ""));
      const [answered] = await Promise.all([page.waitForResponse((r) => r.request().method() === "POST"), page.locator("main button.primary").click()]);
      await page.waitForLoadState();
      if (answered.status() !== 422) throw new Error(`a wrong address: ${answered.status()}`);
    } },
    { name: "admin-webhook-secret", who: "admin", go: async (page) => {
      await page.goto("/admin/webhooks");
      const button = page.locator(`form[action="/admin/webhooks/${endpoint.id}"] button[value="rotate"]`);
      await button.evaluate((b) => { b.closest("details").open = true; });
      await Promise.all([page.waitForEvent("load"), button.click()]);
      await page.locator("main .secret").waitFor();
    } },
    { name: "link", path: at(links.provider) },
    { name: "link-any", path: at(links.any) },
    { name: "link-typed", path: at(links.typed) },
    { name: "link-used", path: at(links.used), status: 410 },
    { name: "link-revoked", path: at(links.revoked), status: 410 },
    { name: "link-expired", path: at(expired), status: 410 },
    { name: "link-unknown", path: "/links/not-a-link-of-anybody", status: 404 },
    { name: "link-choosing", go: linkChoosing },
    { name: "link-confirming", go: linkConfirming },
    { name: "link-connected", go: linkConnected },
    { name: "link-denied", go: linkDenied },
    { name: "reconnect-asked", who: "merchant", path: asked },
    { name: "account-staff", who: "admin", path: "/account" },
    { name: "second-factor", who: "support", path: "/account/second-factor" },
  ];
  await shop.context().close();
  await boss.context().close();
  return pages;
}

// settled waits until a delivery of a webhook is so.
async function settled(app, where) {
  for (let i = 0; i < 200; i++) {
    if ((await app.sql(`SELECT count(*) FROM webhook_deliveries WHERE ${where}`)) !== "0") return;
    await new Promise((done) => setTimeout(done, 100));
  }
  throw new Error(`no delivery is so: ${where}`);
}

// mailed waits for a letter in the demo's outbox and returns the path of the link in it.
async function mailed(app, page, to, kind = "invitations|password") {
  for (let i = 0; i < 100; i++) {
    await page.goto("/outbox");
    const letter = page.locator("article, li, section").filter({ hasText: to }).filter({ hasText: new RegExp(`/(?:${kind})/[\\w-]{43}`) }).last();
    const found = (await letter.count()) && (await letter.innerText()).match(new RegExp(`${app.url}(/(?:${kind})/[\\w-]+)`));
    if (found) return found[1];
    await page.waitForTimeout(100);
  }
  throw new Error(`no letter to ${to}`);
}
