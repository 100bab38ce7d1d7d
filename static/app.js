// What pages do better with a script; every one of them works without.

// Copy buttons are of no use without a script and stay hidden until now.
for (const button of document.querySelectorAll("button[data-copy]")) {
  if (!navigator.clipboard) break;
  button.hidden = false;
  const label = button.textContent;
  button.addEventListener("click", async () => {
    const from = button.dataset.copyFrom && document.getElementById(button.dataset.copyFrom);
    await navigator.clipboard.writeText(from ? from.textContent : button.dataset.copy);
    button.textContent = button.dataset.copied;
    setTimeout(() => { button.textContent = label; }, 2000);
  });
}

// Passkeys need a script, and a browser that has them: their forms are hidden until now.
for (const form of globalThis.PublicKeyCredential?.parseRequestOptionsFromJSON ? document.querySelectorAll("form[data-passkey]") : []) {
  const purpose = form.dataset.passkey, answer = form.querySelector("[data-passkey-answer]"), failed = form.querySelector("[role=alert]");
  form.hidden = false;
  form.closest("section")?.removeAttribute("hidden");
  form.addEventListener("submit", async (event) => {
    if (event.submitter?.name === "language") return;
    if (answer.value) { setTimeout(() => { answer.value = ""; }); return; } // after it was gathered: it is taken only once
    event.preventDefault();
    failed.hidden = true;
    try {
      const asked = await fetch("/passkey-challenges", { method: "POST", body: new URLSearchParams({ purpose }), redirect: "error" });
      if (!asked.ok) throw new Error(`challenge: ${asked.status}`);
      const { publicKey } = await asked.json();
      answer.value = JSON.stringify(purpose === "add"
        ? await navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(publicKey) })
        : await navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(publicKey) }));
      form.requestSubmit();
    } catch { failed.hidden = false; }
  });
}

// Show makes a secret that was pasted readable, for as long as it is pressed.
for (const button of document.querySelectorAll("button[data-show]")) {
  const field = document.getElementById(button.dataset.show);
  const show = (shown) => { field.type = shown ? "text" : "password"; button.setAttribute("aria-pressed", String(shown)); };
  button.hidden = false;
  button.addEventListener("click", () => show(field.type === "password"));
  field.form?.addEventListener("submit", () => show(false)); // so that the browser keeps it with no other text
}

// Another language keeps what stands in every form of the page, not only in that of its button. Secrets stay behind.
document.addEventListener("formdata", ({ target: form, formData }) => {
  if (!formData.has("language")) return;
  const secret = (field) => field.type === "password" || field.autocomplete === "one-time-code";
  for (const field of form.elements) if (field.name && secret(field)) formData.delete(field.name);
  for (const other of document.querySelectorAll("form[id^=typed], form[id^=searched]")) {
    for (const [name, value] of other === form ? [] : new FormData(other)) {
      if (!secret(other.elements.namedItem(name))) formData.append(`${other.id} ${name}`, value);
    }
  }
});

// A second click while a form is on its way would only ask the same again.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post" || event.defaultPrevented) return;
  if (form.dataset.sent) { event.preventDefault(); return; }
  form.dataset.sent = "yes";
  // After the browser has gathered the fields: the pressed button's own value must be sent.
  setTimeout(() => { for (const b of form.querySelectorAll("button[type=submit]")) b.setAttribute("aria-disabled", "true"); });
  const pressed = event.submitter;
  if (pressed?.dataset.busy) { // what it waits for
    pressed.dataset.label = pressed.textContent;
    pressed.textContent = pressed.dataset.busy;
    pressed.setAttribute("aria-live", "polite");
  }
});
addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-sent]")) {
    delete form.dataset.sent;
    for (const b of form.querySelectorAll("button")) {
      b.removeAttribute("aria-disabled");
      if (b.dataset.label) b.textContent = b.dataset.label;
    }
  }
});

// Parts that change by themselves: fetched anew and swapped while the page is looked at.
for (const part of document.querySelectorAll("[data-refresh]")) {
  const seconds = Math.max(2, Number(part.dataset.refresh));
  const again = async () => {
    const inUse = part.contains(document.activeElement) || part.querySelector("details[open]");
    if (document.visibilityState === "visible" && !inUse) {
      try {
        const answer = await fetch(location.href, { redirect: "error" });
        if (answer.ok) {
          const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById(part.id);
          if (!fresh) { location.reload(); return; } // what this part waited for has come
          part.replaceChildren(...fresh.childNodes);
          if (!("refresh" in fresh.dataset)) return;
        }
      } catch { /* the next round may do better */ }
    }
    setTimeout(again, seconds * 1000);
  };
  setTimeout(again, seconds * 1000);
}

// The key / leads to the search, unless something is being typed.
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, [contenteditable]")) return;
  const find = document.getElementById("find");
  if (!find) return;
  event.preventDefault();
  find.focus();
  find.select();
});

// Tells the server the reader's time zone, so that the next page says times as they are on the wall.
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
const secure = location.protocol === "https:";
const zoneCookie = (secure ? "__Host-tz=" : "tz=") + zone;
if (zone && !document.cookie.split("; ").includes(zoneCookie)) {
  document.cookie = zoneCookie + "; path=/; max-age=31536000; samesite=lax" + (secure ? "; secure" : "");
}
