// The running program for the browser tests: `patchbay demo` in a folder of its own, and Debian's Chromium.
import { execFile, spawn } from "node:child_process";
import { chmod, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { readdirSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { chromium } from "playwright-core";

const run = promisify(execFile);
const program = fileURLToPath(new URL("../bin/patchbay", import.meta.url));
const locales = fileURLToPath(new URL("../views/locales/", import.meta.url));

export const users = {
  merchant: ["merchant@example.com", "merchant demo"],
  support: ["support@example.com", "support demo"],
  admin: ["admin@example.com", "admin demo"],
};

// What a merchant pastes: the sandbox's sample keys.
export const keys = {
  flexiti: { client_id: "flexitidemo", client_secret: "77xde15a-9d33-4c15-930a-3se4b3as33e9" },
  bookings: { client_id: "9b1e82a7-0a59-4e7e-add5-b9ffa37aade1", client_secret: "hT3uVbq0ZsYk1mWc8xRfJ2nLdGpA6eQi5oXyNvKB" },
};

// start runs the demo on free ports and returns its addresses, what it prints, its database, its sandbox's controls, and stop.
export async function start() {
  const data = await mkdtemp(join(process.env.TMPDIR ?? tmpdir(), "patchbay-e2e-"));
  await chmod(data, 0o755); // Postgres may run as another user
  const child = spawn(program, ["demo", "-listen", "127.0.0.1:0", "-data", data, "-known=false", "-empty"], { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, LOG_LEVEL: "debug" } });
  const ended = new Promise((resolve) => {
    child.once("error", () => resolve("no program: make build"));
    child.once("exit", (code, signal) => resolve(code ?? signal));
  });
  let printed = "";
  const { url, sandbox } = await new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error("the demo was not ready after 60 s:\n" + printed)), 60_000);
    const read = (chunk) => {
      printed += chunk;
      const found = printed.match(/Patchbay is at\s+(\S+)[\s\S]*sandboxes[^\n]*:\s+(http\S+)[\s\S]*stops everything/);
      if (found) {
        clearTimeout(timer);
        resolve({ url: found[1], sandbox: found[2] });
      }
    };
    child.stdout.on("data", read);
    child.stderr.on("data", read);
    ended.then((code) => {
      clearTimeout(timer);
      reject(new Error(`the demo ended with ${code}:\n${printed}`));
    });
  });
  const database = ["-h", join(data, "postgres"), "-U", "postgres", "-d", "patchbay"];
  const environment = {
    ...process.env, KEYSET_FILE: join(data, "keyset"), PUBLIC_URL: url, SECOND_FACTOR: "optional", SESSION_KEYS_FILE: join(data, "session-keys"),
    DATABASE_URL: `postgres://postgres@/patchbay?host=${encodeURIComponent(join(data, "postgres"))}`,
  };
  return {
    url,
    sandbox,
    data,
    log: () => printed,
    // control changes the sandbox: mood, clear, revoke, restore, expire, webhook …
    async control(what, form = {}) {
      const answer = await fetch(`${sandbox}/control/${what}`, { method: "POST", body: new URLSearchParams(form) });
      if (!answer.ok) throw new Error(`control ${what}: ${answer.status}`);
    },
    state: async (what = "state") => (await fetch(`${sandbox}/control/${what}`)).json(),
    sql: async (text) => (await run(await binary("psql"), [...database, "-qAtv", "ON_ERROR_STOP=1", "-c", text])).stdout.trim(),
    dump: async () => (await run(await binary("pg_dump"), database, { maxBuffer: 1 << 30 })).stdout,
    // patchbay runs a command of the program on the same database; password is the first line of its standard input.
    async patchbay(args, password = "") {
      const ran = run(program, args, { env: environment });
      ran.child.stdin.end(password + "\n");
      return (await ran).stdout;
    },
    // serve starts another process on the same database, at an address and with settings of its own.
    async serve(listen, settings = {}) {
      const more = spawn(program, ["serve"], { stdio: ["ignore", "pipe", "pipe"], env: { ...environment, LISTEN: listen, PUBLIC_URL: `http://${listen}`, ...settings } });
      const over = new Promise((resolve) => more.once("exit", (code, signal) => resolve(code ?? signal)));
      let said = "";
      for (const pipe of [more.stdout, more.stderr]) pipe.on("data", (chunk) => (said += chunk));
      const deadline = Date.now() + 60_000;
      for (;;) {
        const ready = await fetch(`http://${listen}/readyz`).then((r) => r.ok, () => false);
        if (ready) break;
        if (more.exitCode !== null || Date.now() > deadline) throw new Error("it does not serve:\n" + said);
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
      return {
        url: `http://${listen}`,
        log: () => said,
        async stop() {
          more.kill("SIGINT");
          return over;
        },
      };
    },
    async stop() {
      child.kill("SIGINT");
      const code = await ended;
      await rm(data, { recursive: true, force: true });
      return code;
    },
  };
}

