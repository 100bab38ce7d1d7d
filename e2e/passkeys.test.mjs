// Passkeys, with Chromium's virtual authenticator.
import { after, before, test } from "node:test";
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { launch, open, say, start, users } from "./demo.mjs";

let app, browser, served;

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
  const port = await free();
  served = await app.serve(`127.0.0.1:${port}`, { PUBLIC_URL: `http://localhost:${port}`, SECOND_FACTOR: "optional" }); // no passkey belongs to an IP address
  served.url = `http://localhost:${port}`;
});
after(async () => {
  await browser?.close();
  assert.equal(await served?.stop(), 0);
  assert.equal(await app?.stop(), 0);
});

test("staff add a passkey, sign in by it alone, and by it after the password", async () => {
  const page = await open(browser, served);
  const wrong = [];
  page.on("pageerror", (e) => wrong.push(e.message));
  const devices = await page.context().newCDPSession(page);
  await devices.send("WebAuthn.enable");
  await devices.send("WebAuthn.addVirtualAuthenticator", {
    options: { protocol: "ctap2", transport: "internal", hasResidentKey: true, hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true },
  });
  const [email, password] = users.admin;
  await page.goto("/login");
  await page.locator("input[name=email]").first().fill(email);
  await page.locator("input[name=password]").first().fill(password);
  await page.getByRole("button", { name: say("login.button"), exact: true }).click();
  await page.waitForURL("**/admin");

  await page.goto("/account/second-factor");
  await page.locator("form[data-passkey=add] input[name=name]").fill("Laptop of the test");
  await page.getByRole("button", { name: say("passkey.add") }).click();
  await page.getByRole("heading", { name: say("factor.on") }).waitFor();
  await page.goto("/account/second-factor");
  await page.getByText("Laptop of the test").first().waitFor();

  await page.getByRole("button", { name: say("layout.sign-out") }).first().click();
  await page.waitForURL("**/login");
  await page.goto("/login?next=/admin/keys");
  await page.getByRole("button", { name: say("passkey.sign-in") }).click();
  await page.waitForURL("**/admin/keys");

  await page.getByRole("button", { name: say("layout.sign-out") }).first().click();
  await page.waitForURL("**/login");
  await page.locator("input[name=email]").first().fill(email);
  await page.locator("input[name=password]").first().fill(password);
  await page.getByRole("button", { name: say("login.button"), exact: true }).click();
  await page.waitForURL("**/login/second-factor**");
  await page.getByRole("button", { name: say("passkey.use") }).click();
  await page.waitForURL("**/admin");
  assert.deepEqual(wrong, []);
});
