// The data of the charts, their axes, and their numbers as text and tables. No figure is computed here: every number comes
// from the records. Text only ever becomes text nodes.
const gpuperf = (() => {
  "use strict";

  const root = document.documentElement;
  const { pool, charts } = JSON.parse(document.getElementById("chart-data").textContent);

  const make = (name, className, text) => {
    const node = document.createElement(name);
    if (className) node.className = className;
    if (text !== undefined) node.textContent = text;
    return node;
  };
  let palette = new Map();
  const color = (name) => {
    if (!palette.has(name)) palette.set(name, getComputedStyle(root).getPropertyValue(`--${name}`).trim());
    return palette.get(name);
  };
  const number = (value) => {
    if (value === null || value === undefined) return "–";
    const size = Math.abs(value);
    if (size >= 999.5) return Math.round(value).toLocaleString("en");
    if (size >= 99.95 || value === 0) return value.toFixed(0);
    return size >= 9.995 ? value.toFixed(1) : size >= 0.9995 ? value.toFixed(2) : String(Number(value.toPrecision(2)));
  };
  const withUnit = (value, unit) =>
    value === null || value === undefined ? "–" : unit === "$" ? `$${number(value)}` : `${number(value)}${unit === "%" ? "" : " "}${unit ?? ""}`;

  // A chart in the page refers to a pool of data that charts share.
  function resolve(chart) {
    const { labels, short, sides, views } = chart;
    return { ...chart, labels: pool[labels], short: pool[short], sides: pool[sides], views: views.map(resolveView) };
  }

  function resolveView(view) {
    const piled = new Map();
    const series = view.series.map((packed) => {
      const full = { ...pool[packed.s], x: pool[packed.x], y: pool[packed.y], imprecise: pool[packed.imprecise] };
      if (full.step) full.y = full.y.map((value) => value * full.step);
      if (full.draw === "bars") {
        full.lower = full.y.map((height, i) => {
          const pile = `${full.side} ${labelOf(full, i)}`;
          const lower = piled.get(pile) ?? 0;
          piled.set(pile, lower + height);
          return lower;
        });
      }
      return full;
    });
    const rules = (view.rules ?? []).map(({ s, x, y }) => ({ ...pool[s], x, y }));
    return { ...view, x: pool[view.x], y: pool[view.y], series, rules };
  }

  // The points of a chart by label: rows for the tooltip and the table.

  const labelOf = (series, index) => (series.labels ? series.labels[index] : index);

  function allRows(view) {
    const rowsByLabel = new Map();
    for (const series of view.series) {
      if (series.draw === "plain" || series.draw === "steps") continue;
      const few = new Set(series.imprecise ?? []);
      for (let i = 0; i < series.x.length; i++) {
        const label = labelOf(series, i);
        if (series.y[i] === null) continue;
        if (!rowsByLabel.has(label)) rowsByLabel.set(label, new Map());
        const rows = rowsByLabel.get(label);
        const sign = few.has(i) ? "~" : "";
        put(rows, series.name, series, sign + withUnit(series.y[i], view.y.unit));
        if (view.showX) put(rows, view.showX, series, sign + withUnit(series.x[i], view.x.unit));
      }
    }
    return rowsByLabel;
  }

  function stepRows(view, index) {
    const rows = new Map();
    for (const series of view.series) put(rows, "share", series, `${number(series.y[index])}%`);
    return rows;
  }

  function put(rows, name, series, text) {
    if (!rows.has(name)) rows.set(name, { color: series.color, draw: series.draw });
    rows.get(name)[series.side || "head"] = text;
  }

  const stepLabel = (view, index) => {
    const [begin, width] = view.series[0].x;
    const [from, to] = [index, index + 1].map((step) => begin + step * width).map((at) => (view.x.log ? 2 ** at : at));
    return `${number(from)} to ${withUnit(to, view.x.unit)}`;
  };

  const sidesShown = (view) => [
    view.series.some(({ side }) => side === "base"),
    view.series.some(({ side }) => side === "head" || !side),
  ];

  const swatch = (name, draw, side) => {
    const space = "http://www.w3.org/2000/svg";
    const svg = document.createElementNS(space, "svg");
    svg.setAttribute("viewBox", "0 0 16 10");
    svg.setAttribute("aria-hidden", "true");
    const shape = document.createElementNS(space, draw === "bars" || draw === "steps" ? "rect" : draw === "dots" ? "circle" : "line");
    const set = (values) => Object.entries(values).forEach(([key, value]) => shape.setAttribute(key, value));
    if (shape.tagName === "rect") set({ x: 2, y: 0, width: 12, height: 10, rx: 2, fill: color(name), "fill-opacity": side === "base" ? 0.5 : 1 });
    else if (shape.tagName === "circle") set({ cx: 8, cy: 5, r: 3.5, fill: color(name) });
    else set({ x1: 0, x2: 16, y1: 5, y2: 5, stroke: color(name), "stroke-width": side === "base" ? 2 : 2.5, "stroke-dasharray": side === "base" ? "4 3" : "none" });
    svg.append(shape);
    return svg;
  };

  function fullTable(chart, view) {
    const [base, head] = sidesShown(view);
    const steps = view.series.find(({ draw }) => draw === "steps");
    const stops = steps
      ? steps.y.map((_, i) => [stepLabel(view, i), stepRows(view, i)])
      : [...allRows(view)].sort((a, b) => a[0] - b[0]).map(([label, rows]) => [chart.labels[label], rows]);
    const names = [...new Set(stops.flatMap(([, rows]) => [...rows.keys()]))];
    const columns = names.flatMap((name) => [
      ...(base ? [[name, "base", `${name}, ${chart.sides[0]}`]] : []),
      ...(head ? [[name, "head", base ? `${name}, ${chart.sides[1]}` : name]] : []),
    ]);
    const table = make("table");
    const caption = make("caption", "hidden", chart.title);
    const heads = make("tr");
    heads.append(...["", ...columns.map(([, , heading]) => heading)].map((text) => scoped("col", text)));
    const top = make("thead");
    top.append(heads);
    const body = make("tbody");
    for (const [text, rows] of stops) {
      const row = make("tr");
      row.append(scoped("row", text), ...columns.map(([name, side]) => make("td", "", rows.get(name)?.[side] ?? "–")));
      body.append(row);
    }
    table.append(caption, top, body);
    return table;
  }

  const scoped = (scope, text) => {
    const cell = make("th", "", text);
    cell.scope = scope;
    return cell;
  };

  function valuesTable(chart, view, rows) {
    const [base, head] = sidesShown(view);
    const table = make("table");
    if (base && head) {
      const line = make("tr");
      line.append(make("td"), scoped("col", chart.sides[0]), scoped("col", chart.sides[1]));
      const top = make("thead");
      top.append(line);
      table.append(top);
    }
    const body = make("tbody");
    for (const [name, row] of [...rows].reverse()) {
      const line = make("tr");
      const cell = scoped("row", "");
      if (row.draw === "bars") cell.append(swatch(row.color, "bars"), " ");
      cell.append(name);
      line.append(cell);
      if (base) line.append(make("td", "", row.base ?? "–"));
      if (head) line.append(make("td", "", row.head ?? "–"));
      body.append(line);
    }
    table.append(body);
    return table;
  }

  function spokenText(chart, heading, rows, remark) {
    const said = [...rows].map(([name, row]) => {
      const before = row.base ? `${chart.sides[0]} ${row.base}` : "";
      return `${name} ${[row.head, before].filter(Boolean).join(", ")}`;
    });
    return [`${heading}: ${said.join("; ")}`, remark].filter(Boolean).join(". ");
  }

  // The ends of the axes, and the ticks on them.

  function spans(view) {
    let [left, right, bottom, top] = [Infinity, -Infinity, Infinity, -Infinity];
    for (const series of view.series) {
      const ends = series.draw === "steps" ? [series.x[0], series.x[0] + series.x[1] * series.y.length] : series.x;
      for (const at of ends) [left, right] = [Math.min(left, at), Math.max(right, at)];
      series.y.forEach((value, i) => {
        if (value === null) return;
        const end = value + (series.lower?.[i] ?? 0);
        [bottom, top] = [Math.min(bottom, end), Math.max(top, end)];
      });
    }
    for (const rule of view.rules) if (rule.y !== undefined) [bottom, top] = [Math.min(bottom, rule.y), Math.max(top, rule.y * 1.04)];
    const beyond = view.x.zero ? 0.08 * right || 1 : 0;
    const across = view.x.span ?? [view.x.zero ? 0 : left, right + beyond];
    const up = view.y.span ?? [view.y.zero ? 0 : bottom, top * 1.08 || 1];
    return [across, up[0] === up[1] ? [up[0] - 1, up[1] + 1] : up];
  }

  // Ticks whose labels don't run into each other.
  function spaced(ticks, span, width) {
    const kept = [];
    let free = -Infinity;
    for (const tick of ticks) {
      const at = ((tick[0] - span[0]) / (span[1] - span[0])) * width;
      const half = 3.6 * tick[1].length + 5;
      if (at - half >= free) {
        kept.push(tick);
        free = at + half;
      }
    }
    return kept;
  }

  const resetColors = () => {
    palette = new Map();
  };
  return { chart: (number) => resolve(charts[number]), make, color, swatch, labelOf, allRows, stepRows, stepLabel, valuesTable, fullTable, spokenText, spans, spaced, resetColors };
})();
