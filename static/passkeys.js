// Passkeys: the page brings what the server asks for, the browser answers it.
const ceremony = document.querySelector("form[data-passkey]");

async function answer(how, options) {
  if (how === "create") {
    const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(options);
    return navigator.credentials.create({ publicKey });
  }
  const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(options);
  return navigator.credentials.get({ publicKey });
}

if (ceremony) {
  answer(ceremony.dataset.passkey, JSON.parse(ceremony.dataset.options))
    .then((credential) => {
      const json = credential.toJSON();
      json.extensions = JSON.stringify(json.clientExtensionResults);
      ceremony.elements.credential.value = JSON.stringify(json);
      ceremony.submit();
    })
    .catch((problem) => {
      const sentence = ceremony.querySelector("[role=alert]");
      sentence.textContent = `The browser used no passkey: ${problem.message}`;
      sentence.hidden = false;
    });
}
