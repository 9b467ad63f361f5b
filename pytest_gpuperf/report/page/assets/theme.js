// Runs before anything is drawn: sets the reader's theme, and a chart resolution that is fine enough for print.
(() => {
  "use strict";
  const data = document.documentElement.dataset;
  data.chosen = "";
  try {
    const kept = localStorage.getItem("gpuperf-theme");
    if (kept === "light" || kept === "dark") data.chosen = kept;
  } catch {
    // A page opened from a file may lack storage and then follows the system.
  }
  data.theme = data.chosen || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  const ratio = window.devicePixelRatio || 1;
  if (ratio < 2) Object.defineProperty(window, "devicePixelRatio", { configurable: true, get: () => 2 });
})();
