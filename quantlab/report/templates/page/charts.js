// Draws the charts of a page over their pictures. The library lies in the page, packed; without a browser that can
// unpack it, and on paper, the pictures stay.
(async () => {
  const packed = document.querySelector("script[data-library]"), charts = [...document.querySelectorAll(".chart")];
  if (!packed || !charts.length || !("DecompressionStream" in window)) return;
  try {
    const bytes = Uint8Array.from(atob(packed.textContent.trim()), one => one.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const address = URL.createObjectURL(new Blob([await new Response(stream).text()], {type: "text/javascript"}));
    await new Promise((done, failed) => {
      document.head.append(Object.assign(document.createElement("script"), {src: address, onload: done, onerror: failed}));
    });
    URL.revokeObjectURL(address);
  } catch { return; }

  const dark = matchMedia("(prefers-color-scheme: dark)"), touch = matchMedia("(pointer: coarse)");
  const narrow = matchMedia("(max-width: 600px)");
  const ink = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const copy = value => JSON.parse(JSON.stringify(value));
  const time = x => typeof x === "string" ? Date.parse(x.length === 10 ? x : x.replace(" ", "T") + "Z") : x;
  const axesOf = (layout, letter) => Object.keys(layout).filter(name => name.startsWith(letter + "axis"));

  // A label no longer than its axis.
  function broken(axis, height) {
    const most = Math.max(8, Math.floor(height * (axis.domain[1] - axis.domain[0]) * 0.8 / 6.5)), rows = [""];
    for (const word of axis.title.text.split(" ")) {
      const longer = (rows.at(-1) + " " + word).trim();
      if (longer.length > most && rows.at(-1)) rows.push(word); else rows[rows.length - 1] = longer;
    }
    return rows.join("<br>");
  }

  // What was drawn for white paper, in the colours of the page.
  function themed(told) {
    const {data, layout} = copy({data: told.data, layout: told.layout}), text = ink("--ink"), line = ink("--line"), paper = ink("--paper");
    const tint = color => dark.matches && color === "#000000" ? text : color;
    for (const trace of data) {
      if (trace.line) trace.line.color = tint(trace.line.color);
      if (trace.marker) trace.marker.color = [].concat(trace.marker.color).map(tint);
    }
    for (const shape of layout.shapes) {
      shape.line.color = tint(shape.line.color);
      if (dark.matches && shape.type === "rect") shape.fillcolor = shape.fillcolor.replace(/[\d.]+\)$/, "0.45)");
    }
    const font = {color: text, family: getComputedStyle(document.body).fontFamily, size: narrow.matches ? 11 : 12};
    const small = narrow.matches && data.some(trace => trace.type === "heatmap") ? {...font, size: 9} : font;
    for (const name of [...axesOf(layout, "x"), ...axesOf(layout, "y")]) {
      const axis = layout[name];
      Object.assign(axis, {gridcolor: line, linecolor: line, tickcolor: line, zeroline: false, automargin: true, tickfont: small});
      if (name === "xaxis") Object.assign(axis, {spikecolor: ink("--soft"), spikethickness: 1, spikedash: "solid"});
      if (axis.domain && axis.tickmode !== "array") axis.nticks = Math.max(3, Math.round(layout.height * (axis.domain[1] - axis.domain[0]) / 28));
      if (small !== font && name === "xaxis") axis.tickangle = 0;
      if (axis.title.text) axis.title = {...axis.title, font, text: name === "xaxis" ? axis.title.text : broken(axis, layout.height)};
      else delete axis.title;
    }
    for (const note of layout.annotations) note.font = small;
    delete layout.title;
    return {data, layout: Object.assign(layout, {
      font, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", dragmode: touch.matches ? false : "zoom",
      margin: {l: 8, r: 8, t: 6, b: 8}, legend: {orientation: "h", x: 0, y: 1.01, yanchor: "bottom", font},
      hoverlabel: {bgcolor: paper, bordercolor: line, font: {color: text, family: font.family, size: 12}},
    })};
  }

  // The y axes follow what is seen of x.
  function heights(told, range) {
    const changed = {}, [from, to] = range ? range.map(time) : [-Infinity, Infinity];
    for (const name of axesOf(told.layout, "y")) {
      const axis = told.layout[name], log = axis.type === "log";
      if (axis.range) continue;
      let low = Infinity, high = -Infinity;
      for (const trace of told.data) {
        if ((trace.yaxis || "y").replace("y", "yaxis") !== name) continue;
        if (trace.type === "bar") { low = Math.min(low, 0); high = Math.max(high, 0); }
        trace.x.forEach((x, i) => {
          const at = time(x), y = trace.y[i];
          if (at < from || at > to || y === null || (log && y <= 0)) return;
          low = Math.min(low, y);
          high = Math.max(high, y);
        });
      }
      if (!(low <= high)) continue;
      if (log) [low, high] = [Math.log10(low), Math.log10(high)];
      const room = 0.05 * (high - low) || 0.05 * Math.abs(high) || 1;
      changed[name + ".range"] = [low - room, high + room];
    }
    return changed;
  }

  function draw(chart) {
    const told = JSON.parse(chart.querySelector("script").textContent), make = tag => document.createElement(tag);
    for (const trace of told.data) for (const name of ["x", "y", "customdata"])
      if (typeof trace[name] === "number") trace[name] = told.columns[trace[name]];
    const title = told.layout.title.text, place = make("div"), drawn = make("div");
    const top = make("div"), head = make("p"), tools = make("div");
    const moves = told.data.some(trace => trace.type !== "heatmap");
    place.className = "drawn";
    head.textContent = title;
    top.className = "top";
    drawn.setAttribute("role", "img");
    drawn.setAttribute("aria-label", chart.querySelector("img").alt);
    drawn.style.height = told.layout.height + "px";
    tools.className = "tools";
    tools.setAttribute("role", "group");
    tools.setAttribute("aria-label", "Range of: " + title);
    top.append(head, ...(moves ? [tools] : []));
    place.append(top, drawn);
    chart.append(place);
    chart.classList.add("on");

    const first = themed(told);
    if (moves) for (const [name, range] of Object.entries(heights(told, null))) first.layout[name.slice(0, -6)].range = range;
    first.layout.width = drawn.offsetWidth;
    const shown = Plotly.newPlot(drawn, first.data, first.layout, {displayModeBar: false, doubleClick: false});
    const move = range => Plotly.relayout(drawn, {...(range ? {"xaxis.range": range} : {"xaxis.autorange": true}), ...heights(told, range)});
    const now = () => {
      const axis = drawn._fullLayout.xaxis;
      return axis.range.map(x => axis.type === "date" ? time(String(x)) : x);
    };
    const shift = (scale, by) => () => {
      const [from, to] = now(), half = scale * (to - from) / 2, middle = (from + to) / 2 + by * (to - from);
      const ends = [middle - half, middle + half];
      move(drawn._fullLayout.xaxis.type === "date" ? ends.map(x => new Date(x).toISOString().slice(0, 19)) : ends);
    };
    const buttons = [["+", "zoom in", shift(0.5, 0)], ["\u2212", "zoom out", shift(2, 0)], ["\u2190", "earlier", shift(1, -0.5)],
      ["\u2192", "later", shift(1, 0.5)], ["All", "all of it", () => move(null)]];
    for (const [text, what, act] of buttons) {
      const button = Object.assign(make("button"), {type: "button", textContent: text, onclick: act});
      button.setAttribute("aria-label", what);
      tools.append(button);
    }
    return shown.then(() => {
      let width = drawn.offsetWidth;
      new ResizeObserver(() => {
        if (drawn.offsetWidth && drawn.offsetWidth !== width) Plotly.relayout(drawn, {width: width = drawn.offsetWidth});
      }).observe(drawn);
      if (!moves) return;
      drawn.on("plotly_doubleclick", () => { move(null); return false; });
      drawn.on("plotly_relayout", change => {
        if ("xaxis.range[0]" in change) Plotly.relayout(drawn, heights(told, [change["xaxis.range[0]"], change["xaxis.range[1]"]]));
      });
    }).then(() => dark.addEventListener("change", () => {
      const range = moves ? drawn._fullLayout.xaxis.range.slice() : null, next = themed(told);
      next.layout.width = drawn.offsetWidth;
      if (moves) next.layout.xaxis.range = range;
      if (moves) for (const [name, ends] of Object.entries(heights(told, range))) next.layout[name.slice(0, -6)].range = ends;
      Plotly.react(drawn, next.data, next.layout);
    }));
  }

  for (const chart of charts) {
    try { await draw(chart); } catch { chart.classList.remove("on"); chart.querySelector(".drawn")?.remove(); }
  }
  document.documentElement.dataset.charts = document.querySelectorAll(".chart.on").length;
})();
