"use strict";
// Ball-and-stick viewers on 2D canvases: depth-sorted shaded spheres and bonds, turned by mouse, finger or arrow keys.
const viewers = {};
(() => {
  const REGIONS = ["core", "mantle", "termination"];
  const RADII = { H: 0.32, C: 0.7, N: 0.68, O: 0.66, F: 0.6, Si: 1.0, P: 1.0, S: 1.0, Cl: 0.95 };
  const METAL_RADIUS = 1.15;
  const COLOURS = {
    H: "#e9edf1", C: "#5d6670", N: "#3b6fd4", O: "#d8432f", F: "#8fd14f", Si: "#e0b070", P: "#f0902c", S: "#e8c832",
    Cl: "#3fae49", Zn: "#8a7fc7", Zr: "#3fb6b0", Hf: "#2f86c9", Ti: "#a9b4bf", Al: "#c39bb5", Mg: "#7bc86c", Cu: "#c77b4a",
    Fe: "#cf6a32", Co: "#d987a8", Ni: "#6cc07a", Ce: "#d8d48a",
  };
  const OTHER = "#cc79a7", UNKNOWN = "#9aa3ad";
  const SCALE = ["#440154", "#3b528b", "#21918c", "#5ec962", "#fde725"]; // viridis: even to the eye, also without colour vision
  // The scale is that of the spheres on screen: half the covalent size, so that bonds stay visible.
  const SHRINK = 0.55;
  const radius = (symbol) => RADII[symbol] || METAL_RADIUS;
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const channels = (hex) => [1, 3, 5].map((k) => parseInt(hex.slice(k, k + 2), 16));
  const mix = (hex, towards, share) => {
    const [a, b] = [channels(hex), channels(towards)];
    return "rgb(" + a.map((v, k) => Math.round(v * (1 - share) + b[k] * share)).join(",") + ")";
  };
  const asHex = (rgb) => "#" + rgb.match(/\d+/g).slice(0, 3).map((v) => Number(v).toString(16).padStart(2, "0")).join("");
  const onScale = (share) => {
    const place = Math.min(1, Math.max(0, share)) * (SCALE.length - 1), k = Math.min(SCALE.length - 2, Math.floor(place));
    return asHex(mix(SCALE[k], SCALE[k + 1], place - k));
  };
  const multiply = (a, b) => {
    const c = new Array(9).fill(0);
    for (let i = 0; i < 3; i++) for (let j = 0; j < 3; j++) for (let k = 0; k < 3; k++) c[3 * i + j] += a[3 * i + k] * b[3 * k + j];
    return c;
  };
  const brief = (value) => (Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3));

  const viewer = (root) => {
    const source = document.getElementById(root.dataset.source);
    const part = (name) => root.querySelector("." + name);
    const stage = part("stage"), context = stage && stage.getContext && stage.getContext("2d");
    if (!source || !context) return;
    const structures = JSON.parse(source.textContent);
    root.hidden = false;
    let shown = 0, zoom = 1, turn = [1, 0, 0, 0, 1, 0, 0, 0, 1], centred = [], corners = [], size = 1, drawn = [], queued = false, picked = -1;
    let wanted = part("colour").value;

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
    const regionColour = (code) => style("--" + REGIONS[code]);
    // What the atoms are coloured by: as wanted if this structure has it, else by another of its values, else by element.
    const mode = () => {
      const f = structures[shown], [other] = Object.keys(f.v);
      if (wanted.startsWith("v:")) return f.v[wanted.slice(2)] ? wanted : other ? "v:" + other : "element";
      return wanted === "region" && !f.r.length ? "element" : wanted;
    };
    const range = (values) => {
      const known = values.filter((v) => v !== null).sort((a, b) => a - b);
      if (!known.length) return [0, 1];
      const high = known[Math.floor(0.98 * (known.length - 1))], low = known[0] >= 0 ? 0 : known[Math.floor(0.02 * (known.length - 1))];
      return [low, high > low ? high : low + 1];
    };
    const colours = () => {
      const f = structures[shown], by = mode();
      if (by === "region") return f.r.map(regionColour);
      if (by === "element") return f.s.map((s) => COLOURS[s] || OTHER);
      const values = f.v[by.slice(2)], [low, high] = range(values);
      return values.map((v) => (v === null ? UNKNOWN : onScale((v - low) / (high - low))));
    };

    const choose = (index, atom = -1) => {
      shown = (index + structures.length) % structures.length;
      picked = atom;
      part("which").value = String(shown);
      const f = structures[shown], n = f.p.length / 3, middle = [0, 0, 0];
      for (let i = 0; i < f.p.length; i++) middle[i % 3] += f.p[i] / n;
      centred = f.p.map((v, i) => v - middle[i % 3]);
      corners = [];
      if (f.c.length) for (let k = 0; k < 8; k++) corners.push([0, 1, 2].map((x) => [0, 1, 2].reduce((sum, m) => sum + ((k >> m) & 1) * f.c[3 * m + x], 0) - middle[x]));
      size = 2;
      for (let i = 0; i < n; i++) size = Math.max(size, Math.hypot(centred[3 * i], centred[3 * i + 1], centred[3 * i + 2]));
      for (const corner of corners) size = Math.max(size, Math.hypot(...corner));
      part("pointed").textContent = atom >= 0 ? about(atom) : "";
      for (const option of part("colour").options) {
        option.disabled = option.value === "region" ? !f.r.length : option.value.startsWith("v:") && !f.v[option.value.slice(2)];
      }
      part("colour").value = mode();
      legend();
      home();
    };
    const about = (i) => {
      const f = structures[shown], said = [`${f.s[i]}, atom ${i}`];
      if (f.r.length) said.push(REGIONS[f.r[i]]);
      for (const [name, values] of Object.entries(f.v)) if (values[i] !== null) said.push(`${name}: ${brief(values[i])}`);
      if (f.m.includes(i)) said.push("selected");
      return said.join(", ");
    };

    const legend = () => {
      const f = structures[shown], by = mode(), box = part("colours");
      if (by.startsWith("v:")) {
        const [low, high] = range(f.v[by.slice(2)]), bar = document.createElement("i"), key = document.createElement("span");
        key.className = "key";
        bar.className = "ramp";
        bar.style.background = `linear-gradient(to right, ${SCALE.join(",")})`;
        key.append(`${by.slice(2)}: ${brief(low)}`, bar, `${brief(high)} and more`);
        box.replaceChildren(key);
        return;
      }
      const names = by === "region" ? REGIONS.filter((_, k) => f.r.includes(k)) : [...new Set(f.s)].sort();
      box.replaceChildren(...names.map((name) => {
        const key = document.createElement("span"), dot = document.createElement("i");
        key.className = "key";
        dot.className = "circle";
        dot.style.background = by === "region" ? regionColour(REGIONS.indexOf(name)) : COLOURS[name] || OTHER;
        dot.style.boxShadow = "0 0 0 1px var(--muted)";
        key.append(dot, name);
        return key;
      }));
    };

    const paint = () => {
      queued = false;
      const f = structures[shown], n = f.s.length, ratio = window.devicePixelRatio || 1;
      const width = stage.clientWidth, height = stage.clientHeight;
      if (!width || !height) return;
      stage.width = Math.round(width * ratio);
      stage.height = Math.round(height * ratio);
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      context.clearRect(0, 0, width, height);
      const panel = asHex(getComputedStyle(stage.parentElement).backgroundColor), tint = colours(), ink = style("--ink"), muted = style("--muted");
      const unit = (zoom * Math.min(width, height)) / (2 * (size + 0.8)), far = 5 * size + 8;
      const items = [];
      drawn = [];
      const turned = (x, y, z) => [0, 1, 2].map((k) => turn[3 * k] * x + turn[3 * k + 1] * y + turn[3 * k + 2] * z);
      const project = (x, y, z) => {
        const scale = (unit * far) / (far - z);
        return { x: width / 2 + x * scale, y: height / 2 - y * scale, z, scale, fog: 0.42 * Math.min(1, Math.max(0, 0.5 - z / (2 * size))) };
      };
      const spots = corners.map((corner) => project(...turned(...corner)));
      context.strokeStyle = muted;
      context.lineWidth = 1;
      for (let k = 0; k < spots.length; k++) for (const m of [1, 2, 4]) if (!(k & m)) {
        context.beginPath();
        context.moveTo(spots[k].x, spots[k].y);
        context.lineTo(spots[k | m].x, spots[k | m].y);
        context.stroke();
      }
      for (let i = 0; i < n; i++) {
        const at = turned(centred[3 * i], centred[3 * i + 1], centred[3 * i + 2]), spot = project(...at);
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
          for (const [share, shade, amount] of [[0.26, "#000000", 0.35], [0.16, "#ffffff", 0.12]]) {
            context.beginPath();
            context.lineWidth = share * item.from.scale;
            context.strokeStyle = mix(asHex(mix(tint[item.end], shade, amount)), panel, item.from.fog);
            context.moveTo(item.from.x, item.from.y);
            context.lineTo(item.to.x, item.to.y);
            context.stroke();
          }
          continue;
        }
        const a = drawn[item.atom], colour = tint[item.atom];
        const shade = context.createRadialGradient(a.x - 0.35 * a.r, a.y - 0.4 * a.r, 0.08 * a.r, a.x, a.y, a.r);
        shade.addColorStop(0, mix(asHex(mix(colour, "#ffffff", 0.65)), panel, a.fog));
        shade.addColorStop(0.45, mix(colour, panel, a.fog));
        shade.addColorStop(1, mix(asHex(mix(colour, "#000000", 0.5)), panel, a.fog));
        context.beginPath();
        context.arc(a.x, a.y, a.r, 0, 2 * Math.PI);
        context.fillStyle = shade;
        context.fill();
        if (item.atom === picked || f.m.includes(item.atom)) {
          context.beginPath();
          context.arc(a.x, a.y, a.r + (item.atom === picked ? 4 : 1.5), 0, 2 * Math.PI);
          context.lineWidth = item.atom === picked ? 3 : 1.5;
          context.strokeStyle = ink;
          context.stroke();
        }
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
      part("pointed").textContent = hit ? about(hit.i) : "";
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
    part("which").addEventListener("change", (e) => choose(Number(e.target.value)));
    part("before").addEventListener("click", () => choose(shown - 1));
    part("after").addEventListener("click", () => choose(shown + 1));
    part("colour").addEventListener("change", (e) => {
      wanted = e.target.value;
      legend();
      redraw();
    });
    part("nearer").addEventListener("click", () => setZoom(zoom * 1.25));
    part("farther").addEventListener("click", () => setZoom(zoom / 1.25));
    part("home").addEventListener("click", home);
    window.addEventListener("resize", redraw);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => (legend(), redraw()));
    choose(0);
    viewers[root.id] = { choose, count: structures.length };
  };
  for (const root of document.querySelectorAll(".viewer")) viewer(root);

  // A point of a feature map leads to its atom: #structures/3/17 is atom 17 of the fourth structure.
  const follow = () => {
    const found = location.hash.match(/^#(\w+)\/(\d+)\/(\d+)$/), target = found && viewers[found[1]];
    if (!target || Number(found[2]) >= target.count) return;
    target.choose(Number(found[2]), Number(found[3]));
    document.getElementById(found[1]).scrollIntoView({ block: "center" });
  };
  window.addEventListener("hashchange", follow);
  follow();
  for (const panel of document.querySelectorAll("svg[data-points]")) {
    const points = JSON.parse(panel.dataset.points);
    panel.addEventListener("click", (e) => {
      const place = new DOMPoint(e.clientX, e.clientY).matrixTransform(panel.getScreenCTM().inverse());
      const away = points.map(([x, y]) => Math.hypot(x - place.x, y - place.y)), nearest = away.indexOf(Math.min(...away));
      if (away[nearest] < 9) location.hash = `structures/${points[nearest][2]}/${points[nearest][3]}`;
    });
  }
})();
