// The frame of every page: navigation, phase, theme, token; then the page that the address names.

import { ask } from "./lib/ask.js";
import { announce, by, make, write } from "./lib/dom.js";
import { askForTokens, problem } from "./lib/notices.js";
import { see, takeStatus, whenStatus } from "./lib/status.js";
import { capital } from "./lib/words.js";

/** Pages by the last part of their address; those with a label are in the navigation. */
const PAGES = [
  ["", "ranking", "Ranking"],
  ["alerts", "alerts", "Alerts"],
  ["worklist", "worklist", "Work lists"],
  ["pipeline", "pipeline", "Pipeline"],
  ["dead-letters", "dead-letters", "Dead letters"],
  ["trace", "trace", "Trace"],
  ["model", "model", "Model"],
  ["thresholds", "thresholds", "Thresholds"],
  ["query", "query", "Query"],
  ["entity", "entity", null],
];
const STATUS_EVERY_MS = 15_000;

const here = location.pathname.split("/").pop();
const [, module, label] = PAGES.find(([address]) => address === here) ?? PAGES[0];

function showPlaces() {
  const links = PAGES.filter(([, , label]) => label).map(([address, , label]) =>
    make("a", { href: address || "./", "aria-current": address === here ? "page" : null }, label));
  by("places").append(...links);
}

const THEMES = ["system", "light", "dark"];

function showTheme() {
  const button = by("theme");
  const show = () => write(button, `Theme: ${document.documentElement.dataset.theme ?? "system"}`);
  button.addEventListener("click", () => {
    const root = document.documentElement;
    const next = THEMES[(THEMES.indexOf(root.dataset.theme ?? "system") + 1) % THEMES.length];
    if (next === "system") {
      delete root.dataset.theme;
      localStorage.removeItem("leadpulse-theme");
    } else {
      root.dataset.theme = next;
      localStorage.setItem("leadpulse-theme", next);
    }
    show();
    announce(`Theme ${next}`);
  });
  show();
}

function showPhase(status) {
  const phase = status.phase ?? "starting";
  const share = phase === "replaying" && status.total > 0 ? ` ${Math.floor((100 * status.done) / status.total)} %` : "";
  by("phase").dataset.phase = phase;
  by("phase").title = status.reason ?? "";
  write(by("phase-text"), capital(phase) + share);
}

async function followStatus() {
  for (;;) {
    if (!document.hidden) {
      try {
        takeStatus(await ask("api/v1/status"));
      } catch {
        showPhase({ phase: "disconnected", reason: "Leadpulse does not answer" });
      }
    }
    await new Promise((resolve) => setTimeout(resolve, see() ? STATUS_EVERY_MS : 2000));
  }
}

showPlaces();
showTheme();
askForTokens();
whenStatus(showPhase);
document.title = `${label ?? "Entity"} · Leadpulse`;
followStatus();
try {
  const { show } = await import(`./pages/${module}.js`);
  await show(by("content"));
} catch (error) {
  by("content").append(problem(error, () => location.reload()));
}
document.body.dataset.ready = "true";
