// What a figure of the page is, and its numbers as words and tables. Nothing is computed here: every number comes from
// the records. Texts only ever become text nodes.
const gpuperf = (() => {
  "use strict";

  const root = document.documentElement;
  const { pool, figures } = JSON.parse(document.getElementById("figures").textContent);

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

  // A figure as the page has it refers to a pool of what many of them share.
  function whole(figure) {
    const { labels, short, sides, views } = figure;
    return { ...figure, labels: pool[labels], short: pool[short], sides: pool[sides], views: views.map(wholeView) };
  }

  function wholeView(view) {
    const piled = new Map();
    const series = view.series.map((one) => {
      const full = { ...pool[one.s], x: pool[one.x], y: pool[one.y], soft: pool[one.soft] };
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

  // What the chart's points are, by label: rows for the tip and the table.

  const labelOf = (series, index) => (series.labels ? series.labels[index] : index);

  function allRows(view) {
    const found = new Map();
    for (const series of view.series) {
      if (series.draw === "plain" || series.draw === "steps") continue;
      const few = new Set(series.soft ?? []);
      for (let i = 0; i < series.x.length; i++) {
        const label = labelOf(series, i);
        if (series.y[i] === null) continue;
        if (!found.has(label)) found.set(label, new Map());
        const rows = found.get(label);
        const soft = few.has(i) ? "~" : "";
        put(rows, series.name, series, soft + withUnit(series.y[i], view.y.unit));
        if (view.tellX) put(rows, view.tellX, series, soft + withUnit(series.x[i], view.x.unit));
      }
    }
    return found;
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
    const [from, to] = [index, index + 1].map((one) => begin + one * width).map((at) => (view.x.log ? 2 ** at : at));
    return `${number(from)} to ${withUnit(to, view.x.unit)}`;
  };

  const sidesShown = (view) => [
    view.series.some((one) => one.side === "base"),
    view.series.some((one) => one.side === "head" || !one.side),
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

  function fullTable(figure, view) {
    const [base, head] = sidesShown(view);
    const steps = view.series.find((one) => one.draw === "steps");
    const stops = steps
      ? steps.y.map((_, i) => [stepLabel(view, i), stepRows(view, i)])
      : [...allRows(view)].sort((a, b) => a[0] - b[0]).map(([label, rows]) => [figure.labels[label], rows]);
    const names = [...new Set(stops.flatMap(([, rows]) => [...rows.keys()]))];
    const columns = names.flatMap((name) => [
      ...(base ? [[name, "base", `${name}, ${figure.sides[0]}`]] : []),
      ...(head ? [[name, "head", base ? `${name}, ${figure.sides[1]}` : name]] : []),
    ]);
    const table = make("table");
    const caption = make("caption", "hidden", figure.title);
    const heads = make("tr");
    heads.append(...["", ...columns.map((one) => one[2])].map((text) => scoped("col", text)));
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

  function valuesTable(figure, view, rows) {
    const [base, head] = sidesShown(view);
    const table = make("table");
    if (base && head) {
      const line = make("tr");
      line.append(make("td"), scoped("col", figure.sides[0]), scoped("col", figure.sides[1]));
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

  function spoken(figure, heading, rows, remark) {
    const said = [...rows].map(([name, row]) => {
      const before = row.base ? `${figure.sides[0]} ${row.base}` : "";
      return `${name} ${[row.head, before].filter(Boolean).join(", ")}`;
    });
    return [`${heading}: ${said.join("; ")}`, remark].filter(Boolean).join(". ");
  }

  const forgetColors = () => {
    palette = new Map();
  };
  return { figure: (number) => whole(figures[number]), make, color, swatch, labelOf, allRows, stepRows, stepLabel, valuesTable, fullTable, spoken, forgetColors };
})();