// binary finds a Postgres program: Debian keeps the server's own off the PATH.
async function binary(name) {
  const versions = await readdir("/usr/lib/postgresql").catch(() => []);
  return versions.length ? join("/usr/lib/postgresql", versions.sort((a, b) => b - a)[0], "bin", name) : name;
}

// launch opens Debian's Chromium, kept from calling home.
export const launch = (...more) =>
  chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", ...more],
  });

// open makes a fresh browser profile that nobody has signed in to.
export async function open(browser, app, options = {}) {
  const context = await browser.newContext({ baseURL: app.url, locale: "en-GB", ...options });
  context.setDefaultTimeout(30_000);
  return context.newPage();
}

// api calls the API with a key of all merchants, and returns what it answers.
export function api(app) {
  let key;
  return async (method, path, body) => {
    key ??= app.patchbay(["apikey", "add", "-name", "browser tests"]).then((printed) => printed.trim().split("\n").at(-1));
    const answer = await fetch(`${app.url}/api/v1${path}`, { method, headers: { authorization: `Bearer ${await key}`, "content-type": "application/json" }, body: body && JSON.stringify(body) });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
    return text && JSON.parse(text);
  };
}

// signIn signs somebody in by the form.
export async function signIn(page, [email, password]) {
  if (!new URL(page.url(), "http://none").pathname.startsWith("/login")) await page.goto("/login");
  await page.locator('input[name="email"]:not([type=hidden])').fill(email);
  await page.locator('input[name="password"]:not([type=hidden])').fill(password);
  await Promise.all([page.waitForURL((u) => !u.pathname.startsWith("/login")), page.getByRole("button", { name: say("login.button"), exact: true }).click()]);
}

// profiles signs each sample user in once and opens any number of browsers that are signed in as them.
export function profiles(browser, app) {
  const states = {};
  return async (who, options = {}) => {
    if (!states[who]) {
      const page = await open(browser, app);
      await signIn(page, users[who] ?? who);
      states[who] = await page.context().storageState();
      await page.context().close();
    }
    return open(browser, app, { storageState: states[who], ...options });
  };
}

const texts = {};

// say is a text of the pages, as a reader of that language meets it.
export function say(key, values = {}, lang = "en") {
  texts[lang] ??= Object.assign({}, ...readdirSync(locales).filter((f) => f.endsWith(`.${lang}.json`)).map((f) => JSON.parse(readFileSync(join(locales, f), "utf8"))));
  const text = texts[lang][key];
  if (typeof text !== "string") throw new Error(`no text ${key} in ${lang}`);
  return text.replace(/\{\{\.(\w+)\}\}/g, (_, name) => values[name]);
}

// outcomes are the ways in which an attempt can end, as the pages have words for them.
export const outcomes = Object.keys(JSON.parse(readFileSync(join(locales, "flows.en.json"), "utf8")))
  .map((key) => key.match(/^flow\.(.+)\.who$/)?.[1])
  .filter((name) => name && name !== "under-way");

// atProvider presses what leads to the provider's pages and waits to be there.
export const atProvider = (page, app, press) => Promise.all([page.waitForURL((u) => u.origin === app.sandbox), press()]);

// answer says Allow or Deny on the provider's page, as one of its accounts, and waits to be back.
export async function answer(page, app, decision, account) {
  if (account) await page.getByRole("radio", { name: account }).check();
  await Promise.all([page.waitForURL((u) => u.origin === app.url), page.getByRole("button", { name: decision, exact: true }).click()]);
}

// begin leaves for a provider from the page before.
export async function begin(page, app, title, provider) {
  await page.goto(`/connect/${provider}`);
  await atProvider(page, app, () => page.getByRole("button", { name: say("connect.title", { Provider: title }) }).click());
}

export async function fill(page, values) {
  for (const [name, value] of Object.entries(values)) await page.locator(`main [name="${name}"]`).fill(value);
}
