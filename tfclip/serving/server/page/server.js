// What the page asks of the server: TensorFlow Serving's REST paths, and the few beside them.

let token = "";

export function useToken(text) { token = text; }
export function hasToken() { return token !== ""; }

export class ServerError extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

async function ask(path, options = {}) {
  const headers = { ...(options.headers || {}) };
  if (token) headers.Authorization = `Bearer ${token}`;
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch {
    throw new ServerError(0, "The server does not answer. Is it still running?");
  }
  if (answer.ok) return answer;
  let message = `status ${answer.status}`;
  try { message = (await answer.json()).error || message; } catch { /* no JSON: the status says it */ }
  throw new ServerError(answer.status, message);
}

const asJson = (content) => ({
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(content),
});

export async function describe() { return (await ask("page/model")).json(); }

export async function predict(model, signature, inputs) {
  const body = asJson({ signature_name: signature, inputs });
  return (await (await ask(`v1/models/${encodeURIComponent(model)}:predict`, body)).json()).outputs;
}

export async function search(content) {
  return (await (await ask("page/search", asJson(content))).json()).hits;
}

export async function heatmap(content) { return (await ask("page/heatmap", asJson(content))).json(); }

// With the token an <img> could not be asked for: the bytes become a blob.
export async function pictureOf(row) {
  return URL.createObjectURL(await (await ask(`page/pictures/${row}`)).blob());
}

export async function base64(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  let text = "";
  for (let at = 0; at < bytes.length; at += 0x8000) {
    text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  }
  return { b64: btoa(text) };
}
