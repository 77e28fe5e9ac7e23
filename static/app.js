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
