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

// A button that went with its own click hands the focus on to the first of all.
document.addEventListener("htmx:after:swap", () => {
  if (document.activeElement === document.body) {
    document.getElementById("refresh")?.focus({ preventScroll: true });
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

// All rows of a page are selected at once; without a script each is by itself.
const all = document.querySelector("[data-select-all]");
if (all) all.hidden = false;
all?.addEventListener("change", ({ target }) => {
  for (const box of document.querySelectorAll("[name=application][form=selection]")) {
    box.checked = target.checked;
  }
});
