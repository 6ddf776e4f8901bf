// A browser-based EHR in one function, as the public CDS Hooks sandbox behaves: it signs with ES384 in the browser,
// fills prefetch from its FHIR server, clicks the first suggestion, and sends feedback. Playwright evaluates it.
async ({ service, fhir, issuer, kid, privateKey }) => {
  const algorithm = { name: "ECDSA", namedCurve: "P-384" };
  const key = await crypto.subtle.importKey("jwk", privateKey, algorithm, false, ["sign"]);
  const base64url = (bytes) =>
    btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  const part = (value) => base64url(new TextEncoder().encode(JSON.stringify(value)));

  async function signed(url) {
    const now = Math.floor(Date.now() / 1000);
    const claims = { iss: issuer, aud: url, iat: now, exp: now + 300, jti: crypto.randomUUID() };
    const text = `${part({ alg: "ES384", typ: "JWT", kid })}.${part(claims)}`;
    const hashed = { name: "ECDSA", hash: "SHA-384" };
    const signature = await crypto.subtle.sign(hashed, key, new TextEncoder().encode(text));
    return { Authorization: `Bearer ${text}.${base64url(new Uint8Array(signature))}` };
  }

  async function post(url, body) {
    const headers = { ...(await signed(url)), "Content-Type": "application/json" };
    const answer = await fetch(url, { method: "POST", headers, body: JSON.stringify(body) });
    return { status: answer.status, body: await answer.json() };
  }

  async function fire(url, hook, context, templates) {
    const prefetch = {};
    for (const [name, template] of Object.entries(templates)) {
      const query = template.replaceAll("{{context.patientId}}", context.patientId);
      const answer = await fetch(`${fhir}/${query}`);
      if (answer.ok) prefetch[name] = await answer.json();
    }
    return post(url, { hook, hookInstance: crypto.randomUUID(), context, prefetch });
  }

  const base = `${service}/cds-services`;
  const discovered = await (await fetch(base, { headers: await signed(base) })).json();
  const { id, hook, prefetch } = discovered.services.find((one) => one.hook === "patient-view");
  const url = `${base}/${id}`;
  const context = { userId: "Practitioner/abc", patientId: "p1", encounterId: "e1" };

  let card;
  for (let tries = 0; tries < 200 && !card?.suggestions; tries += 1) {
    const answer = await fire(url, hook, context, prefetch);
    card = answer.body.cards?.[0];
    if (!card) return { failed: answer };
    if (!card.suggestions) await new Promise((done) => setTimeout(done, 50));
  }
  const suggestion = card.suggestions[0];
  const [action] = suggestion.actions;
  const created = await fetch(`${fhir}/MedicationRequest`, { method: "POST", body: JSON.stringify(action.resource) });
  const feedback = await post(`${url}/feedback`, {
    feedback: [
      {
        card: card.uuid,
        outcome: "accepted",
        acceptedSuggestions: [{ id: suggestion.uuid }],
        outcomeTimestamp: new Date().toISOString(),
      },
    ],
  });
  return { services: discovered.services.length, card, created: created.status, feedback };
}
