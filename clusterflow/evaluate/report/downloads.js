"use strict";
// Every table as CSV, every figure as SVG or PNG: made in the page, since nothing may be loaded.
(() => {
  const save = (name, type, content) => {
    const link = document.createElement("a");
    link.download = name;
    link.href = typeof content === "string" && content.startsWith("data:") ? content : `data:${type};charset=utf-8,` + encodeURIComponent(content);
    link.click();
  };
  const button = (label, title, act) => {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = label;
    made.title = title;
    made.addEventListener("click", act);
    return made;
  };
  const fileName = (near, count) => `${near.closest("section").id}-${count}`;
  const csv = (table) =>
    [...table.rows].map((row) => [...row.cells].map((cell) => `"${cell.textContent.replace(/"/g, '""')}"`).join(",")).join("\n") + "\n";

  // The page's styles, as attributes of each element: an SVG file stands alone.
  const KEPT = ["fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-linecap", "opacity", "font-size", "font-weight", "font-family", "text-anchor"];
  const alone = (svg) => {
    const copy = svg.cloneNode(true), from = [svg, ...svg.querySelectorAll("*")], to = [copy, ...copy.querySelectorAll("*")];
    from.forEach((element, k) => {
      const style = getComputedStyle(element);
      for (const name of KEPT) to[k].setAttribute(name, style.getPropertyValue(name));
    });
    const box = svg.viewBox.baseVal, back = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    for (const [name, value] of [["width", box.width], ["height", box.height], ["fill", getComputedStyle(svg).backgroundColor]]) back.setAttribute(name, value);
    copy.prepend(back);
    copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
    copy.setAttribute("width", box.width);
    copy.setAttribute("height", box.height);
    return new XMLSerializer().serializeToString(copy);
  };
  const png = (svg, name) => {
    const picture = new Image(), box = svg.viewBox.baseVal, scale = 3;
    picture.onload = () => {
      const canvas = document.createElement("canvas");
      canvas.width = scale * box.width;
      canvas.height = scale * box.height;
      canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
      save(name, "image/png", canvas.toDataURL("image/png"));
    };
    picture.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(alone(svg));
  };

  document.querySelectorAll(".scroll table").forEach((table, k) => {
    const box = document.createElement("p");
    box.className = "downloads";
    box.append(button("CSV", "save this table", () => save(fileName(table, k + 1) + ".csv", "text/csv", csv(table))));
    table.parentElement.after(box);
  });
  document.querySelectorAll("figure").forEach((figure, k) => {
    const box = document.createElement("p"), panels = [...figure.querySelectorAll("svg")];
    if (!panels.length) return;
    const each = (act) => () => panels.forEach((svg, i) => act(svg, fileName(figure, `${k + 1}${panels.length > 1 ? "-" + (i + 1) : ""}`)));
    box.className = "downloads";
    box.append(
      button("SVG", "save this figure, one file per panel", each((svg, name) => save(name + ".svg", "image/svg+xml", alone(svg)))),
      button("PNG", "save this figure, one file per panel", each((svg, name) => png(svg, name + ".png"))),
    );
    figure.append(box);
  });
})();
