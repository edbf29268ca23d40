/** Start the page. */

import { get } from "./api.js";
import { App } from "./app.js";
import { claimClient } from "./client.js";
import { element } from "./dom.js";

async function start() {
  const [set, client] = await Promise.all([get("set"), claimClient()]);
  const app = new App(set, client);
  await app.start();
  // For those who look from outside, as tests and benchmarks do.
  Object.assign(globalThis, { dpk: app });
}

start().catch((error) => {
  const again = element("button", { type: "button", class: "quiet framed", text: "Try again", on: { click: () => location.reload() } });
  document.querySelector("#notices").replaceChildren(
    element("p", { class: "notice" }, element("span", { text: `The set could not be loaded: ${error.message}.` }), again),
  );
  console.error(error);
});
