// The page around its charts: which of them are drawn, the theme, the filters, the links.
(() => {
  "use strict";

  const root = document.documentElement;

  // Charts are drawn only near the visible part of the page, so that hundreds of them cost as much as a few.

  const drawn = new Map();
  const charts = new Map();
  const chartOf = (node) => {
    if (!charts.has(node)) charts.set(node, new gpuperf.Chart(node));
    return charts.get(node);
  };
  const observer = new IntersectionObserver(
    (changes) => {
      for (const { target, isIntersecting } of changes) {
        if (isIntersecting) {
          chartOf(target).draw();
          drawn.set(target, target.clientWidth);
        } else if (drawn.delete(target) && !target.contains(document.activeElement)) chartOf(target).drop();
      }
    },
    { rootMargin: "400px" },
  );
  const nodes = [...document.querySelectorAll(".chart")];
  nodes.forEach((node) => observer.observe(node));

  let waiting;
  addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      for (const [node, width] of drawn) {
        if (node.clientWidth === width) continue;
        drawn.set(node, node.clientWidth);
        chartOf(node).draw();
      }
    }, 120);
  });

  const redraw = () => {
    gpuperf.resetColors();
    for (const node of drawn.keys()) chartOf(node).draw();
  };

  // Printed pages use the light theme and two columns of charts; the print layout is applied only after this event.
  const PRINTED = 336;
  addEventListener("beforeprint", () => {
    root.dataset.theme = "light";
    gpuperf.resetColors();
    for (const node of nodes) if (node.clientWidth) chartOf(node).draw(PRINTED);
  });
  addEventListener("afterprint", () => {
    for (const node of nodes) if (!drawn.has(node)) charts.get(node)?.drop();
    applyTheme();
  });

  // The theme of the system, until the reader chooses another.

  const dark = matchMedia("(prefers-color-scheme: dark)");
  const button = document.getElementById("theme");
  let theme = root.dataset.chosen;
  const applyTheme = () => {
    root.dataset.theme = theme || (dark.matches ? "dark" : "light");
    button.textContent = { "": "Theme: system", light: "Theme: light", dark: "Theme: dark" }[theme];
    redraw();
  };
  button.addEventListener("click", () => {
    theme = { "": dark.matches ? "light" : "dark", light: dark.matches ? "dark" : "", dark: dark.matches ? "" : "light" }[theme];
    try {
      if (theme) localStorage.setItem("gpuperf-theme", theme);
      else localStorage.removeItem("gpuperf-theme");
    } catch {
      // Without storage, the choice is lost when the page closes.
    }
    applyTheme();
  });
  dark.addEventListener("change", applyTheme);
  applyTheme();

  // Filters.

  const search = document.getElementById("search");
  const shown = document.getElementById("shown");
  const filters = [...document.querySelectorAll(".filter")];
  const rows = [...document.querySelectorAll(".overview tbody tr")];
  const tests = new Map([...document.querySelectorAll(".test[data-test]")].map((node) => [node.dataset.test, node]));
  const applyFilters = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const verdicts = new Set(filters.filter((filter) => filter.getAttribute("aria-pressed") === "true").map((filter) => filter.dataset.verdict));
    let count = 0;
    for (const row of rows) {
      const fits = (!verdicts.size || verdicts.has(row.dataset.verdict)) && words.every((word) => row.dataset.name.includes(word));
      row.hidden = !fits;
      tests.get(row.dataset.test).hidden = !fits;
      count += fits;
    }
    shown.textContent = count === rows.length ? "" : `${count} of ${rows.length} tests`;
  };
  if (search) {
    search.addEventListener("input", applyFilters);
    for (const filter of filters) {
      filter.addEventListener("click", () => {
        filter.setAttribute("aria-pressed", String(filter.getAttribute("aria-pressed") !== "true"));
        applyFilters();
      });
    }
    applyFilters();
  }

  // A link to a test opens it.

  const openLinkedTest = () => {
    const test = /^#t\d+$/.test(location.hash) && document.getElementById(location.hash.slice(1));
    if (test) {
      test.open = true;
      test.scrollIntoView();
    }
  };
  addEventListener("hashchange", openLinkedTest);
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.('a[href^="#t"]');
    if (link && link.getAttribute("href") === location.hash) openLinkedTest();
  });
  openLinkedTest();
  const setAll = (open) => () => tests.forEach((test) => !test.hidden && (test.open = open));
  document.getElementById("open-all")?.addEventListener("click", setAll(true));
  document.getElementById("close-all")?.addEventListener("click", setAll(false));
})();
