"use strict";
// Draws the charts of the page from the data that lies in it. Tables need none of this.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const css = getComputedStyle(document.documentElement);
  const color = (name) => css.getPropertyValue(name).trim();
  const palette = [0, 1, 2, 3, 4, 5, 6, 7].map((i) => color("--c" + i));
  const paint = (i) => palette[i % palette.length];
  // Lines that may lie on each other stay visible: what was acknowledged is dashed where end to end is
  // shown too, and what was fetched where produced is.
  const dash = (line, lines) => {
    const beside = (one, other) => line.label.includes(one) && lines.some((l) => l.label.includes(other));
    return beside("acknowledged", "end to end") || beside("fetched", "produced") ? [8, 6] : undefined;
  };

  const time = (us) => {
    if (us == null) return "";
    if (us >= 1e6) return +(us / 1e6).toPrecision(3) + " s";
    if (us >= 1e3) return +(us / 1e3).toPrecision(3) + " ms";
    return +us.toPrecision(3) + " µs";
  };
  const plain = (v) => (v == null ? "" : (+v.toPrecision(4)).toLocaleString("en-US"));
  const axis = (more) => ({
    stroke: color("--soft"), grid: { stroke: color("--line"), width: 1 },
    ticks: { stroke: color("--line"), width: 1 }, font: "12px system-ui, sans-serif",
    labelFont: "12px system-ui, sans-serif", ...more,
  });
  // On a logarithmic scale only powers of ten are labelled: nothing overlaps.
  const decades = (format) => (u, splits) =>
    splits.map((v) => (Math.abs(Math.log10(v) - Math.round(Math.log10(v))) < 1e-9 ? format(v) : ""));
  const logTime = (label) => axis({ scale: "y", size: 70, label, values: decades(time) });
  // A logarithmic axis that begins and ends at powers of ten.
  const whole = (u, min, max) => {
    if (!(min > 0)) return [1, 10];
    const low = Math.pow(10, Math.floor(Math.log10(min)));
    const high = Math.pow(10, Math.ceil(Math.log10(max)));
    return [low, high > low ? high : low * 10];
  };

  const charts = [];
  const draw = (id, options, columns) => {
    const into = document.getElementById(id);
    if (!into) return;
    const size = () => ({ width: into.clientWidth, height: 320 });
    const chart = new uPlot({ ...size(), ...options }, columns, into);
    charts.push(() => chart.setSize(size()));
  };
  addEventListener("resize", () => charts.forEach((fit) => fit()));

  const percentiles = () => {
    const lines = data.latencies.filter((l) => l.charted && l.distribution.curve.length > 1);
    if (!lines.length) return;
    const nines = (q, count) => (q < 1 ? -Math.log10(1 - q) : Math.log10(Math.max(count, 2)));
    const tables = lines.map((line) => {
      const seen = new Map();
      const count = line.distribution.summary.count;
      for (const p of line.distribution.curve) {
        const x = nines(p.quantile, count);
        if (x <= Math.log10(count) + 0.05) seen.set(x, Math.max(p.us, 1));
      }
      seen.set(nines(1, count), Math.max(line.distribution.summary.max_us, 1));
      const xs = [...seen.keys()].sort((a, b) => a - b);
      return [xs, xs.map((x) => seen.get(x))];
    });
    const name = (x) => (x <= 0 ? "0" : x < 1 ? (100 * (1 - Math.pow(10, -x))).toFixed(0) + " %"
      : (100 * (1 - Math.pow(10, -x))).toFixed(Math.max(0, Math.round(x) - 2)) + " %");
    draw("percentiles", {
      scales: { x: { time: false, range: (u, min, max) => [0, Math.max(max, 2)] }, y: { distr: 3, range: whole } },
      axes: [axis({ label: "percentile", splits: (u) => {
        const out = [0, -Math.log10(0.5)];
        for (let i = 1; i <= u.scales.x.max; i++) out.push(i);
        return out;
      }, values: (u, splits) => splits.map(name) }), logTime("latency")],
      series: [{ label: "percentile", value: (u, x) => (x == null ? "" : (100 * (1 - Math.pow(10, -x))).toPrecision(7) + " %") },
        ...lines.map((line, i) => ({ label: line.label, stroke: paint(i), width: 2, dash: dash(line, lines), spanGaps: true,
          points: { show: false }, value: (u, v) => time(v) }))],
    }, uPlot.join(tables));
  };

  const overTime = () => {
    const runs = data.series;
    if (!runs.length) return;
    const rates = [], latencies = [];
    for (const run of runs) {
      const parts = run.intervals.filter((i) => i.length_s > 0.2 * Math.max(...run.intervals.map((j) => j.length_s)));
      const xs = parts.map((i) => i.at_s + i.length_s / 2);
      const many = runs.length > 1 ? run.label + ": " : "";
      for (const [key, label] of [["produced", "produced"], ["fetched", "fetched"]]) {
        const ys = parts.map((i) => i[key].bytes / 1e6 / i.length_s);
        if (ys.some((y) => y > 0)) rates.push({ label: many + label, xs, ys });
      }
      for (const [side, label] of [["ack", "acknowledged"], ["end_to_end", "end to end"]]) {
        for (const [key, p] of [["p50_us", "p50"], ["p99_us", "p99"], ["p999_us", "p99.9"]]) {
          if (runs.length > 1 && key !== "p99_us") continue;
          const ys = parts.map((i) => (i[side].count ? Math.max(i[side][key], 1) : null));
          if (ys.some((y) => y != null)) latencies.push({ label: many + label + " " + p, xs, ys });
        }
      }
    }
    const seconds = axis({ label: "seconds from the beginning" });
    const warm = runs.length === 1 ? runs[0].intervals.filter((i) => i.measured) : [];
    const shade = { drawClear: [(u) => {
      if (!warm.length) return;
      const from = u.valToPos(warm[0].at_s, "x", true);
      const last = warm[warm.length - 1];
      const to = u.valToPos(last.at_s + last.length_s, "x", true);
      u.ctx.save();
      u.ctx.fillStyle = color("--wash");
      u.ctx.fillRect(from, u.bbox.top, Math.min(to, u.bbox.left + u.bbox.width) - from, u.bbox.height);
      u.ctx.restore();
    }] };
    const line = (all) => (s, i, value) => ({ label: s.label, stroke: paint(i), width: 2, dash: dash(s, all), spanGaps: true, points: { show: s.xs.length < 40, size: 4 }, value: (u, v) => value(v) });
    const x = { time: false, range: (u, min, max) => [0, max > min ? max : max + 1] };
    if (rates.length) draw("throughput", {
      scales: { x, y: { range: (u, min, max) => [0, max > 0 ? max * 1.1 : 1] } }, hooks: shade,
      axes: [seconds, axis({ size: 70, label: "MB/s", values: (u, s) => s.map(plain) })],
      series: [{ label: "second", value: (u, v) => (v == null ? "" : v.toFixed(1)) }, ...rates.map((s, i) => line(rates)(s, i, (v) => (v == null ? "" : plain(v) + " MB/s")))],
    }, uPlot.join(rates.map((s) => [s.xs, s.ys])));
    if (latencies.length) draw("over-time", {
      scales: { x, y: { distr: 3, range: whole } }, hooks: shade, axes: [seconds, logTime("latency")],
      series: [{ label: "second", value: (u, v) => (v == null ? "" : v.toFixed(1)) }, ...latencies.map((s, i) => line(latencies)(s, i, time))],
    }, uPlot.join(latencies.map((s) => [s.xs, s.ys])));
  };

  const trials = () => {
    const open = data.trials.slice(1).filter((t) => t.ms > 0).sort((a, b) => a.requests_per_s - b.requests_per_s);
    if (!open.length) return;
    const xs = open.map((t) => t.requests_per_s);
    const pick = (held) => open.map((t) => (t.held === held ? t.ms * 1e3 : null));
    const dots = (label, i) => ({ label, stroke: paint(i), fill: paint(i), width: 0, paths: () => null,
      points: { show: true, size: 9, fill: paint(i) }, value: (u, v) => time(v) });
    draw("trials", {
      scales: { x: { time: false, range: (u, min, max) => [0, max * 1.05] }, y: { distr: 3, range: whole } },
      axes: [axis({ label: "requests/s", values: (u, s) => s.map(plain) }), logTime("latency of the objective")],
      series: [{ label: "requests/s", value: (u, v) => plain(v) }, dots("held", 2), dots("not held", 4)],
    }, [xs, pick(true), pick(false)]);
  };

  percentiles();
  overTime();
  trials();
  document.documentElement.dataset.drawn = String(charts.length);
})();
