// Before anything is drawn: the reader's theme, and charts fine enough for paper on every screen.
(() => {
  "use strict";
  const data = document.documentElement.dataset;
  data.chosen = "";
  try {
    const kept = localStorage.getItem("gpuperf-theme");
    if (kept === "light" || kept === "dark") data.chosen = kept;
  } catch {
    // A page from a file may have no storage; then it follows the system.
  }
  data.theme = data.chosen || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  const own = window.devicePixelRatio || 1;
  if (own < 2) Object.defineProperty(window, "devicePixelRatio", { configurable: true, get: () => 2 });
})();
