// Draws a chart with uPlot, and handles pointer, touch and keyboard.
gpuperf.Chart = (() => {
  "use strict";

  const { make, color, swatch, labelOf, allRows, stepRows, stepLabel, valuesTable, fullTable, spokenText, spans, spaced } = gpuperf;
  const HEIGHT = 246;

  class Chart {
    constructor(node) {
      this.node = node;
      this.chart = gpuperf.chart(Number(node.dataset.chart));
      this.chosen = this.chart.chosen ?? 0;
      this.at = -1;
      this.note = node.querySelector(".note");
      this.keys = make("div", "key");
      this.plot = make("div", "plot");
      this.alternative = make("details", "alternative");
      this.values = make("div", "values");
      this.alternative.append(make("summary", "", "Table"), this.values);
      this.note.before(this.keys, this.plot);
      this.note.after(this.alternative);
      if (this.chart.choiceLabel) {
        const select = make("select");
        select.setAttribute("aria-label", `${this.chart.choiceLabel}: ${this.chart.title}`);
        select.replaceChildren(...this.chart.views.map((view, i) => new Option(view.name, i, i === this.chosen, i === this.chosen)));
        select.addEventListener("change", () => this.choose(Number(select.value)));
        node.querySelector("figcaption").append(select);
      }
      // Screen readers pass the arrow keys on to a slider, and read its text whenever it moves.
      this.plot.tabIndex = 0;
      this.plot.setAttribute("role", "slider");
      this.plot.setAttribute("aria-valuemin", "0");
      this.plot.addEventListener("keydown", (event) => this.key(event));
      this.plot.addEventListener("blur", () => this.leave());
      for (const kind of ["pointermove", "pointerdown"]) this.plot.addEventListener(kind, (event) => this.point(event));
      this.plot.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && this.leave());
      this.alternative.addEventListener("toggle", () => this.alternative.open && this.table());
    }

    get view() {
      return this.chart.views[this.chosen];
    }

    choose(index) {
      this.chosen = index;
      this.note.textContent = this.view.note ?? "";
      if (this.alternative.open) this.table();
      this.draw();
    }

    draw(width = this.plot.clientWidth) {
      this.drop();
      if (!width) return;
      const { view } = this;
      this.legend();
      const [xSpan, ySpan] = spans(view);
      const ticks = view.x.ticks && spaced(view.x.ticks, xSpan, width - 70);
      const font = `12px ${getComputedStyle(document.body).fontFamily}`;
      const axis = { stroke: () => color("faint"), font, ticks: { show: false }, gap: 6 };
      this.u = new uPlot(
        {
          mode: 2,
          width,
          height: HEIGHT - 18 * (view.x.label ? 1 : 0),
          padding: [10, 10, 0, 0],
          legend: { show: false },
          cursor: { show: false },
          scales: { x: { time: false, range: () => xSpan }, y: { range: () => ySpan } },
          axes: [
            {
              ...axis,
              size: 26,
              grid: { stroke: () => color("grid"), width: 1, show: !view.series.some(({ draw }) => draw === "bars") },
              ...(ticks ? { splits: () => ticks.map(([position]) => position), values: () => ticks.map(([, text]) => text) } : {}),
            },
            {
              ...axis,
              size: (u, values) => 12 + 6.8 * Math.max(1, ...(values ?? []).map((text) => String(text ?? "").length)),
              space: 36,
              grid: { stroke: () => color("grid"), width: 1 },
              values: (u, splits) => splits.map((value) => (Math.abs(value) >= 1e6 ? `${value / 1e6}M` : Math.abs(value) >= 1e5 ? `${value / 1000}k` : value.toLocaleString("en"))),
            },
          ],
          series: [
            {},
            ...view.series.map((series) => ({
              facets: [{ scale: "x", auto: false }, { scale: "y", auto: false }],
              paths: (u) => this.paint(u, series),
            })),
          ],
          // Scales have positions only from the first drawing on.
          hooks: { draw: [(u) => this.rules(u)], ready: [(u) => this.ready(u)] },
        },
        [null, ...view.series.map(({ x, y }) => [x, y])],
        this.plot,
      );
    }

    ready(u) {
      this.u = u;
      this.captions();
      this.hits = this.gather();
      this.rows = allRows(this.view);
      const { title } = this.chart;
      const about = `${this.view.y.label} over ${this.view.x.label}. ${this.view.note ?? ""}`;
      this.plot.setAttribute("aria-label", `${title}: ${about}`);
      this.plot.setAttribute("aria-valuemax", String(Math.max(this.hits.length - 1, 0)));
      this.plot.setAttribute("aria-valuenow", "0");
      this.plot.setAttribute("aria-valuetext", `${this.hits.length} points: use the arrow keys`);
      this.node.dataset.drawn = "";
    }

    drop() {
      this.u?.destroy();
      this.u = undefined;
      this.leave();
      this.plot.replaceChildren();
      delete this.node.dataset.drawn;
    }

    legend() {
      const named = new Map();
      for (const series of this.view.series) {
        if (series.legend && !named.has(series.legend)) named.set(series.legend, series);
      }
      const keys = named.size > 1 ? [...named.values()] : [];
      // The candidate comes first.
      keys.sort((a, b) => (a.side === "base") - (b.side === "base"));
      this.keys.replaceChildren(
        ...keys.map((series) => {
          const key = make("span");
          key.append(swatch(series.color, series.draw, series.side), series.legend);
          return key;
        }),
      );
    }

    captions() {
      this.plot.append(make("span", "caption y", this.view.y.label), make("span", "caption x", this.view.x.label));
      const { left, top, width } = over(this.u);
      this.view.rules.forEach((rule) => {
        const text = rule.y !== undefined ? rule.text : rule.short;
        if (!text) return;
        const label = make("span", `ruled ${rule.kind}`, text);
        this.plot.append(label);
        if (rule.y !== undefined) {
          label.style.left = `${left + 4}px`;
          label.style.top = `${top + this.u.valToPos(rule.y, "y") - 16}px`;
        } else {
          const x = this.u.valToPos(rule.x, "x");
          label.style.left = `${left + Math.min(x + 2, width - label.offsetWidth)}px`;
          label.style.top = `${top}px`;
        }
      });
    }

    paint(u, series) {
      const { ctx } = u;
      const ratio = uPlot.pxRatio;
      const x = (value) => u.valToPos(value, "x", true);
      const y = (value) => u.valToPos(value, "y", true);
      ctx.save();
      ctx.lineJoin = "round";
      ctx.lineCap = "round";
      ctx.strokeStyle = ctx.fillStyle = color(series.color);
      const base = series.side === "base";
      if (series.draw === "bars") {
        ctx.globalAlpha = base ? 0.5 : 1;
        const half = Math.min((x(1) - x(0)) * (this.view.series.some(({ side }) => side === "base") ? 0.18 : 0.3), 26 * ratio);
        series.x.forEach((at, i) => {
          const lower = series.lower?.[i] ?? 0;
          const topmost = y(lower + series.y[i]);
          ctx.fillRect(x(at) - half, topmost, 2 * half, Math.max(y(lower) - topmost, 0));
        });
      } else if (series.draw === "steps") {
        this.steps(ctx, series, x, y, ratio);
      } else {
        if (series.draw !== "dots") this.line(ctx, series, x, y, ratio);
        if (series.draw !== "plain") this.dots(ctx, series, x, y, ratio);
      }
      ctx.restore();
      return null;
    }

    line(ctx, series, x, y, ratio) {
      ctx.lineWidth = (series.draw === "trace" ? 1 : series.side === "base" ? 1.5 : 2) * ratio;
      if (series.side === "base") ctx.setLineDash([5 * ratio, 4 * ratio]);
      ctx.globalAlpha = series.draw === "trace" ? 0.6 : 1;
      ctx.beginPath();
      let open = false;
      series.x.forEach((at, i) => {
        if (series.y[i] === null) open = false;
        else if (open) ctx.lineTo(x(at), y(series.y[i]));
        else {
          ctx.moveTo(x(at), y(series.y[i]));
          open = true;
        }
      });
      ctx.stroke();
      ctx.setLineDash([]);
      ctx.globalAlpha = 1;
    }

    dots(ctx, series, x, y, ratio) {
      const many = series.x.length > 200;
      const radius = (many ? 1.5 : series.side === "base" ? 2.5 : 3.5) * ratio;
      const imprecise = new Set(series.imprecise ?? []);
      const marked = new Set(series.side === "head" ? (this.view.marked ?? []) : []);
      const { short } = this.chart;
      const texts = short && series.side !== "base" && !many && this.view.showX;
      let last;
      ctx.lineWidth = 1.5 * ratio;
      series.x.forEach((at, i) => {
        if (series.y[i] === null) return;
        const [left, top] = [x(at), y(series.y[i])];
        const label = labelOf(series, i);
        ctx.fillStyle = imprecise.has(i) ? color("paper") : color(series.color);
        ctx.beginPath();
        ctx.arc(left, top, radius, 0, 2 * Math.PI);
        ctx.fill();
        if (imprecise.has(i)) ctx.stroke();
        if (marked.has(label)) {
          ctx.save();
          ctx.strokeStyle = color("budget");
          ctx.lineWidth = 2 * ratio;
          ctx.beginPath();
          ctx.arc(left, top, 8 * ratio, 0, 2 * Math.PI);
          ctx.stroke();
          ctx.restore();
        }
        if (texts && (!last || Math.hypot(left - last[0], top - last[1]) > 22 * ratio)) {
          ctx.fillStyle = color("faint");
          ctx.font = `${11 * ratio}px ${getComputedStyle(document.body).fontFamily}`;
          ctx.textAlign = "left";
          ctx.textBaseline = "top";
          ctx.fillText(short[label], left + 5 * ratio, top + 4 * ratio);
          last = [left, top];
        }
      });
    }

    steps(ctx, series, x, y, ratio) {
      const [begin, width] = series.x;
      const floor = y(0);
      ctx.beginPath();
      ctx.moveTo(x(begin), floor);
      series.y.forEach((height, i) => {
        ctx.lineTo(x(begin + i * width), y(height));
        ctx.lineTo(x(begin + (i + 1) * width), y(height));
      });
      ctx.lineTo(x(begin + series.y.length * width), floor);
      ctx.globalAlpha = series.side === "base" ? 0.28 : 0.22;
      ctx.fill();
      ctx.globalAlpha = 1;
      ctx.lineWidth = 1.5 * ratio;
      ctx.stroke();
    }

    rules(u) {
      const { ctx } = u;
      const ratio = uPlot.pxRatio;
      const box = u.bbox;
      ctx.save();
      this.view.rules.forEach((rule) => {
        ctx.strokeStyle = color(rule.kind);
        ctx.lineWidth = 1.25 * ratio;
        ctx.setLineDash(rule.kind === "head" ? [] : [4 * ratio, 3 * ratio]);
        ctx.beginPath();
        if (rule.y !== undefined) {
          const at = u.valToPos(rule.y, "y", true);
          ctx.moveTo(box.left, at);
          ctx.lineTo(box.left + box.width, at);
        } else {
          const at = u.valToPos(rule.x, "x", true);
          ctx.moveTo(at, box.top);
          ctx.lineTo(at, box.top + box.height);
        }
        ctx.stroke();
      });
      ctx.restore();
    }

    // Positions at which the pointer can stop: one for each label; one for each side in bar charts.
    gather() {
      const { u, view } = this;
      const stops = [];
      const bars = new Map();
      for (const series of view.series) {
        if (series.draw === "plain") continue;
        if (series.draw === "steps") {
          if (stops.length) continue;
          const [begin, width] = series.x;
          series.y.forEach((_, i) => stops.push({ step: i, x: u.valToPos(begin + (i + 0.5) * width, "x"), tall: true }));
          continue;
        }
        series.x.forEach((at, i) => {
          if (series.y[i] === null) return;
          const label = labelOf(series, i);
          const stop = { label, side: series.side, x: u.valToPos(at, "x"), y: u.valToPos(series.y[i] + (series.lower?.[i] ?? 0), "y") };
          if (series.draw === "bars") {
            stop.tall = true;
            const bar = `${series.side} ${label}`;
            if (bars.has(bar)) return;
            bars.set(bar, stop);
          }
          stops.push(stop);
        });
      }
      // The arrow keys follow the points of the candidate first, from left to right.
      stops.sort((a, b) => (a.side === "base") - (b.side === "base") || (view.showX ? a.label - b.label : a.x - b.x));
      return stops;
    }

    point(event) {
      if (!this.u || !this.hits.length) return;
      const box = this.u.over.getBoundingClientRect();
      const [x, y] = [event.clientX - box.left, event.clientY - box.top];
      const flat = this.view.showX ? 1 : 0.15;
      let [best, least] = [-1, Infinity];
      this.hits.forEach((hit, i) => {
        const distance = Math.abs(hit.x - x) + (hit.tall ? 0 : flat * Math.abs(hit.y - y));
        if (distance < least) [best, least] = [i, distance];
      });
      if (best !== this.at) this.show(best);
    }

    key(event) {
      const last = this.hits ? this.hits.length - 1 : -1;
      const steps = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10 };
      let to;
      if (event.key in steps) to = this.at < 0 ? 0 : this.at + steps[event.key];
      else if (event.key === "Home") to = 0;
      else if (event.key === "End") to = last;
      else if (event.key === "Escape") return this.leave();
      else return;
      event.preventDefault();
      if (last >= 0) this.show(Math.min(Math.max(to, 0), last));
    }

    show(index) {
      this.at = index;
      const hit = this.hits[index];
      const { chart, view } = this;
      const rows = hit.step === undefined ? this.rows.get(hit.label) : stepRows(view, hit.step);
      const heading = hit.step === undefined ? chart.labels[hit.label] : stepLabel(view, hit.step);
      const remark = hit.step === undefined ? chart.remarks?.[hit.label] : undefined;
      if (!this.tip) {
        this.tip = make("div", "tip");
        this.tip.setAttribute("aria-hidden", "true");
        this.ring = make("div", "focus");
        this.plot.append(this.ring, this.tip);
      }
      this.tip.replaceChildren(make("strong", "", heading), valuesTable(chart, view, rows));
      if (remark) this.tip.append(...remark.split("; ").map((line) => make("div", "", line)));
      const { left, top, width, height } = over(this.u);
      this.ring.className = hit.tall ? "focus tall" : "focus";
      this.ring.style.left = `${left + hit.x}px`;
      this.ring.style.top = `${top + (hit.tall ? 0 : hit.y)}px`;
      this.ring.style.height = hit.tall ? `${height}px` : "";
      const room = this.plot.clientWidth;
      const beside = hit.x + this.tip.offsetWidth + 20 < width ? hit.x + 14 : hit.x - this.tip.offsetWidth - 14;
      this.tip.style.left = `${Math.min(Math.max(left + beside, 0), room - this.tip.offsetWidth)}px`;
      const wanted = hit.tall ? 8 : hit.y - this.tip.offsetHeight / 2;
      this.tip.style.top = `${Math.max(top + Math.min(wanted, height - this.tip.offsetHeight), -8)}px`;
      this.plot.setAttribute("aria-valuenow", String(index));
      this.plot.setAttribute("aria-valuetext", spokenText(chart, heading, rows, remark));
    }

    leave() {
      this.at = -1;
      this.tip?.remove();
      this.ring?.remove();
      this.tip = this.ring = undefined;
    }

    table() {
      this.values.replaceChildren(fullTable(this.chart, this.view));
    }
  }

  function over(u) {
    const box = u.over;
    return { left: box.offsetLeft, top: box.offsetTop + 18, width: box.offsetWidth, height: box.offsetHeight };
  }

  return Chart;
})();
