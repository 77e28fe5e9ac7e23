// A page that the browser kept from before a login shows the record as it was
// then: fetch it anew.
addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
});

// A request that got no answer at all must not go unnoticed.
document.addEventListener("htmx:error", () => {
  document.getElementById("offline").hidden = false;
});
document.addEventListener("htmx:after:request", () => {
  document.getElementById("offline").hidden = true;
});

// A button that went with its own click hands the focus on to what it was for: the
// secret, or what became of the record. Never to a button that does something.
document.addEventListener("htmx:after:swap", () => {
  if (document.activeElement === document.body) {
    const told = document.querySelector("[data-secret]") ?? document.getElementById("state");
    told?.focus({ preventScroll: true });
  }
});

// A secret is copied when it was asked for, or by its button, and says so.
async function copySecret(region) {
  const secret = region.querySelector("[data-secret]");
  const said = secret?.parentElement.querySelector("[role=status]");
  if (!said) return;
  try {
    await navigator.clipboard.writeText(secret.textContent);
    said.textContent = "Copied.";
  } catch {
    getSelection().selectAllChildren(secret);
    said.textContent = "The browser did not let it be copied: it is selected instead.";
  }
}
document.addEventListener("click", (event) => {
  if (event.target.closest("[data-copy-secret]")) copySecret(event.target.closest("dd"));
});
document.addEventListener("htmx:after:swap", () => {
  if (document.querySelector("[data-copy]")) copySecret(document);
});
if (document.querySelector("[data-copy]")) copySecret(document);

// Any other text is copied by the button behind it, which says so for a moment.
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy-text]");
  if (!button) return;
  const [text, said] = [button.previousElementSibling, button.nextElementSibling];
  try {
    await navigator.clipboard.writeText(text.textContent);
    said.textContent = "Copied.";
  } catch {
    getSelection().selectAllChildren(text);
    said.textContent = "Not allowed here: it is selected instead.";
  }
  setTimeout(() => (said.textContent = ""), 3000);
});

// Only the browser knows at which address it reads Orgdesk: that has to be the
// callback's, or it comes back from a login to where nobody is signed in.
function compareOrigins() {
  const line = document.getElementById("browser-origin");
  if (!line) return;
  const origin = (url) => (URL.canParse(url) ? new URL(url).origin : url);
  const [here, callback, server] = [location.href, line.dataset.callback, line.dataset.server].map(origin);
  const said = [];
  if (callback !== here) {
    said.push(`Your browser is at ${here}; the callback is at ${callback}: the login will come back to another address, where you are not signed in.`);
  }
  if (server !== here && server !== callback) {
    said.push(`This server takes its own address to be ${server}: see ORGDESK_EXTERNAL_URL and ORGDESK_PROXIES.`);
  }
  line.textContent = said.join(" ");
  line.hidden = said.length === 0;
}
document.addEventListener("htmx:after:swap", compareOrigins);
compareOrigins();

// All rows of a page are selected at once; without a script each is by itself.
const all = document.querySelector("[data-select-all]");
if (all) all.hidden = false;
all?.addEventListener("change", ({ target }) => {
  for (const box of document.querySelectorAll("[name=application][form=selection]")) {
    box.checked = target.checked;
  }
});
