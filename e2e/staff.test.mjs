// What staff do in a real browser: ask many merchants to reconnect, read what a merchant reads, and change the language in the middle of forms.
import { after, before, test } from "node:test";
import assert from "node:assert/strict";
import { answer, begin, launch, profiles, say, start, users } from "./demo.mjs";

let app, browser, as, needed, fine;
before(async () => {
  app = await start();
  browser = await launch();
  as = profiles(browser, app);
  const page = await as("merchant");
  const connect = async (title, provider, account) => {
    await begin(page, app, title, provider);
    await answer(page, app, "Allow", account);
    await page.locator('button[name="choice"][value="connect"]').click();
    return page.getByRole("link", { name: say("flow.see") }).getAttribute("href");
  };
  fine = await connect("CamInvoice", "caminvoice", "CH168");
  needed = await connect("ELECQ", "elecq", "Harbour Hotel");
  await app.control("revoke", { provider: "elecq" });
  await page.goto(needed);
  await page.getByRole("button", { name: say("connection.refresh") }).click();
  await page.getByText(say("health.action-needed"), { exact: true }).first().waitFor();
  await page.context().close();
});
after(async () => {
  await browser?.close();
  assert.equal(await app?.stop(), 0);
});

const heading = (page) => page.getByRole("heading", { level: 1 }).innerText();
const mails = async (page) => {
  await page.goto("/outbox");
  return (await page.locator("main").innerText()).split(`${app.url}/reconnect/`).length - 1;
};

for (const javaScriptEnabled of [true, false]) {
  test(`support asks many merchants to reconnect, ${javaScriptEnabled ? "with" : "without"} a script`, async () => {
    const page = await as("support", { javaScriptEnabled });
    const before = await mails(page);
    await page.goto("/admin/connections?who=merchant");
    await page.getByRole("button", { name: say("admin_connections.bulk-ask") }).click();
    await page.waitForURL(/\/admin\/bulk\//);
    assert.equal(await heading(page), say("bulk.ask-title"));
    const dry = page.url();
    assert.equal(await mails(page), before, "a dry run writes to nobody");
    await page.goto(dry);
    if (javaScriptEnabled) {
      await page.getByRole("button", { name: /Ask/ }).click();
      await page.getByRole("heading", { name: say("bulk.state-done") }).waitFor(); // the page changes by itself
      const outcomes = page.getByRole("table", { name: say("bulk.outcomes") });
      assert.match(await outcomes.innerText(), /1/);
      for (let i = 0; (await mails(page)) === before && i < 100; i++) await page.waitForTimeout(100);
      assert.equal(await mails(page), before + 1, "one mail to the merchant's one person");
      await page.goto(needed);
      await page.getByText(users.merchant[0]).first().waitFor();
      await page.locator(".timeline").getByText(say("event.reconnect-asked")).first().waitFor();
    } else { // asked within the day: nothing is left to start
      await page.locator('a[href*="outcome=asked-before"]').click();
      await page.locator(`main a[href="${needed}"]`).first().waitFor();
      await page.goto(dry);
      assert.equal(await page.locator('button[value="start"]').count(), 0);
    }
    await page.context().close();
  });
}

test("another language keeps what stands in every form of a page", async () => {
  const page = await as("admin");
  await page.goto(fine);
  await page.getByText(say("notes.add"), { exact: true }).click();
  await page.locator("#note").fill("They rang twice.\nកំណត់ចំណាំ");
  await page.getByText(say("connection.give-nickname"), { exact: true }).click();
  await page.locator("#nickname").fill("Riverside till");
  await page.locator('.foot button[lang="km"]').click();
  await page.locator('html[lang="km"]').waitFor();
  assert.equal(new URL(page.url()).pathname, fine);
  assert.ok((await page.locator("#note").isVisible()) && (await page.locator("#nickname").isVisible()), "what was typed is unfolded");
  assert.equal(await page.locator("#note").inputValue(), "They rang twice.\nកំណត់ចំណាំ");
  assert.equal(await page.locator("#nickname").inputValue(), "Riverside till");

  await page.goto("/admin/users"); // two forms that both ask for a role
  await page.locator("#with-role").selectOption("support");
  await page.locator("summary#invite").click();
  await page.locator("#email").fill("new@example.com");
  await page.locator("#role").selectOption("admin");
  await page.locator('.foot button[lang="fr"]').click();
  await page.locator('html[lang="fr"]').waitFor();
  assert.deepEqual(await Promise.all(["#with-role", "#email", "#role"].map((one) => page.locator(one).inputValue())), ["support", "new@example.com", "admin"]);

  await page.goto("/account");
  await page.locator("#current").fill("a secret that is typed");
  await page.locator("#name").fill("Vanna Chea");
  const [sent] = await Promise.all([page.waitForRequest((r) => r.url().endsWith("/language")), page.locator('.foot button[lang="en"]').click()]);
  await page.locator('html[lang="en"]').waitFor();
  assert.ok(!decodeURIComponent(sent.postData().replaceAll("+", " ")).includes("a secret that is typed"), "the script sends no secret along");
  assert.equal(await page.locator("#name").inputValue(), "Vanna Chea");
  assert.equal(await page.locator("#current").inputValue(), "");
  await page.context().close();
});

test("support reads what the merchant reads, and can press none of it", async () => {
  const page = await as("support");
  await page.goto(needed);
  await page.getByRole("link", { name: say("connection.as-merchant") }).click();
  await page.locator("fieldset.seen").waitFor();
  await page.getByRole("link", { name: "ខ្មែរ", exact: true }).first().click();
  await page.locator('fieldset.seen[lang="km"]').getByText(say("problem.who-merchant", { Provider: "ELECQ" }, "km")).waitFor();
  const buttons = page.locator("fieldset.seen button:visible");
  assert.ok((await buttons.count()) > 0, "it shows the buttons");
  for (const button of await buttons.all()) assert.ok(await button.isDisabled(), await button.innerText());
  assert.equal(await page.locator('html[lang="en"]').count(), 1);
  await page.context().close();
});
