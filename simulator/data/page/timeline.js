// A zoomable timeline on one canvas. Spans are columns sorted by start; what is narrower than a pixel is drawn once per
// pixel, so that tens of thousands of spans stay fluid.
(() => {
  const box = document.getElementById("timeline");
  if (!box) return;
  const scenes = JSON.parse(document.getElementById("scenes").textContent);
  const canvas = box.querySelector("canvas"), context = canvas.getContext("2d"), tip = document.getElementById("tip");
  const LANE = 20, GAP = 14, AXIS = 26, LEFT = 190, TITLE = 18;
  const shade = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  let scene, chosen, lanes, view, pending = false;

  for (const one of scenes) for (const rank of one.ranks) for (const lane of rank.lanes) {
    let at = 0; // starts are written as differences, in units of 0.1 us
    lane.start = lane.start.map((step) => (at += step) / 1e7);
    lane.end = lane.start.map((start, i) => start + lane.length[i] / 1e7);
  }

  function text(seconds) {
    const size = Math.abs(seconds);
    if (size >= 1) return seconds.toPrecision(4) + " s";
    if (size >= 1e-3) return (1e3 * seconds).toPrecision(4) + " ms";
    return (1e6 * seconds).toPrecision(3) + " µs";
  }
  function mark(time, step) { // as many digits as tell one line of the axis from the next
    const [factor, unit] = step >= 0.01 ? [1, "s"] : step >= 1e-5 ? [1e3, "ms"] : [1e6, "µs"];
    const digits = Math.max(0, -Math.floor(Math.log10(step * factor) + 1e-9));
    return (time * factor).toFixed(digits) + " " + unit;
  }
  function choose(number) {
    scene = scenes[number];
    chosen = new Set(scene.ranks.map((_, i) => i).slice(0, 3));
    view = [0, scene.step];
    chips(); arrange();
  }
  function chips() {
    const bar = box.querySelector(".ranks");
    bar.replaceChildren(...scene.ranks.map((rank, i) => {
      const chip = document.createElement("button");
      chip.textContent = rank.short;
      chip.title = rank.name;
      chip.setAttribute("aria-pressed", chosen.has(i));
      chip.onclick = () => {
        if (!chosen.delete(i)) chosen.add(i);
        chip.setAttribute("aria-pressed", chosen.has(i));
        arrange();
      };
      return chip;
    }));
    if (scene.ranks.length < scene.classes) bar.append(`${scene.ranks.length} of ${scene.classes} classes of ranks`);
  }
  function arrange() {
    let top = AXIS;
    lanes = [];
    scene.ranks.forEach((rank, i) => {
      if (!chosen.has(i)) return;
      lanes.push({ title: rank.name, top });
      top += TITLE;
      for (const lane of rank.lanes) { lanes.push({ lane, top }); top += LANE; }
      top += GAP;
    });
    canvas.style.height = Math.max(top, 120) + "px";
    redraw();
  }
  function redraw() { if (!pending) { pending = true; requestAnimationFrame(draw); } }
  function first(lane, time) { // the first span that ends after a time
    let low = 0, high = lane.end.length;
    while (low < high) { const middle = (low + high) >> 1; if (lane.end[middle] <= time) low = middle + 1; else high = middle; }
    return low;
  }
  function draw() {
    pending = false;
    const ratio = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
    if (canvas.width !== width * ratio || canvas.height !== height * ratio) {
      canvas.width = width * ratio; canvas.height = height * ratio;
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const scale = (width - LEFT) / (view[1] - view[0]), x = (time) => LEFT + (time - view[0]) * scale;
    context.font = "12px system-ui, sans-serif";
    context.textBaseline = "middle";
    axis(width, height, x);
    for (const row of lanes) {
      if (row.title) {
        context.fillStyle = shade("--text"); context.font = "600 12px system-ui, sans-serif";
        context.fillText(row.title, 0, row.top + TITLE / 2); context.font = "12px system-ui, sans-serif";
        continue;
      }
      context.fillStyle = shade("--soft"); context.fillText(row.lane.name, 8, row.top + LANE / 2);
      context.fillStyle = shade("--track"); context.fillRect(LEFT, row.top + 1, width - LEFT, LANE - 2);
      spans(row, width, x);
    }
  }
  function axis(width, height, x) {
    const wish = (view[1] - view[0]) / Math.max(2, (width - LEFT) / 110), power = 10 ** Math.floor(Math.log10(wish));
    const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= wish);
    context.strokeStyle = shade("--line"); context.fillStyle = shade("--soft"); context.lineWidth = 1;
    for (let time = Math.ceil(view[0] / step) * step; time <= view[1]; time += step) {
      const place = Math.round(x(time)) + 0.5;
      context.beginPath(); context.moveTo(place, AXIS - 6); context.lineTo(place, height); context.stroke();
      context.fillText(mark(Math.abs(time) < step / 2 ? 0 : time, step), place + 3, AXIS / 2 - 2);
    }
  }
  function spans(row, width, x) {
    const lane = row.lane;
    let drawn = LEFT - 1;
    for (let i = first(lane, view[0]); i < lane.start.length && lane.start[i] < view[1]; i++) {
      const from = Math.max(LEFT, x(lane.start[i])), to = Math.min(width, x(lane.end[i]));
      if (to <= drawn) continue;
      const left = Math.max(from, drawn), size = Math.max(to - left, 0.6);
      const label = scene.labels[lane.label[i]];
      context.fillStyle = label.colour;
      context.fillRect(left, row.top + 1, size > 3 ? size - 0.5 : size, LANE - 2);
      if (size > 46) {
        context.save(); context.beginPath(); context.rect(left, row.top, size - 4, LANE); context.clip();
        context.fillStyle = label.ink;
        context.fillText(`${label.text}  ${scene.actions[lane.action[i]]}`, left + 4, row.top + LANE / 2); context.restore();
      }
      drawn = left + size;
    }
  }
  function zoom(factor, centre) {
    const width = view[1] - view[0], wanted = Math.min(scene.step, Math.max(2e-6, width * factor));
    const share = (centre - view[0]) / width;
    move(centre - share * wanted, wanted);
  }
  function move(start, width) {
    const from = Math.min(Math.max(0, start), scene.step - width);
    view = [from, from + width];
    redraw();
  }
  function time(event) {
    const frame = canvas.getBoundingClientRect();
    return view[0] + (Math.max(0, event.clientX - frame.left - LEFT) / (frame.width - LEFT)) * (view[1] - view[0]);
  }
  function hover(event) {
    const y = event.clientY - canvas.getBoundingClientRect().top, now = time(event);
    const row = lanes.find((one) => one.lane && y >= one.top && y < one.top + LANE);
    const i = row ? first(row.lane, now) : -1;
    const pixel = (view[1] - view[0]) / (canvas.clientWidth - LEFT);
    if (!row || i >= row.lane.start.length || row.lane.start[i] > now + pixel) { tip.style.visibility = "hidden"; return; }
    const lane = row.lane, start = lane.start[i];
    tip.textContent = `${scene.labels[lane.label[i]].text}  ${scene.actions[lane.action[i]]}\n`
      + `${text(lane.end[i] - start)}, from ${start.toFixed(6)} s`
      + (lane.wait[i] ? `\nwaited ${text(lane.wait[i] / 1e7)} for its SMs or peers` : "");
    tip.style.visibility = "visible";
    tip.style.left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8) + "px";
    tip.style.top = Math.min(event.clientY + 16, innerHeight - tip.offsetHeight - 8) + "px";
  }

  let held = null;
  canvas.addEventListener("pointerdown", (event) => { held = [event.clientX, view[0]]; canvas.setPointerCapture(event.pointerId); });
  canvas.addEventListener("pointerup", () => { held = null; });
  canvas.addEventListener("pointermove", (event) => {
    if (!held) return hover(event);
    const width = view[1] - view[0];
    move(held[1] - ((event.clientX - held[0]) / (canvas.clientWidth - LEFT)) * width, width);
  });
  canvas.addEventListener("pointerleave", () => { tip.style.visibility = "hidden"; });
  canvas.addEventListener("dblclick", () => move(0, scene.step));
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey && document.activeElement !== canvas) return; // the page scrolls
    event.preventDefault();
    if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) move(view[0] + (event.deltaX / 800) * (view[1] - view[0]), view[1] - view[0]);
    else zoom(Math.exp(event.deltaY / 300), time(event));
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const width = view[1] - view[0], middle = view[0] + width / 2;
    const act = { w: () => zoom(0.6, middle), s: () => zoom(1 / 0.6, middle), a: () => move(view[0] - width / 5, width),
      d: () => move(view[0] + width / 5, width), ArrowLeft: () => move(view[0] - width / 5, width),
      ArrowRight: () => move(view[0] + width / 5, width), "+": () => zoom(0.6, middle), "-": () => zoom(1 / 0.6, middle),
      0: () => move(0, scene.step) }[event.key];
    if (act) { event.preventDefault(); act(); }
  });
  const middle = () => (view[0] + view[1]) / 2;
  box.querySelector(".in").onclick = () => zoom(0.4, middle());
  box.querySelector(".out").onclick = () => zoom(2.5, middle());
  box.querySelector(".all").onclick = () => move(0, scene.step);
  const select = box.querySelector("select");
  if (select) select.onchange = () => choose(Number(select.value));
  new ResizeObserver(redraw).observe(canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  choose(0);
  window.timeline = { view: () => view, zoom, lanes: () => lanes.filter((row) => row.lane).length };
})();
