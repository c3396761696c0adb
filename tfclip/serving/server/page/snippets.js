// The calls that give the same answer: curl, Python over REST, Python over gRPC.

import { byId, element } from "./elements.js";
import { hasToken } from "./server.js";

const shell = (text) => `'${text.replaceAll("'", "'\\''")}'`;
const python = (text) => JSON.stringify(text);

function calls(model, signature, names, labels) {
  const files = names.length ? names : ["picture.jpg"];
  const rest = `${location.origin}`;
  const url = `${rest}/v1/models/${model.model}:predict`;
  const isTyped = signature === "similarity";
  const header = hasToken() ? ' -H "Authorization: Bearer $TOKEN"' : "";
  const pictures = files.map((name) =>
    `printf '{"b64":"'; base64 < ${shell(name)} | tr -d '\\n'; printf '"}'`).join("; printf ','; ");
  const opening = isTyped
    ? `printf '%s' ${shell(`{"signature_name":"similarity","inputs":{"text":${JSON.stringify(labels)},"image_bytes":[`)}`
    : `printf '{"signature_name":"${signature}","inputs":{"image_bytes":['`;
  const curl = `{ ${opening}; ${pictures}; printf ']}}'; } |\n  curl -s${header} -d @- ${url}`;
  const more = [model.model === "tfclip" ? "" : `, model=${python(model.model)}`, hasToken() ? ', token="TOKEN"' : ""].join("");
  const asked = isTyped
    ? `client.similarity(${python(files)}, ${python(labels)})`
    : `client.${signature}(${python(files)})`;
  const program = (address) =>
    `from tfclip.serving import Client\n\nclient = Client(${python(address)}${more})\nprint(${asked})`;
  const found = [["curl", curl], ["Python, REST", program(rest)]];
  if (model.grpc_port) {
    const scheme = location.protocol === "https:" ? "grpcs" : "grpc";
    found.push(["Python, gRPC", program(`${scheme}://${location.hostname}:${model.grpc_port}`)]);
  }
  return found;
}

export function drawSnippets(model, signature, names, labels) {
  byId("snippets").replaceChildren(...calls(model, signature, names, labels).map(([title, text]) => {
    const shown = element("pre", { tabindex: 0, "aria-label": title }, text);
    const copy = element("button", { type: "button", class: "plain", "aria-label": `Copy ${title}` }, "Copy");
    copy.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(text);
        copy.textContent = "Copied";
      } catch { // Only pages of this machine or over https may write there.
        getSelection().selectAllChildren(shown);
        copy.textContent = "Selected";
      }
      setTimeout(() => { copy.textContent = "Copy"; }, 2000);
    });
    return element("div", {}, element("h3", { class: "row" }, title, copy), shown);
  }));
}
