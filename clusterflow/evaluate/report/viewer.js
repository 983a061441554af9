"use strict";
// Ball-and-stick viewer on a 2D canvas: depth-sorted shaded spheres and bonds, turned by mouse, finger or arrow keys.
(() => {
  const source = document.getElementById("fragments-data");
  const stage = document.getElementById("stage");
  const context = stage && stage.getContext && stage.getContext("2d");
  if (!source || !context) return;
  const fragments = JSON.parse(source.textContent);
  const byId = (id) => document.getElementById(id);
  byId("viewer").hidden = false;

  const REGIONS = ["core", "mantle", "termination"];
  const RADII = { H: 0.32, C: 0.7, N: 0.68, O: 0.66, F: 0.6, Si: 1.0, P: 1.0, S: 1.0, Cl: 0.95 };
  const METAL_RADIUS = 1.15;
  const COLOURS = {
    H: "#e9edf1", C: "#5d6670", N: "#3b6fd4", O: "#d8432f", F: "#8fd14f", Si: "#e0b070", P: "#f0902c", S: "#e8c832",
    Cl: "#3fae49", Zn: "#8a7fc7", Zr: "#3fb6b0", Hf: "#2f86c9", Ti: "#a9b4bf", Al: "#c39bb5", Mg: "#7bc86c", Cu: "#c77b4a",
    Fe: "#cf6a32", Co: "#d987a8", Ni: "#6cc07a", Ce: "#d8d48a",
  };
  const style = () => getComputedStyle(document.documentElement);
  const radius = (symbol) => RADII[symbol] || METAL_RADIUS;
  // The scale is that of the spheres on screen: half the covalent size, so that bonds stay visible.
  const SHRINK = 0.55;

  let shown = 0, zoom = 1, turn = [1, 0, 0, 0, 1, 0, 0, 0, 1], centred = [], size = 1, drawn = [], queued = false;

  const multiply = (a, b) => {
    const c = new Array(9).fill(0);
    for (let i = 0; i < 3; i++) for (let j = 0; j < 3; j++) for (let k = 0; k < 3; k++) c[3 * i + j] += a[3 * i + k] * b[3 * k + j];
    return c;
  };
  const rotate = (dx, dy) => {
    const [cx, sx, cy, sy] = [Math.cos(dy), Math.sin(dy), Math.cos(dx), Math.sin(dx)];
    turn = multiply([1, 0, 0, 0, cx, -sx, 0, sx, cx], multiply([cy, 0, sy, 0, 1, 0, -sy, 0, cy], turn));
    redraw();
  };
  const home = () => {
    zoom = 1;
    turn = [1, 0, 0, 0, 1, 0, 0, 0, 1];
    rotate(-0.45, 0.35);
  };

  const regionColour = (code) => style().getPropertyValue("--" + REGIONS[code]).trim();
  const colourOf = (fragment, i) =>
    byId("colour").value === "region" && fragment.r.length ? regionColour(fragment.r[i]) : COLOURS[fragment.s[i]] || "#cc79a7";

  const channels = (hex) => [1, 3, 5].map((k) => parseInt(hex.slice(k, k + 2), 16));
  const mix = (hex, towards, share) => {
    const [a, b] = [channels(hex), channels(towards)];
    return "rgb(" + a.map((v, k) => Math.round(v * (1 - share) + b[k] * share)).join(",") + ")";
  };
  const asHex = (rgb) => "#" + rgb.match(/\d+/g).slice(0, 3).map((v) => Number(v).toString(16).padStart(2, "0")).join("");

  const choose = (index) => {
    shown = (index + fragments.length) % fragments.length;
    byId("which").value = String(shown);
    const p = fragments[shown].p, n = p.length / 3, middle = [0, 0, 0];
    for (let i = 0; i < p.length; i++) middle[i % 3] += p[i] / n;
    centred = p.map((v, i) => v - middle[i % 3]);
    size = 2;
    for (let i = 0; i < n; i++) size = Math.max(size, Math.hypot(centred[3 * i], centred[3 * i + 1], centred[3 * i + 2]));
    byId("pointed").textContent = "";
    home();
  };

  const legend = () => {
    const f = fragments[shown], box = byId("colours");
    const byRegion = byId("colour").value === "region" && f.r.length;
    const names = byRegion ? REGIONS.filter((_, k) => f.r.includes(k)) : [...new Set(f.s)].sort();
    box.replaceChildren(...names.map((name) => {
      const key = document.createElement("span"), dot = document.createElement("i");
      key.className = "key";
      dot.className = "circle";
      dot.style.background = byRegion ? regionColour(REGIONS.indexOf(name)) : COLOURS[name] || "#cc79a7";
      dot.style.boxShadow = "0 0 0 1px var(--muted)";
      key.append(dot, name);
      return key;
    }));
  };

  const paint = () => {
    queued = false;
    const f = fragments[shown], n = f.s.length, ratio = window.devicePixelRatio || 1;
    const width = stage.clientWidth, height = stage.clientHeight;
    if (!width || !height) return;
    stage.width = Math.round(width * ratio);
    stage.height = Math.round(height * ratio);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const panel = asHex(getComputedStyle(stage.parentElement).backgroundColor);
    const unit = (zoom * Math.min(width, height)) / (2 * (size + 0.8)), far = 5 * size + 8;
    const items = [];
    drawn = [];
    const project = (x, y, z) => {
      const scale = (unit * far) / (far - z);
      return { x: width / 2 + x * scale, y: height / 2 - y * scale, z, scale, fog: 0.42 * Math.min(1, Math.max(0, 0.5 - z / (2 * size))) };
    };
    for (let i = 0; i < n; i++) {
      const at = [0, 1, 2].map((k) => turn[3 * k] * centred[3 * i] + turn[3 * k + 1] * centred[3 * i + 1] + turn[3 * k + 2] * centred[3 * i + 2]);
      const spot = project(...at);
      drawn.push({ ...spot, i, at, r: radius(f.s[i]) * SHRINK * spot.scale });
      items.push({ z: spot.z, atom: i });
    }
    // Each half of a bond runs from the surface of its atom to the middle: in front of the sphere if it points at the viewer.
    for (let k = 0; k < f.b.length; k += 2) {
      for (const [a, b] of [[drawn[f.b[k]], drawn[f.b[k + 1]]], [drawn[f.b[k + 1]], drawn[f.b[k]]]]) {
        const along = a.at.map((v, m) => b.at[m] - v), inside = (0.85 * radius(f.s[a.i]) * SHRINK) / Math.hypot(...along);
        if (inside >= 0.5) continue;
        const [from, to] = [inside, 0.5].map((t) => project(...a.at.map((v, m) => v + t * along[m])));
        items.push({ z: (from.z + to.z) / 2, from, to, end: a.i });
      }
    }
    items.sort((p, q) => p.z - q.z);
    for (const item of items) {
      if (item.from) {
        const colour = colourOf(f, item.end);
        for (const [share, tint, amount] of [[0.26, "#000000", 0.35], [0.16, "#ffffff", 0.12]]) {
          context.beginPath();
          context.lineWidth = share * item.from.scale;
          context.strokeStyle = mix(asHex(mix(colour, tint, amount)), panel, item.from.fog);
          context.moveTo(item.from.x, item.from.y);
          context.lineTo(item.to.x, item.to.y);
          context.stroke();
        }
        continue;
      }
      const a = drawn[item.atom], colour = colourOf(f, item.atom);
      const shade = context.createRadialGradient(a.x - 0.35 * a.r, a.y - 0.4 * a.r, 0.08 * a.r, a.x, a.y, a.r);
      shade.addColorStop(0, mix(asHex(mix(colour, "#ffffff", 0.65)), panel, a.fog));
      shade.addColorStop(0.45, mix(colour, panel, a.fog));
      shade.addColorStop(1, mix(asHex(mix(colour, "#000000", 0.5)), panel, a.fog));
      context.beginPath();
      context.arc(a.x, a.y, a.r, 0, 2 * Math.PI);
      context.fillStyle = shade;
      context.fill();
    }
  };
  const redraw = () => {
    if (!queued) {
      queued = true;
      requestAnimationFrame(paint);
    }
  };

  const point = (event) => {
    const box = stage.getBoundingClientRect(), [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const hit = drawn.filter((a) => Math.hypot(a.x - x, a.y - y) < Math.max(a.r, 5)).sort((a, b) => b.z - a.z)[0];
    const f = fragments[shown];
    byId("pointed").textContent = hit ? `${f.s[hit.i]}, atom ${hit.i}${f.r.length ? ", " + REGIONS[f.r[hit.i]] : ""}` : "";
  };
  const fingers = new Map();
  stage.addEventListener("pointerdown", (e) => {
    fingers.set(e.pointerId, e);
    stage.setPointerCapture(e.pointerId);
  });
  stage.addEventListener("pointermove", (e) => {
    const last = fingers.get(e.pointerId);
    if (!last) return point(e);
    const others = [...fingers.values()].filter((o) => o.pointerId !== e.pointerId);
    if (others.length) {
      const [o] = others, before = Math.hypot(last.clientX - o.clientX, last.clientY - o.clientY);
      setZoom(zoom * (Math.hypot(e.clientX - o.clientX, e.clientY - o.clientY) / Math.max(before, 1)));
    } else rotate((e.clientX - last.clientX) * 0.01, (e.clientY - last.clientY) * 0.01);
    fingers.set(e.pointerId, e);
  });
  for (const name of ["pointerup", "pointercancel"]) stage.addEventListener(name, (e) => (point(e), fingers.delete(e.pointerId)));
  const setZoom = (value) => {
    zoom = Math.min(6, Math.max(0.4, value));
    redraw();
  };
  const KEYS = { ArrowLeft: [-0.15, 0], ArrowRight: [0.15, 0], ArrowUp: [0, -0.15], ArrowDown: [0, 0.15] };
  stage.addEventListener("keydown", (e) => {
    if (KEYS[e.key]) rotate(...KEYS[e.key]);
    else if (e.key === "+" || e.key === "-") setZoom(zoom * (e.key === "+" ? 1.2 : 1 / 1.2));
    else return;
    e.preventDefault();
  });
  byId("which").addEventListener("change", (e) => (choose(Number(e.target.value)), legend()));
  byId("before").addEventListener("click", () => (choose(shown - 1), legend()));
  byId("after").addEventListener("click", () => (choose(shown + 1), legend()));
  byId("colour").addEventListener("change", () => (legend(), redraw()));
  byId("nearer").addEventListener("click", () => setZoom(zoom * 1.25));
  byId("farther").addEventListener("click", () => setZoom(zoom / 1.25));
  byId("home").addEventListener("click", home);
  window.addEventListener("resize", redraw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => (legend(), redraw()));
  choose(0);
  legend();
})();
